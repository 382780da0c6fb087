"""SigLIP's words, on transformers' text tower.

Shapes: N prompts of L tokens, T channels of the tower, D joint channels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from open_clip.tokenizer import canonicalize_text
from torch import Tensor

from mmseg_siglip.models.backbones.transformers_backbone import TransformersBackbone


class SigLIPText(TransformersBackbone):
    """An encoder whose words pass through a text tower of SigLIP's or SigLIP 2's."""

    def clean(self, text: str) -> str:
        """Lower-cased and without punctuation."""
        return canonicalize_text(text)

    def encode_text_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """See `VisionLanguageBackbone`. The tower pools its last token, so every prompt is padded
        to the full context."""
        ids, real = self.tokenize(texts)
        output = self.model.text_model(input_ids=ids)
        return output.last_hidden_state, real, output.pooler_output

    def encode_text_as_given(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts as their tokenizer alone makes them: padded, on its own side, to the longest of
        them, and neither lower-cased nor stripped beforehand.

        RSRefSeg's code has it so. Padding is read like words, unless the tokenizer gives a mask,
        and pooled where it is last, so that a prompt depends on what stands beside it.

        Returns:
            Tokens (N, L, T), and the pooled vectors (N, D).

        Raises:
            ValueError: There is no tokenizer or text tower, or a prompt is too long.
        """
        self.check_prompts(texts)
        batch = self.tokenizer(list(texts), padding=True, return_tensors='pt')
        output = self.model.text_model(**batch.to(next(self.model.parameters()).device))
        return output.last_hidden_state, output.pooler_output

    def project_text(self, tokens: Tensor) -> Tensor:
        return self.model.text_model.head(tokens)

    def save_pretrained(self, folder: str | Path) -> None:
        """See `TransformersBackbone`; padding is read like words in transformers' own pipelines,
        too, so the tokenizer that is written gives no mask."""
        super().save_pretrained(folder)
        if self.tokenizer is not None:
            tokenizer = copy.deepcopy(self.tokenizer)
            tokenizer.model_input_names = tokenizer.init_kwargs['model_input_names'] = ['input_ids']
            tokenizer.save_pretrained(folder)

    def set_logit(self, *, scale: float, bias: float) -> None:
        with torch.no_grad():
            self.model.logit_scale.fill_(math.log(scale))
            self.model.logit_bias.fill_(bias)
