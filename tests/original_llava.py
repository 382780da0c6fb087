"""Whole LLaVA checkpoints with small random weights, as the original code writes them.

The oracle is a stock model of transformers: its tensors go out under the original's names, less the
row of ``<image>``, which the original has no token for.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from tiny_vlm import LLAMA, NARROW, spread
from torch import Tensor
from transformers import PreTrainedModel

from mmseg_siglip.weights.tokenizers import load_tokenizer

WORDS = 381
TEXT = {name: value for name, value in LLAMA.items() if name != 'model_type'}
BLOCKS = NARROW['num_hidden_layers']


def stock(kind: str, text: str, vision: dict, **fields) -> PreTrainedModel:
    """transformers' own model: `kind` is llava, llava_next or llava_onevision."""
    torch.manual_seed(5)
    more = dict(vocab_size=WORDS + 1 + (kind == 'llava_onevision'))
    if text != 'llama':
        more |= dict(num_key_value_heads=2)
    language = transformers.AutoConfig.for_model(text, **TEXT | more)
    config = transformers.AutoConfig.for_model(
        kind, text_config=language, vision_config=vision, image_token_index=WORDS, **fields
    )
    return spread(transformers.AutoModelForImageTextToText.from_config(config))


def original_names(model: PreTrainedModel, *, tower: bool, moe: bool = False) -> dict[str, Tensor]:
    """The stock model's tensors as LLaVA (or MoE-LLaVA) has them."""
    towers = 'model.image_tower.image_tower.' if moe else 'model.vision_tower.vision_tower.'
    projector = 'model.mm_projector.image_spatial_proj.' if moe else 'model.mm_projector.'
    found = {}
    for name, value in model.state_dict().items():
        value = value.clone()
        if name.startswith('model.language_model.'):
            name = 'model.' + name.removeprefix('model.language_model.')
        elif name.startswith('model.vision_tower.'):
            if not tower:
                continue
            name = f'{towers}vision_model.' + name.removeprefix('model.vision_tower.')
        elif name.startswith('model.multi_modal_projector.'):
            layer, kind = name.split('.')[-2:]
            name = f'{projector}{2 * (int(layer.removeprefix("linear_")) - 1)}.{kind}'
        if name in ('model.embed_tokens.weight', 'lm_head.weight'):
            value = value[:WORDS].clone()
        found[name] = value
    return found


def original_config(model: PreTrainedModel, tower: str, **words) -> dict:
    text = model.config.text_config
    own = {name: value for name, value in TEXT.items() if name != 'initializer_range'}
    own |= dict(num_key_value_heads=text.num_key_value_heads, rms_norm_eps=1e-6, rope_theta=10000.0)
    theirs = dict(
        mm_vision_tower=tower,
        mm_projector_type='mlp2x_gelu',
        mm_hidden_size=NARROW['hidden_size'],
        mm_vision_select_layer=-2,
        mm_vision_select_feature='patch',
        mm_use_im_start_end=False,
        mm_use_im_patch_token=False,
        image_aspect_ratio='square',
        image_grid_pinpoints=None,
        tune_mm_mlp_adapter=False,
        tune_mm_vision_tower=True,
        freeze_mm_mlp_adapter=False,
        use_mm_proj=True,
        tokenizer_model_max_length=2048,
        torch_dtype='float32',
        transformers_version='4.31.0',
    )
    return own | dict(vocab_size=WORDS) | theirs | words


def write_original(folder: Path, state: dict[str, Tensor], config: dict, *, form: str) -> Path:
    """`form`: bin or safetensors in one piece, or sharded bin."""
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps(config))
    load_tokenizer('shapes_questions').save_pretrained(folder)
    if form == 'safetensors':
        save_file(state, folder / 'model.safetensors')
    elif form == 'bin':
        torch.save(state, folder / 'pytorch_model.bin')
    else:
        names = sorted(state)
        halves = names[: len(names) // 2], names[len(names) // 2 :]
        places = {}
        for i, half in enumerate(halves, 1):
            file = f'pytorch_model-{i:05}-of-{len(halves):05}.bin'
            torch.save({name: state[name] for name in half}, folder / file)
            places |= dict.fromkeys(half, file)
        index = dict(metadata=dict(total_size=1), weight_map=places)
        (folder / 'pytorch_model.bin.index.json').write_text(json.dumps(index))
    return folder
