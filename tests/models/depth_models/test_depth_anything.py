"""Depth Anything, folders and releases' files, against transformers on the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_depth_models import (
    by_transformers,
    depth_anything,
    depth_anything_processor,
    depth_anything_release,
    dpt,
    dpt_processor,
    photograph,
    save,
    seeded,
)
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, pipeline

from mmseg_siglip.api import DepthPredictor

SIZES = [(57, 91), (30, 41), (160, 101), (70, 70)]
V1_TAPS = (9, 10, 11, 12)


def load(source, **options):
    return DepthPredictor.from_pretrained(source, device='cpu', precision='fp32', **options)


def assert_equal(predictor, model, sizes=SIZES):
    for size in sizes:
        expected = by_transformers(model, depth_anything_processor(), photograph(size)).numpy()
        found = predictor(photograph(size)).depth
        assert found.shape == size and expected.std() > 0.01 * expected.max()
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * expected.max())


@pytest.fixture(scope='module')
def relative(tmp_path_factory):
    folder = tmp_path_factory.mktemp('depth_anything')
    return save(depth_anything(), depth_anything_processor(), folder)


@pytest.mark.parametrize('max_depth', [None, 20])
def test_folders_equal_transformers(tmp_path, max_depth):
    model = depth_anything(max_depth=max_depth)
    predictor = load(save(model, depth_anything_processor(), tmp_path))
    assert predictor.unit == ('inverse' if max_depth is None else 'metre')
    assert predictor(photograph((57, 91))).relative == (max_depth is None)
    assert_equal(predictor, model)


def test_its_pipeline_says_the_same(relative):
    expected = pipeline('depth-estimation', model=str(relative), device='cpu')(photograph((57, 91)))
    found = load(relative)(photograph((57, 91))).depth
    np.testing.assert_allclose(found, expected['predicted_depth'].numpy(), rtol=1e-6)


def test_one_call_for_images_of_many_sizes(relative):
    predictor = load(relative)
    photos = [photograph((57, 91)), photograph((40, 40)), photograph((57, 91), seed=1)]
    for found, image in zip(predictor(photos), photos, strict=True):
        np.testing.assert_allclose(found.depth, predictor(image).depth, rtol=1e-4, atol=1e-4)


def test_a_weight_file_in_its_folder(relative):
    found = load(relative / 'model.safetensors')(photograph((57, 91)))
    np.testing.assert_array_equal(found.depth, load(relative)(photograph((57, 91))).depth)


@pytest.mark.parametrize(
    ('name', 'max_depth', 'taps'),
    [
        ('depth_anything_v2_vits.pth', None, (3, 6, 9, 12)),
        ('depth_anything_v2_metric_hypersim_vits.pth', 20, (3, 6, 9, 12)),
        ('depth_anything_v2_metric_vkitti_vits.pth', 80, (3, 6, 9, 12)),
        ('depth_anything_vits14.pth', None, V1_TAPS),
    ],
)
def test_releases_equal_the_folders_that_they_became(tmp_path, name, max_depth, taps):
    model = depth_anything(max_depth=max_depth, taps=taps)
    torch.save(depth_anything_release(model), tmp_path / name)
    predictor = load(tmp_path / name)
    assert predictor.unit == ('inverse' if max_depth is None else 'metre')
    assert_equal(predictor, model)


def test_v1_and_v2_read_other_blocks(tmp_path):
    """So the name of a file matters, as both have the same tensors."""
    state = depth_anything_release(depth_anything())
    for name in ('depth_anything_vits14.pth', 'depth_anything_v2_vits.pth'):
        torch.save(state, tmp_path / name)
    first, second = (load(path)(photograph((70, 70))).depth for path in sorted(tmp_path.iterdir()))
    assert np.abs(first - second).max() > 0.1 * np.abs(first).max()


def test_a_renamed_release_has_to_be_named(tmp_path):
    model = depth_anything(max_depth=20)
    torch.save(dict(model=depth_anything_release(model), epoch=3), tmp_path / 'mine.pth')
    with pytest.raises(ValueError, match=r"mine\.pth: no tensor tells which .* found 'mine\.pth'"):
        load(tmp_path / 'mine.pth')
    with pytest.raises(ValueError, match=r"no tensor tells .* found 'v2'"):
        load(tmp_path / 'mine.pth', release='v2')
    hypersim, vkitti = (f'depth_anything_v2_metric_{name}_vits' for name in ('hypersim', 'vkitti'))
    near = load(tmp_path / 'mine.pth', release=hypersim)(photograph((70, 70)))
    far = load(tmp_path / 'mine.pth', release=vkitti)(photograph((70, 70)))
    own = load(tmp_path / 'mine.pth', release=hypersim, max_depth=5)(photograph((70, 70)))
    np.testing.assert_allclose(far.depth, 4 * near.depth, rtol=1e-5)
    np.testing.assert_allclose(own.depth, near.depth / 4, rtol=1e-5)
    with pytest.raises(ValueError, match='expected no max_depth for a relative model, .* found 5'):
        load(tmp_path / 'mine.pth', release='depth_anything_v2_vits', max_depth=5)


@pytest.mark.parametrize('size', [(480, 640), (640, 480), (375, 1242), (3000, 4000), (518, 518)])
def test_sizes_of_the_release(tmp_path, size):
    """The nearest multiples of 14 in the picture's aspect, neither side under 518."""
    side = 518
    torch.save(
        depth_anything_release(depth_anything(side=side)), tmp_path / 'depth_anything_v2_vits.pth'
    )
    processor = load(tmp_path / 'depth_anything_v2_vits.pth').model.backbone.processor
    scale = side / min(size)
    expected = tuple(round(scale * length / 14) * 14 for length in size)
    assert min(expected) == side
    pixels = processor(photograph(size), return_tensors='pt')['pixel_values']
    assert tuple(pixels.shape[-2:]) == expected


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda state: state.pop('depth_head.scratch.output_conv2.2.bias'),
            r'1 are missing, first head\.conv3\.bias',
        ),
        (
            lambda state: state.pop('pretrained.blocks.7.attn.qkv.weight'),
            r'3 are missing, first backbone\.encoder\.layer\.7\.attention\.attention\.key\.weight',
        ),
        (
            lambda state: state.update({'depth_head.extra.weight': torch.zeros(1)}),
            r'1 are unknown, first depth_head\.extra\.weight',
        ),
        (
            lambda state: state.update(
                {'depth_head.scratch.refinenet1.out_conv.bias': torch.ones(3)}
            ),
            r'expected shape \(16,\) for neck\.fusion_stage\.layers\.3\.projection\.bias',
        ),
        (
            lambda state: state.pop('depth_head.scratch.layer1_rn.weight'),
            r'expected depth_head\.scratch\.layer1_rn\.weight of Depth Anything, found none',
        ),
        (
            lambda state: [
                state.pop(name) for name in [*state] if name.startswith('pretrained.blocks.11.')
            ],
            r'expected an encoder of 12, 24, 40 blocks for Depth Anything V2, found 11',
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, change, message):
    state = depth_anything_release(depth_anything())
    change(state)
    torch.save(state, tmp_path / 'depth_anything_v2_vits.pth')
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / 'depth_anything_v2_vits.pth')
    assert '\n' not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / 'depth_anything_v2_vits.pth'))


