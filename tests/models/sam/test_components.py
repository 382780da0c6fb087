import numpy as np
import pytest
import torch
from tiny_sams import disturb

from mmseg_siglip.models.sam import SAMComponents
from mmseg_siglip.models.sam.blobs import Blobs
from mmseg_siglip.models.sam.components import Lead


@pytest.fixture(scope='module')
def dense():
    """Cosines (4, 24, 36) with blobs; words 0 and 3 are one class."""
    coarse = torch.rand(1, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    fine = torch.nn.functional.interpolate(coarse, size=(24, 36), mode='bilinear')[0]
    return dict(logits=fine, query_to_class=(0, 1, 2, 0), logit_scale=20.0)


@pytest.fixture(scope='module')
def image():
    return torch.rand(3, 48, 72, generator=torch.Generator().manual_seed(0))


def build(config, **options):
    torch.manual_seed(0)
    module = SAMComponents(dict(type='SAMAdapter', config=config), **options)
    disturb(module.sam.model)
    return module


def test_every_blob_asks_and_keeps_its_class(sam_config, dense, image):
    found = build(sam_config, min_overlap=0.0, min_area=0.0)(image, **dense)
    best = torch.stack([dense['logits'][[0, 3]].amax(0), *dense['logits'][1:3]]).argmax(0)
    assert len(found) > 2 and set(found.labels.tolist()) <= {0, 1, 2}
    for index, label in enumerate(found.labels.tolist()):
        assert (best[found.origins == index] == label).all()
    assert int(found.origins.max()) == len(found) - 1


@pytest.mark.parametrize('kind', ['sam', 'sam2'])
def test_batches_of_blobs_do_not_show(request, dense, image, kind):
    config = request.getfixturevalue(f'{kind}_config')
    many, one = (
        build(config, min_overlap=0.0, min_area=0.0, prompts_per_batch=n)(image, **dense)
        for n in (64, 1)
    )
    torch.testing.assert_close(many.logits, one.logits, atol=1e-4, rtol=1e-4)
    assert torch.equal(many.origins, one.origins)


def test_outlines_of_something_else_are_dropped(sam_config, dense, image):
    every = build(sam_config, min_overlap=0.0, min_area=0.0)(image, **dense)
    size = tuple(dense['logits'].shape[-2:])
    masks = torch.cat([part for _, part in every.masks(size)])
    blobs = torch.stack([every.origins == k for k in range(len(every))])
    ious = (masks & blobs).sum((1, 2)) / (masks | blobs).sum((1, 2))
    middle = float(ious.median())
    some = build(sam_config, min_overlap=middle, min_area=0.0)(image, **dense)
    kept = (ious > middle).nonzero()[:, 0]
    torch.testing.assert_close(some.logits, every.logits[kept], atol=1e-4, rtol=1e-4)
    for new, old in enumerate(kept.tolist()):
        assert torch.equal(some.origins == new, every.origins == old)
    none = build(sam_config, min_overlap=1.0)(image, **dense)
    assert len(none) == 0 and (none.origins == -1).all()


def test_prompts_are_the_box_the_best_point_and_the_soft_mask(
    sam_config, dense, image, monkeypatch
):
    module = build(sam_config, min_overlap=0.0, min_area=0.0)
    seen = {}
    for name in ('prompt_points', 'prompt_boxes', 'prompt_masks'):
        call = getattr(module.sam, name)

        def spy(values, *rest, name=name, call=call):
            seen[name] = values
            return call(values, *rest)

        monkeypatch.setattr(module.sam, name, spy)
    found = module(image, **dense)
    values = torch.stack([dense['logits'][[0, 3]].amax(0), *dense['logits'][1:3]]) * 20
    labels = values.argmax(0).numpy()
    blobs = Blobs.of(labels, 1, torch.device('cpu'))
    parts, classes = blobs.index.numpy(), blobs.classes
    assert len(classes) == seen['prompt_boxes'].shape[1] >= len(found)
    for index, label in enumerate(classes):
        rows, columns = np.nonzero(parts == index)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert seen['prompt_boxes'][0, index].tolist() == [2 * v for v in box]
        others = np.delete(values.numpy(), label, axis=0).max(0)
        lead = np.where(parts == index, values[label].numpy() - others, -np.inf)
        y, x = np.unravel_index(lead.argmax(), lead.shape)
        assert seen['prompt_points'][0, index, 0].tolist() == [2 * x + 1, 2 * y + 1]
    soft = seen['prompt_masks'][0]
    assert soft.shape == (len(classes), *module.sam.mask_size)
    assert soft.abs().max() <= 16 and (soft[:, -1] == -16).all()  # the padding below the image
    module.soft_mask = 0.0
    del seen['prompt_masks']
    module(image, **dense)
    assert 'prompt_masks' not in seen


@pytest.mark.parametrize('classes', [1, 2, 5])
def test_a_lead_is_over_the_best_other_class(classes):
    values = torch.randint(0, 4, (classes, 6, 7), generator=torch.Generator().manual_seed(0)) * 1.0
    lead = Lead.of(values)
    for label in range(classes):
        others = torch.cat([values[:label], values[label + 1 :]])
        rival = others.amax(0) if len(others) else 0
        assert torch.equal(lead.of_class(label), values[label] - rival)


def test_one_class_is_one_blob(sam_config, image):
    found = build(sam_config, min_overlap=0.0)(
        image, logits=torch.rand(2, 24, 36), query_to_class=(0, 0), logit_scale=1.0
    )
    assert found.labels.tolist() == [0]


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(min_overlap=1.5), r'expected min_overlap in \[0, 1\], found 1.5'),
        (dict(min_area=-1), r'expected min_area in \[0, 1\], found -1'),
        (dict(prompts_per_batch=0), 'expected prompts_per_batch of 1 or more, found 0'),
        (dict(precision='half'), 'precision: expected one of'),
    ],
)
def test_refusals(sam_config, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(sam_config, **options)
