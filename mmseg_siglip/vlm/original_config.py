"""``config.json`` as the original LLaVA, LLaVA-NeXT and MoE-LLaVA write it: a language model's own,
with the vision part beside it in words of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from mmseg_siglip.vlm.checkpoints import quiet
from mmseg_siglip.vlm.projectors import ProjectorType
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.json_file import check_model_fields
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.transformers_model import config_of

LANGUAGE_MODELS = {
    'LlavaLlamaForCausalLM': 'llama',
    'LlavaMistralForCausalLM': 'mistral',
    'LlavaQwenForCausalLM': 'qwen2',
    'LlavaStablelmForCausalLM': 'stablelm',
}
MODEL_TYPES = {
    'llava': 'llama',
    'llava_llama': 'llama',
    'llava_mistral': 'mistral',
    'llava_qwen': 'qwen2',
    'llava_stablelm': 'stablelm',
}
FORMER_NAMES = {'rope_pct': 'partial_rotary_factor', 'norm_eps': 'layer_norm_eps'}
"""What StableLM's own code calls fields of transformers' `StableLmConfig`."""
BESIDE = ('rope_theta', 'rope_scaling', 'partial_rotary_factor')
"""Fields that transformers reads and keeps under other names."""
EXPERTS = (
    'a mixture of experts as DeepSpeed trains it is not loaded: the language models that LLaVA '
    "has in transformers have one MLP in each layer, and DeepSpeed's leaves tokens out where an "
    'expert is full'
)
MOST_TILES = 100
_MAX = re.compile(r'anyres_max_[1-9]\d?')
_GRIDS = re.compile(r'\((\d{1,3})x(\d{1,3})\)')


@dataclass(frozen=True)
class OriginalConfig:
    """What a checkpoint says of itself.

    Attributes:
        text: Configuration of the language model.
        tower: The vision encoder's folder or Hub id.
        select_layer, select_feature: In LLaVA's words; see `VisionTower`.
        channels: Width of the tower where it is said.
        projector: See `ProjectorType`.
        aspect: ``square``: as the tower's processor has it; ``pad``: to a square first;
            ``anyres``, ``anyres_max_N``: in tiles.
        pinpoints: Sizes that tiles make up: pairs, or ranges of numbers of tiles as text.
        moe_llava: Whether the words are MoE-LLaVA's.
    """

    text: PretrainedConfig
    tower: str
    select_layer: int
    select_feature: str
    channels: int | None
    projector: ProjectorType
    aspect: str
    pinpoints: Any
    moe_llava: bool

    @property
    def tiled(self) -> bool:
        return self.aspect.startswith('anyres')

    def resolutions(self, side: int) -> list[list[int]]:
        """(height, width) of the pictures that tiles of `side` pixels make up.

        LLaVA writes (width, height), and of several that are as good takes the first.

        Raises:
            ValueError: They are none.
        """
        found = self.pinpoints
        if isinstance(found, str):
            ends = [tuple(map(int, pair)) for pair in _GRIDS.findall(found)]
            if ends and max(map(max, ends)) <= MOST_TILES:
                (left, top), (right, bottom) = ends[0], ends[-1]
                columns, rows = range(left, right + 1), range(top, bottom + 1)
                found = [[i * side, j * side] for i in columns for j in rows]
        pairs = found if isinstance(found, list) else []
        fine = [
            isinstance(pair, (list, tuple))
            and len(pair) == 2
            and all(type(x) is int and x > 0 and x % side == 0 for x in pair)
            and pair[0] * pair[1] <= MOST_TILES * side**2
            for pair in pairs
        ]
        if not fine or not all(fine):
            raise ValueError(
                f'image_grid_pinpoints: expected pairs of multiples of the {side} pixels of a '
                f'tile, at most {MOST_TILES} tiles, found {str(self.pinpoints)[:80]}'
            )
        return [[height, width] for width, height in pairs]


def is_original(source: str) -> bool:
    """Whether a folder or Hub id holds a checkpoint of the original LLaVA or one of its heirs."""
    try:
        fields = _fields(source)
    except ValueError:
        return False
    kind = _kind(fields).lower().replace('_', '')
    return 'vision_config' not in fields and kind.startswith(('llava', 'moellava', 'evalmoellava'))


def _fields(source: str) -> dict[str, Any]:
    with quiet():
        return Source.open(source).config


def _kind(fields: Mapping) -> str:
    """Name of the class, or else of the kind of model."""
    classes = fields.get('architectures')
    first = classes[0] if isinstance(classes, list) and classes else None
    return next((name for name in (first, fields.get('model_type')) if isinstance(name, str)), '')


def read_original(source: str, chosen: Mapping[str, Any]) -> OriginalConfig:
    """The configuration of a checkpoint for which `is_original` holds.

    Args:
        source: Folder or Hub id.
        chosen: Of the words those that the user says otherwise: ``mm_vision_tower``,
            ``mm_vision_select_layer``, ``mm_vision_select_feature``.

    Raises:
        ValueError: A word is missing, or means what transformers' classes do not compute.
    """
    fields = check_model_fields(dict(_fields(source)), source)
    if 'moe' in _kind(fields).lower() or _enabled(fields.get('moe')):
        raise ValueError(f'{source}: {EXPERTS}')
    kind = _kind(fields)
    language = LANGUAGE_MODELS.get(kind) or MODEL_TYPES.get(kind)
    if language is None:
        raise ValueError(
            f'{source}: expected one of {", ".join(LANGUAGE_MODELS)}, found {kind}, the '
            'names of whose language model are not known here'
        )
    words = _Words({**fields, **chosen}, source)
    words.refuse('mm_use_im_start_end', 'its prompts have tokens around the image')
    words.refuse('s2', 'it sees each image at several scales')
    words.refuse('mm_resampler_type', 'it has a resampler between tower and projector')
    words.refuse('mm_video_tower', 'it has a second tower for videos')
    tower = words.text('mm_vision_tower', 'mm_image_tower')
    aspect = words.text('image_aspect_ratio', default='square')
    if aspect not in ('square', 'pad', 'anyres') and not _MAX.fullmatch(aspect):
        words.wrong('image_aspect_ratio', 'square, pad, anyres or anyres_max_N')
    merged = words.text('mm_patch_merge_type', default='flat')
    if aspect.startswith('anyres') and merged != 'spatial_unpad':
        words.wrong('mm_patch_merge_type', 'spatial_unpad, as transformers puts tiles together')
    with as_data(source, 'its projector is another'):
        projector = ProjectorType.parse(
            words.text('mm_projector_type', 'image_projector_type', default='linear')
        )
    return OriginalConfig(
        text=_language_config(fields, language, source),
        tower=tower,
        select_layer=words.number('mm_vision_select_layer', -2),
        select_feature=words.text('mm_vision_select_feature', default='patch'),
        channels=words.number('mm_hidden_size', None),
        projector=projector,
        aspect=aspect,
        pinpoints=fields.get('image_grid_pinpoints'),
        moe_llava=not fields.get('mm_vision_tower') and bool(fields.get('mm_image_tower')),
    )


def _enabled(moe: Any) -> bool:
    return isinstance(moe, Mapping) and bool(moe.get('moe_enable'))


def _language_config(fields: Mapping, kind: str, source: str) -> PretrainedConfig:
    """Those of the fields that are the language model's."""
    known = {*CONFIG_MAPPING[kind]().to_dict(), *BESIDE} - {'architectures', 'transformers_version'}
    renamed = {FORMER_NAMES.get(name, name): value for name, value in fields.items()}
    own = {name: value for name, value in renamed.items() if name in known}
    return config_of(own | dict(model_type=kind), source)


class _Words:
    """LLaVA's words with what their values may be."""

    def __init__(self, fields: Mapping[str, Any], source: str) -> None:
        self.fields, self.source = fields, source

    def text(self, *names: str, default: str | None = None) -> str:
        """The first that says something."""
        for name in names:
            value = self.fields.get(name)
            if value is None:
                continue
            if not isinstance(value, str) or not value:
                self.wrong(name, 'text')
            return value
        if default is None:
            self.wrong(names[0], 'text')
        return default

    def number(self, name: str, default: int | None) -> int | None:
        value = self.fields.get(name)
        if value is not None and type(value) is not int:
            self.wrong(name, 'a whole number')
        return default if value is None else value

    def refuse(self, name: str, reason: str) -> None:
        """What is said to be so and is not loaded."""
        if self.fields.get(name):
            self.wrong(name, f'none, or false: {reason}')

    def wrong(self, name: str, expected: str) -> None:
        found = self.fields.get(name)
        raise ValueError(f'{self.source}: {name}: expected {expected}, found {str(found)[:80]!r}')
