"""A SigLIP of few text positions as one of 64, which stock transformers pads every prompt to.

Scores are equal (see `longer_text`).
"""

from __future__ import annotations

from pathlib import Path

from mmseg_siglip.models.backbones.longer_text import lengthen_text


def convert(source: str, out: str | Path) -> str:
    """Write the folder.

    Raises:
        ValueError: See `lengthen_text`.
    """
    lengthen_text(source, out)
    return f'{out}: written'
