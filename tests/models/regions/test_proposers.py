import numpy as np
import pytest
import torch
from tiny_sams import PANOPTIC, SAM2_CONFIG, SAM_CONFIG, disturb
from transformers import AutoConfig, EomtImageProcessor, Mask2FormerForUniversalSegmentation
from transformers.models.eomt.modeling_eomt import (
    EomtForUniversalSegmentation,
    EomtForUniversalSegmentationOutput,
)

from mmseg_siglip.models.regions import CachedRegions, PanopticRegions, SAMRegions
from mmseg_siglip.models.regions.panoptic import input_size, segments
from mmseg_siglip.models.sam.proposals import propose
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.vocabulary import Vocabulary

LOOSE = dict(points_per_side=3, min_iou=-10.0, min_stability=0.0, max_iou=1.0)


@pytest.fixture(scope='module')
def pixels():
    return torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))


def sam_regions(config, **options):
    torch.manual_seed(0)
    module = SAMRegions(dict(type='SAMAdapter', config=config), **{**LOOSE, **options})
    disturb(module.clicks.model.sam.model)
    return module


@pytest.mark.parametrize('config', [SAM_CONFIG, SAM2_CONFIG], ids=['sam', 'sam2'])
def test_sams_masks_are_painted_by_growing_area(config, pixels):
    masks = sam_regions(config, overlap=True)(pixels)
    assert masks.dtype == torch.bool and masks.shape[1:] == pixels.shape[1:] and len(masks) > 1
    wanted = torch.zeros(40, 56, dtype=torch.long)
    for k, mask in enumerate(sorted(masks, key=lambda mask: mask.sum())):
        wanted[mask] = k + 1
    assert torch.equal(sam_regions(config)(pixels), wanted)
    small = sam_regions(config, order='small_on_top')(pixels)
    assert not torch.equal(small, wanted) and torch.equal(small > 0, wanted > 0)


def test_one_mask_a_click_or_three(pixels):
    one, three = (sam_regions(SAM_CONFIG, overlap=True, multimask=m)(pixels) for m in (False, True))
    assert len(one) <= 9 < len(three)


def test_nothing_found(pixels):
    found = sam_regions(SAM_CONFIG, min_iou=100.0)(pixels)
    assert found.shape == (40, 56) and found.dtype == torch.int64 and not found.any()
    assert sam_regions(SAM_CONFIG, min_iou=100.0, overlap=True)(pixels).shape == (0, 40, 56)


def test_a_proposer_has_no_weights_in_checkpoints():
    assert not sam_regions(SAM_CONFIG).state_dict()
    with pytest.raises(ValueError, match='order'):
        sam_regions(SAM_CONFIG, order='best')


@pytest.mark.parametrize('kind', PANOPTIC)
def test_a_panoptic_model_and_its_checkpoint(kind, pixels, tmp_path):
    torch.manual_seed(0)
    options = dict(threshold=0.0, least_left=0.0, inside=0.0)
    fresh = PanopticRegions(config=PANOPTIC[kind], **options)
    assert fresh.supervised and not fresh.state_dict()
    disturb(fresh.model.model, scale=0.2)
    labels = fresh(pixels)
    assert labels.shape == (40, 56) and labels.dtype == torch.int64 and labels.max() > 1
    fresh.model.model.save_pretrained(tmp_path)
    assert torch.equal(PanopticRegions(str(tmp_path), **options)(pixels), labels)


def test_a_panoptic_checkpoint_that_is_none(tmp_path):
    with pytest.raises(ValueError, match='expected pretrained or config'):
        PanopticRegions()
    with pytest.raises(ValueError, match="mask2former, found 'sam'"):
        PanopticRegions(config=SAM_CONFIG)
    for name in ('threshold', 'inside', 'least_left'):
        with pytest.raises(ValueError, match=rf'expected {name} in \[0, 1\], found 1.5'):
            PanopticRegions(config=PANOPTIC['eomt'], **{name: 1.5})
    with pytest.raises(ValueError, match="precision: expected one of .*, found 'half'"):
        PanopticRegions(config=PANOPTIC['eomt'], precision='half')
    torch.manual_seed(0)
    settings = AutoConfig.for_model(**PANOPTIC['eomt'])
    model = EomtForUniversalSegmentation(settings)
    state = {k: v for k, v in model.state_dict().items() if 'class_predictor' not in k}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match='missing, first class_predictor'):
        PanopticRegions(str(tmp_path))


