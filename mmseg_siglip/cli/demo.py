"""See each system on the data and weights that ship along: a page of pictures with scores.

The scenes are synthetic (ShapesWorld), the models small and trained on them; --readouts measures
more: which attention and which readout of a SigLIP label patches best.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from mmseg_siglip.cli.common import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/demo'), help='folder to fill [%(default)s]'
    )
    parser.add_argument(
        '--images',
        type=at_least(1),
        default=50,
        help='held-out scenes that each score counts [%(default)s]',
    )
    parser.add_argument(
        '--readouts',
        action='store_true',
        help='measure attentions, readouts and new colour-shape pairs instead',
    )


def kept(args: argparse.Namespace) -> str:
    return f'what is done is in {args.out}; the same command begins anew'


def run(args: argparse.Namespace) -> None:
    if args.readouts:
        from mmseg_siglip.cli.jobs.demo.readouts import measure_readouts

        measure_readouts(args.out, args.images)
    else:
        show_systems(args.out, args.images)


def show_systems(out: Path, images: int) -> None:
    """A line on the terminal for each system when it begins, and what it scores when it ends."""
    from mmseg_siglip.api.shipped import build_shipped
    from mmseg_siglip.cli.jobs.demo.exhibits import EXHIBITS, SCENES, cases, draw_scene
    from mmseg_siglip.cli.jobs.demo.gallery import Row, write_gallery

    rows = []
    for number, exhibit in enumerate(EXHIBITS, 1):
        print(f'[{number}/{len(EXHIBITS)}] {exhibit.title} ...', end=' ', flush=True)
        system = build_shipped(exhibit.source)
        found = [case for scene in SCENES for case in cases(exhibit, system, draw_scene(scene))]
        scores = exhibit.measure(images, out / 'runs' / exhibit.source)
        command = shlex.join(['mmseg-siglip', *exhibit.command(images)])
        rows.append(Row(exhibit.title, found, scores, command))
        print(', '.join(f'{name} {value:.4g}' for name, value in scores.items()), flush=True)
    note = (
        f'Held-out scenes of ShapesWorld, a synthetic world; scores on {images} of them, by the '
        'commands beside them. The models are small and know nothing else.'
    )
    print(f'Page: {write_gallery(rows, note, out)}')
