"""A LLaVA model out of a vision encoder and a language model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    LlavaConfig,
    LlavaProcessor,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.image_processing_utils import BaseImageProcessor

from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.transformers_trunk import TransformersTrunk
from mmseg_siglip.models.sizes import pair
from mmseg_siglip.vlm.checkpoints import (
    load_language_model,
    load_vision_model,
    read_vision_config,
)
from mmseg_siglip.vlm.generation import generating_by, without_idle
from mmseg_siglip.vlm.llava import DepthLlavaForConditionalGeneration, feature_layers
from mmseg_siglip.vlm.naflex import is_naflex, patch_processor
from mmseg_siglip.vlm.processing import (
    IMAGE_TOKEN,
    get_size,
    load_image_processor,
    load_own_processor,
    make_processor,
)
from mmseg_siglip.vlm.projectors import ProjectorType, make_projector
from mmseg_siglip.vlm.saved_size import made_for
from mmseg_siglip.vlm.strategy import (
    check_strategy,
    default_strategy,
    extra_tokens,
    in_transformers,
)
from mmseg_siglip.vlm.vision import token_grid
from mmseg_siglip.weights.source import bundled
from mmseg_siglip.weights.tokenizers import load_tokenizer
from mmseg_siglip.weights.transformers_model import save_model

PARTS = {
    'vision': 'model.vision_tower.',
    'projector': 'model.multi_modal_projector.',
    'fusion': 'model.depth_fusion.',
    'llm': ('model.language_model.', 'lm_head.'),
}


class _Parts(NamedTuple):
    model: DepthLlavaForConditionalGeneration
    image_processor: BaseImageProcessor
    tokenizer: PreTrainedTokenizerBase
    context_len: int


class PretrainedVLM(_Parts):
    """``model, image_processor, tokenizer, context_len``, in this order.

    Attributes:
        processor: Transformers' processor of images and text, with a chat template.
    """

    processor: LlavaProcessor

    @classmethod
    def of(
        cls, model: DepthLlavaForConditionalGeneration, processor: LlavaProcessor
    ) -> PretrainedVLM:
        tokenizer = processor.tokenizer
        vlm = cls(model, processor.image_processor, tokenizer, context_length(model, tokenizer))
        vlm.processor = processor
        return vlm

    def as_llava(self) -> tuple:
        """LLaVA's order: (tokenizer, model, image_processor, context_len)."""
        return self.tokenizer, self.model, self.image_processor, self.context_len

    def save_pretrained(self, folder: str | Path) -> None:
        """A folder that `load_pretrained_model` and transformers load.

        Positions are written for the size that the image processor gives, see `made_for`: loaded
        again for a third size, they are resampled from those. Where its parts came from on this
        machine is not told.
        """
        for config in (self.model.config, *configs_of_parts(self.model.config)):
            if config.name_or_path and Path(config.name_or_path).exists():
                config.name_or_path = ''
        naflex = is_naflex(self.model.config.vision_config)
        with (
            nullcontext() if naflex else made_for(self.model, get_size(self.image_processor)),
            generating_by(self.model, without_idle(self.model.generation_config)),
        ):
            save_model(self.model, folder)
        self.processor.save_pretrained(folder)


def configs_of_parts(config: PretrainedConfig) -> Iterator[PretrainedConfig]:
    """The configurations of a model's parts."""
    yield from (getattr(config, name) for name in config.sub_configs)


