"""Rows of the benchmark as a table, and as a picture of accuracy against cost.

Counts are (N, 2, C): intersection and union of each image and class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmseg_siglip.cli.jobs.protocol import NONE_PUBLISHED
from mmseg_siglip.evaluation.bootstrap import confidence_interval, resampled_miou
from mmseg_siglip.io.files import whole_file

NO_COUNTS = np.empty((0, 2, 0))

FIELDS = (
    'dataset attention encoder images mIoU low high published_mIoU published_source mBIoU aAcc '
    'images_per_second seconds_per_image memory flops supervised protocol baseline difference '
    'difference_low difference_high weights sam sam_points pamr_steps logit_scale prob_thd '
    'area_thd short_side slide_crop slide_stride error'
).split()
BLANK: Mapping[str, Any] = dict.fromkeys(FIELDS)
"""The columns of a file; see `COLUMNS` and the settings of `SCLIPSegmentor`."""

COLUMNS = {
    'dataset': 'dataset',
    'attention': 'attention',
    'encoder': 'encoder',
    'images': 'images',
    'mIoU': 'mIoU',
    'interval': '95 %',
    'published_mIoU': 'mIoU, published',
    'images_per_second': 'images/s',
    'difference': 'difference',
    'mBIoU': 'boundary IoU',
    'aAcc': 'pixel accuracy',
    'seconds_per_image': 's/image',
    'memory': 'MB',
    'flops': 'FLOPs',
    'supervised': 'supervised',
    'error': 'failed',
}
WORDS = ('dataset', 'attention', 'encoder')
ALWAYS = (*WORDS, 'images', 'mIoU', 'published_mIoU', 'images_per_second')
NOTES = {
    'interval': '95 %: bootstrap over images, 1000 resamples.',
    'difference': 'Difference: in mIoU to {baseline}, on the same resamples, with its 95 %.',
    'mBIoU': 'Boundary IoU: within 2 % of the diagonal.',
    'memory': 'MB: most memory at one image at a time, above the weights.',
    'flops': 'FLOPs: times those of the encoder alone on the windows of the settings.',
    'supervised': 'Supervised: a second model learned from labels of segments.',
}


class Done(NamedTuple):
    """A row, and the counts that its mIoU is of."""

    row: dict[str, Any]
    counts: np.ndarray


def compared(done: Sequence[Done], baseline: str | None) -> list[dict[str, Any]]:
    """Rows with their difference in mIoU to a named one.

    Args:
        done: The rows.
        baseline: A method, which each is compared with on its own encoder and data set, or
            ``METHOD@ENCODER``. A row stays without where that one is not there or had other images.
    """
    rows = [dict(each.row) for each in done]
    if baseline is None:
        return rows
    method, _, encoder = baseline.partition('@')
    for row, each in zip(rows, done, strict=True):
        wanted = (row['dataset'], method, encoder or row['encoder'])
        other = next((d for d in done if tuple(d.row[key] for key in WORDS) == wanted), None)
        if other is None or not len(each.counts) or len(each.counts) != len(other.counts):
            continue
        low, high = confidence_interval(resampled_miou(each.counts) - resampled_miou(other.counts))
        row.update(
            baseline=baseline,
            difference=round(row['mIoU'] - other.row['mIoU'], 2),
            difference_low=low,
            difference_high=high,
        )
    return rows


def short_name(encoder: str) -> str:
    return Path(encoder).name if Path(encoder).exists() else encoder


def cells(row: Mapping[str, Any]) -> dict[str, str]:
    """What the columns of a row say; a dash where there is nothing."""
    row = dict(row, encoder=short_name(row['encoder']))
    forms = dict.fromkeys(('mIoU', 'mBIoU', 'aAcc', 'flops'), '.2f')
    for key, form in dict(forms, seconds_per_image='.3g').items():
        if row.get(key) is not None:
            row[key] = format(row[key], form)
    if row.get('low') is not None:
        row['interval'] = f'{row["low"]:.2f} to {row["high"]:.2f}'
    if row.get('difference') is not None:
        spread = f'{row["difference_low"]:+.2f} to {row["difference_high"]:+.2f}'
        row['difference'] = f'{row["difference"]:+.2f} ({spread})'
    if row.get('error'):
        row['error'] = row['error'].replace('|', '\\|')
    found = {key: row.get(key) for key in COLUMNS}
    return {key: '—' if value in (None, '') else str(value) for key, value in found.items()}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, with a column for all that some row has."""
    lines = [cells(row) for row in rows]
    keys = [key for key in COLUMNS if key in ALWAYS or any(line[key] != '—' for line in lines)]
    rule = ''.join('---|' if key in (*WORDS, 'error') else '--:|' for key in keys)
    text = [f'| {" | ".join(COLUMNS[key] for key in keys)} |', f'|{rule}']
    text += [f'| {" | ".join(line[key] for key in keys)} |' for line in lines]
    notes = [
        note.format(baseline=next((r['baseline'] for r in rows if r.get('baseline')), ''))
        for key, note in NOTES.items()
        if key in keys
    ]
    unpublished = [row['attention'] for row in rows if row.get('protocol') == NONE_PUBLISHED]
    if unpublished:
        names = ', '.join(dict.fromkeys(unpublished))
        notes.append(f"Not published, and by the configs' settings: {names}.")
    sources = dict.fromkeys(row['published_source'] for row in rows if row['published_source'])
    notes += [f'Published figures are of whole data sets ({source}).' for source in sources]
    return '\n'.join(text + [f'\n{note}' for note in notes])


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """mIoU with its interval against seconds for an image: a panel for each data set, a colour for
    each encoder; hollow points have a supervised second model."""
    from matplotlib.figure import Figure

    measured = [row for row in rows if row['mIoU'] is not None]
    datasets = list(dict.fromkeys(row['dataset'] for row in measured)) or ['']
    encoders = list(dict.fromkeys(short_name(row['encoder']) for row in measured))
    figure = Figure(figsize=(1 + 5 * len(datasets), 5), layout='constrained')
    panels = figure.subplots(1, len(datasets), squeeze=False)[0]
    for name, panel in zip(datasets, panels, strict=True):
        panel.set(title=name, xscale='log', xlabel='seconds for an image', ylabel='mIoU, %')
        panel.grid(alpha=0.3)
        panel.margins(x=0.2)
        for axis in (panel.xaxis.set_major_formatter, panel.xaxis.set_minor_formatter):
            axis('{x:g}')
        for row in measured:
            if row['dataset'] != name:
                continue
            x, y = row['seconds_per_image'], row['mIoU']
            colour = f'C{encoders.index(short_name(row["encoder"])) % 10}'
            if row['low'] is not None:
                reach = [[max(y - row['low'], 0)], [max(row['high'] - y, 0)]]
                panel.errorbar(x, y, reach, color=colour, alpha=0.4, capsize=2)
            face = 'none' if row['supervised'] == 'yes' else colour
            panel.plot(x, y, 'o', color=colour, markerfacecolor=face)
            place = dict(textcoords='offset points', xytext=(6, 3), fontsize=8)
            panel.annotate(row['attention'], (x, y), **place)
    for number, encoder in enumerate(encoders):
        panels[0].plot([], [], 'o', color=f'C{number % 10}', label=encoder)
    if encoders:
        panels[0].legend(fontsize=8)
    with whole_file(path) as draft:
        figure.savefig(draft, format=path.suffix.lstrip('.') or 'png', dpi=120)
