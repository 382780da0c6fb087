import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseg_siglip.datasets.transforms.referring import MIRRORED, swap_sides
from mmseg_siglip.registry import TRANSFORMS


def sample(height=6, width=9, phrases=2, seed=0):
    rng = np.random.default_rng(seed)
    return dict(
        img=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        img_path='a.jpg',
        img_shape=(height, width),
        ori_shape=(height, width),
        text=['the cup left of the plate', 'RIGHT cup'][:phrases],
        gt_ref_masks=rng.integers(0, 2, (phrases, height, width)).astype(np.uint8),
    )


def build(**config):
    return TRANSFORMS.build(config)


@pytest.mark.parametrize(
    ('text', 'swapped'),
    [
        ('the leftmost red star', 'the rightmost red star'),
        ('Left guy, RIGHT hand', 'Right guy, LEFT hand'),
        ('left-hand side; far-right', 'right-hand side; far-left'),
        ('the ship in the north-east', 'the ship in the north-west'),
        ('Southwest corner', 'Southeast corner'),
        ('upright cleft rightful leftovers', 'upright cleft rightful leftovers'),
        ('lft or rght, lt or rt', 'rght or lft, rt or lt'),
        ('topleft bird, Bottomright', 'topright bird, Bottomleft'),
        ('leftside of photo, leftest, farright', 'rightside of photo, rightest, farleft'),
        ('guy on R, l person', 'guy on L, r person'),
        ("l'homme, she'r", "l'homme, she'r"),
        ('the northwestern one', 'the northeastern one'),
        ('copyright, bright, uptight', 'copyright, bright, uptight'),
        ('above the ring', 'above the ring'),
        ('left_hand, bottom_right, left2', 'right_hand, bottom_left, right2'),
        ("the left's edge, lefthanded; LHS", "the right's edge, righthanded; RHS"),
        ('leftmiddle, righttop, leftish', 'rightmiddle, lefttop, rightish'),
        ('r2d2, l4, lt_1', 'r2d2, l4, lt_1'),
    ],
)
def test_words_swapped(text, swapped):
    assert swap_sides(text) == swapped and swap_sides(swapped) == text


@given(st.lists(st.sampled_from([*MIRRORED, 'Left', 'LEFT', 'the', 'red', '-', ',', 'bright'])))
def test_swapping_twice_changes_nothing(words):
    text = ' '.join(words)
    assert swap_sides(swap_sides(text)) == text


def test_flip_moves_pixels_masks_and_words_together():
    original = sample()
    flipped = build(type='RandomReferringFlip', prob=1.0)(sample())
    assert (flipped['img'] == original['img'][:, ::-1]).all()
    assert (flipped['gt_ref_masks'] == original['gt_ref_masks'][:, :, ::-1]).all()
    assert flipped['text'] == ['the cup right of the plate', 'LEFT cup']
    back = build(type='RandomReferringFlip', prob=1.0)(flipped)
    assert back['text'] == original['text'] and (back['img'] == original['img']).all()
    assert build(type='RandomReferringFlip', prob=0.0)(sample())['text'] == original['text']


def test_a_shapes_scene_flipped_still_tells_the_truth():
    """What is called leftmost is leftmost in the mirrored picture."""
    from mmseg_siglip.datasets.shapes_world.phrases import ShapesReferringDataset

    dataset = ShapesReferringDataset(num_scenes=8, phrases_per_image=500, test_mode=True)
    checked = 0
    for data in dataset:
        results = build(type='LoadReferringMasks')(data)
        flipped = build(type='RandomReferringFlip', prob=1.0)(results)
        pairs = zip(flipped['text'], flipped['gt_ref_masks'], strict=True)
        centre = {text: mask.nonzero()[1].mean() for text, mask in pairs}
        for side, extreme in (('left', min), ('right', max)):
            if f'the {side}most shape' in centre:
                assert centre[f'the {side}most shape'] == extreme(centre.values())
                checked += 1
    assert checked >= 6


