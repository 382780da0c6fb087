"""LLaVA models by one call: a whole checkpoint, or a language model and a vision tower."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlavaConfig, LlavaProcessor, PretrainedConfig
from transformers.image_processing_utils import BaseImageProcessor

from mmseg_siglip.device import find_device
from mmseg_siglip.models.sizes import MOST_SIDE, pair
from mmseg_siglip.precision import compute_dtype
from mmseg_siglip.vlm.adapters import load_projector, type_of
from mmseg_siglip.vlm.assemble import (
    PretrainedVLM,
    add_image_token,
    build_llava,
)
from mmseg_siglip.vlm.build import CustomVisionConfig, check_encoder_type, tower_options
from mmseg_siglip.vlm.checkpoints import (
    VISION_MODELS,
    quiet,
    read_transformers_config,
    read_vision_config,
)
from mmseg_siglip.vlm.llava import DepthLlavaForConditionalGeneration, feature_layers
from mmseg_siglip.vlm.naflex import NaFlexLlavaProcessor, is_naflex, set_patches
from mmseg_siglip.vlm.original import load_original_llava
from mmseg_siglip.vlm.original_config import is_original
from mmseg_siglip.vlm.processing import FLATTEN, IMAGE_TOKEN, PLAIN, get_size, set_size
from mmseg_siglip.vlm.projectors import ProjectorType
from mmseg_siglip.vlm.strategy import check_strategy, extra_tokens, in_transformers
from mmseg_siglip.vlm.tiles import TiledConfig, load_tiled
from mmseg_siglip.vlm.vision import num_prefix, token_grid
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.source import bundled
from mmseg_siglip.weights.transformers_model import load_model, load_part

TOWER_KEYS = ('mm_vision_tower', 'mm_image_tower')
KEYS = (
    'model_name_or_path',
    *TOWER_KEYS,
    'mm_hidden_size',
    'mm_projector_type',
    'mm_vision_select_layer',
    'mm_vision_select_feature',
    'pretrain_mm_mlp_adapter',
)


def load_pretrained_model(
    config_or_path: str | Path | Mapping,
    encoder_type: str = 'auto',
    custom_vision_config: CustomVisionConfig | Mapping | Any | None = None,
    *,
    precision: str = 'fp32',
    device: str | torch.device | None = None,
) -> PretrainedVLM:
    """Load or assemble a LLaVA model, and what prepares its inputs.

    Args:
        config_or_path: A LLaVA checkpoint, folder or Hub id, in transformers' format or in the
            original's, see `load_original_llava`. Or a mapping in LLaVA's words:
            ``model_name_or_path``, such a checkpoint or a language model; ``mm_vision_tower``
            (MoE-LLaVA: ``mm_image_tower``), to put on the latter with a new projector unless
            ``pretrain_mm_mlp_adapter`` has one, and nothing else, or where that of an original
            checkpoint is found;
            ``mm_hidden_size``, compared with the tower's; ``mm_projector_type``,
            ``mm_vision_select_layer``, ``mm_vision_select_feature``.
        encoder_type: See `build_vision_tower`.
        custom_vision_config: See `tower_options`; goes before the words above.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``auto``, see `compute_dtype`.
        device: By default the GPU, if there is one.

    Returns:
        A tuple of (model, image_processor, tokenizer, context_len); LLaVA's own order is
        ``.as_llava()``.

    Raises:
        ValueError: A checkpoint is missing, of another kind or incomplete, or a value contradicts
            it.

    Examples:
        >>> from mmseg_siglip.vlm import build_llava, load_pretrained_model
        >>> llm = dict(  # or a folder or Hub id
        ...     model_type='llama', vocab_size=381, hidden_size=32, intermediate_size=48,
        ...     num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=512,
        ... )
        >>> vlm = build_llava('tiny_siglip_shapes', llm, tokenizer='shapes_questions')
        >>> vlm.save_pretrained('my_llava')
        >>> model, image_processor, tokenizer, context_len = load_pretrained_model(
        ...     'my_llava', device='cpu'
        ... )
        >>> context_len
        512
    """
    if isinstance(config_or_path, Mapping):
        fields = dict(config_or_path)
    else:
        fields = dict(model_name_or_path=str(config_or_path))
    unknown = sorted(set(fields) - set(KEYS))
    if unknown or not fields.get('model_name_or_path'):
        raise ValueError(
            f'config: expected model_name_or_path and maybe {", ".join(KEYS[1:])}, found '
            f'{", ".join(unknown) or "no model_name_or_path"}'
        )
    options = _options(fields, custom_vision_config)
    towers = [fields[key] for key in TOWER_KEYS if fields.get(key)]
    if len({*map(str, towers)}) > 1:
        raise ValueError(f'config: expected one of {" and ".join(TOWER_KEYS)}, found both')
    tower = towers[0] if towers else None
    path = str(bundled(fields['model_name_or_path']))
    fields['model_name_or_path'] = path
    if is_original(path):
        vlm = load_original_llava(path, tower=tower, encoder_type=encoder_type, **options)
        check_projector(fields, ProjectorType.of(vlm.model.config), path)
        _check_width(fields, vlm.model.config.vision_config.hidden_size, path)
    elif tower is None:
        vlm = _whole(fields, encoder_type, options)
    else:
        vlm = _assembled(fields, tower, encoder_type, options)
    if fields.get('pretrain_mm_mlp_adapter'):
        projector = vlm.model.model.multi_modal_projector
        load_projector(projector, fields['pretrain_mm_mlp_adapter'])
    return place(vlm, find_device(device), precision)


def place(vlm: PretrainedVLM, device: torch.device, precision: str) -> PretrainedVLM:
    """The model on a device, its weights in what `compute_dtype` says, ready to predict."""
    vlm.model.to(device, compute_dtype(precision, device))
    if vlm.model.depth_fusion is not None:
        vlm.model.depth_fusion.float()  # centimetres are lost in bfloat16
    vlm.model.eval()
    return vlm


def _options(fields: Mapping, custom: Any | None) -> dict[str, Any]:
    """`tower_options`, LLaVA's words where they say nothing."""
    theirs = dict(
        select_layer=fields.get('mm_vision_select_layer'),
        select_feature=fields.get('mm_vision_select_feature'),
    )
    given = {name: value for name, value in theirs.items() if value is not None}
    return given | tower_options(custom)


