"""Turn a checkpoint of RSRefSeg's or RSRefSeg 2's code into one for a config of configs/refer_sam.

    python tools/model_converters/rsrefseg.py CHECKPOINT OUT [--config CONFIG]

CHECKPOINT is what training by https://github.com/KyanChen/RSRefSeg or /RSRefSeg2 wrote, such as the
files of ``KyanChen/RSRefSeg2`` on the Hub: MMEngine's ``.pth``, the folder of that name that
DeepSpeed makes, or its ``mp_rank_00_model_states.pt``, or Lightning's ``.ckpt``; what it holds says
which of the two. OUT goes to ``tools/test.py``, to ``ReferringSegmenter`` and into ``load_from``,
with the config ``rsrefseg_b.py``, ``rsrefseg_l.py`` or ``rsrefseg2.py``. With --config the model is
built, for which its SigLIP and SAM must be at hand, and every weight must fit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.registry import DefaultScope

from mmseg_siglip.api.load import read_config
from mmseg_siglip.io.files import whole_file
from mmseg_siglip.models.adapters.rsrefseg import from_rsrefseg, trained_weights
from mmseg_siglip.models.adapters.rsrefseg2 import from_rsrefseg2, is_rsrefseg2
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.weights.checkpoint import load_checkpoint_file
from mmseg_siglip.weights.state import load_strict

STATES = 'mp_rank_00_model_states.pt'


def convert(checkpoint: str | Path, out: str | Path, config: str | Path | None = None) -> int:
    """Write the converted checkpoint.

    Returns:
        Number of its tensors.

    Raises:
        ValueError: The checkpoint is of another kind, or does not fit the config.
    """
    checkpoint = Path(checkpoint)
    if checkpoint.is_dir():
        checkpoint /= STATES
    state = trained_weights(load_checkpoint_file(checkpoint))
    try:
        converted = from_rsrefseg2(state) if is_rsrefseg2(state) else from_rsrefseg(state)
    except ValueError as error:
        raise ValueError(f'{checkpoint}: {error}') from error
    if config is not None:
        with DefaultScope.overwrite_default_scope(SCOPE):
            model = MODELS.build(read_config(config).model)
        load_strict(model, converted, checkpoint)
    with whole_file(out) as draft:
        torch.save(dict(state_dict=converted, meta=dict(source=checkpoint.name)), draft)
    return len(converted)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', metavar='OUT')
    parser.add_argument('--config', help='check that every weight fits the model of this config')
    args = parser.parse_args(argv)
    try:
        count = convert(args.checkpoint, args.out, args.config)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{count} tensors in {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