def test_options_that_mean_nothing(relative, tmp_path):
    with pytest.raises(ValueError, match='expected release and max_depth for a release file alone'):
        load(relative, max_depth=20)
    with pytest.raises(ValueError, match='predicts means nothing for DepthAnythingDepth, which'):
        load(relative, predicts='depth')
    folder = save(dpt(), dpt_processor(), tmp_path)
    with pytest.raises(
        ValueError, match='release means nothing for DPTDepth, which takes predicts'
    ):
        load(folder, release='depth_anything_v2_vits')


def test_no_model_of_depth(siglip_folder, tmp_path):
    looked = r'looked for config\.json .* depth_anything, dpt, .*, or Depth Anything'
    with pytest.raises(ValueError, match=rf"found model_type 'siglip'; {looked}"):
        load(siglip_folder)
    torch.save({'core.core.pretrained.cls_token': torch.zeros(1)}, tmp_path / 'zoe.pt')
    message = r'zoe\.pt: no depth model found among its 1 tensors \(first core\.core'
    with pytest.raises(ValueError, match=message):
        load(tmp_path / 'zoe.pt')
    with pytest.raises(ValueError, match=r'none\.pth: no such file or folder'):
        load(tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='expected an image processor beside the weights'):
        load(save(depth_anything(), None, tmp_path / 'alone'))


@pytest.mark.slow
def test_the_small_release_at_its_full_size(tmp_path):
    """As many tensors and weights as the published file has, at its own 518 pixels."""
    vision = dict(
        model_type='dinov2', hidden_size=384, num_hidden_layers=12, num_attention_heads=6,
        patch_size=14, image_size=518, out_indices=[3, 6, 9, 12], reshape_hidden_states=False,
    )  # fmt: skip
    model = seeded(DepthAnythingForDepthEstimation(DepthAnythingConfig(backbone_config=vision)))
    state = depth_anything_release(model)
    assert len(state) == 239 and sum(value.numel() for value in state.values()) == 24_785_089
    torch.save(state, tmp_path / 'depth_anything_v2_vits.pth')
    image = photograph((480, 640))
    expected = by_transformers(model, depth_anything_processor(518), image).numpy()
    found = load(tmp_path / 'depth_anything_v2_vits.pth')(image).depth
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * expected.max())
