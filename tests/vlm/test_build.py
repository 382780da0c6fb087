"""Which tower a checkpoint gets: by its configuration, never by its name."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import pytest
import torch

from mmseg_siglip.vlm import (
    CLIPVisionTower,
    CustomVisionConfig,
    SigLIPVisionTower,
    build_vision_tower,
)


@pytest.mark.parametrize('name', ['clip-vit-large', 'my model', 'sigclip'])
def test_a_local_siglip_of_any_name(siglip_folder, tmp_path, name):
    """LLaVA takes any path that exists for CLIP."""
    shutil.copytree(siglip_folder, tmp_path / name)
    assert type(build_vision_tower(str(tmp_path / name))) is SigLIPVisionTower


def test_clip_and_naflex(clip_folder, naflex_folder):
    assert 'siglip' in clip_folder
    assert type(build_vision_tower(clip_folder)) is CLIPVisionTower
    assert type(build_vision_tower(naflex_folder, 'siglip2')) is SigLIPVisionTower
    assert type(build_vision_tower('tiny_siglip_shapes')) is SigLIPVisionTower


def test_aliases(siglip_folder):
    for kind in ('siglip', 'siglip2'):
        assert type(build_vision_tower(siglip_folder, encoder_type=kind)) is SigLIPVisionTower
    with pytest.warns(FutureWarning, match="'sigclip' is deprecated, its name is 'siglip'"):
        build_vision_tower(siglip_folder, encoder_type='sigclip')


@dataclass
class TheirConfig:
    image_size: int = 48
    vision_feature_layer: int = -1
    vision_feature_select_strategy: str = 'full'


@pytest.mark.parametrize(
    'custom',
    [
        CustomVisionConfig(48, -1, 'full'),
        TheirConfig(),
        dict(image_size=48, vision_feature_layer=-1),
    ],
)
def test_custom_configuration(siglip_folder, custom):
    tower = build_vision_tower(siglip_folder, custom_vision_config=custom)
    assert (tower.image_size, tower.select_layer, tower.grid) == ((48, 48), -1, (6, 6))
    assert tower(torch.randn(1, 3, 48, 48)).shape == (1, 36, 32)


@pytest.mark.parametrize(
    'custom',
    [CustomVisionConfig(), CustomVisionConfig(image_size=48), dict(vision_feature_layer=None)],
)
def test_the_second_last_layer_where_nothing_is_said(siglip_folder, custom):
    assert build_vision_tower(siglip_folder, custom_vision_config=custom).select_layer == -2
    tower = build_vision_tower(siglip_folder, custom_vision_config=custom, select_layer=-3)
    assert tower.select_layer == -3


def test_bad_input(siglip_folder, clip_folder, llm_folder):
    with pytest.raises(ValueError, match="expected 'siglip' or auto for .* found 'clip'"):
        build_vision_tower(siglip_folder, encoder_type='clip')
    with pytest.raises(ValueError, match="expected 'clip' or auto for .* found 'siglip'"):
        build_vision_tower(clip_folder, encoder_type='siglip')
    with pytest.raises(ValueError, match="encoder_type: expected one of auto, .* found 'vit'"):
        build_vision_tower(siglip_folder, encoder_type='vit')
    with pytest.raises(ValueError, match="expected a vision encoder .* found 'llama'"):
        build_vision_tower(llm_folder)
    with pytest.raises(ValueError, match='expected some of image_size, .* found size'):
        build_vision_tower(siglip_folder, custom_vision_config=dict(size=3))
    with pytest.raises(ValueError, match='found a int without any'):
        build_vision_tower(siglip_folder, custom_vision_config=3)
    with pytest.raises(ValueError, match='no such file or folder'):
        build_vision_tower('./nowhere')


def test_a_model_that_was_never_released():
    with pytest.raises(ValueError, match='did you mean .*google/siglip-large-patch16-256'):
        build_vision_tower('google/siglip-large-patch16-224')