def test_segments_are_transformers_own():
    """Its panoptic rules on the same masks, none of them ground."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 12, 5, 5, generator=generator) * 3
    logits = torch.nn.functional.interpolate(logits, size=(20, 20), mode='bilinear')
    classes = torch.randn(1, 12, 4, generator=generator) * 3
    output = EomtForUniversalSegmentationOutput(
        masks_queries_logits=logits, class_queries_logits=classes
    )
    (wanted,) = EomtImageProcessor().post_process_panoptic_segmentation(
        output,
        target_sizes=[(20, 20)],
        threshold=0.3,
        mask_threshold=0.5,
        overlap_mask_area_threshold=0.15,
        stuff_classes=[],
        size=dict(shortest_edge=20, longest_edge=20),
    )
    score, label = classes[0].softmax(-1).max(-1)
    kept = (label < 3) & (score > 0.3)
    found = segments(logits[0, kept].sigmoid(), score[kept], 0.5, 0.15)
    assert wanted['segmentation'].max() > 2
    assert torch.equal(found, wanted['segmentation'].long() + 1)


def test_mask2formers_input_keeps_the_aspect():
    config = AutoConfig.for_model(**PANOPTIC['mask2former'])
    assert isinstance(Mask2FormerForUniversalSegmentation(config).config, type(config))
    assert input_size(config, (400, 500)) == (800, 1024)
    assert input_size(config, (200, 800)) == (352, 1344)


@MODELS.register_module()
class CountedRegions(SAMRegions):
    calls = 0

    def forward(self, pixels):
        type(self).calls += 1
        return super().forward(pixels)


def test_regions_are_found_once(pixels, tmp_path):
    config = dict(type='CountedRegions', sam=dict(type='SAMAdapter', config=SAM_CONFIG), **LOOSE)
    torch.manual_seed(0)
    cached = CachedRegions(config, folder=str(tmp_path))
    CountedRegions.calls = 0
    first = cached(pixels)
    assert torch.equal(cached(pixels), first) and CountedRegions.calls == 1
    cached(pixels.flip(-1))
    assert CountedRegions.calls == 2 and len(list(tmp_path.glob('*.npz'))) == 2

    torch.manual_seed(0)
    assert CachedRegions(config, folder=str(tmp_path)).key(pixels) == cached.key(pixels)
    torch.manual_seed(1)
    assert CachedRegions(config, folder=str(tmp_path)).key(pixels) != cached.key(pixels)
    torch.manual_seed(0)
    other = CachedRegions(dict(config, min_iou=0.2), folder=str(tmp_path))
    assert other.key(pixels) != cached.key(pixels)

    (tmp_path / f'{cached.key(pixels)}.npz').write_bytes(b'PK nonsense')
    assert torch.equal(cached(pixels), first) and CountedRegions.calls == 3


def test_masks_and_no_masks_are_kept_too(pixels, tmp_path):
    config = dict(type='CountedRegions', sam=dict(type='SAMAdapter', config=SAM_CONFIG), **LOOSE)
    for limit in (-10.0, 100.0):
        cached = CachedRegions(dict(config, overlap=True, min_iou=limit), folder=str(tmp_path))
        first = cached(pixels)
        held = cached(pixels)
        assert first.dtype == held.dtype == torch.bool and torch.equal(first, held)
        assert np.load(tmp_path / f'{cached.key(pixels)}.npz')['regions'].dtype == bool


def test_a_folder_that_cannot_be_written(pixels, tmp_path):
    (tmp_path / 'file').touch()
    config = dict(type='SAMRegions', sam=dict(type='SAMAdapter', config=SAM_CONFIG), **LOOSE)
    cached = CachedRegions(config, folder=str(tmp_path / 'file' / 'deeper'))
    assert cached(pixels).shape == (40, 56)


def test_clicks_are_kept_as_masks(pixels, tmp_path):
    """Of what gives proposals instead of regions."""
    clicks = dict(type='SAMPointGrid', sam=dict(type='SAMAdapter', config=SAM_CONFIG))
    clicks |= dict(LOOSE, points_per_side=2)
    cached = CachedRegions(clicks, folder=str(tmp_path))
    first = cached(pixels)
    assert first.dtype == torch.bool and first.shape[1:] == (40, 56) and len(first)
    assert torch.equal(cached(pixels), first) and not cached.supervised


def test_words_belong_to_what_is_kept(pixels, tmp_path, sam3_folder):
    config = dict(type='SAM3Regions', sam=dict(type='SAM3Adapter', pretrained=sam3_folder))
    cached = CachedRegions(dict(config, min_score=0.0), folder=str(tmp_path))
    assert cached.supervised and cached.asks_words
    for words in (['cat', 'dog'], ['sky']):
        vocabulary = Vocabulary.load(words)
        first = propose(cached, pixels, vocabulary)
        assert torch.equal(first, propose(cached.proposer, pixels, vocabulary)) and len(first)
        assert torch.equal(propose(cached, pixels, vocabulary), first)
    assert len(list(tmp_path.glob('*.npz'))) == 2
