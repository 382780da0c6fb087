"""Saved systems, as strangers put them on the Hub: what to build, as data, and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fuzz.encoders import CONFIG, write_trained
from fuzz.kind import Kind
from fuzz.mutate import damage_bytes, damage_folder, damage_place, swap_file
from fuzz.structures import damage_code, damage_json, damage_safetensors
from tiny_encoders import SIGLIP_CONFIGS, write_siglip

from mmseg_siglip.api import DepthPredictor, OpenVocabSegmenter
from mmseg_siglip.api.system import System

PHOTO = np.arange(32 * 40 * 3, dtype=np.uint8).reshape(32, 40, 3)

damage_system = damage_folder(
    [
        ('config.json', damage_json),
        ('config.json', damage_json),
        ('config.json', damage_json),
        ('config.json', damage_code),
        ('model.safetensors', damage_safetensors),
        ('model.safetensors', damage_bytes),
        ('*', damage_place),
        ('*', swap_file),
    ]
)


def write_systems(folder: Path) -> list[Path]:
    """One whose encoder lies in the folder, and one that was trained."""
    words, depth = folder / 'words', folder / 'depth'
    write_siglip(folder / 'encoder', SIGLIP_CONFIGS['siglip'])
    options = dict(templates='plain', device='cpu')
    OpenVocabSegmenter.from_pretrained(folder / 'encoder', **options).save_pretrained(words)
    (checkpoint,) = write_trained(folder)
    DepthPredictor.from_config(CONFIG, checkpoint, device='cpu').save_pretrained(depth)
    return [words, depth]


def open_system(path: Path) -> None:
    """Made, and asked about a picture."""
    system = System.from_pretrained(path, device='cpu')
    system(PHOTO, ['a', 'b'] if system.asks else None)


KINDS = [Kind('saved system', 1000, write_systems, damage_system, open_system)]
