"""Write a SigLIP of few text positions as one of 64, which stock transformers pads every prompt to.

Scores are equal (see `longer_text`). The folder loads in
``pipeline('zero-shot-image-classification')`` and as ``pretrained`` of the encoder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from transformers import SiglipModel

from mmseg_siglip.models.adapters.longer_text import with_longer_text
from mmseg_siglip.models.backbones.siglip import SigLIPBackbone

POSITIONS = 64


def lengthen_text(source: str, out: str) -> None:
    """Write the folder.

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


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', help='folder, or name of a checkpoint that ships along')
    parser.add_argument('out', help='folder to write')
    args = parser.parse_args(argv)
    try:
        lengthen_text(args.source, args.out)
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{args.out}: written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
