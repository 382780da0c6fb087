"""What stands behind a dense method in `SCLIPSegmentor`: score steps, upsampler, postprocessors."""

import pytest
import torch
from contracts.dense_method import images, quarters
from largest import Largest
from tiny_guides import tiny_guide
from torch import nn
from torch.nn.functional import normalize

from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.models.segmentors.parts import build_all
from mmseg_siglip.models.windows.grid import Windows
from mmseg_siglip.precision import autocast

WORDS = ['cat', 'sky, grass', 'road']
SLIDE = dict(crop_size=(24, 32), stride=(16, 24), return_logits=True)
BIAS, SURGERY = dict(type='GlobalBias'), dict(type='FeatureSurgery')
EXPERTS = dict(type='TemplateExperts', ranking=dict(cat=[0]), top_n=1)
ANY_UP = dict(type='AnyUp', scale=2)


@pytest.fixture(scope='module')
def wholes():
    """Methods that give one map for an image, by name."""
    guide = tiny_guide()
    return dict(
        scga=dict(type='scga'),
        stitched=dict(type='stitched', guide=guide),
        trident=dict(type='trident', guide=guide, sam=tiny_guide('SAMGuide')),
    )


@pytest.fixture
def make(openai_file):
    def build(**options):
        options = dict(templates='plain', logit_scale=20.0, test_cfg=SLIDE) | options
        return SCLIPSegmentor(dict(pretrained=openai_file), WORDS, **options).eval()

    return build


def windows_of(model, image):
    return Windows.of(tuple(image.shape[-2:]), model.test_cfg)


@pytest.mark.parametrize('name', ['scga', 'stitched', 'trident'])
@pytest.mark.parametrize('step', [BIAS, SURGERY])
def test_steps_that_see_windows_need_a_method_that_gives_windows(make, wholes, name, step):
    message = f'{name!r} gives one map .* ask for windows, found {step["type"]}; use a postproc'
    with pytest.raises(ValueError, match=message):
        make(attention=wholes[name], score_steps=[step])
    model = make(attention='csa', score_steps=[step])
    with pytest.raises(ValueError, match=message):
        model.attention = wholes[name]
    assert model.attention == 'csa'


def test_steps_that_see_features_alone_go_with_every_map(make, wholes):
    model = make(attention=wholes['scga'], score_steps=[EXPERTS])
    found = model.predict(images((40, 56), (24, 32)))
    assert [sample.seg_logits.data.shape for sample in found] == [(3, 40, 56), (3, 24, 32)]


@pytest.mark.parametrize('name', ['cliptrase', 'textregion', 'mask_crop'])
@pytest.mark.parametrize(
    ('options', 'part'),
    [
        (dict(score_steps=[BIAS]), 'GlobalBias'),
        (dict(score_steps=[EXPERTS]), 'TemplateExperts'),
        (dict(upsampler=ANY_UP), 'AnyUp'),
    ],
)
def test_what_needs_features_is_refused_where_there_are_none(make, name, options, part):
    message = f'{name!r} gives scores without features: .* found {part}; use a postprocessor or'
    with pytest.raises(ValueError, match=message):
        make(attention=name, **options)
    model = make(attention='csa', **options)
    with pytest.raises(ValueError, match=message):
        model.method = name
    model.method = dict(type='cliptrase', vote=False)


def test_results_of_windows_are_counted(make, wholes):
    """A fault of ours would else give an image's windows to the next image."""
    model = make(attention=wholes['scga'])
    model.score_steps = build_all([BIAS])
    with pytest.raises(AssertionError, match='expected 1, found 4'):
        model.predict(images((40, 56), (24, 32)))


@pytest.mark.parametrize('name', ['scga', 'stitched', 'trident'])
@pytest.mark.parametrize('upsampler', [ANY_UP, dict(type='AnyUp')])
@torch.no_grad()
def test_a_map_of_an_image_is_made_finer_by_the_image(make, wholes, name, upsampler):
    torch.manual_seed(0)
    model = make(attention=wholes[name], upsampler=upsampler)
    batch = images((40, 56), (24, 32))
    for image, seen in zip(batch, model._look(batch, [None] * 2), strict=True):
        (part,) = model._parts([image], [windows_of(model, image)], [None], batch=4)
        features = model.encode(*part)
        finer = model.upsampler(features, model.backbone.to_pixels(image[None]))
        wanted = torch.einsum('bdhw,qd->bqhw', normalize(finer, dim=1), model.text)
        torch.testing.assert_close(seen.cosines[0], wanted, atol=1e-5, rtol=0)
        size = (2 * side for side in features.shape[-2:])
        size = tuple(size) if 'scale' in upsampler else tuple(image.shape[-2:])
        assert wanted.shape[-2:] == size


