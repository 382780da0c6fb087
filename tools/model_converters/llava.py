"""Turn a checkpoint of the original LLaVA's code into a folder of transformers'.

    python tools/model_converters/llava.py CHECKPOINT OUT [--vision TOWER] [--precision bf16]

CHECKPOINT is a folder or Hub id with ``config.json``, weights and tokenizer as LLaVA, LLaVA-NeXT or
a dense MoE-LLaVA write them, such as ``liuhaotian/llava-v1.5-7b``. OUT goes to ``mmseg-siglip ask``
and to transformers' ``AutoModelForImageTextToText``. The vision tower's configuration and image
processor come from where CHECKPOINT says, or from --vision, and its weights with them unless
CHECKPOINT holds some of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmseg_siglip.vlm import load_pretrained_model
from mmseg_siglip.vlm.original_config import is_original


def convert(
    checkpoint: str, out: str | Path, *, tower: str | None = None, precision: str = 'fp32'
) -> str:
    """Write the folder.

    Args:
        checkpoint: Folder or Hub id.
        out: Folder to write.
        tower: Folder or Hub id in the place of the one that the checkpoint names.
        precision: Of the weights written, see `load_pretrained_model`.

    Returns:
        Name of the model's class in transformers.

    Raises:
        ValueError: `out` is a file; `checkpoint` is none of LLaVA's, or a part of it is missing or
            would be left out.
    """
    if Path(out).is_file():
        raise ValueError(f'{out}: expected a folder, found a file')
    if not is_original(checkpoint):
        raise ValueError(
            f"{checkpoint}: expected a checkpoint in the original LLaVA's layout (config.json of "
            'model_type llava, llava_llama, llava_qwen, ...), found another'
        )
    words = dict(model_name_or_path=checkpoint, mm_vision_tower=tower)
    vlm = load_pretrained_model(words, precision=precision, device='cpu')
    vlm.save_pretrained(out)
    return vlm.model.config.architectures[0]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', metavar='OUT')
    parser.add_argument('--vision', metavar='TOWER', help='folder or Hub id of the vision tower')
    parser.add_argument('--precision', default='fp32', help='fp32, bf16 or fp16 [%(default)s]')
    args = parser.parse_args(argv)
    try:
        kind = convert(args.checkpoint, args.out, tower=args.vision, precision=args.precision)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{args.out}: a {kind}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
