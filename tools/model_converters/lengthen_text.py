"""Write a SigLIP of few text positions as one of 64, which stock transformers pads every prompt to.

Scores are equal (see `longer_text`). The folder loads in
``pipeline('zero-shot-image-classification')`` and as ``pretrained`` of the encoder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmseg_siglip.models.backbones.longer_text import lengthen_text


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
