"""Files that an encoder's weights come in."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from fuzz.kind import Kind
from fuzz.mutate import Draw, damage_folder
from fuzz.structures import (
    damage_code,
    damage_pickle,
    damage_pickle_file,
    damage_safetensors,
    damage_tree,
    damage_zip,
    hostile,
)
from mmengine.config import Config
from mmengine.registry import DefaultScope
from open_clip import CLIP
from safetensors.torch import save_file
from tiny_encoders import CLIP_CONFIG, SIGLIP_CONFIGS, write_siglip
from tiny_sams import SAM_CONFIG, disturb, original_sam_model
from torch import Tensor, nn

from mmseg_siglip.api.load import load_trained
from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.models.sam import SAMAdapter
from mmseg_siglip.models.segmentors import SigLIPDepthEstimator
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.weights.checkpoint import is_mmengine_file

CONFIG = Path(__file__).resolve().parents[2] / 'configs/dpt/shapes_frozen.py'
SMALL = CLIP_CONFIG | dict(text_cfg=CLIP_CONFIG['text_cfg'] | dict(vocab_size=512, layers=1))
MARKS = dict(input_resolution=32, context_length=77, vocab_size=512)


def open_encoder(path: Path, *, words: Sequence[str] = ('a cat',)) -> None:
    """Built, shown an image and words."""
    encoder = build_encoder(str(path))
    with torch.no_grad():
        encoder(torch.zeros(1, 3, 32, 32))
        if words:
            encoder.encode_text(words)


open_clip = partial(open_encoder, words=())  # its tokens are more than a small file has room for


class Published(nn.Module):
    """An OpenAI CLIP, whose TorchScript has its numbers as buffers."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.visual, self.transformer = clip.visual, clip.transformer
        self.token_embedding, self.ln_final = clip.token_embedding, clip.ln_final
        self.positional_embedding = clip.positional_embedding
        self.text_projection, self.logit_scale = clip.text_projection, clip.logit_scale
        for name, value in MARKS.items():
            self.register_buffer(name, torch.tensor(value))

    def forward(self, images: Tensor) -> Tensor:
        return self.visual(images)


@cache
def clip() -> CLIP:
    torch.manual_seed(0)
    return CLIP(**SMALL).eval().requires_grad_(False)


def write_torchscript(folder: Path) -> list[Path]:
    traced = torch.jit.trace(Published(clip()), torch.zeros(1, 3, 32, 32), check_trace=False)
    traced.save(folder / 'ViT-tiny.pt')
    return [folder / 'ViT-tiny.pt']


def write_openai(folder: Path, *, new: bool) -> list[Path]:
    state = clip().state_dict() | {name: torch.tensor(value) for name, value in MARKS.items()}
    torch.save(state, folder / 'ViT-tiny.pt', _use_new_zipfile_serialization=new)
    return [folder / 'ViT-tiny.pt']


def damage_values(path: Path, draw: Draw, zipped: Callable[[Path, Draw], str]) -> str:
    """What a checkpoint holds beside or instead of tensors, or its frame."""
    if draw.random() < 0.6:
        return zipped(path, draw)
    found = torch.load(path, weights_only=True)
    if draw.random() < 0.15:
        torch.save(hostile(found, draw), path)
        return f'code in {path.name}'
    found, name = damage_tree(found, draw)
    torch.save(found, path)
    return f'{name} in {path.name}'


damage_checkpoint = partial(damage_values, zipped=damage_zip)
damage_old = partial(damage_values, zipped=damage_pickle_file)


def write_file(folder: Path, *, name: str, save: Callable[[dict, Path], None]) -> list[Path]:
    """A bare file of a SigLIP; what describes it lies beside it."""
    model = folder / 'model'
    write_siglip(model, SIGLIP_CONFIGS['siglip'])
    state = build_encoder(str(model)).model.state_dict()
    (model / 'model.safetensors').unlink()
    save({key: value.contiguous() for key, value in state.items()}, model / name)
    return [model]


