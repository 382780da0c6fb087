"""SAM's masks over dense cosines, against a loop over masks; and within `SCLIPSegmentor`."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.structures import SegDataSample
from tiny_sams import disturb
from torch import nn

from mmseg_siglip.models.postprocessors import SAMProposals
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.sam.generator import nearest
from mmseg_siglip.models.sam.proposals import Proposals
from mmseg_siglip.registry import MODELS

OWNER = (0, 1, 2, 0)
SIZE = (24, 40)


@MODELS.register_module()
class FixedProposals(nn.Module):
    """Masks decided before, for tests."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def forward(self, pixels, **dense):
        return self.found


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


@pytest.fixture
def logits():
    coarse = torch.rand(1, 4, 4, 6, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.interpolate(coarse, size=SIZE, mode='bilinear')


@pytest.fixture
def found():
    """Seven overlapping boxes and an empty mask."""
    masks = torch.zeros(8, *SIZE, dtype=torch.bool)
    generator = torch.Generator().manual_seed(6)
    for mask in masks[:7]:
        y, x = (int(torch.randint(0, n - 8, (), generator=generator)) for n in SIZE)
        h, w = (int(torch.randint(4, 9, (), generator=generator)) for _ in SIZE)
        mask[y : y + h, x : x + w] = True
    scores = torch.tensor([0.9, 0.8, 0.95, 0.6, 0.7, 0.85, 0.5, 1.0])
    return Proposals(masks.float() * 2 - 1, scores, nearest)


def build(found, **options):
    return SAMProposals(dict(type='FixedProposals', found=found), **options)


def context(images, *, query_to_class=OWNER, logit_scale=20.0, features=None, text=None):
    """What a segmentor would tell; what is None must not be asked for."""

    def give(value):
        assert value is not None
        return value

    return Context(
        query_to_class=query_to_class,
        logit_scale=logit_scale,
        pixels=lambda: list(images),
        features=lambda: give(features),
        text=lambda: give(text),
    )


def run(module, logits, **more):
    images = torch.zeros(len(logits), 3, *SIZE)
    return module(images, logits, context(images, **more))


def naive(logits, found, label, order, alpha, min_purity, features=None, text=None):
    """One mask after the other, pixels in between."""
    classes = torch.tensor(OWNER)[logits.argmax(0)]
    entries = []
    for values, score in zip(found.logits, found.scores, strict=True):
        mask = values > 0
        if not mask.any():
            continue
        means = logits[:, mask].mean(1)
        if label == 'vote':
            chosen = int(torch.bincount(classes[mask], minlength=3).argmax())
        elif label == 'mean_logit':
            chosen = OWNER[int(means.argmax())]
        else:
            weights = nn.functional.adaptive_avg_pool2d(mask.float()[None], features.shape[-2:])[0]
            pooled = (features * weights).sum((1, 2))
            chosen = OWNER[int((text @ pooled).argmax())]
        purity = (classes[mask] == chosen).float().mean()
        if purity < min_purity:
            continue
        words = [q for q in range(4) if OWNER[q] == chosen]
        word = max(words, key=lambda q: means[q].item())
        area, trust = int(mask.sum()), float(score * purity)
        key = (round(trust * 100), -area) if order == 'score' else (0, -area)
        key = (0, area) if order == 'large_on_top' else key
        entries.append((key, mask, word, means, trust))
    result = logits.clone()
    for _, mask, word, means, trust in sorted(entries, key=lambda entry: entry[0]):
        vote = means.min().repeat(4)
        vote[word] = means.max()
        blended = (1 - alpha * trust) * logits + alpha * trust * vote[:, None, None]
        result = torch.where(mask, blended, result)
    return result


@pytest.mark.parametrize('label', ['vote', 'mean_logit', 'pooled_feature'])
@pytest.mark.parametrize('order', ['score', 'small_on_top', 'large_on_top'])
@pytest.mark.parametrize('min_purity', [0.0, 0.7])
def test_equals_the_loop_over_masks(logits, found, label, order, min_purity):
    features = torch.randn(9, 6, 10, generator=torch.Generator().manual_seed(7))
    text = nn.functional.normalize(torch.randn(4, 9, generator=torch.Generator().manual_seed(8)))
    options = dict(label=label, order=order, alpha=0.8, min_purity=min_purity)
    module = build(found, **options)
    more = dict(features=[features], text=text) if label == 'pooled_feature' else {}
    expected = naive(logits[0], found, features=features, text=text, **options)
    result = run(module, logits, **more)[0]
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    assert not torch.equal(result, logits[0])


@pytest.mark.parametrize('label', ['vote', 'mean_logit'])
def test_weight_zero_is_the_dense_prediction_exactly(logits, found, label):
    assert torch.equal(run(build(found, alpha=0.0, label=label), logits), logits)


def test_nothing_proposed_or_nothing_pure_changes_nothing(logits, found):
    none = found.take(torch.zeros(8, dtype=torch.bool))
    assert torch.equal(run(build(none), logits), logits)
    strict = build(found, min_margin=2.0)  # a share of the pixels cannot lead by two
    assert torch.equal(run(strict, logits), logits)


def test_small_masks_may_be_left_out(logits, found):
    area = (found.logits > 0).sum((1, 2)).float() / (SIZE[0] * SIZE[1])
    least = float(area[:7].median())
    large = found.take(area >= least)
    options = dict(min_purity=0.0)
    assert torch.equal(
        run(build(found, min_area=least, **options), logits), run(build(large, **options), logits)
    )


def test_a_batch_equals_its_images(logits, found):
    module = build(found, min_purity=0.0)
    both = torch.cat([logits, logits.flip(1)])
    whole = run(module, both)
    for index in range(2):
        assert torch.equal(run(module, both[index : index + 1])[0], whole[index])


def test_what_an_outline_leaves_out_stays_dense_unless_trimmed():
    """Class 0 is seen on columns 0 to 5, its outline ends before column 4."""
    logits = torch.zeros(1, 2, 4, 10)
    logits[:, 0, :, :6], logits[:, 1, :, 4:6], logits[:, 1, :, 6:] = 0.3, 0.1, 0.3
    outline = torch.full((1, 4, 10), -1.0)
    outline[..., :4] = 1
    origins = torch.full((4, 10), -1)
    origins[:, :6] = 0
    given = Proposals(outline, torch.ones(1), nearest, torch.zeros(1, dtype=torch.long), origins)
    images = torch.zeros(1, 3, 4, 10)
    known = context(images, query_to_class=(0, 1), logit_scale=10.0)
    kept = build(given)(images, logits, known)
    assert torch.equal(kept[..., 4:], logits[..., 4:])
    trimmed = build(given, trim=True)(images, logits, known)
    assert trimmed.argmax(1)[0].tolist() == [[0] * 4 + [1] * 6] * 4
    assert torch.equal(build(given, trim=True, alpha=0.0)(images, logits, known), logits)


@pytest.fixture(params=['SAMPointGrid', 'SAMComponents'])
def proposer(request, sam_config):
    loose = dict(
        SAMPointGrid=dict(points_per_side=3, min_iou=-10.0, min_stability=0.0),
        SAMComponents=dict(min_overlap=0.0),
    )
    sam = dict(type='SAMAdapter', config=sam_config)
    # Random weights answer faintly: at an offset of 1 none of their masks would be stable.
    return dict(type=request.param, sam=sam, stability_offset=0.0, **loose[request.param])


def segmentor(siglip_folder, **postprocessor):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='SCLIPSegmentor',
            backbone=dict(type='SigLIPBackbone', pretrained=siglip_folder),
            vocabulary=['cat', 'dog', 'sky, grass', 'red star'],
            templates='plain',
            logit_scale=100.0,
            test_cfg=dict(crop_size=(32, 32), stride=(16, 16)),
            postprocessor=postprocessor or None,
        )
    )
    if postprocessor:
        sam = disturb(model.postprocessors[0].proposer.sam.model)
        sam.mask_decoder.iou_prediction_head.proj_out.bias.fill_(1.0)  # random masks, but trusted
    return model.eval()


