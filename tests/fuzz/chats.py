"""LLaVA models: folders, their towers and language models, and projectors by themselves."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import torch
from fuzz.encoders import damage_checkpoint
from fuzz.folders import damage_model, in_folder
from fuzz.kind import Kind
from fuzz.structures import damage_safetensors
from safetensors.torch import save_file
from tiny_encoders import SIGLIP_CONFIGS, write_siglip
from tiny_vlm import spread, write_llm
from torch import nn
from transformers import LlavaConfig, SiglipVisionConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from mmseg_siglip.vlm import build_llava, build_vision_tower, load_pretrained_model
from mmseg_siglip.vlm.adapters import load_projector
from mmseg_siglip.vlm.checkpoints import load_language_model
from mmseg_siglip.weights.tokenizers import load_tokenizer


def write_llava(folder: Path) -> None:
    parts = folder.parent / 'tower', folder.parent / 'language'
    write_siglip(parts[0], SIGLIP_CONFIGS['siglip'])
    write_llm(parts[1])
    torch.manual_seed(3)
    chat = build_llava(*map(str, parts))
    spread(chat.model.model.multi_modal_projector)
    chat.save_pretrained(folder)


def open_chat(path: Path) -> None:
    load_pretrained_model(str(path))


def open_tower(path: Path) -> None:
    build_vision_tower(str(path))(torch.zeros(1, 3, 32, 32))


def open_language(path: Path) -> None:
    load_language_model(str(path))
    load_tokenizer(str(path))


@cache
def projector() -> LlavaMultiModalProjector:
    vision = SiglipVisionConfig(hidden_size=6, num_attention_heads=2)
    text = dict(model_type='llama', hidden_size=4, num_attention_heads=2, pad_token_id=None)
    return LlavaMultiModalProjector(LlavaConfig(vision_config=vision, text_config=text))


def write_projector(folder: Path, *, name: str) -> list[Path]:
    layers = nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 4))
    state = {f'model.mm_projector.{key}': value for key, value in layers.state_dict().items()}
    (torch.save if name.endswith('.bin') else save_file)(state, folder / name)
    return [folder / name]


def open_projector(path: Path) -> None:
    load_projector(projector(), path)


KINDS = [
    Kind('folder of LLaVA', 500, in_folder(write_llava), damage_model, open_chat),
    Kind(
        'folder of a tower',
        500,
        in_folder(partial(write_siglip, config=SIGLIP_CONFIGS['siglip'])),
        damage_model,
        open_tower,
    ),
    Kind('folder of a language model', 500, in_folder(write_llm), damage_model, open_language),
    Kind(
        'projector .bin',
        500,
        partial(write_projector, name='mm_projector.bin'),
        damage_checkpoint,
        open_projector,
    ),
    Kind(
        'projector .safetensors',
        500,
        partial(write_projector, name='mm_projector.safetensors'),
        damage_safetensors,
        open_projector,
    ),
]