def test_resizing_takes_nearest_pixels():
    resized = build(type='ResizeReferring', scale=(18, 12), keep_ratio=False)(sample())
    assert resized['img'].shape == (12, 18, 3)
    expected = sample()['gt_ref_masks'].repeat(2, axis=1).repeat(2, axis=2)
    assert (resized['gt_ref_masks'] == expected).all()
    kept = build(type='ResizeReferring', scale=(1000, 30), keep_ratio=True)(sample(phrases=1))
    assert kept['img'].shape[:2] == kept['gt_ref_masks'].shape[1:] == (30, 45)
    without = sample()
    del without['gt_ref_masks']
    assert build(type='ResizeReferring', scale=(18, 12))(without)['img'].shape == (12, 18, 3)


def test_padding_counts_nowhere():
    padded = build(type='PadReferring', size_divisor=8)(sample())
    assert padded['img'].shape == (8, 16, 3) and padded['gt_ref_masks'].shape == (2, 8, 16)
    assert (padded['gt_ref_masks'][:, :6, :9] == sample()['gt_ref_masks']).all()
    outside = np.ones((8, 16), bool)
    outside[:6, :9] = False
    assert (padded['gt_ref_masks'][:, outside] == 255).all()


def test_packing():
    packed = build(type='PackReferringInputs')(sample())
    data = packed['data_samples']
    assert data.text == sample()['text'] and data.img_path == 'a.jpg'
    assert (data.gt_sem_seg.data.numpy() == sample()['gt_ref_masks']).all()
    assert str(data.gt_sem_seg.data.dtype) == str(packed['inputs'].dtype) == 'torch.uint8'
    resized = dict(
        sample(), img=np.zeros((4, 4, 3), np.uint8), img_shape=(4, 4), scale_factor=(4 / 9, 4 / 6)
    )
    assert build(type='PackReferringInputs')(resized)['data_samples'].gt_sem_seg.shape == (6, 9)
    without = sample()
    del without['gt_ref_masks']
    assert 'gt_sem_seg' not in build(type='PackReferringInputs')(without)['data_samples']


def test_what_would_leave_masks_or_words_behind_is_noticed():
    pack = build(type='PackReferringInputs')
    for rotate in (dict(auto_bound=True), {}):  # the latter keeps the size
        with pytest.raises(ValueError, match='and leave its gt_ref_masks, text behind'):
            build(type='RandomRotate', prob=1.0, degree=(90, 90), **rotate)(sample())
    with pytest.raises(ValueError, match='use RandomReferringFlip instead of RandomFlip'):
        pack(build(type='RandomFlip', prob=1.0, direction='horizontal')(sample()))
    resize = build(type='Resize', scale=(18, 12), keep_ratio=True)
    for transform in (
        build(type='RandomCrop', crop_size=(4, 4)),
        build(type='Pad', size_divisor=8),
        build(type='Pad', size=(19, 13)),
    ):
        for data in (sample(), resize(sample())):
            with pytest.raises(ValueError, match='would cut or fill up a.jpg and leave its gt_ref'):
                transform(data)
    with pytest.raises(ValueError, match=r'expected 2 masks .* left them behind'):
        pack(dict(sample(), img=np.zeros((4, 4, 3), np.uint8)))
    assert pack(resize(sample()))['data_samples'].gt_sem_seg.shape == (6, 9)
    with pytest.raises(ValueError, match='expected 1 masks'):
        pack(dict(sample(), text=['only one']))
    with pytest.raises(ValueError, match=r'expected prob in \[0, 1\], found 1.5'):
        build(type='RandomReferringFlip', prob=1.5)


def test_masks_are_loaded_before_what_moves_the_image():
    source = dict(mask_sources=[np.zeros((6, 9), bool)], targets=[0, 0])
    load = build(type='LoadReferringMasks')
    bare = {key: value for key, value in sample().items() if key != 'gt_ref_masks'} | source
    assert load(build(type='Resize', scale=(18, 12))(dict(bare)))['gt_ref_masks'].shape == (2, 6, 9)
    flip = build(type='RandomReferringFlip', prob=1.0)
    with pytest.raises(ValueError, match='expected LoadReferringMasks before RandomReferringFlip'):
        load(flip(dict(bare)))
    load(flip(flip(dict(bare))))
    crop = build(type='RandomCrop', crop_size=(4, 4))
    with pytest.raises(ValueError, match='a.jpg: expected LoadReferringMasks before RandomCrop'):
        load(crop(dict(bare)))