def _assembled(fields: Mapping, tower: str, encoder_type: str, options: dict) -> PretrainedVLM:
    config = read_vision_config(tower)
    check_encoder_type(encoder_type, config, tower)
    _check_width(fields, config.hidden_size, tower)
    projector, saved = fields.get('mm_projector_type'), fields.get('pretrain_mm_mlp_adapter')
    if not projector and saved:
        projector = type_of(saved).name
    projector = projector or 'mlp2x_gelu'
    vlm = build_llava(
        tower,
        fields['model_name_or_path'],
        projector=projector,
        **options,
    )
    if not saved and ProjectorType.parse(projector).num_layers:
        warnings.warn(
            f'the projector between {tower} and {fields["model_name_or_path"]} is untrained: '
            'answers have nothing to do with the images yet; pretrain_mm_mlp_adapter names a '
            'trained one',
            stacklevel=3,
        )
    return vlm


def _check_width(fields: Mapping, width: int, tower: str) -> None:
    found = fields.get('mm_hidden_size')
    if found is not None and found != width:
        raise ValueError(
            f'mm_hidden_size: expected {width}, the width of {tower}, found {found}; it can be '
            'left out'
        )


def check_projector(fields: Mapping, kind: ProjectorType, path: str) -> None:
    """Raises: ValueError: The words ask for another projector than a checkpoint has."""
    found = fields.get('mm_projector_type')
    if found and ProjectorType.parse(found) != kind:
        raise ValueError(
            f'mm_projector_type: expected {kind.name!r}, which {path} has, found {found!r}'
        )


