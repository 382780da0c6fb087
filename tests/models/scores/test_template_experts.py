import pytest
import torch
from torch.nn.functional import normalize

from mmseg_siglip.models.backbones.trunk import Surroundings
from mmseg_siglip.models.scores.template_experts import fuse_experts
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.registry import MODELS

TEMPLATES = ['{}', 'a photo of a {}', 'the {}']
WORDS = ['cat', 'sky, grass', 'road']
RANKING = {'cat': [1, 2], 'sky': [0, 1], 'road': [2, 0]}


def slow(default, experts, owner):
    """Pixel after pixel; experts by class."""
    fused = default.clone()
    for image in range(len(default)):
        for y in range(default.shape[2]):
            for x in range(default.shape[3]):
                firing = []
                for index, expert in experts.items():
                    p = expert[image, :, y, x]
                    if owner[p.argmax()] == index:
                        firing.append((-p.max().item(), index))
                if firing:
                    fused[image, :, y, x] = experts[min(firing)[1]][image, :, y, x]
    return fused


@pytest.mark.parametrize('owner', [(0, 1, 2), (0, 1, 1)])
def test_fusion_equals_the_loops(owner):
    generator = torch.Generator().manual_seed(0)
    classes = max(owner) + 1
    default, *experts = (
        (2 * torch.randn(2, 3, 5, 4, generator=generator)).softmax(1) for _ in range(classes + 1)
    )
    expected = slow(default, dict(enumerate(experts)), owner)
    every = ((index, expert, expert) for index, expert in enumerate(experts))
    assert torch.equal(fuse_experts(default, every, torch.tensor(owner)), expected)
    assert not torch.equal(expected, default) and (expected == default).any()


def test_of_several_as_sure_the_first_decides():
    first, second = (torch.tensor(p).view(1, 3, 1, 1) for p in ([0.6, 0.3, 0.1], [0.4, 0.6, 0.0]))
    default = torch.zeros(1, 3, 1, 1)
    every = [(0, first, first), (1, second, second)]
    assert torch.equal(fuse_experts(default, every, torch.arange(3)), first)
    assert torch.equal(fuse_experts(default, every[1:], torch.arange(3)), second)
    assert torch.equal(fuse_experts(default, [(2, first, first)], torch.arange(3)), default)


@pytest.fixture
def make(openai_file):
    def build(*steps, **options):
        options = dict(templates=TEMPLATES, logit_scale=30.0) | options
        return SCLIPSegmentor(
            dict(pretrained=openai_file),
            WORDS,
            score_steps=steps,
            test_cfg=dict(crop_size=24, stride=16, return_logits=True),
            **options,
        ).eval()

    return build


@pytest.mark.parametrize('parity', [False, True])
@torch.no_grad()
def test_as_a_step(make, parity):
    model = make()
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(3))
    known = Surroundings(
        text=lambda: model.text,
        vocabulary=model.vocabulary,
        bank=lambda: model.bank,
        logit_scale=30.0,
    )
    trunk = model.backbone.trunk(images, surroundings=known)
    features = model._encode(trunk)
    unit = normalize(features, dim=1)
    cosines = torch.einsum('bdhw,qd->bqhw', unit, model.text)
    owner, experts, says = (0, 1, 1, 2), {}, {}
    for index, templates in enumerate(RANKING.values()):
        rows = []
        for word in model.vocabulary.queries:
            prompts = [TEMPLATES[t].replace('{}', word) for t in templates]
            rows.append(normalize(normalize(model.backbone.encode_text(prompts)).mean(0), dim=0))
        says[index] = torch.einsum('bdhw,qd->bqhw', unit, torch.stack(rows))
        experts[index] = (30 * says[index]).softmax(1)
    default = (30 * cosines).softmax(1)
    step = MODELS.build(dict(type='TemplateExperts', ranking=RANKING, top_n=2, parity=parity))
    found = step(cosines, features, trunk)
    if not parity:
        found = (30 * found).softmax(1)
    torch.testing.assert_close(found, slow(default, experts, owner), atol=1e-4, rtol=1e-4)


def test_in_a_segmentor(make, tmp_path):
    """Its words may change; the bank follows them, is made once, and is in no checkpoint."""
    path = tmp_path / 'ranking.json'
    path.write_text('{"cat": [0], "sky": [], "dog": [1]}')
    model = make(dict(type='TemplateExperts', ranking=str(path)))
    image = torch.randn(3, 40, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first = model.predict([image])[0].seg_logits.data
    bank = model.bank
    assert bank.shape == (4, 3, model.backbone.embed_dim) and model.bank is bank
    torch.testing.assert_close(normalize(bank.mean(1), dim=1), model.text)
    assert not any('bank' in name for name in model.state_dict())
    torch.testing.assert_close(model.predict([image])[0].seg_logits.data, first)
    model.set_vocabulary(['dog', 'sky'])
    model.predict([image])
    assert model.bank.shape[0] == 2
    model.set_vocabulary(['star'])
    with pytest.raises(ValueError, match='expected a ranking of templates for star, found one for'):
        model.predict([image])


def test_a_background_is_ranked_by_its_name_or_its_first_word(make):
    image = torch.randn(3, 40, 32, generator=torch.Generator().manual_seed(0))
    found = []
    for name in ('background', 'sky'):
        model = make(dict(type='TemplateExperts', ranking={name: [1], 'dog': [0]}))
        model.set_vocabulary(['[background] sky, wall', 'dog'])
        with torch.inference_mode():
            found.append(model.predict([image])[0].seg_logits.data)
    torch.testing.assert_close(*found)


def test_bad_input(openai_file, make):
    with pytest.raises(ValueError, match='top_n of at least 1, found 0'):
        MODELS.build(dict(type='TemplateExperts', ranking=RANKING, top_n=0))
    trunk = make().backbone.trunk(torch.randn(1, 3, 24, 24))
    step = MODELS.build(dict(type='TemplateExperts', ranking=RANKING))
    with pytest.raises(ValueError, match='expected words, which a segmentor has'):
        step(torch.zeros(1, 3, 3, 3), torch.zeros(1, 48, 3, 3), trunk)