def context_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that the language model was made for, image tokens included.

    Raises:
        ValueError: Neither model nor tokenizer says.
    """
    text = model.config.get_text_config()
    for name in ('max_sequence_length', 'max_position_embeddings', 'n_positions', 'max_seq_len'):
        if getattr(text, name, None):
            return int(getattr(text, name))
    if tokenizer.model_max_length < 10**9:
        return int(tokenizer.model_max_length)
    raise ValueError(
        f'{text.model_type}: expected max_position_embeddings in the configuration, or '
        'model_max_length of the tokenizer, found neither'
    )


def build_llava(
    vision: str,
    llm: str | Mapping,
    projector: str = 'mlp2x_gelu',
    image_size: int | tuple[int, int] | None = None,
    *,
    tokenizer: str | None = None,
    select_layer: int | Sequence[int] = -2,
    select_feature: str | None = None,
    revision: str | None = None,
) -> PretrainedVLM:
    """Assemble a LLaVA model; the projector is new, and alone requires gradients.

    Args:
        vision: Folder or Hub id of a SigLIP or CLIP, or the name of one that ships along.
        llm: Folder or Hub id of a causal language model; or a transformers configuration with its
            `model_type`, for random weights.
        projector: ``mlpNx_ACTIVATION``, ``linear`` or ``identity``, see `ProjectorType`.
        image_size: Pixels, a side or (height, width); the encoder's own if not given. NaFlex: of
            the largest image; each keeps its aspect.
        tokenizer: Folder or Hub id, where it is not beside the language model.
        select_layer: Hidden state of the encoder, or several, whose channels are joined.
        select_feature: See `VisionTower`.
        revision: Commit of the encoder's Hub id.

    Raises:
        ValueError: A part is missing or of the wrong kind, or the parts do not fit LLaVA.

    Examples:
        >>> from mmseg_siglip.vlm import build_llava
        >>> llm = dict(  # or a folder or Hub id
        ...     model_type='llama', vocab_size=381, hidden_size=32, intermediate_size=48,
        ...     num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=512,
        ... )
        >>> vlm = build_llava('tiny_siglip_shapes', llm, tokenizer='shapes_questions')
        >>> {name.split('.')[1] for name, p in vlm.model.named_parameters() if p.requires_grad}
        {'multi_modal_projector'}
    """
    projector_type = ProjectorType.parse(projector)
    source = bundled(vision)
    vision_config = read_vision_config(source, revision=revision)
    strategy = check_strategy(select_feature or default_strategy(vision_config), vision_config)
    size = pair(image_size or resolve_image_size(None, vision_config), 'image_size')
    if is_naflex(vision_config):
        own = load_own_processor(source, revision=revision)
        image_processor = patch_processor(own, vision_config, size)
        num_patches = image_processor.max_num_patches
    else:
        image_processor = load_image_processor(source, vision_config, size=size, revision=revision)
        num_patches = math.prod(token_grid(vision_config, size))
    if isinstance(llm, Mapping) and tokenizer is None:
        raise ValueError('tokenizer: expected one beside a configuration of a language model')
    tokens = load_tokenizer(tokenizer or llm)
    processor = make_processor(image_processor, add_image_token(tokens), vision_config, strategy)

    language = load_language_model(llm)
    text_config = language.config
    tower = load_vision_model(source, vision_config, revision=revision)
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=text_config,
        image_token_index=tokens.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=num_patches + extra_tokens(strategy, vision_config),
        projector_hidden_act=projector_type.in_config,
        vision_feature_select_strategy=in_transformers(strategy),
        vision_feature_layer=select_layer if isinstance(select_layer, int) else list(select_layer),
        pad_token_id=tokens.pad_token_id,
    )
    feature_layers(config)
    model = put_together(config, tower, language, name=str(llm))
    if len(tokens) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokens), mean_resizing=False)
    require_gradients(model, ('projector',) if projector_type.num_layers else ())
    return PretrainedVLM.of(model.eval(), processor)


def add_image_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """With ``<image>`` as one token, and one to pad with."""
    if IMAGE_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_special_tokens(dict(additional_special_tokens=[IMAGE_TOKEN]))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def put_together(
    config: LlavaConfig, tower: nn.Module, language: PreTrainedModel, *, name: str
) -> DepthLlavaForConditionalGeneration:
    """The model of `config` around two that exist, weights shared and not copied.

    Raises:
        ValueError: LLaVA would compute other logits than `language` alone, for its head has a
            bias or caps them.
    """
    with torch.device('meta'):
        model = DepthLlavaForConditionalGeneration(config)
    ids = torch.arange(4)[None] % language.config.vocab_size
    with torch.no_grad():
        expected = language(input_ids=ids).logits
    model.model.vision_tower = tower
    model.model.language_model = getattr(language, language.base_model_prefix)
    model.lm_head = language.get_output_embeddings()
    model.model.multi_modal_projector = projector = make_projector(config)
    for layer in (part for part in projector.children() if isinstance(part, nn.Linear)):
        nn.init.normal_(layer.weight, std=config.text_config.initializer_range)
        nn.init.zeros_(layer.bias)
    model.generation_config = language.generation_config
    with torch.no_grad():
        found = model(input_ids=ids).logits
    if not torch.allclose(expected, found, rtol=1e-3, atol=1e-4) or model.lm_head.bias is not None:
        raise ValueError(
            f'{name}: a {type(language).__name__} computes its logits in a way that LLaVA has no '
            'place for (a bias, a cap or a scale after the last layer)'
        )
    return model


def part_of(name: str) -> str:
    """Which of `PARTS` a parameter belongs to."""
    return next(part for part, prefix in PARTS.items() if name.startswith(prefix))


def require_gradients(
    model: DepthLlavaForConditionalGeneration, parts: Sequence[str]
) -> list[Tensor]:
    """Let the parameters of `parts` require gradients, and no others; they are returned.

    Of ``vision`` these are the ones that image features depend on: for the others, which get no
    gradient, DDP would wait in vain.

    Raises:
        ValueError: A part is unknown, or the model lacks it.
    """
    above = TransformersTrunk(model.model.vision_tower).above(max(feature_layers(model.config)))
    unread = {id(parameter) for part in above for parameter in part.parameters()}
    found = {part: [] for part in PARTS}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in parts and id(parameter) not in unread)
        if id(parameter) not in unread:
            found[part_of(name)].append(parameter)
    for part in parts:
        if not found.get(part):
            raise ValueError(
                f'train: expected some of {", ".join(p for p in found if found[p])}, found {part!r}'
            )
    return [parameter for part in parts for parameter in found[part]]
