"""Every way in for a folder or file of a model, by the fixture that has one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tiny_sams import MASK2FORMER, SAM_CONFIG

from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.models.guides import build_guide
from mmseg_siglip.models.regions.panoptic import PanopticRegions
from mmseg_siglip.models.sam.concept_load import load_sam3
from mmseg_siglip.models.sam.load import load_sam
from mmseg_siglip.vlm import build_vision_tower, load_pretrained_model
from mmseg_siglip.vlm.checkpoints import load_language_model
from mmseg_siglip.weights.tokenizers import load_tokenizer
from mmseg_siglip.weights.transformers_model import build_model, config_of

WEIGHTS = 'model.safetensors'
SAM = dict(kind='auto', config=None, revision=None, attention='eager')
SAM3 = dict(config=None, tokenizer=None, image_size=None, revision=None, attention='eager')
LOADERS: dict[str, list[Callable[[str], object]]] = {
    'siglip_folder': [build_encoder, build_vision_tower],
    'naflex_folder': [build_encoder],
    'tips_folder': [build_encoder],
    'clip_folder': [build_encoder, build_vision_tower],
    'dino_folder': [lambda path: build_guide(dict(type='DINOv2Guide', pretrained=path))],
    'sam_folder': [lambda path: load_sam(path, **SAM)],
    'sam3_folder': [lambda path: load_sam3(path, **SAM3)],
    'panoptic_folder': [PanopticRegions],
    'llm_folder': [load_language_model, load_tokenizer],
    'llava_folder': [lambda path: load_pretrained_model(path, device='cpu')],
}
QUICK = ('siglip_folder', 'llm_folder', 'llava_folder')
BARE = ('siglip_folder', 'clip_folder', 'dino_folder', 'sam_folder', 'sam3_folder', 'tips_folder')
"""Of which the weight file alone is a way in, too."""

every_folder = pytest.mark.parametrize(
    'name',
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in LOADERS],
)


@pytest.fixture(scope='session')
def sam_folder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp('sam')
    build_model(config_of(SAM_CONFIG)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope='session')
def panoptic_folder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp('panoptic')
    PanopticRegions(config=MASK2FORMER).model.model.save_pretrained(folder)
    return str(folder)
