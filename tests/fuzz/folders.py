"""Folders of models, as they lie on the Hub: any of their files damaged, or code put among them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from fuzz.encoders import SMALL, clip, open_clip, open_encoder, open_sam, write_sam
from fuzz.kind import Kind
from fuzz.mutate import damage_bytes, damage_folder, damage_place, swap_file
from fuzz.structures import damage_code, damage_json, damage_safetensors
from tiny_encoders import (
    DINO3_CONFIG,
    DINO_CONFIG,
    LETTERS,
    SIGLIP_CONFIGS,
    dino_model,
    tips_model,
    write_open_clip,
    write_siglip,
)
from tiny_sams import PANOPTIC, SAM2_CONFIG, SAM_CONFIG, write_sam3
from tiny_vlm import NARROW, spread
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
)
from transformers.models.tipsv2.image_processing_tipsv2 import Tipsv2ImageProcessor
from transformers.models.tipsv2.tokenization_tipsv2 import Tipsv2Tokenizer

from mmseg_siglip.models.guides import build_guide
from mmseg_siglip.models.regions import PanopticRegions
from mmseg_siglip.models.sam import SAM3Adapter

damage_model = damage_folder(
    [
        ('*.json', damage_json),
        ('*.json', damage_json),
        ('*.json', damage_json),
        ('*.json', damage_code),
        ('*.safetensors', damage_safetensors),
        ('*', damage_bytes),
        ('*', damage_place),
        ('*', swap_file),
    ]
)


def in_folder(write: Callable[[Path], object]) -> Callable[[Path], list[Path]]:
    def seeds(folder: Path) -> list[Path]:
        model = folder / 'model'
        model.mkdir()
        write(model)
        return [model]

    return seeds


def write_clip(folder: Path) -> None:
    """Both towers of transformers' CLIP, and its words."""
    torch.manual_seed(0)
    words = ['<|startoftext|>', '<|endoftext|>', *'abct', *(f'{letter}</w>' for letter in 'abct')]
    text = NARROW | dict(vocab_size=len(words), max_position_embeddings=16, num_hidden_layers=1)
    text |= dict(bos_token_id=0, eos_token_id=1)
    vision = NARROW | dict(patch_size=8, image_size=32)
    spread(CLIPModel(CLIPConfig(vision_config=vision, text_config=text))).save_pretrained(folder)
    CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[]).save_pretrained(
        folder
    )
    CLIPImageProcessor(size=dict(shortest_edge=32)).save_pretrained(folder)


def write_tips(folder: Path) -> None:
    tips_model().save_pretrained(folder)
    Tipsv2Tokenizer(vocab=LETTERS).save_pretrained(folder)
    Tipsv2ImageProcessor(size=dict(height=32, width=32)).save_pretrained(folder)


def write_panoptic(folder: Path) -> None:
    PanopticRegions(config=PANOPTIC['eomt']).model.model.save_pretrained(folder)


def show_guide(path: Path) -> None:
    build_guide(str(path))(torch.zeros(1, 3, 32, 32))


def show_concepts(path: Path) -> None:
    SAM3Adapter(str(path))


def show_panoptic(path: Path) -> None:
    PanopticRegions(str(path))(torch.zeros(3, 40, 56))


FOLDERS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    'SigLIP': (partial(write_siglip, config=SIGLIP_CONFIGS['siglip']), open_encoder),
    'NaFlex': (partial(write_siglip, config=SIGLIP_CONFIGS['siglip2']), open_encoder),
    'CLIP': (write_clip, open_clip),
    'TIPS': (write_tips, open_encoder),
    'open_clip': (partial(write_open_clip, config=SMALL, model=clip()), open_clip),
    'SAM': (partial(write_sam, config=SAM_CONFIG), open_sam),
    'SAM 2': (partial(write_sam, config=SAM2_CONFIG), open_sam),
    'SAM 3': (partial(write_sam3, 'sam3'), show_concepts),
    'DINOv2': (lambda folder: dino_model(DINO_CONFIG).save_pretrained(folder), show_guide),
    'DINOv3': (lambda folder: dino_model(DINO3_CONFIG).save_pretrained(folder), show_guide),
    'EoMT': (write_panoptic, show_panoptic),
}

KINDS = [
    Kind(f'folder of {name}', 500, in_folder(write), damage_model, attempt)
    for name, (write, attempt) in FOLDERS.items()
]
