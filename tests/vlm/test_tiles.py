"""Images in tiles: transformers' own numbers, and depth beside each tile's tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from original_llava import original_config, original_names, stock, write_original
from PIL import Image
from tiny_vlm import NARROW
from transformers import LlavaNextConfig, LlavaNextImageProcessor

from mmseg_siglip.vlm import VisionChat, load_pretrained_model
from mmseg_siglip.vlm.fusion import depth_statistics, tiles_of
from mmseg_siglip.vlm.processing import prompt_of

SIGLIP = NARROW | dict(model_type='siglip_vision_model', patch_size=8, image_size=32)
PINPOINTS = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
DEPTH = dict(names=('mean', 'min'), mean=(3.0, 2.0), std=(1.0, 0.5), width=3)
RANDOM = np.random.default_rng(0)
PICTURES = [
    Image.fromarray(RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8), 'RGB')
    for size in ((40, 70), (30, 95), (96, 31))
]


@pytest.fixture(scope='module', params=['anyres', 'anyres_max_2'])
def pair(request, siglip_folder, tmp_path_factory):
    """A stock model and ours of the same weights, both in transformers' layout."""
    folder = tmp_path_factory.mktemp('tiles')
    fields = dict(vision_feature_select_strategy='full', image_grid_pinpoints=PINPOINTS)
    if request.param == 'anyres':
        oracle = stock('llava_next', 'qwen2', SIGLIP, **fields)
    else:
        more = dict(vision_aspect_ratio=request.param, video_token_index=382)
        oracle = stock(
            'llava_onevision', 'qwen2', SIGLIP, vision_feature_layer=-2, **fields, **more
        )
    words = dict(model_type='llava_qwen', image_aspect_ratio=request.param)
    words |= dict(image_grid_pinpoints=PINPOINTS, mm_patch_merge_type='spatial_unpad')
    config = original_config(oracle, siglip_folder, **words)
    state = original_names(oracle, tower=True)
    write_original(folder / 'in', state, config, form='bin')
    load_pretrained_model(folder / 'in').save_pretrained(folder / 'out')
    twin = transformers.AutoModelForImageTextToText.from_pretrained(folder / 'out')
    return twin.eval(), load_pretrained_model(folder / 'out')


def batch(vlm):
    texts = [prompt_of(vlm.processor, 'how many stars?')] * len(PICTURES)
    return vlm.processor(images=PICTURES, text=texts, return_tensors='pt', padding=True)


def image_tokens(output):
    """Those of all images, (N, D), where transformers keeps them, up to 5.23 and from 5.24 on."""
    if 'image_outputs' in type(output).__dataclass_fields__:
        return torch.cat(list(output.image_outputs.pooler_output))
    return output.image_hidden_states


def test_several_sizes_in_one_batch(pair):
    twin, vlm = pair
    inputs = batch(vlm)
    with torch.no_grad():
        found, expected = vlm.model(**inputs), twin(**inputs)
    assert torch.equal(image_tokens(found), image_tokens(expected))
    assert torch.equal(found.logits, expected.logits)
    options, kept = dict(max_new_tokens=4, do_sample=False), []
    vlm.model.lm_head.register_forward_hook(lambda _, inputs, logits: kept.append(logits.shape[1]))
    assert torch.equal(vlm.model.generate(**inputs, **options), twin.generate(**inputs, **options))
    assert set(kept) == {1}, 'words are scored after the last token alone'


