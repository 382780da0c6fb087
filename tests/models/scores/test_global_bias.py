import pytest
import torch
from mmseg.structures import SegDataSample
from torch.nn.functional import normalize

from mmseg_siglip.models.scores import GlobalBias
from mmseg_siglip.models.segmentors import SCLIPSegmentor

KINDS = ('openai_file', 'siglip_folder')
WORDS = ['cat', 'sky, grass', 'road']
STEPS = dict(score_steps=[dict(type='GlobalBias', factor=0.7)])


@pytest.fixture(params=KINDS)
def make(request):
    def build(**options):
        return SCLIPSegmentor(
            dict(pretrained=request.getfixturevalue(request.param)),
            WORDS,
            templates='plain',
            attention='clearclip',
            logit_scale=20.0,
            **options,
        ).eval()

    return build


@torch.no_grad()
def test_equals_patches_and_words_one_by_one(make):
    model, plain = make(**STEPS), make()
    generator = torch.Generator().manual_seed(0)
    windows = torch.randn(3, 3, 24, 40, generator=generator)
    model.test_cfg.update(mode='whole')
    plain.test_cfg.update(mode='whole')
    for window in windows:
        features = normalize(plain.extract_feat([window])[0].double(), dim=0)
        pooled = normalize(plain.backbone.encode_image(window[None])[0].double(), dim=0)
        wanted = torch.empty(len(plain.text), *features.shape[1:], dtype=torch.float64)
        for q, word in enumerate(plain.text.double()):
            for y in range(features.shape[1]):
                for x in range(features.shape[2]):
                    wanted[q, y, x] = features[:, y, x] @ word - 0.7 * (pooled @ word)
        found = model._cells(window[None], plain_surroundings(model))[0]
        torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=0)


def plain_surroundings(model):
    from mmseg_siglip.models.backbones.trunk import Surroundings

    return Surroundings(text=lambda: model.text)


@torch.no_grad()
def test_each_window_has_its_own_bias(make):
    """An image of two windows side by side gets what each gets alone."""
    size = (24, 24)
    model = make(**STEPS, test_cfg=dict(crop_size=size, stride=size, return_logits=True))
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(3, 24, 48, generator=generator)
    seen = [s.cosines for s in model._look([image, image[..., :24], image[..., 24:]], [None] * 3)]
    torch.testing.assert_close(seen[0][:, :1], seen[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(seen[0][:, 1:], seen[2], atol=1e-6, rtol=0)
    other = make(**STEPS, test_cfg=dict(mode='whole'))
    whole = next(other._look([image], [None])).cosines
    assert not torch.allclose(whole[..., :3].mean(), seen[1].mean(), atol=1e-4)


@torch.no_grad()
def test_it_changes_labels_and_zero_does_not(make):
    image = torch.randn(3, 32, 48, generator=torch.Generator().manual_seed(2))

    def labels(**options):
        return make(**options).predict([image], [SegDataSample()])[0].pred_sem_seg.data

    plain = labels()
    assert torch.equal(labels(score_steps=[dict(type='GlobalBias', factor=0.0)]), plain)
    strong = labels(score_steps=[dict(type='GlobalBias', factor=5.0)])
    assert not torch.equal(strong, plain)


def test_published_factor():
    assert GlobalBias().factor == 0.3
