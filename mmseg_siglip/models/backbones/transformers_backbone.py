"""What encoders on models of transformers have in common: opening a checkpoint, and words.

Shapes: N prompts of L tokens, T channels of the text tower, D joint channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoImageProcessor, PretrainedConfig

from mmseg_siglip.device import upload
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.pixels import Statistics, check_statistics
from mmseg_siglip.weights.source import Source, bundled
from mmseg_siglip.weights.tokenizers import load_tokenizer
from mmseg_siglip.weights.transformers_model import (
    build_model,
    config_of,
    load_model,
    load_model_config,
    load_part,
    save_model,
)

OF_THE_FILE = ('_name_or_path', 'architectures', 'dtype', 'torch_dtype', 'transformers_version')
NO_PARTS = 'expected tokenizer and preprocessor files beside the weights, found none that load'
Described = str | Mapping


class TransformersBackbone(VisionLanguageBackbone):
    """An encoder on a model of transformers with a ``vision_model`` and a ``text_model``.

    Attributes:
        config: transformers' configuration of the model.
        context_length: Tokens of the longest prompt.
        tokenizer: transformers'; None where nothing tells which.
        image_processor: transformers'; None where nothing tells which.
        pixels: Mean and standard deviation in 0..1 where there is no image processor.
    """

    config: PretrainedConfig
    tokenizer: Any = None
    image_processor: Any = None
    pixels: Statistics = ((0.5,) * 3, (0.5,) * 3)

    def open_checkpoint(
        self,
        pretrained: str | Source | None,
        *,
        config: Described | None,
        tokenizer: str | None,
        revision: str | None,
    ) -> None:
        """Set the model, and all that its configuration and its processors tell.

        Args:
            pretrained: A folder, a Hub id, the name of a checkpoint shipped with this package, or a
                bare weight file (``.safetensors``, ``.bin``, MMEngine ``.pth``). None builds random
                weights from `config`.
            config: Folder, Hub id or mapping that describes the model, where `pretrained` does not.
            tokenizer: Folder or Hub id of the tokenizer, where it is not beside the weights.
            revision: Commit of a Hub id.

        Raises:
            ValueError: The checkpoint is of another kind, or lacks weights.
        """
        if pretrained is None and config is None:
            kind = type(self).__name__
            raise ValueError(f'{kind}: expected pretrained or config, found neither')
        source = None if pretrained is None else Source.open_encoder(pretrained, revision=revision)
        if source is not None and not source.is_file and config is not None:
            raise ValueError(f'{source}: brings its own configuration; drop config')
        revision = revision if source is None else source.revision
        self.open_model(source, bundled(config), tokenizer, revision)
        self.config = self.model.config
        vision, text = self.config.vision_config, self.config.text_config
        self.patch_size = vision.patch_size
        self.hidden_size = self.embed_dim = vision.hidden_size
        self.text_width = text.hidden_size
        self.context_length = text.max_position_embeddings
        with as_data(source or 'config', 'expected a size of its images'):
            self.image_size = resolve_image_size(self.image_processor, self.config)
        self.mean, self.std = self._statistics(str(source or config))

    def open_model(
        self,
        source: Source | None,
        config: Described | None,
        tokenizer: str | None,
        revision: str | None,
    ) -> None:
        """Set the model and its processors; see `open_checkpoint`."""
        if config is None:
            config = str(source.folder) if source.is_file else source.name
        described = describe_model(config, self.model_types, revision=revision)
        if source is None:
            self.model = build_model(described)
        else:
            state = self.renamed(source.tensors, source) if source.is_file else None
            self.model = load_model(source.name, described, state=state, revision=revision)
            if source.adapters is not None:
                source.adapters.merge(self.model)
        if tokenizer is not None:
            self.tokenizer = load_tokenizer(
                tokenizer, padding=True, tokens=vocabulary_size(self.model.config)
            )
        if isinstance(config, Mapping):
            return
        if tokenizer is None:
            self.tokenizer = load_tokenizer(
                config,
                missing=NO_PARTS,
                revision=revision,
                padding=True,
                tokens=vocabulary_size(self.model.config),
            )
        self.image_processor = load_part(
            AutoImageProcessor, config, NO_PARTS, revision=revision, backend='torchvision'
        )

    def renamed(self, state: Mapping[str, Tensor], source: object) -> Mapping[str, Tensor]:
        """See `rename`.

        Raises:
            ValueError: The tensors are of another kind, in a sentence that begins with `source`.
        """
        with as_data(source, f'expected the weights of a {type(self).__name__}'):
            return self.rename(state)

    def rename(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The tensors of a bare file by names that transformers knows."""
        return state

    def _statistics(self, source: str) -> Statistics:
        """In units of 0..255."""
        processor, pixels = self.image_processor, self.pixels
        if processor is not None and processor.do_normalize:
            pixels = check_statistics(processor.image_mean, processor.image_std, source)
        return tuple(tuple(255 * value for value in values) for values in pixels)

    def clean(self, text: str) -> str:
        """A prompt as it was seen in training, before the tokenizer."""
        return text

    def token_rows(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        return [tuple(row) for row in self.tokenizer([*map(self.clean, texts)])['input_ids']]

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids, padded on the right to the full context, and which are no padding: (N, L).

        Raises:
            ValueError: There is no tokenizer or text tower, or a prompt is too long.
        """
        texts = [self.clean(text) for text in texts]
        self.check_prompts(texts)
        batch = self.tokenizer(
            texts,
            padding='max_length',
            padding_side='right',
            max_length=self.context_length,
            return_attention_mask=True,
            return_tensors='pt',
        )
        if (largest := int(batch['input_ids'].max())) >= (known := vocabulary_size(self.config)):
            raise ValueError(
                f'expected token ids below {known}, those of the text tower, found {largest}'
            )
        device = next(self.model.parameters()).device
        return upload(batch['input_ids'], device), upload(batch['attention_mask'].bool(), device)

    def check_prompts(self, texts: Sequence[str]) -> None:
        """Refuse prompts that cannot be encoded.

        Raises:
            ValueError: There is no tokenizer or text tower, or a prompt is too long.
        """
        self.require_text()
        if self.tokenizer is None:
            kind = type(self).__name__
            raise ValueError(f'{kind}: expected a tokenizer to encode text, found none')
        longest = min(self.context_length, self.tokenizer.model_max_length)
        for text, tokens in zip(texts, self.tokenizer(list(texts))['input_ids'], strict=True):
            if len(tokens) > longest:
                raise ValueError(
                    f'expected a prompt of at most {longest} tokens, found {len(tokens)}: {text!r}'
                )

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self.encode_text_tokens(texts)[2]

    def is_text(self, name: str) -> bool:
        return name.startswith('text_model.')

    def text_settings(self) -> dict[str, Any]:
        config = self.config.text_config.to_dict()
        return {name: value for name, value in config.items() if name not in OF_THE_FILE}

    def tokenizer_state(self) -> dict[str, int]:
        return dict(sorted(self.tokenizer.get_vocab().items()))

    @staticmethod
    def layers(where: str) -> Tower:
        """A tower of transformers' usual encoder layers."""
        attention = ('q_proj', 'k_proj', 'v_proj', 'out_proj')
        matrices = {name: f'self_attn.{name}' for name in attention}
        matrices |= {name: f'mlp.{name}' for name in ('fc1', 'fc2')}
        query_value = ('self_attn.q_proj', 'self_attn.v_proj')
        return Tower(where, matrices, ('q_proj', 'v_proj'), query_value=query_value)

    def use_plain_attention(self) -> None:
        super().use_plain_attention()
        self.model.set_attn_implementation('eager')

    def drop_text(self) -> None:
        self.model.text_model = None

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a transformers checkpoint: configuration, safetensors, tokenizer, processor."""
        save_model(self.model, folder)
        for part in (self.tokenizer, self.image_processor):
            if part is not None:
                part.save_pretrained(folder)


def vocabulary_size(config: PretrainedConfig) -> int:
    """How many tokens a model's text tower knows, 0 if it has none."""
    text = getattr(config, 'text_config', None)
    return 0 if text is None else text.vocab_size


def describe_model(
    source: Described, model_types: Sequence[str], *, revision: str | None = None
) -> PretrainedConfig:
    """A transformers configuration: a folder's, a Hub id's, or a mapping with its `model_type`.

    Raises:
        ValueError: `source` describes no model, or one of another kind.
    """
    expected = ' or '.join(model_types)
    if isinstance(source, Mapping):
        config = config_of(source)
    else:
        missing = f'no configuration of a {expected} model'
        config = load_model_config(source, missing, revision=revision)
    if config.model_type not in model_types:
        raise ValueError(f'{source}: expected model_type {expected}, found {config.model_type!r}')
    return config
