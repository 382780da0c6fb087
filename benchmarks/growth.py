"""How time and memory of SCLIP grow with the words, the picture, the batch and the processes.

    python benchmarks/growth.py

ViT-B/16 with random weights in automatic precision, on drawn scenes; one template, words of the
bundled vocabularies and, beyond those, numbered ones. Along each axis the rest stays at 171 words,
448 x 597 pixels, one picture, one process. The cost of a picture is compared with the work: its
windows times the encoder, its pixels times the words.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from measure import measure, report, write_csv
from mmseg.structures import SegDataSample

from mmseg_siglip.datasets.shapes_world.scene import generate
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.models.windows.grid import Windows

WORDS = (19, 171, 847, 3000)
SIDES = (336, 448, 672, 1024, 2048)
BATCHES = (1, 4, 16)
PROCESSES = (1, 2)
BASE = dict(words=171, side=448, batch=1)


def one(words: int, side: int, batch: int, repeat: int) -> dict:
    """Seconds and peak bytes of one prediction in this process."""
    torch.manual_seed(0)
    model = SCLIPSegmentor(
        dict(type='CLIPBackbone', arch='ViT-B-16-quickgelu'),
        [f'thing {number}' for number in range(words)],
        templates='single',
        precision='auto',
        test_cfg=dict(crop_size=(224, 224), stride=(112, 112)),
    ).eval()
    size = (side, round(side * 4 / 3))
    scene = generate(0, size=size).image
    image = (torch.from_numpy(scene).permute(2, 0, 1) - 120.0) / 70
    text = measure(lambda: model.text)
    windows = Windows.of(size, model.test_cfg)

    def predict() -> None:
        model.predict([image] * batch, [SegDataSample() for _ in range(batch)])

    model.predict([image[:, :224, :224]], [SegDataSample()])
    found = measure(predict, repeat=repeat)
    return dict(
        seconds=found.seconds,
        peak=found.peak,
        text=text.seconds,
        windows=len(windows),
        pixels=size[0] * size[1],
    )


def run(processes: int, threads: int, repeat: int, **options: int) -> list[dict]:
    """`one` in fresh processes side by side."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    command = [sys.executable, __file__, '--one', json.dumps(dict(options, repeat=repeat))]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(processes)
    ]
    found = [child.communicate()[0] for child in children]
    failed = [child.returncode for child in children if child.returncode]
    if failed:
        raise SystemExit(f'{options}: expected exit status 0, found {failed[0]}')
    return [json.loads(output.splitlines()[-1]) for output in found]


def rows(cores: int) -> list[dict]:
    """One row for each point of each axis."""
    table = []
    axes = [('words', WORDS), ('side', SIDES), ('batch', BATCHES), ('processes', PROCESSES)]
    for axis, values in axes:
        for value in values:
            options = dict(BASE) if axis == 'processes' else dict(BASE, **{axis: value})
            processes = value if axis == 'processes' else 1
            threads = cores // max(PROCESSES) if axis == 'processes' else cores
            repeat = 1 if value in (SIDES[-1], BATCHES[-1]) else 3
            found = run(processes, threads, repeat, **options)
            images = processes * options['batch'] / max(part['seconds'] for part in found)
            table.append(
                {
                    'axis': axis,
                    'value': value,
                    'threads': threads,
                    'windows': found[0]['windows'],
                    'images/s': images,
                    'ms a window': 1000 / images / found[0]['windows'],
                    'ns a pixel and word': 1e9 / (images * found[0]['pixels'] * options['words']),
                    'peak MB': sum(part['peak'] for part in found) / 2**20,
                    'words embedded in s': found[0]['text'],
                }
            )
            print(table[-1], flush=True)
    return table


def plot(table: Sequence[dict], path: Path) -> None:
    """Seconds a picture and peak memory over each axis, beside the growth of the work."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    axes = list(dict.fromkeys(line['axis'] for line in table))
    size = (3.2 * len(axes), 5.5)
    figure, panels = pyplot.subplots(2, len(axes), figsize=size, sharey='row', squeeze=False)
    for (top, bottom), axis in zip(panels.T, axes, strict=True):
        part = [line for line in table if line['axis'] == axis]
        values = [line['value'] for line in part]
        seconds = [1 / line['images/s'] for line in part]
        top.loglog(values, seconds, 'o-', label='measured')
        work, label = {
            'words': (values, 'as the words'),
            'side': ([line['windows'] for line in part], 'as the windows'),
            'batch': ([1] * len(part), 'constant'),
            'processes': ([1 / value for value in values], 'as the cores'),
        }[axis]
        expected = [seconds[0] * amount / work[0] for amount in work]
        top.loglog(values, expected, '--', color='grey', label=label)
        bottom.semilogx(values, [line['peak MB'] for line in part], 's-', color='C1')
        top.set_title(axis)
        for panel in (top, bottom):
            panel.set_xticks(values, [str(value) for value in values])
            panel.minorticks_off()
            panel.grid(alpha=0.3)
        top.legend(fontsize=7)
    panels[0][0].set_yticks([0.1, 1, 10, 100], ['0.1', '1', '10', '100'])
    panels[1][0].set_ylim(bottom=0)
    panels[0][0].set_ylabel('seconds a picture')
    panels[1][0].set_ylabel('peak MB above the weights')
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench'))
    parser.add_argument('--one', type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(one(**args.one)))
        return
    table = rows(os.cpu_count() or 1)
    write_csv(table, args.out / 'growth.csv')
    plot(table, args.out / 'growth.png')
    report(table)
    print(f'\nPlot: {args.out / "growth.png"}')


if __name__ == '__main__':
    main()
