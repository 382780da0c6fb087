import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from mmseg_siglip.models.pretrainers.sam_pretrainer import (
    boxes_of,
    central_points,
    random_points,
)
from mmseg_siglip.registry import DATASETS, MODELS


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


@pytest.fixture
def masks():
    torch.manual_seed(0)
    values = (torch.rand(2, 3, 9, 14) < 0.15).byte()
    values[:, 0, 2:7, 3:10] = 1
    values[0, 1] = 0
    values[0, 1, 8, 13] = 1
    values[1, 2, 0] = 255
    return values


@pytest.fixture
def batch():
    dataset = DATASETS.build(
        dict(
            type='ShapesWorldDataset',
            split='train',
            num_scenes=2,
            size=(48, 64),
            pipeline=[dict(type='LoadShapesRegions', count=3), dict(type='PackReferringInputs')],
        )
    )
    np.random.seed(0)
    return pseudo_collate([dataset[0], dataset[1]])


@pytest.fixture
def model(sam_config):
    torch.manual_seed(0)
    sam = dict(type='SAMAdapter', config=dict(sam_config, initializer_range=0.08))
    return MODELS.build(dict(type='SAMPretrainer', backbone=sam))


def test_clicks_lie_on_their_masks(masks):
    for points in (random_points(masks), central_points(masks)):
        assert points.shape == (2, 3, 1, 2)
        for mask, (point,) in zip(masks.flatten(0, 1), points.flatten(0, 1), strict=True):
            x, y = (point - 0.5).long().tolist()
            assert mask[y, x] == 1
    assert central_points(masks)[0, 1].tolist() == [[13.5, 8.5]]


def test_random_clicks_reach_every_pixel():
    mask = torch.zeros(1, 1, 4, 5, dtype=torch.uint8)
    mask[0, 0, 1, 2:] = mask[0, 0, 3, 0] = 1
    seen = {tuple(random_points(mask).flatten().tolist()) for _ in range(100)}
    assert seen == {(2.5, 1.5), (3.5, 1.5), (4.5, 1.5), (0.5, 3.5)}


def test_the_middle_of_a_block():
    mask = torch.zeros(1, 1, 9, 14, dtype=torch.uint8)
    mask[0, 0, 2:7, 3:8] = 1
    assert central_points(mask).flatten().tolist() == [5.5, 4.5]


def test_boxes_equal_the_loop(masks):
    for mask, box in zip(masks.flatten(0, 1), boxes_of(masks).flatten(0, 1), strict=True):
        y, x = (mask == 1).nonzero(as_tuple=True)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_every_weight_that_trains_gets_a_gradient(model, batch):
    data = model.data_preprocessor(batch, True)
    assert data['inputs'].min() >= 0 and data['inputs'].max() <= 1
    model.train()
    total = 0
    for _ in range(6):  # clicks, boxes and both are drawn
        losses = model(**data, mode='loss')
        assert set(losses) == {'loss_proposals', 'loss_answer', 'loss_iou'}
        total = total + sum(losses.values())
    total.backward()
    dead = [
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.any())
    ]
    # Clicks off the object, and the two corners of a box, are prompts of other kinds.
    assert {name for name in dead if 'point_embed' not in name} == set()


def test_it_learns(model, batch):
    torch.manual_seed(0)
    data = model.data_preprocessor(batch, True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        losses = model(**data, mode='loss')
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append(losses['loss_proposals'].item())
    assert np.mean(history[-5:]) < 0.6 * np.mean(history[:5])


def test_prediction_is_the_proposal_believed_best(model, batch):
    model.eval()
    with torch.no_grad():
        data = model.data_preprocessor(batch, False)
        samples = model(**data, mode='predict')
        for index, sample in enumerate(samples):
            assert sample.pred_sem_seg.data.shape == sample.gt_sem_seg.data.shape
            assert set(sample.pred_sem_seg.data.unique().tolist()) <= {0, 1}
            sam = model.backbone
            features = sam.encode(data['inputs'])[index]
            clicks = central_points(sample.gt_sem_seg.data[None])
            sparse = sam.prompt_points(clicks, torch.ones(1, 3, 1), features)
            low, iou = sam.decode(features, sparse, multimask=True)
            for region in range(3):
                best = low[:, region : region + 1, int(iou[0, region].argmax())]
                mask = sam.to_image(best, features)[0, 0] > 0
                assert torch.equal(mask.byte(), sample.pred_sem_seg.data[region])
        assert model(data['inputs']).ndim == 4
    with pytest.raises(ValueError, match="expected loss, predict or tensor, found 'test'"):
        model(data['inputs'], mode='test')