def predictions(model, images):
    samples = [SegDataSample(metainfo=dict(ori_shape=(50, 70))) for _ in images]
    model.test_cfg['return_logits'] = True
    return [sample.seg_logits.data for sample in model.predict(images, samples)]


@pytest.mark.parametrize('label', ['vote', 'mean_logit', 'pooled_feature'])
def test_in_the_segmentor(siglip_folder, proposer, label):
    """Weight 0 is the dense result to the bit; batches equal single images, whose sizes differ."""
    images = [torch.randn(3, 40, 56), torch.randn(3, 64, 33)]
    dense = predictions(segmentor(siglip_folder), images)
    options = dict(type='SAMProposals', proposer=proposer, label=label, min_purity=0.0)
    same = predictions(segmentor(siglip_folder, **options, alpha=0.0), images)
    model = segmentor(siglip_folder, **options)
    both = predictions(model, images)
    assert model(images)[0].shape == (5, 40, 56)  # cosines of words alone
    for index, image in enumerate(images):
        assert torch.equal(same[index], dense[index])
        assert both[index].shape == (4, 50, 70)
        (alone,) = predictions(model, [image])
        torch.testing.assert_close(alone, both[index], atol=1e-4, rtol=1e-3)
    assert any((a - b).abs().max() > 1e-4 for a, b in zip(both, dense, strict=True))


def test_what_the_segmentor_gives(siglip_folder, sam_config, monkeypatch):
    proposer = dict(type='SAMPointGrid', sam=dict(type='SAMAdapter', config=sam_config))
    model = segmentor(siglip_folder, type='SAMProposals', proposer=proposer, label='pooled_feature')
    seen = {}

    def spy(images, logits, context):
        seen.update(images=images, context=context)
        return logits

    monkeypatch.setattr(model.postprocessors[0], 'forward', spy)
    raw = torch.randint(0, 256, (3, 40, 56)).float()
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.backbone.mean, model.backbone.std))
    predictions(model, [(raw - mean) / std])
    context, patch = seen['context'], model.backbone.patch_size
    torch.testing.assert_close(context.pixels[0], raw / 255, atol=1e-5, rtol=0)
    assert context.features[0].shape == (32, 2 * 40 // patch, 2 * 56 // patch)
    assert seen['images'].shape == (1, 3, 50, 70)
    assert torch.equal(context.text, model.text) and context.logit_scale == model.logit_scale
    assert context.query_to_class == model.vocabulary.query_to_class


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(label='mode'), "expected label vote, mean_logit, pooled_feature, found 'mode'"),
        (dict(order='area'), "expected order score, .* found 'area'"),
        (dict(alpha=2), r'expected alpha in \[0, 1\], found 2'),
        (dict(min_purity=-0.1), r'expected min_purity in \[0, 1\], found -0.1'),
    ],
)
def test_refusals(found, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(found, **options)
