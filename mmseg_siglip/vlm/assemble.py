"""A LLaVA model out of a vision encoder and a language model."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    LlavaConfig,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.activations import ACT2FN
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.backbones.transformers_trunk import TransformersTrunk
from mmseg_siglip.models.sizes import pair
from mmseg_siglip.vlm.checkpoints import (
    load_language_model,
    load_tokenizer,
    load_vision_model,
    read_vision_config,
)
from mmseg_siglip.vlm.llava import DepthLlavaForConditionalGeneration, feature_layers
from mmseg_siglip.vlm.processing import IMAGE_TOKEN, load_image_processor, make_processor
from mmseg_siglip.vlm.strategy import (
    check_strategy,
    default_strategy,
    extra_tokens,
    in_transformers,
)
from mmseg_siglip.vlm.vision import num_prefix, token_grid
from mmseg_siglip.weights.source import bundled

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

        transformers resamples no positions: those of the vision encoder are written as they are of
        the processor's image size, if that is square.
        """
        size = self.processor.image_processor.size
        size = size.get('height', 0), size.get('width', 0)
        config = copy.deepcopy(self.model.config)
        native, side = config.vision_config.image_size, size[0]
        if side != size[1] or side == native or not side:
            self.model.save_pretrained(folder)
        else:
            config.vision_config.image_size = side
            state = resized_positions(self.model, side)
            self.model.save_pretrained(folder, state_dict=state)
            config.architectures = [transformers.LlavaForConditionalGeneration.__name__]
            config.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def resized_positions(model: PreTrainedModel, side: int) -> dict[str, Tensor]:
    """The weights of a LLaVA, the vision encoder's positions as they are of images of `side`."""
    vision, state = model.config.vision_config, model.state_dict()
    native = token_grid(vision, (vision.image_size, vision.image_size))
    for name in state:
        if 'vision_tower.' in name and name.endswith('embeddings.position_embedding.weight'):
            prefix, places = state[name].tensor_split([num_prefix(vision)])
            places = resize_position(places, native, token_grid(vision, (side, side)))
            state[name] = torch.cat([prefix, places])
    return state


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
        projector: ``mlp2x_ACTIVATION``, an activation of transformers' between two layers.
        image_size: Pixels, a side or (height, width); the encoder's own if not given.
        tokenizer: Folder or Hub id, where it is not beside the language model.
        select_layer: Hidden state of the encoder, or several, whose channels are joined.
        select_feature: See `VisionTower`.
        revision: Commit of the encoder's Hub id.

    Raises:
        ValueError: A part is missing or of the wrong kind, or the parts do not fit LLaVA.
    """
    source = bundled(vision)
    vision_config = read_vision_config(source, revision=revision)
    if vision_config.model_type == 'siglip2_vision_model':
        raise ValueError(
            f'{vision}: a NaFlex encoder takes patches, not images, which LLaVA cannot give it; '
            'take a SigLIP 2 of fixed resolution'
        )
    strategy = check_strategy(select_feature or default_strategy(vision_config), vision_config)
    size = pair(image_size or resolve_image_size(None, vision_config), 'image_size')
    image_processor = load_image_processor(source, vision_config, size=size, revision=revision)
    if isinstance(llm, Mapping) and tokenizer is None:
        raise ValueError('tokenizer: expected one beside a configuration of a language model')
    tokens = load_tokenizer(tokenizer or llm)
    processor = make_processor(image_processor, add_image_token(tokens), vision_config, strategy)

    language = load_language_model(llm)
    text_config = language.config
    tower = load_vision_model(source, vision_config, revision=revision)
    rows, columns = token_grid(vision_config, size)
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=text_config,
        image_token_index=tokens.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=rows * columns + extra_tokens(strategy, vision_config),
        projector_hidden_act=projector_activation(projector),
        vision_feature_select_strategy=in_transformers(strategy),
        vision_feature_layer=select_layer if isinstance(select_layer, int) else list(select_layer),
        pad_token_id=tokens.pad_token_id,
    )
    feature_layers(config)
    model = put_together(config, tower, language, name=str(llm))
    if len(tokens) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokens), mean_resizing=False)
    require_gradients(model, ('projector',))
    return PretrainedVLM.of(model.eval(), processor)


def add_image_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """With ``<image>`` as one token, and one to pad with."""
    if IMAGE_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_special_tokens(dict(additional_special_tokens=[IMAGE_TOKEN]))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def projector_activation(projector: str) -> str:
    """The activation in ``mlp2x_ACTIVATION``.

    Raises:
        ValueError: Transformers' LLaVA has no such projector.
    """
    match = re.fullmatch(r'mlp2x_(\w+)', projector)
    if match is None or match[1] not in ACT2FN:
        raise ValueError(
            "projector: expected 'mlp2x_gelu' or another activation of transformers, which is "
            f'the projector of its LLaVA, found {projector!r}'
        )
    return match[1]


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
    model.model.multi_modal_projector = projector = LlavaMultiModalProjector(config)
    for layer in (projector.linear_1, projector.linear_2):
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