@torch.no_grad()
def test_what_reaches_past_a_window_has_no_pixels(make):
    """An encoder's grid spans whole patches; an upsampler sees the mean colour there."""
    model, seen = make(upsampler=dict(type='AnyUp'), test_cfg=dict(mode='whole')), []
    rows = model.upsampler.rows
    model.upsampler.rows = lambda features, pixels: seen.append(pixels) or rows(features, pixels)
    (found,) = model._look(images((21, 30)), [None])
    assert found.cosines.shape[-2:] == seen[0].shape[-2:] == (24, 32)
    mean = model.backbone.to_pixels(torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(seen[0][..., 21:, :], mean.expand(1, 3, 3, 32))


@pytest.mark.parametrize('name', ['lposs', 'lposs_plus'])
def test_lposs_has_scores_on_its_own_grid_alone(make, name):
    model = make(attention=dict(type=name, guide=tiny_guide()), upsampler=ANY_UP)
    with pytest.raises(ValueError, match=r'own \(3, 4\) cells, found \(6, 8\) cells; leave the up'):
        model.predict(images((40, 56)))


@torch.no_grad()
def test_features_of_pixels_are_never_there_at_once(make, monkeypatch):
    """Unless somebody asks for them, they exist some rows at a time."""
    monkeypatch.setattr('mmseg_siglip.models.upsamplers.any_up.CHUNK_BYTES', 1)
    torch.manual_seed(0)
    model, sizes = make(upsampler=dict(type='AnyUp'), test_cfg=dict(mode='whole')), []
    normal = normalize

    def spy(x, dim):
        sizes.append(tuple(x.shape))
        return normal(x, dim=dim)

    monkeypatch.setattr('mmseg_siglip.models.segmentors.seen.normalize', spy)
    (found,) = model._look(images((24, 32)), [None])
    assert sizes == [(1, 48, 1, 32)] * 24
    assert found.cosines.shape == (1, 1, 4, 24, 32) and found.features.shape[2] == 0
    model.score_steps = build_all([dict(type='GlobalBias', factor=0.0)])
    (same,) = model._look(images((24, 32)), [None])
    torch.testing.assert_close(same.cosines, found.cosines)


class Asking(nn.Module):
    """A postprocessor that asks for features."""

    def __init__(self, **own):
        super().__init__()
        self.__dict__.update(own)

    def forward(self, pictures, logits, context):
        self.shape = tuple(context.features[0].shape)
        return logits


def test_features_are_kept_for_what_says_that_it_asks(make):
    pamr = dict(type='PAMRPostProcessor', num_iter=1)
    model = make(postprocessor=pamr, label_steps=[dict(type='RegionVote')])
    assert next(model._look(images((40, 56)), [None])).features.shape[2] == 0
    model.postprocessors.append(Asking())
    with pytest.raises(ValueError, match="needs_features of what asks .* 'csa' and none kept"):
        model.predict(images((40, 56)))
    model = make()
    model.postprocessors.append(Asking(needs_features=True))
    model.predict(images((40, 56)))
    assert model.postprocessors[0].shape == (48, 10, 14)
    model.attention = 'cliptrase'
    with pytest.raises(ValueError, match="expected a method that gives features, .* 'cliptrase'"):
        model.predict(images((40, 56)))


@pytest.mark.parametrize('name', ['cliptrase', 'textregion', 'mask_crop'])
@pytest.mark.parametrize('overlap', [True, False])
def test_scores_of_all_pixels_are_never_there_at_once(make, monkeypatch, name, overlap):
    """Methods whose scores are those of pixels: labels by many words, and no (Q, H, W)."""
    for module in ('labelling', 'dense.similarity', 'dense.region_masks'):
        monkeypatch.setattr(f'mmseg_siglip.models.{module}.CHUNK_BYTES', 2**16)
    words = [f'thing {index}' for index in range(300)]
    options = dict(eps=0.5, least=2) if name == 'cliptrase' else {}
    attention = dict(type=name, **options)
    model = make(attention=attention, test_cfg=dict(SLIDE, return_logits=False))
    model.set_vocabulary(words)

    def tiles(pixels):
        labels = quarters(pixels)
        return torch.stack([labels > 0, labels > 1, labels == 2]) if overlap else labels

    model.proposer, (image,) = tiles, images((40, 56))
    _ = model.text
    with Largest() as spy:
        (sample,) = model.predict([image])
    assert spy.numbers < 300 * 40 * 56 / 6
    model.test_cfg = dict(model.test_cfg, return_logits=True)
    with Largest() as spy:
        (logits,) = model.predict([image])
    assert spy.numbers >= 300 * 40 * 56
    assert torch.equal(logits.pred_sem_seg.data, sample.pred_sem_seg.data)


class Watching(nn.Module):
    """A score step that looks how it is run."""

    def forward(self, cosines, features, trunk):
        assert cosines.dtype == features.dtype == torch.float32
        self.fast = torch.is_autocast_enabled('cpu')
        self.pooled = trunk.pooled
        return cosines.bfloat16()


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@torch.no_grad()
def test_steps_run_in_the_precision_of_the_encoder(make, precision):
    model = make(precision=precision, test_cfg=dict(mode='whole'))
    model.score_steps.append(Watching())
    scored = []
    model.method.score = lambda cosines, *_: (
        scored.append(torch.is_autocast_enabled('cpu')) or cosines
    )
    (seen,) = model._look(images((24, 32)), [None])
    (step,) = model.score_steps
    assert [step.fast, *scored] == [precision == 'bf16'] * 2
    assert seen.cosines.dtype == torch.float32
    with autocast(precision, torch.device('cpu')):
        wanted = model.backbone.trunk(images((24, 32))[0][None]).pooled
    torch.testing.assert_close(step.pooled, wanted, atol=0, rtol=0)
