"""LLaVA-NeXT and LLaVA-OneVision: an image small and whole, and large in tiles.

Tiles of the encoder's own size make up the picture at one of several sizes, rows of tokens end with
one of their own (``image_newline``), and those of the margins are left out. Models and processors
are transformers', models with depth beside the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import (
    LlavaNextConfig,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedTokenizerBase,
)
from transformers.image_processing_utils import BaseImageProcessor

from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.vlm.assemble import PretrainedVLM
from mmseg_siglip.vlm.checkpoints import quiet
from mmseg_siglip.vlm.llava import feature_layers
from mmseg_siglip.vlm.naflex import look_of
from mmseg_siglip.vlm.processing import FLATTEN, IMAGE_TOKEN, PLAIN
from mmseg_siglip.vlm.strategy import check_strategy
from mmseg_siglip.vlm.tiled_llava import DepthLlavaNext, DepthLlavaOnevision
from mmseg_siglip.vlm.vision import CLIP_TYPES, SIGLIP_TYPES, num_prefix, token_grid
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.transformers_model import load_model, load_part

VIDEO = '<video>'
TiledConfig = LlavaNextConfig | LlavaOnevisionConfig
TiledProcessor = LlavaNextProcessor | LlavaOnevisionProcessor


def tiled_config(
    fields: Mapping[str, Any],
    aspect: str,
    resolutions: Sequence[Sequence[int]],
    video_token: int | None,
) -> TiledConfig:
    """Of LLaVA-OneVision where `aspect` bounds the tokens (``anyres_max_9``), else LLaVA-NeXT.

    Args:
        fields: That all LLaVA configurations have.
        aspect: ``anyres`` or ``anyres_max_N``.
        resolutions: (height, width) of the pictures that tiles make up.
        video_token: Its number, where there is one.
    """
    fields = dict(fields, image_grid_pinpoints=[list(size) for size in resolutions])
    if aspect == 'anyres':
        rows, columns = token_grid(
            fields['vision_config'], resolve_image_size(None, fields['vision_config'])
        )
        return LlavaNextConfig(**fields, image_seq_length=rows * columns)
    return LlavaOnevisionConfig(**fields, vision_aspect_ratio=aspect, video_token_index=video_token)


def tiled_kind(config: TiledConfig) -> type:
    """The class of model."""
    return DepthLlavaNext if isinstance(config, LlavaNextConfig) else DepthLlavaOnevision


def make_tiled_processor(
    tower: BaseImageProcessor, tokenizer: PreTrainedTokenizerBase, config: TiledConfig
) -> TiledProcessor:
    """Transformers' processor of images and text.

    Args:
        tower: The encoder's image processor.
        tokenizer: With ``<image>``.
        config: Of the model.
    """
    vision = config.vision_config
    side = resolve_image_size(None, vision)
    size = dict(height=side[0], width=side[1])
    look = dict(size=size, **look_of(tower))
    tiles = dict(look, image_grid_pinpoints=config.image_grid_pinpoints, do_center_crop=False)
    common = dict(
        tokenizer=tokenizer,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        chat_template=FLATTEN + (tokenizer.chat_template or PLAIN),
        image_token=IMAGE_TOKEN,
    )
    if isinstance(config, LlavaNextConfig):
        return LlavaNextProcessor(
            image_processor=LlavaNextImageProcessor(**tiles, crop_size=size),
            patch_size=vision.patch_size,
            num_additional_image_tokens=num_prefix(vision),
            **common,
        )
    rows, columns = token_grid(vision, side)
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(**tiles),
        video_processor=LlavaOnevisionVideoProcessor(**look),
        num_image_tokens=rows * columns + num_prefix(vision),
        video_token=VIDEO,
        vision_aspect_ratio=config.vision_aspect_ratio,
        **common,
    )


def load_tiled(path: str, config: TiledConfig) -> PretrainedVLM:
    """A folder or Hub id in transformers' format.

    Raises:
        ValueError: It lacks a part, or takes a patch of SigLIP for a CLS token; or processor and
            model differ in how they tile.
    """
    vision = config.vision_config
    if vision.model_type not in (*SIGLIP_TYPES[:1], *CLIP_TYPES):
        raise ValueError(
            f'{path}: expected a vision tower of model_type {SIGLIP_TYPES[0]} or {CLIP_TYPES[0]}, '
            f'found {vision.model_type!r}'
        )
    with as_data(path, 'its tower is read in another way'):
        check_strategy(config.vision_feature_select_strategy, vision)
        feature_layers(config)
    kind = LlavaNextProcessor if isinstance(config, LlavaNextConfig) else LlavaOnevisionProcessor
    missing = 'expected a processor of images and text beside the weights, found none that loads'
    with quiet():
        processor = load_part(kind, path, missing)
        found = [list(size) for size in processor.image_processor.image_grid_pinpoints]
        if found != [list(size) for size in config.image_grid_pinpoints]:
            raise ValueError(
                f'{path}: image_grid_pinpoints: expected the same of processor and model, found '
                f'{str(found)[:80]} and {str(config.image_grid_pinpoints)[:80]}'
            )
        model = load_model(path, config, kind=tiled_kind(config))
    return PretrainedVLM.of(model.eval(), processor)
