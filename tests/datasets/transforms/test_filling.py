"""Labels of more than 255 classes, and depth, through MMSegmentation's transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from mmseg_siglip.datasets.transforms import RandomRotFlip
from mmseg_siglip.registry import TRANSFORMS

WIDE = 65535
LABELS = (0, 3, 255, 256, 300, 846)
ALWAYS = dict(
    RandomRotate=dict(prob=1.0, degree=20.0),
    RandomMosaic=dict(prob=1.0, img_scale=(64, 80)),
    Pad=dict(size=(100, 110)),
    RandomCutOut=dict(prob=1.0, n_holes=3, cutout_shape=(5, 5)),
    RandomRotFlip=dict(rotate_prob=1.0, flip_prob=0.0),
)
EXACT = (
    dict(type='Resize', scale=(40, 32)),
    dict(type='RandomResize', scale=(80, 64), ratio_range=(0.5, 2.0)),
    dict(
        type='RandomChoiceResize', scales=[40, 64], resize_type='ResizeShortestEdge', max_size=100
    ),
    dict(type='ResizeShortestEdge', scale=40, max_size=100),
    dict(type='ResizeToMultiple', size_divisor=48),
    dict(type='RandomCrop', crop_size=(32, 32), cat_max_ratio=0.75, ignore_index=WIDE),
    dict(type='RandomFlip', prob=1.0, direction='diagonal'),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomCutOut', **ALWAYS['RandomCutOut']),
    dict(type='SegRescale', scale_factor=0.5),
    dict(type='GenerateEdge', ignore_index=WIDE),
    dict(type='CenterCrop', crop_size=(32, 32)),
    dict(type='RandomRotFlip', rotate_prob=0.0, flip_prob=1.0, seg_pad_val=WIDE),
)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


def scene(ignore_index=WIDE, key='gt_seg_map'):
    rng = np.random.default_rng(0)
    labels = np.kron(rng.choice(LABELS, (8, 10)), np.ones((8, 8), int)).astype(np.int32)
    if key == 'gt_depth_map':
        labels = labels.astype(np.float32) / 100 + 1
    image = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
    found = dict(img=image, img_path='a.jpg', img_shape=(64, 80), ori_shape=(64, 80))
    return found | {key: labels, 'seg_fields': [key], 'ignore_index': ignore_index}


def run(name, results, **options):
    transform = TRANSFORMS.build(dict(dict(ALWAYS.get(name, {}), type=name), **options))
    if name == 'RandomMosaic':
        results['mix_results'] = [scene(results['ignore_index']) for _ in range(3)]
    np.random.seed(0)
    return transform(results)


@pytest.mark.parametrize('config', EXACT, ids=lambda config: config['type'])
def test_no_label_is_made_or_narrowed(config):
    np.random.seed(1)
    results = TRANSFORMS.build(dict(config))(scene())
    assert results['gt_seg_map'].dtype == np.int32
    assert set(np.unique(results['gt_seg_map']).tolist()) <= {*LABELS}
    packed = TRANSFORMS.build(dict(type='PackSegInputs'))(results)
    assert packed['data_samples'].gt_sem_seg.data.dtype == torch.int64


@pytest.mark.parametrize('name', ['RandomRotate', 'RandomMosaic', 'Pad', 'RandomRotFlip'])
def test_the_usual_fill_is_refused_where_it_is_a_class(name):
    wide = dict(pad_val=dict(img=0, seg=WIDE)) if name == 'Pad' else dict(seg_pad_val=WIDE)
    found = run(name, scene(), **wide)['gt_seg_map']
    assert found.dtype == np.int32 and {*np.unique(found).tolist()} <= {*LABELS, WIDE}
    assert WIDE in found or name == 'RandomMosaic'
    with pytest.raises(ValueError, match=f'{name}: expected .*=?65535.* found 255, .* is a class'):
        run(name, scene())
    assert {*np.unique(run(name, scene(255))['gt_seg_map']).tolist()} <= {*LABELS, 255}


@pytest.mark.parametrize(
    ('name', 'options', 'setting'),
    [
        ('RandomCrop', dict(crop_size=(32, 32), cat_max_ratio=0.75), 'ignore_index'),
        ('GenerateEdge', {}, 'ignore_index'),
        ('RandomCutOut', dict(seg_fill_in=255), 'seg_fill_in=None or seg_fill_in'),
    ],
)
def test_what_is_not_to_count_must_be_known(name, options, setting):
    with pytest.raises(ValueError, match=f'{name}: expected {setting}=65535, .* found 255'):
        run(name, scene(), **options)
    run(name, scene(255), **options)


@pytest.mark.parametrize('name', ['RandomRotate', 'Pad', 'RandomCutOut'])
def test_corners_are_no_metres(name):
    given = dict(seg_fill_in=255) if name == 'RandomCutOut' else {}
    with pytest.raises(ValueError, match=f'{name}: expected .*0, .* found 255, which is metres'):
        run(name, scene(key='gt_depth_map'), **given)


def test_corners_are_no_directions():
    results = scene(key='gt_normal_map')
    with pytest.raises(ValueError, match='Pad: expected .* no normal, found 255, which is a direc'):
        run('Pad', results)


def test_depth_is_filled_with_none():
    deep = scene(key='gt_depth_map')
    values = {0.0, *np.unique(deep['gt_depth_map']).tolist()}
    found = run('Pad', scene(key='gt_depth_map'), pad_val=dict(img=0, seg=0))['gt_depth_map']
    assert found.shape == (110, 100) and (found[64:] == 0).all()
    for options in (dict(), dict(rotate_prob=0.0, flip_prob=1.0)):
        found = run('RandomRotFlip', scene(key='gt_depth_map'), **options)['gt_depth_map']
        assert found.dtype == np.float32 and {*np.unique(found).tolist()} <= values


@pytest.mark.parametrize('key', ['gt_ref_masks', 'text', 'regions', 'gt_normal_map'])
@pytest.mark.parametrize('name', ['RandomRotate', 'RandomMosaic', 'RandomRotFlip'])
def test_nothing_is_left_behind(name, key):
    results = scene(255) | {key: ['left'] if key == 'text' else np.zeros((64, 80), int)}
    with pytest.raises(ValueError, match=f'{name} would turn a.jpg and leave its {key} behind'):
        run(name, results)


@pytest.mark.parametrize('name', ['RandomCrop', 'CenterCrop', 'Pad'])
def test_masks_of_phrases_are_not_left_behind(name):
    """Resizing would bring image and masks to one size again, and nothing tell."""
    options = dict(size=(100, 110)) if name == 'Pad' else dict(crop_size=(32, 32))
    results = scene(255) | dict(gt_ref_masks=np.zeros((1, 64, 80), np.uint8))
    with pytest.raises(ValueError, match=f'{name} would cut or fill up a.jpg and leave its gt_ref'):
        run(name, results, **options)


@pytest.mark.parametrize('key', ['gt_seg_map', 'gt_depth_map'])
def test_what_is_cut_in_the_centre_is_cut_together(key):
    results = scene(255, key)
    results['img'] = np.repeat(results[key][..., None], 3, 2)
    found = run('CenterCrop', results, crop_size=(40, 32))
    assert found[key].shape == (32, 40) and (found['img'][..., 0] == found[key]).all()


def test_labels_turn_with_their_image():
    """A picture of its own labels stays one, but for a pixel at edges."""
    for options in (dict(degree=(10, 11)), dict(rotate_prob=0.0, flip_prob=1.0)):
        results = scene(255)
        labels = (results['gt_seg_map'] > 255).astype(np.int32)
        results |= dict(gt_seg_map=labels, img=np.repeat(labels[..., None] * 200, 3, 2))
        results['img'] = results['img'].astype(np.uint8)
        found = run('RandomRotFlip', results, **options)
        assert found['img_shape'] == found['img'].shape[:2] == found['gt_seg_map'].shape
        seen = found['gt_seg_map'] != 255
        assert ((found['img'][..., 0] > 100) == (found['gt_seg_map'] == 1))[seen].mean() > 0.97
    np.random.seed(3)
    shapes = {RandomRotFlip(rotate_prob=0, flip_prob=1)(scene(255))['img_shape'] for _ in range(20)}
    assert shapes == {(64, 80), (80, 64)}


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(rotate_prob=2), r'rotate_prob and flip_prob in \[0, 1\], found 2 and 0.5'),
        (dict(degree=(20, -20)), r'expected a range of degrees, found \(20, -20\)'),
        (dict(degree=0), 'expected a range of degrees, found 0'),
    ],
)
def test_bad_options(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        RandomRotFlip(**options)


def test_a_mosaic_asks_for_images_that_are_there():
    mosaic = TRANSFORMS.build(dict(type='RandomMosaic', prob=1.0, img_scale=(64, 80)))
    assert {i for _ in range(50) for i in mosaic.get_indices('ab')} == {0, 1}
