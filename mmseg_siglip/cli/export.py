"""Make another form of what `mmseg-siglip label` has labelled."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('labelled', help='folder or address that label has filled')
    parser.add_argument(
        '--format',
        metavar='NAME',
        help='png, of words and phrases also coco, coco-polygons or yolo; jsonl of questions [the '
        'first that suits]',
    )
    parser.add_argument('--out', type=Path, help='folder to fill [the labelled one]')


def kept(args: argparse.Namespace) -> str:
    return 'what is labelled is untouched; the same command begins anew'


def run(args: argparse.Namespace) -> None:
    from mmseg_siglip.cli.jobs.shards import export_tables
    from mmseg_siglip.labelling.addresses import is_url
    from mmseg_siglip.labelling.exports import EXPORTS, check_export
    from mmseg_siglip.labelling.objects import ShardStore

    if args.out is None and is_url(args.labelled):
        raise ValueError(f'{args.labelled}: expected --out, a folder to fill')
    store, folder = ShardStore(args.labelled), args.out or Path(args.labelled)
    task = store.settings().get('task')
    if task not in EXPORTS:
        raise ValueError(f'{args.labelled}: expected a folder that label has filled')
    export_tables(store, task, check_export(task, args.format), folder)
    print(f'{args.labelled} exported to {folder}')
