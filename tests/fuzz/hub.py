"""The JSON files of a model on the Hub, each by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fuzz.chats import open_chat, write_llava
from fuzz.encoders import SMALL, clip, open_clip, open_encoder
from fuzz.folders import in_folder
from fuzz.kind import Kind
from fuzz.mutate import Draw, damage_folder
from fuzz.structures import damage_json
from tiny_encoders import SIGLIP_CONFIGS, write_open_clip, write_siglip
from transformers import AutoModel


def write_shards(folder: Path) -> None:
    """Weights in several files, which an index names."""
    write_siglip(folder, SIGLIP_CONFIGS['siglip'])
    model = AutoModel.from_pretrained(folder)
    (folder / 'model.safetensors').unlink()
    model.save_pretrained(folder, max_shard_size='40KB')


def one(name: str) -> Callable[[Path, Draw], str]:
    return damage_folder([(name, damage_json)])


SIGLIP = in_folder(partial(write_siglip, config=SIGLIP_CONFIGS['siglip']))
LLAVA = in_folder(write_llava)
OPEN_CLIP = in_folder(partial(write_open_clip, config=SMALL, model=clip()))

KINDS = [
    *(
        Kind(name, 300, SIGLIP, one(name), open_encoder)
        for name in (
            'config.json',
            'preprocessor_config.json',
            'tokenizer.json',
            'tokenizer_config.json',
        )
    ),
    Kind(
        'model.safetensors.index.json',
        300,
        in_folder(write_shards),
        one('model.safetensors.index.json'),
        open_encoder,
    ),
    Kind('open_clip_config.json', 300, OPEN_CLIP, one('open_clip_config.json'), open_clip),
    *(
        Kind(f'{name} of LLaVA', 300, LLAVA, one(name), open_chat)
        for name in ('config.json', 'processor_config.json', 'generation_config.json')
    ),
]
