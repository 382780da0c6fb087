"""The small SAM that ships with the package, in stock transformers and on scenes it never saw."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import SamModel

import mmseg_siglip
from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
from mmseg_siglip.datasets.transforms.regions import regions
from mmseg_siglip.models.pretrainers.sam_pretrainer import central_points
from mmseg_siglip.models.sam import SAMAdapter
from mmseg_siglip.models.sam.geometry import mask_iou

FOLDER = Path(mmseg_siglip.__file__).parent / 'assets' / 'tiny_sam_shapes'


@pytest.fixture(scope='module')
def adapter():
    return SAMAdapter('tiny_sam_shapes')


def picture(scene) -> torch.Tensor:
    return torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255


def test_is_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 1.5 * 2**20


def test_stock_transformers_and_the_adapter_give_the_same(adapter):
    stock = SamModel.from_pretrained(FOLDER, dtype=torch.float32).eval()
    image = picture(generate(scene_seed('test', 0), size=(192, 192)))[None]
    points = torch.tensor([[[[60.0, 80.0]], [[100.0, 30.0]]]])
    labels = torch.ones(1, 2, 1, dtype=torch.long)
    with torch.no_grad():
        features = adapter.encode(image)
        sparse = adapter.prompt_points(points, labels, features)
        masks, iou = adapter.decode(features, sparse, multimask=True)
        pixels = (image - adapter.mean) / adapter.std
        expected = stock(pixel_values=pixels, input_points=points, input_labels=labels)
    torch.testing.assert_close(masks, expected.pred_masks, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(iou, expected.iou_scores, atol=1e-4, rtol=1e-3)


def test_a_click_says_which_region(adapter):
    """Against what can be had without looking: the whole picture, whose IoU is a region's area."""
    found, blind = [], []
    for index in range(6):
        scene = generate(scene_seed('test', index), held_out=True)
        _, masks = regions(scene)
        truth = torch.from_numpy(masks)[None]
        with torch.no_grad():
            features = adapter.encode(picture(scene)[None])
            clicks = central_points(truth)
            sparse = adapter.prompt_points(clicks, torch.ones(clicks.shape[:-1]), features)
            low, iou = adapter.decode(features, sparse, multimask=True)
            logits = adapter.to_image(low, features)[0]
        chosen = logits[torch.arange(len(masks)), iou[0].argmax(-1)] > 0
        found += mask_iou(chosen, truth[0] == 1).tolist()
        blind += [mask.mean() for mask in masks]
    assert np.mean(found) > 1.5 * np.mean(blind)
