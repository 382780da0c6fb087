"""A NaN of a second model is an error that names the image; below a threshold it would drop out."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.structures import SegDataSample
from tiny_guides import tiny_guide
from tiny_sams import PANOPTIC, SAM_CONFIG, disturb, original_sam_model

from mmseg_siglip.models.finite import (
    Doubt,
    NotFinite,
    doubts,
    fetch_sure,
    of_image,
    require_finite,
)
from mmseg_siglip.models.regions import PanopticRegions
from mmseg_siglip.models.sam import SAM3Regions, SAMComponents, SAMPointGrid, SegmentAnythingGrid
from mmseg_siglip.models.segmentors import SCLIPSegmentor

NAN, INF = float('nan'), float('inf')
SAM = dict(type='SAMAdapter', config=SAM_CONFIG)
CLICKS = dict(type='SAMPointGrid', sam=SAM, points_per_side=2, min_iou=0.5)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


@pytest.fixture
def pixels():
    return torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))


def poison(sam, place, value=NAN):
    """One number of each answer of a `SAMAdapter` is wrong: in its logits (0) or IoUs (1)."""
    decode = sam.decode

    def wrong(*args, **options):
        answers = decode(*args, **options)
        answers[place][..., -1] = value
        return answers

    sam.decode = wrong


@pytest.mark.parametrize('value', [NAN, INF])
@pytest.mark.parametrize('place', [0, 1])
@pytest.mark.parametrize('kind', [SAMPointGrid, SAMComponents])
def test_proposals(kind, place, value, pixels):
    module = kind(SAM, **(dict(points_per_side=2) if kind is SAMPointGrid else {}))
    disturb(module.sam.model)
    logits = torch.rand(3, 20, 28, generator=torch.Generator().manual_seed(1)) > 0.5
    dense = dict(logits=logits.float(), query_to_class=(0, 1, 2), logit_scale=10.0)
    module(pixels, **dense)
    poison(module.sam, place, value)
    with pytest.raises(NotFinite, match='expected finite numbers from SAM, found NaN or infinity'):
        module(pixels, **dense)


def test_the_packages_own_generator(pixels):
    options = dict(points_per_side=2, pred_iou_thresh=-10.0, stability_score_thresh=0.0)
    model = original_sam_model()
    SegmentAnythingGrid(deepcopy(model), **options)(pixels)
    model.mask_decoder.iou_prediction_head.layers[-1].bias.data[-1] = NAN
    with pytest.raises(NotFinite, match='numbers from SAM, found NaN'):
        SegmentAnythingGrid(model, **options)(pixels)


@pytest.mark.parametrize('field', ['masks', 'scores'])
def test_concepts(field, pixels, sam3_folder, monkeypatch):
    regions = SAM3Regions(dict(type='SAM3Adapter', pretrained=sam3_folder))
    find = regions.sam.find

    def wrong(*args):
        found = find(*args)
        return replace(found, **{field: torch.full_like(getattr(found, field), NAN)})

    monkeypatch.setattr(regions.sam, 'find', wrong)
    with pytest.raises(NotFinite, match='numbers from SAM 3, found NaN'):
        regions(pixels, words=['cat', 'dog'])


@pytest.mark.parametrize('kind', PANOPTIC)
def test_panoptic_models(kind, pixels):
    regions = PanopticRegions(config=PANOPTIC[kind])
    regions(pixels)
    for name, weight in regions.model.model.named_parameters():
        if name.startswith(('class_predictor', 'mask_head')) and name.endswith('bias'):
            weight.data[-1] = NAN
    with pytest.raises(NotFinite, match=f'numbers from {kind}'):
        regions(pixels)


STEPS = dict(
    postprocessor=[dict(type='SAMProposals', proposer=CLICKS)],
    label_steps=[dict(type='SAMRefine', sam=SAM, coarse_thd=0.0, min_pixels=1)],
    regions=dict(type='SAMRegions', sam=SAM, points_per_side=2),
)


@torch.no_grad()
@pytest.mark.parametrize('step', STEPS)
def test_the_image_is_named(step, openai_file):
    options = {step: STEPS[step]}
    if step == 'regions':
        options['attention'] = dict(type='corrclip', guide=tiny_guide())
    model = SCLIPSegmentor(
        dict(pretrained=openai_file), ['cat', 'sky'], templates='plain', **options
    ).eval()
    part = dict(
        postprocessor=lambda: model.postprocessors[0].proposer,
        label_steps=lambda: model.label_steps[0],
        regions=lambda: model.proposer.clicks.model,
    )[step]()
    decode, calls = part.sam.decode, []

    def wrong(*args, **kwargs):
        logits, iou = decode(*args, **kwargs)
        calls.append(None)
        return logits, iou if len(calls) == 1 else iou * NAN

    part.sam.decode = wrong
    images = [torch.randn(3, 32, 32) for _ in range(2)]
    samples = [SegDataSample(metainfo=dict(img_path=name)) for name in ('a.jpg', 'b.jpg')]
    with pytest.raises(ValueError, match=r'^b\.jpg: expected finite numbers from SAM, found NaN'):
        model.predict(images, samples)


def test_numbers_pass():
    require_finite('SAM', torch.ones(2), torch.empty(0))
    with of_image(None):
        require_finite('SAM', torch.ones(2))
    with pytest.raises(ValueError, match='^the image: expected finite numbers'), of_image(None):
        require_finite('SAM', torch.ones(2), torch.tensor([1, -INF]))
    with pytest.raises(ValueError, match='^another'), of_image(None):
        raise ValueError('another')


def test_doubts_are_judged_where_the_outermost_block_ends():
    values, reached = torch.arange(3), []
    with pytest.raises(ValueError, match='^the second'), doubts():
        with doubts() as held:
            held.append(Doubt(torch.tensor(True), ValueError('the first')))
            held.append(Doubt(False, ValueError('the second')))
            held.append(Doubt(torch.tensor(False), ValueError('the third')))
        reached.append('the rest')
    assert reached
    with doubts(later=True) as held, doubts() as inner:
        inner.append(Doubt(torch.tensor(True), ValueError('sure')))
    assert torch.equal(fetch_sure([values], held)()[0], values)
    with doubts(later=True) as held:
        held.append(Doubt(torch.tensor(False), ValueError('unsure')))
    later = fetch_sure([values], held)
    with pytest.raises(ValueError, match='unsure'):
        later()
