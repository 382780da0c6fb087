"""Small encoders and language models with random weights, in transformers' format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from mmseg_siglip.vlm import build_llava
from mmseg_siglip.weights.tokenizers import load_tokenizer

NARROW = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)
LLAMA = dict(
    model_type='llama',
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    vocab_size=381,
    max_position_embeddings=512,
    initializer_range=0.2,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """With weights large enough for every part to matter."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def vision_model(patch: int, image: int, **changes) -> SiglipVisionModel:
    torch.manual_seed(0)
    config = NARROW | dict(patch_size=patch, image_size=image) | changes
    return spread(SiglipVisionModel(SiglipVisionConfig(**config)))


def write_vision(folder: Path, patch: int, image: int, **changes) -> SiglipVisionModel:
    """A folder with a vision model alone and its processor."""
    model = vision_model(patch, image, **changes)
    model.save_pretrained(folder)
    SiglipImageProcessor(size=dict(height=image, width=image)).save_pretrained(folder)
    return model


def write_siglip(folder: Path, **vision) -> None:
    """A folder with both towers of a SigLIP and its image processor."""
    torch.manual_seed(0)
    vision = NARROW | dict(patch_size=16, image_size=224, num_hidden_layers=2) | vision
    text = NARROW | dict(vocab_size=64, max_position_embeddings=16, projection_size=32)
    text |= dict(bos_token_id=0, eos_token_id=1, num_hidden_layers=1)
    spread(SiglipModel(SiglipConfig(vision_config=vision, text_config=text))).save_pretrained(
        folder
    )
    size = vision['image_size']
    SiglipImageProcessor(size=dict(height=size, width=size)).save_pretrained(folder)


def write_llm(folder: Path, **changes) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(**{k: v for k, v in (LLAMA | changes).items() if k != 'model_type'})
    LlamaForCausalLM(config).save_pretrained(folder)
    load_tokenizer('shapes_questions').save_pretrained(folder)


@pytest.fixture(scope='session')
def llama() -> dict:
    """The configuration of a small language model."""
    return dict(LLAMA)


@pytest.fixture(scope='session')
def llm_folder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp('llm')
    write_llm(folder)
    return str(folder)


@pytest.fixture(scope='session')
def clip_folder(tmp_path_factory) -> str:
    """CLIP, 32 pixels in patches of 8, whose processor crops the middle."""
    folder = tmp_path_factory.mktemp('siglip-look-alike')
    torch.manual_seed(0)
    text = NARROW | dict(vocab_size=64, max_position_embeddings=16, num_hidden_layers=1)
    text |= dict(bos_token_id=0, eos_token_id=1)
    config = CLIPConfig(
        vision_config=NARROW | dict(patch_size=8, image_size=32),
        text_config=text,
        projection_dim=32,
    )
    spread(CLIPModel(config)).save_pretrained(folder)
    CLIPImageProcessor(
        size=dict(shortest_edge=32), crop_size=dict(height=32, width=32)
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope='session')
def llava_folder(siglip_folder, llm_folder, tmp_path_factory) -> str:
    """A whole LLaVA checkpoint: SigLIP of 32 pixels in patches of 8 under a small Llama."""
    folder = tmp_path_factory.mktemp('llava')
    torch.manual_seed(3)
    vlm = build_llava(siglip_folder, llm_folder)
    spread(vlm.model.model.multi_modal_projector)
    vlm.save_pretrained(folder)
    return str(folder)