def test_depth_is_added_to_the_tokens_of_each_tile(pair, tmp_path):
    twin, vlm = pair
    model, inputs = vlm.model, batch(vlm)
    sizes = inputs['image_sizes']
    with pytest.raises(ValueError, match='this model has no depth fusion'):
        model(**inputs, depth_statistics=torch.zeros(11, 16, 2))
    model.add_depth_fusion(DEPTH)
    depths = [torch.rand(2 * p.height, 2 * p.width) + 2 for p in PICTURES]
    with pytest.raises(ValueError, match='image_sizes of 3 images as sizes, found 0'):
        depth_statistics(depths, vlm.image_processor, model.config)
    statistics = depth_statistics(depths, vlm.image_processor, model.config, sizes=sizes)
    counts = [1 + 4, 1 + 3, 1 + 3]
    assert statistics.shape == (sum(counts), 16, 2)
    with torch.no_grad():
        plain = twin(**inputs)
        assert torch.equal(model(**inputs, depth_statistics=statistics).logits, plain.logits)
        torch.nn.init.normal_(model.depth_fusion.last.weight)
        found = model(**inputs, depth_statistics=statistics)

        tiles = torch.cat([x[:n] for x, n in zip(inputs['pixel_values'], counts, strict=True)])
        seen = twin.model.vision_tower(tiles, output_hidden_states=True).hidden_states[-2]
        tokens = model.depth_fusion(twin.model.multi_modal_projector(seen), statistics)
        options = dict(image_newline=twin.model.image_newline)
        if twin.config.model_type == 'llava_next':
            options['vision_feature_select_strategy'] = 'full'
        else:
            options['vision_aspect_ratio'] = twin.config.vision_aspect_ratio
        packed, _ = twin.model.pack_image_features(tokens.split(counts), sizes, **options)
    torch.testing.assert_close(image_tokens(found), torch.cat(packed), rtol=1e-5, atol=1e-5)
    assert (found.logits - plain.logits).abs().max() > 0.01

    answers = VisionChat(vlm)(PICTURES, 'how many stars?', depths=depths, max_new_tokens=3)
    vlm.save_pretrained(tmp_path)
    again = VisionChat(load_pretrained_model(tmp_path))
    assert again(PICTURES, 'how many stars?', depths=depths, max_new_tokens=3) == answers
    with pytest.raises(ValueError, match='expected pixel_values beside them, found none'):
        model(input_ids=inputs['input_ids'], depth_statistics=statistics)
    with pytest.raises(ValueError, match=r'statistics: expected \(13, 16, 2\) beside features'):
        model(**inputs, depth_statistics=statistics[:-1])


@pytest.mark.parametrize('crop', [False, True])
@pytest.mark.parametrize('size', [(16, 32), (16, 20), (20, 16), (31, 90)])
def test_tiles_of_a_map_lie_under_those_of_the_picture(size, crop):
    """Where the picture's red channel is the map, processed as pictures are."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    ramp = (20 + rows + columns).astype(np.uint8)
    picture = Image.fromarray(np.stack([ramp] * 3, -1), 'RGB')
    side = dict(height=32, width=32)
    processor = LlavaNextImageProcessor(
        size=dict(shortest_edge=32) if crop else side,
        crop_size=side,
        image_grid_pinpoints=PINPOINTS,
        do_center_crop=crop,
    )
    seen = processor(picture, return_tensors='pt', do_normalize=False, do_rescale=False, resample=0)
    red = seen.pixel_values[0, :, 0].float()
    vision = transformers.SiglipVisionConfig(patch_size=8, image_size=32)
    config = LlavaNextConfig(vision_config=vision, image_grid_pinpoints=PINPOINTS)
    config.depth_fusion = dict(names=('mean', 'valid_fraction'))
    depth = torch.from_numpy(ramp).float().repeat_interleave(8, 0).repeat_interleave(8, 1)
    found = depth_statistics([depth], processor, config, sizes=seen.image_sizes)
    assert len(found) == len(red)
    cells = red.unfold(1, 8, 8).unfold(2, 8, 8).flatten(3).flatten(1, 2)
    known = (cells > 0).float()
    mean = cells.sum(-1) / known.sum(-1)
    fraction = known.mean(-1)
    torch.testing.assert_close(found[..., 1], fraction, rtol=0, atol=0.13)
    inner = fraction == 1
    assert inner.sum() > 16
    torch.testing.assert_close(found[..., 0][inner], mean[inner], rtol=0, atol=0.8)
    parts = tiles_of(depth, size, (32, 32), PINPOINTS)
    assert sum(part.sum() for part in parts) == depth.sum()
