"""SAM 3: all things in an image that a word names, https://arxiv.org/abs/2511.16719.

Shapes: an image (3, H, W), SAM 3's input (S, S); N words of L tokens, C channels; M queries a word,
masks (h, w) over the whole image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.functional import interpolate
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from mmseg_siglip.kept import channels
from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.compiled import compilable
from mmseg_siglip.models.sam.concept_load import load_sam3
from mmseg_siglip.registry import MODELS

CONTEXT = 32  # tokens that words are padded to, as in transformers' processor
TEXT_BATCH = 64


@dataclass(frozen=True)
class Concepts:
    """What was found of N words in an image.

    Attributes:
        masks: (N, M, h, w) logits, above 0 inside.
        scores: (N, M) in [0, 1]: that the mask is one of the word's things, times that there is
            any (presence).
        semantic: (N, h, w) logits of all that the word names together.
        presence: (N,) in [0, 1].
    """

    masks: Tensor
    scores: Tensor
    semantic: Tensor
    presence: Tensor


@MODELS.register_module()
class SAM3Adapter(BaseModule):
    """SAM 3 and its lite text form behind three calls: `encode` an image and `encode_text` words
    once, `find` any number of words in it.

    Args:
        pretrained: Hub id (``facebook/sam3``) or folder of transformers, be it of the image model
            or of the video model around it; or a bare weight file in transformers' names. None
            builds random weights from `config`.
        config: transformers configuration as a mapping with its ``model_type``, where the
            checkpoint brings none.
        tokenizer: Folder or Hub id of the tokenizer, where it is not beside the weights.
        image_size: Side in pixels of the square that images are stretched to; the checkpoint's own
            by default (1008). Cost of the encoder grows with its square.
        words_per_batch: Words that callers of `find` ask for at a time. At full size each needs
            about 0.5 GB in float32 meanwhile.
        attention: ``sdpa`` or ``eager``, in transformers' terms.
        revision: Commit of a Hub id.

    Raises:
        ValueError: The checkpoint is of another kind or lacks weights, or a number does not suit.

    Attributes:
        image_size: (S, S).
        mean: Of RGB in 0..255, by which images are normalised.
        std: Likewise.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        *,
        config: Mapping | None = None,
        tokenizer: str | None = None,
        image_size: int | None = None,
        words_per_batch: int = 4,
        attention: str = 'sdpa',
        revision: str | None = None,
    ) -> None:
        super().__init__()
        if words_per_batch < 1:
            raise ValueError(
                f'SAM3Adapter: expected words_per_batch of 1 or more, found {words_per_batch}'
            )
        self.words_per_batch = words_per_batch
        self.model, self.tokenizer, statistics = load_sam3(
            pretrained,
            config=config,
            tokenizer=tokenizer,
            image_size=image_size,
            revision=revision,
            attention=attention,
        )
        self.image_size = resolve_image_size(None, self.model.config)
        self.mean, self.std = (tuple(255 * value for value in values) for values in statistics)
        self.eval()

    def init_weights(self) -> None:
        """Do nothing: weights were set at construction (transformers' would draw them anew)."""

    @property
    def device(self) -> torch.device:
        return self.model.device

    def to_pixels(self, image: Tensor) -> Tensor:
        """RGB in [0, 1] of a normalised image (3, H, W)."""
        mean, std = channels(self.mean, image), channels(self.std, image)
        return ((image * std + mean) / 255).clamp(0, 1)

    def encode(self, pixels: Tensor) -> ModelOutput:
        """Run the image encoder.

        Args:
            pixels: RGB in [0, 1], (3, H, W) of any size.

        Returns:
            transformers' ``Sam3VisionEncoderOutput`` of one image.

        Raises:
            ValueError: The image has another shape.
        """
        if pixels.ndim != 3 or len(pixels) != 3 or not pixels.is_floating_point():
            raise ValueError(
                'SAM3Adapter.encode: expected a float RGB image (3, H, W) in [0, 1], '
                f'found {pixels.dtype} of shape {tuple(pixels.shape)}'
            )
        fitted = pixels[None]
        if tuple(pixels.shape[-2:]) != self.image_size:
            fitted = interpolate(fitted, size=self.image_size, mode='bilinear', antialias=True)
        mean, std = channels(self.mean, fitted), channels(self.std, fitted)
        return self._see((255 * fitted - mean) / std)

    @compilable
    def _see(self, pixels: Tensor) -> ModelOutput:
        return self.model.get_vision_features(pixel_values=pixels)

    def token_rows(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The token ids of each text, without padding."""
        return [tuple(row) for row in self.tokenizer(list(texts))['input_ids']]

    def encode_text(self, words: Sequence[str]) -> Tensor:
        """Embeddings of words, token by token: (N, L, C) float32, zero past each one's last token.

        Raises:
            ValueError: There are no words or no tokenizer, or a word is too long.
        """
        if not len(words):
            raise ValueError('SAM3Adapter: expected words to look for, found none')
        if self.tokenizer is None:
            raise ValueError('SAM3Adapter: expected a tokenizer to read words, found none')
        for word, tokens in zip(words, self.token_rows(words), strict=True):
            if len(tokens) > CONTEXT:
                raise ValueError(
                    f'expected words of at most {CONTEXT} tokens, found {len(tokens)}: {word!r}'
                )
        parts = [
            self._embed(list(words[first : first + TEXT_BATCH]))
            for first in range(0, len(words), TEXT_BATCH)
        ]
        text = torch.cat(parts)
        return text[:, : int(is_token(text).sum(1).max())].contiguous()

    def _embed(self, words: list[str]) -> Tensor:
        batch = self.tokenizer(
            words,
            padding='max_length',
            padding_side='right',
            max_length=CONTEXT,
            return_attention_mask=True,
            return_tensors='pt',
        ).to(self.device)
        found = self.model.get_text_features(
            input_ids=batch['input_ids'], attention_mask=batch['attention_mask']
        )
        return found.pooler_output.float() * batch['attention_mask'][..., None]

    def find(self, seen: ModelOutput, text: Tensor) -> Concepts:
        """Look for words in an image, all at a time; `words_per_batch` is up to who calls.

        Args:
            seen: The image, of `encode`.
            text: (N, L, C), of `encode_text`.
        """
        found = self.model(
            vision_embeds=for_each_word(seen, len(text)),
            text_embeds=BaseModelOutputWithPooling(pooler_output=text),
            attention_mask=is_token(text),
        )
        presence = found.presence_logits.float().sigmoid()
        return Concepts(
            masks=found.pred_masks.float(),
            scores=found.pred_logits.float().sigmoid() * presence,
            semantic=found.semantic_seg.float()[:, 0],
            presence=presence[:, 0],
        )


def is_token(text: Tensor) -> Tensor:
    """Which tokens of (N, L, C) there are: (N, L) bool."""
    return text.ne(0).any(-1)


def for_each_word(seen: ModelOutput, count: int) -> ModelOutput:
    """An image as a batch of `count` times itself, without a copy."""
    maps, places = (
        tuple(level.expand(count, -1, -1, -1) for level in levels)
        for levels in (seen.fpn_hidden_states, seen.fpn_position_encoding)
    )
    return replace(
        seen, last_hidden_state=None, fpn_hidden_states=maps, fpn_position_encoding=places
    )
