"""SigLIP folders for who pads words to more tokens than the encoder has positions."""

from __future__ import annotations

from pathlib import Path

from transformers import SiglipModel

from mmseg_siglip.models.adapters.longer_text import with_longer_text
from mmseg_siglip.models.backbones.siglip import SigLIPBackbone

POSITIONS = 64
"""What transformers' zero-shot pipeline pads words to."""


def lengthen_text(source: str, out: str | Path) -> None:
    """Write a SigLIP as a folder of `POSITIONS` text positions, whose scores are those of `source`.

    Args:
        source: Folder, or name of a checkpoint that ships along.
        out: The folder to write.

    Raises:
        ValueError: `source` is no SigLIP of fixed resolution, has no tokenizer, or has as many
            positions.
    """
    encoder = SigLIPBackbone(source)
    if not isinstance(encoder.model, SiglipModel) or encoder.tokenizer is None:
        raise ValueError(f'{source}: expected a SigLIP of fixed resolution with its tokenizer')
    longest = encoder.context_length - 1
    encoder.model = with_longer_text(encoder.model, POSITIONS)
    encoder.tokenizer.model_max_length = longest
    encoder.save_pretrained(out)
