import pytest
import torch
from mmseg.structures import SegDataSample
from tiny_sams import SAM_CONFIG, disturb
from torch.nn.functional import interpolate

from mmseg_siglip.models.labelling import Labels
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.postprocessors.sam_refine import SAMRefine
from mmseg_siglip.models.segmentors import SCLIPSegmentor

SAM = dict(type='SAMAdapter', config=SAM_CONFIG)


def build(**options):
    torch.manual_seed(0)
    step = SAMRefine(SAM, **dict(min_pixels=4) | options)
    disturb(step.sam.model)
    return step


def context(size):
    pixels = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    none = lambda: None  # noqa: E731
    return Context(
        query_to_class=[0, 1], logit_scale=1.0, pixels=lambda: [pixels], features=none, text=none
    )


def coarse(low=0.3):
    """Three classes over 12 x 16, each of two halves sure of its own, a corner sure of nothing."""
    chances = torch.full((3, 12, 16), 0.1)
    chances[1, :, :8] = 0.7
    chances[2, :, 8:] = 0.6
    chances[2, 4, 12] = chances[2, 5, 12] = chances[2, 4, 13] = chances[2, 5, 13] = 0.65
    chances[:, :4, 12:] = low
    labels = chances.argmax(0)
    return Labels(labels, chances.amax(0), chances)


@pytest.mark.parametrize('believed', [True, False])
def test_outlines_compete_by_probability(monkeypatch, believed):
    step, found, size = build(coarse_thd=0.4), coarse(), (12, 16)
    seen = []
    logits = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(4)) * 3
    iou = [0.9, 0.85 if believed else 0.5]

    def ask(features, chances, blobs, some):
        seen.append((blobs.index.clone(), [blobs.classes[i] for i in some]))
        return logits, iou

    def to_image(masks, features, size):
        return interpolate(masks[None], size=size, mode='bilinear')[0]

    monkeypatch.setattr(step, '_ask', ask)
    monkeypatch.setattr(step.sam, 'to_image', to_image)
    refined = step(found, context(size))
    ((blobs, classes),) = seen
    assert classes == [1, 2]
    wanted, outlines = found.labels.clone(), to_image(logits, None, size)
    for y in range(12):
        for x in range(16):
            i, j, bids = y // 2, x // 2, {}
            for blob, (label, good) in enumerate(zip(classes, iou, strict=True)):
                inside = int(blobs[i, j]) == [1, 2].index(label)
                if good > 0.8 and outlines[blob, y, x] > 0:
                    chance = float(found.probabilities[label, y, x])
                    bids[label] = float(outlines[blob, y, x].sigmoid()) * chance
                elif good <= 0.8 and inside:
                    own = int(found.labels[y, x])
                    bids[own] = max(bids.get(own, 0), float(found.probabilities[:, y, x].max()))
            if bids:
                wanted[y, x] = max(bids, key=bids.get)
    assert torch.equal(refined.labels, wanted)
    assert (refined.labels != found.labels).any()
    own = found.probabilities.gather(0, refined.labels[None])[0]
    assert torch.equal(refined.scores, own)
    assert torch.equal(refined.probabilities, found.probabilities)


def test_what_a_blob_asks(monkeypatch):
    """In pixels of the picture, which is twice as large here as its labels."""
    step, found, asked = build(coarse_thd=0.4), coarse(), {}
    for name in ('prompt_points', 'prompt_boxes', 'prompt_masks'):
        call = getattr(step.sam, name)

        def keep(first, *rest, name=name, call=call):
            asked[name] = first
            return call(first, *rest)

        monkeypatch.setattr(step.sam, name, keep)
    step(found, context((24, 32)))
    assert asked['prompt_boxes'].tolist() == [[[0, 0, 16, 24], [16, 0, 32, 24]]]
    points = asked['prompt_points'][0, :, 0]
    assert points[1].tolist() == [4 * 6 + 2, 4 * 2 + 2]  # the likeliest cell, (2, 6) of half
    soft = asked['prompt_masks'][0]
    assert soft.shape == (2, 32, 32) and soft[:, 25:].eq(0).all()
    assert soft[0].max() == pytest.approx(0.7 * 0.005) and soft[0, :, 20:].eq(0).all()


def test_blobs_that_are_not_believed_keep_their_pixels():
    """Of the full size: a border between two pixels of half the size stays where it is."""
    chances = torch.full((2, 12, 16), 0.2)
    chances[0, :, :7], chances[1, :, 7:] = 0.8, 0.8
    found = Labels(chances.argmax(0), chances.amax(0), chances)
    assert torch.equal(build(min_iou=1.0)(found, context((12, 16))).labels, found.labels)


def test_outlines_are_of_the_full_size(monkeypatch):
    step, size = build(min_iou=0.0), (12, 16)
    outline = torch.where(torch.arange(16) < 9, 5.0, -5.0).expand(1, *size)
    monkeypatch.setattr(step, '_ask', lambda *given: (torch.zeros(2, 1, 1), [0.9, 0.9]))
    monkeypatch.setattr(step.sam, 'to_image', lambda *given: outline)
    chances = torch.full((3, *size), 0.1)
    chances[1, :, :8], chances[2, :, 8:] = 0.7, 0.3
    chances[1, :, 8:] = 0.4
    found = Labels(torch.where(torch.arange(16) < 8, 1, 2).expand(size), None, chances)
    refined = step(found, context(size)).labels
    assert refined[:, :9].eq(1).all() and refined[:, 9:].eq(2).all()


def test_no_blob_is_no_change():
    found = coarse()
    assert build(coarse_thd=0.9)(found, context((12, 16))) is found
    assert build(min_pixels=1000)(found, context((12, 16))) is found
    tiny = Labels(torch.zeros(1, 1, dtype=torch.long), None, torch.ones(1, 1, 1))
    assert build(min_pixels=1)(tiny, context((8, 8))).labels.tolist() == [[0]]


def test_batches_of_prompts_change_nothing():
    found, size = coarse(), (12, 16)
    many, one = (build(min_iou=0.0, prompts_per_batch=n)(found, context(size)) for n in (8, 1))
    assert torch.equal(many.labels, one.labels)


@torch.no_grad()
def test_in_a_segmentor(openai_file):
    model = SCLIPSegmentor(
        dict(pretrained=openai_file),
        ['cat', 'sky', 'road'],
        templates='plain',
        label_steps=[dict(type='SAMRefine', sam=SAM, coarse_thd=0.0, min_pixels=1, min_iou=0.0)],
    ).eval()
    (sample,) = model.predict(
        [torch.randn(3, 40, 48)], [SegDataSample(metainfo=dict(ori_shape=(31, 37)))]
    )
    assert sample.pred_sem_seg.data.shape[-2:] == (31, 37)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(coarse_thd=2.0), r'coarse_thd in \[0, 1\], found 2.0'),
        (dict(min_pixels=0), 'min_pixels of 1 or more, found 0'),
        (dict(precision='int8'), 'precision: expected one of'),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
