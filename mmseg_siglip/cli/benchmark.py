"""Evaluate on several data sets, one table.

With --datasets, configs/sclip: every method on every encoder. A row that is done is kept in
--work-dir, and not measured again. On what ships along, without downloads:
`mmseg-siglip benchmark --datasets shapes --methods vanilla csa naclip --baseline vanilla`.
With --referring, configs/refer_sam and a trained model, at several sizes.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from mmseg_siglip.cli.common import (
    PAMR_STEPS,
    PICTURES,
    OneOf,
    UsageError,
    add_encoder,
    add_launcher,
    add_overrides,
    add_slides,
    at_least,
)

SAM = 'facebook/sam-vit-base'
REFERRING = dict(sizes=[None])
DENSE = dict(
    attention=['csa'],
    encoders=None,
    protocol=None,
    baseline=None,
    markdown=None,
    plot=None,
    pamr_steps=None,
    use_sam=None,
    sam_points=32,
    sam_batch=64,
    sam_label='vote',
    sam_refine=False,
    logit_scale=None,
    slide_crop=None,
    slide_stride=None,
    slide_inference=False,
    save_vis=None,
)
"""Options that go with the one or the other, and their defaults."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'checkpoint',
        nargs='?',
        metavar='CHECKPOINT',
        help="the encoder [the configs' own]; with --referring a trained model",
    )
    add_encoder(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        '--datasets',
        nargs='+',
        metavar='NAME',
        help='names of configs/sclip, with - or _, or .py configs; for SigLIP weights their twins '
        'are taken',
    )
    what.add_argument(
        '--referring', nargs='+', metavar='NAME', help='names of configs/refer_sam, or .py configs'
    )
    parser.add_argument(
        '--num-samples', type=at_least(1), metavar='N', help='the first N images of each'
    )
    parser.add_argument('--out', type=Path, metavar='CSV', help='the table as a file')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/benchmark'))
    add_overrides(parser)
    add_launcher(parser)
    referring = parser.add_argument_group('with --referring')
    referring.add_argument(
        '--sizes',
        nargs='+',
        type=size,
        metavar='PIXELS',
        help="what SigLIP sees: a side, or HEIGHTxWIDTH [the configs' own]",
    )
    dense = parser.add_argument_group('with --datasets')
    dense.add_argument(
        '--methods',
        '--attention',
        dest='attention',
        nargs='+',
        metavar='NAME',
        help='dense methods, names of configs/_base_/methods, or .py files like those [csa]',
    )
    dense.add_argument(
        '--encoders',
        nargs='+',
        metavar='NAME',
        help='several, each a name of configs/_base_/encoders, such a file, or weights on disk',
    )
    dense.add_argument(
        '--protocol',
        type=OneOf('mmseg_siglip.cli.jobs.protocol:PROTOCOLS'),
        metavar='NAME',
        help="own: each method's published settings; common: one resolution, window and list of "
        "words for all, nothing tuned [the configs' settings]",
    )
    dense.add_argument(
        '--baseline',
        metavar='METHOD',
        help="what the others' mIoU is compared with: a method, or METHOD@ENCODER",
    )
    dense.add_argument('--markdown', type=Path, metavar='FILE', help='the table as it is printed')
    dense.add_argument('--plot', type=Path, metavar='PNG', help='a picture of mIoU against time')
    dense.add_argument(
        '--pamr-steps', type=at_least(0), metavar='N', help='refine by PAMR; 0 for none'
    )
    dense.add_argument(
        '--use-pamr',
        dest='pamr_steps',
        action='store_const',
        const=PAMR_STEPS,
        help=f'the same as --pamr-steps {PAMR_STEPS}',
    )
    dense.add_argument(
        '--no-use-pamr',
        dest='pamr_steps',
        action='store_const',
        const=0,
        help='the same as --pamr-steps 0',
    )
    dense.add_argument(
        '--use-sam',
        nargs='?',
        const=SAM,
        metavar='SAM',
        help=f'let masks of SAM have one class each: a file, a folder or a Hub id [{SAM}]',
    )
    dense.add_argument(
        '--sam-points',
        type=at_least(1),
        metavar='N',
        help='clicks a side [%(default)s]',
    )
    dense.add_argument(
        '--sam-batch',
        type=at_least(1),
        metavar='N',
        help='prompts at a time [%(default)s]',
    )
    dense.add_argument(
        '--sam-label',
        type=OneOf('mmseg_siglip.models.postprocessors.mask_labels:LABELS', 'vote'),
        metavar='NAME',
        help="a mask's class [%(default)s]",
    )
    dense.add_argument(
        '--sam-refine',
        action='store_true',
        help="prompt SAM with the dense prediction's own blobs, not with clicks",
    )
    dense.add_argument('--logit-scale', type=float, help='factor on cosines')
    dense.add_argument('--slide-crop', type=int, metavar='PIXELS', help='side of a window')
    dense.add_argument('--slide-stride', type=int, metavar='PIXELS', help='between windows')
    add_slides(dense)
    dense.add_argument(
        '--save-vis',
        nargs='?',
        type=Path,
        const=PICTURES,
        metavar='DIR',
        help='painted predictions [vis in --work-dir]',
    )
    parser.set_defaults(**DENSE, **REFERRING)


def size(text: str) -> tuple[int, int]:
    """``384`` or ``256x384``."""
    match = re.fullmatch(r'([1-9]\d*)(?:x([1-9]\d*))?', text)
    if not match:
        raise argparse.ArgumentTypeError(f'expected a side or HEIGHTxWIDTH, found {text!r}')
    return int(match[1]), int(match[2] or match[1])


def kept(args: argparse.Namespace) -> str:
    return f'rows that are done are in {args.work_dir}; the same command goes on from there'


def run(args: argparse.Namespace) -> None:
    kind, others = ('--referring', DENSE) if args.referring else ('--datasets', REFERRING)
    given = [name for name, default in others.items() if getattr(args, name) != default]
    if given:
        names = ', '.join(f'--{name.replace("_", "-")}' for name in given)
        raise UsageError(f'{names}: expected nothing of the kind beside {kind}')
    if args.datasets and args.encoder is not None and args.checkpoint is not None:
        raise UsageError('--encoder and CHECKPOINT: expected one of them')
    if args.encoders and (args.encoder or args.checkpoint):
        raise UsageError('--encoders: expected neither --encoder nor CHECKPOINT beside it')
    if args.plot is not None and not args.plot.suffix:
        raise UsageError(f'--plot: expected a file such as table.png, found {args.plot}')
    if args.referring and args.checkpoint is None:
        raise UsageError('--referring needs a CHECKPOINT')
    if args.save_vis is PICTURES:
        args.save_vis = args.work_dir / 'vis'
    if args.use_sam and args.pamr_steps:
        raise UsageError('--use-sam and --pamr-steps: expected one of them')
    if args.referring:
        from mmseg_siglip.cli.jobs.benchmark_referring import benchmark
    else:
        from mmseg_siglip.cli.jobs.benchmark import benchmark
    benchmark(args)
