"""SigLIP's words, on transformers' text tower.

Shapes: N prompts of L tokens, T channels of the tower, D joint channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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

    def project_text(self, tokens: Tensor) -> Tensor:
        return self.model.text_model.head(tokens)

    def set_logit(self, *, scale: float, bias: float) -> None:
        with torch.no_grad():
            self.model.logit_scale.fill_(math.log(scale))
            self.model.logit_bias.fill_(bias)
