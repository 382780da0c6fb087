import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader

from mmseg_siglip.datasets import ShapesCaptionDataset
from mmseg_siglip.datasets.shapes_world.captions import NUM_FACTS
from mmseg_siglip.datasets.shapes_world.scene import HELD_OUT_PAIRS, SPLITS


def small(**kwargs) -> ShapesCaptionDataset:
    return ShapesCaptionDataset(
        **dict(dict(image_size=32, num_scenes=6, windows=20, scene_size=(64, 96)), **kwargs)
    )


def test_items_have_the_announced_form():
    dataset = small()
    assert len(dataset) == 120
    for index in range(0, 120, 7):
        item = dataset[index]
        assert item['inputs'].shape == (3, 32, 32) and item['inputs'].dtype == np.uint8
        sample = item['data_samples']
        assert sample['facts'].shape == sample['possible'].shape == (NUM_FACTS,)
        assert sample['facts'][sample['claims']].all() and sample['caption']


def test_an_index_is_one_item_in_any_process_and_order():
    dataset = small()
    backwards = [dataset[i] for i in reversed(range(12))][::-1]
    loader = DataLoader(small(), batch_size=12, num_workers=1)
    batch = next(iter(loader))
    for index, item in enumerate(backwards):
        np.testing.assert_array_equal(batch['inputs'][index], item['inputs'])
        assert batch['data_samples']['caption'][index] == item['data_samples']['caption']
    assert len({item['data_samples']['caption'] for item in backwards}) > 4


def test_windows_stay_inside_and_differ_in_size():
    dataset = small(windows=50, smallest=10)
    sides = []
    for index in range(200):
        rng = np.random.default_rng(index)
        top, left, height, width = dataset.window(dataset.scene(index % 6), rng)
        assert 0 <= top <= 64 - height and 0 <= left <= 96 - width and height == width
        sides.append(height)
    assert min(sides) < 16 and max(sides) > 50 and min(sides) >= 10


def test_picture_is_the_window_in_bgr():
    dataset = small(image_size=64)
    scene = dataset.scene(0)
    picture = dataset.picture(scene, (0, 10, 64, 64))
    np.testing.assert_array_equal(picture[::-1].transpose(1, 2, 0), scene.image[:, 10:74])
    shrunk = small(image_size=32).picture(scene, (0, 10, 64, 64))
    expected = cv2.resize(scene.image[:, 10:74], (32, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(shrunk[::-1].transpose(1, 2, 0), expected)


def test_scenes_are_of_the_split_and_without_held_out_pairs():
    for split in SPLITS:
        dataset = small(split=split, num_scenes=20)
        scenes = [dataset.scene(index) for index in range(20)]
        assert all(scene.seed in SPLITS[split] for scene in scenes)
        shown = {(item.colour, item.shape) for scene in scenes for item in scene.objects}
        assert not shown & set(HELD_OUT_PAIRS)


def test_refusals():
    with pytest.raises(ValueError, match='expected 1 to 64 pixels, found 65'):
        small(smallest=65)
    with pytest.raises(ValueError, match='closest: expected above 0, at most 1.6, found 2'):
        small(closest=2)
    with pytest.raises(ValueError, match='two rising shares'):
        small(ground=(0.5, 0.2))
    with pytest.raises(ValueError, match='split must be one of'):
        small(split='dev')
