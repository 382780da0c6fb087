import numpy as np

from mmseg_siglip.datasets import ShapesWorldDataset
from mmseg_siglip.datasets.shapes_world.scene import CLASSES
from mmseg_siglip.registry import TRANSFORMS


def sample(index=0):
    return ShapesWorldDataset(num_scenes=4, size=(48, 64))[index]


def test_regions_are_the_scene_taken_apart():
    for index in range(4):
        data = sample(index)
        scene = data['scene']
        results = TRANSFORMS.build(dict(type='LoadShapesRegions'))(data)
        masks = results['gt_ref_masks']
        assert (masks.sum(0) <= 1).all() and masks.sum(0).mean() > 0.97
        assert 'gt_seg_map' not in results
        for name, mask in zip(results['text'], masks, strict=True):
            assert {CLASSES[c] for c in scene.classes[mask == 1]} == {name.split()[-1]}
            assert mask.sum() >= 24


def test_a_number_drawn():
    np.random.seed(0)
    take = TRANSFORMS.build(dict(type='LoadShapesRegions', count=20))
    results = take(sample())
    assert results['gt_ref_masks'].shape == (20, 48, 64) and len(results['text']) == 20
    few = TRANSFORMS.build(dict(type='LoadShapesRegions', count=2))
    names = set()
    for _ in range(20):
        results = few(sample())
        assert (results['gt_ref_masks'].sum(0) <= 1).all()
        names.add(tuple(results['text']))
    assert len(names) > 2