def _whole(fields: Mapping, encoder_type: str, options: dict) -> PretrainedVLM:
    path = fields['model_name_or_path']
    config = _llava_config(path)
    if isinstance(config, TiledConfig):
        return _tiled(fields, config, encoder_type, options)
    vision = config.vision_config
    if vision.model_type not in VISION_MODELS:
        raise ValueError(
            f'{path}: expected a vision tower of model_type {", ".join(VISION_MODELS)}, found '
            f'{vision.model_type!r}'
        )
    check_encoder_type(encoder_type, vision, path)
    _check_width(fields, vision.hidden_size, path)
    with as_data(path, 'its projector is another'):
        kind = ProjectorType.of(config)
    check_projector(fields, kind, path)
    with as_data(path, 'its tower is read in another way'):
        strategy = check_strategy(
            options.get('select_feature', config.vision_feature_select_strategy), vision
        )
        config.vision_feature_select_strategy = in_transformers(strategy)
        config.vision_feature_layer = options.get('select_layer', config.vision_feature_layer)
        feature_layers(config)
    processor = _processor(path, config)
    with as_data(path, 'its images have another size'):
        num_patches = _resize(processor.image_processor, vision, options.get('image_size'))
    config.image_seq_length = num_patches + extra_tokens(strategy, vision)
    with quiet():
        model = load_model(path, config, kind=DepthLlavaForConditionalGeneration)
    return PretrainedVLM.of(model, processor)


def _resize(processor: BaseImageProcessor, vision: PretrainedConfig, asked: Any | None) -> int:
    """Make a processor give images of the size asked for.

    Returns:
        Patches of an image; of NaFlex as many as it may have.
    """
    size = None if asked is None else pair(asked, 'image_size')
    if is_naflex(vision):
        processor.patch_size = vision.patch_size
        if size is not None:
            set_patches(processor, vision, size)
        found, most = (
            getattr(processor, 'max_num_patches', None),
            (MOST_SIDE // vision.patch_size) ** 2,
        )
        if type(found) is not int or not 0 < found <= most:
            raise ValueError(f'max_num_patches: expected a number of 1 to {most}, found {found!r}')
        return found
    if size is not None:
        token_grid(vision, size)
        set_size(processor, vision, size)
    return math.prod(token_grid(vision, get_size(processor)))


def _tiled(fields: Mapping, config: TiledConfig, encoder_type: str, options: dict) -> PretrainedVLM:
    path = fields['model_name_or_path']
    if options:
        raise ValueError(
            f'{path}: expected no other {", ".join(options)} for a {config.model_type}, whose '
            'tiles have the size of the tower'
        )
    check_encoder_type(encoder_type, config.vision_config, path)
    _check_width(fields, config.vision_config.hidden_size, path)
    with as_data(path, 'its projector is another'):
        kind = ProjectorType.of(config)
    check_projector(fields, kind, path)
    return load_tiled(path, config)


def _llava_config(path: str) -> LlavaConfig | TiledConfig:
    config = read_transformers_config(path)
    if isinstance(config, LlavaConfig | TiledConfig):
        return config
    if type(config) in AutoModelForCausalLM._model_mapping:
        raise ValueError(
            f'{path}: expected a LLaVA checkpoint, found a language model without vision '
            f'(model_type {config.model_type!r}); name a tower for it as mm_vision_tower'
        )
    raise ValueError(
        f'{path}: expected a LLaVA checkpoint (model_type llava), found {config.model_type!r}'
    )


def _processor(path: str, config: LlavaConfig) -> LlavaProcessor:
    """The checkpoint's, counting placeholders as the model counts features."""
    missing = (
        'expected a processor of images and text (preprocessor_config.json and tokenizer files) '
        'beside the weights, found none that loads'
    )
    with quiet():
        kind = NaFlexLlavaProcessor if is_naflex(config.vision_config) else LlavaProcessor
        processor = load_part(kind, path, missing)
    vision = config.vision_config
    processor.patch_size = vision.patch_size
    processor.vision_feature_select_strategy = config.vision_feature_select_strategy
    processor.num_additional_image_tokens = num_prefix(vision)
    processor.chat_template = processor.chat_template or FLATTEN + PLAIN
    add_image_token(processor.tokenizer)
    token = processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    if token != config.image_token_id:
        raise ValueError(
            f'{path}: expected {IMAGE_TOKEN} to be token {config.image_token_id} of the '
            f'tokenizer, as the model has it, found {token}'
        )
    return processor