def beside(folder: Path, *, write: Callable[[Path], object], name: str) -> list[Path]:
    """Another folder whose weights have a name that no library looks for."""
    model = folder / 'model'
    model.mkdir()
    write(model)
    (model / 'model.safetensors').rename(model / name)
    return [model]


def bare_file(
    name: str,
    seeds: Callable[[Path], list[Path]],
    damage: Callable[[Path, Draw], str],
    attempt: Callable[[Path], object] = open_encoder,
) -> dict[str, Any]:
    """A kind whose inputs are one file of a folder, and what describes it."""
    return dict(
        seeds=seeds,
        damage=damage_folder([*[(name, damage)] * 4, ('*.json', damage_code)]),
        attempt=lambda folder: attempt(folder / name),
    )


def write_sam(folder: Path, *, config: dict) -> None:
    disturb(SAMAdapter(config=config).model).save_pretrained(folder)


def write_segment_anything(folder: Path) -> list[Path]:
    torch.save(original_sam_model().state_dict(), folder / 'sam_vit_tiny.pth')
    return [folder / 'sam_vit_tiny.pth']


def open_sam(path: Path) -> None:
    SAMAdapter(str(path))


def write_trained(folder: Path) -> list[Path]:
    """A checkpoint as MMEngine's Runner writes it."""
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(Config.fromfile(CONFIG).model)
    meta = dict(epoch=0, iter=3, seed=1, experiment_name='x', time='y', cfg='a = 1')
    hub = dict(log_scalars={}, runtime_info=dict(iter=3, best_ckpt='best.pth'), resumed_keys={})
    content = dict(state_dict=model.state_dict(), meta=meta, message_hub=hub)
    torch.save(content, folder / 'iter_3.pth')
    return [folder / 'iter_3.pth']


@cache
def trained_config() -> Config:
    return Config.fromfile(CONFIG)


def open_trained(path: Path) -> None:
    if not is_mmengine_file(path):
        raise ValueError(f'{path}: expected a checkpoint of MMEngine')
    load_trained(SigLIPDepthEstimator, trained_config(), path)


def damage_to_pickle(path: Path, draw: Draw) -> str:
    """Another pickle altogether: plain, hostile, damaged."""
    plain = draw.choice(([1, 2.5, 'a', {'b': None}], {'weight': 1}, {'a', 'b'}, Path('a'), print))
    content = draw.choice((plain, hostile(plain, draw), hostile({}, draw)))
    data = pickle.dumps(content, protocol=draw.choice((0, 2, 4, 5)))
    path.write_bytes(damage_pickle(data, draw) if draw.random() < 0.5 else data)
    return f'a pickle in place of {path.name}'


KINDS = [
    Kind('TorchScript .pt', 1000, write_torchscript, damage_zip, open_clip),
    Kind('OpenAI .pt', 500, partial(write_openai, new=True), damage_checkpoint, open_clip),
    Kind('old .pt', 500, partial(write_openai, new=False), damage_old, open_clip),
    Kind('pickle', 500, partial(write_openai, new=False), damage_to_pickle, open_clip),
    Kind(
        'safetensors',
        500,
        **bare_file(
            'weights.safetensors',
            partial(write_file, name='weights.safetensors', save=save_file),
            damage_safetensors,
        ),
    ),
    Kind(
        'transformers .bin',
        500,
        **bare_file(
            'pytorch_model.bin',
            partial(write_file, name='pytorch_model.bin', save=torch.save),
            damage_checkpoint,
        ),
    ),
    Kind(
        'SAM .safetensors',
        500,
        **bare_file(
            'sam.safetensors',
            partial(beside, write=partial(write_sam, config=SAM_CONFIG), name='sam.safetensors'),
            damage_safetensors,
            open_sam,
        ),
    ),
    Kind('segment-anything .pth', 500, write_segment_anything, damage_checkpoint, open_sam),
    Kind('MMEngine .pth', 500, write_trained, damage_checkpoint, open_trained),
]
