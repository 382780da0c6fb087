"""A published figure, measured again."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

import mmseg_siglip
from mmseg_siglip.cli.jobs.benchmark import settings
from mmseg_siglip.cli.jobs.config import build_runner
from mmseg_siglip.cli.jobs.data_check import check_split
from mmseg_siglip.cli.jobs.label import weights_digest
from mmseg_siglip.cli.jobs.published import PublishedRow, is_published_encoder, published_rows
from mmseg_siglip.cli.jobs.stopwatch import Stopwatch, machine
from mmseg_siglip.cli.jobs.test import place_checkpoint
from mmseg_siglip.datasets.benchmarks import BENCHMARKS
from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.io.manifest import digest_of

LIBRARIES = ('torch', 'transformers', 'open_clip_torch', 'mmengine', 'mmsegmentation')


def table_of_rows(rows: Sequence[PublishedRow]) -> str:
    """Markdown: what can be reproduced."""
    lines = ['| name | method | encoder | published | source |', '|---|---|---|---|---|']
    for row in rows:
        figures = ', '.join(f'{name} {value:g}' for name, value in row.metrics.items())
        encoder = row.encoder or (':'.join(row.weights) if row.weights else "the config's")
        lines.append(f'| {row.name} | {row.method} | {encoder} | {figures} | {row.source} |')
    return '\n'.join(lines)


def find_row(
    rows: Sequence[PublishedRow], name: str, method: str | None, encoder: str | None
) -> PublishedRow:
    """The one row that is asked for; of a training-free one `csa` is the default method.

    Raises:
        ValueError: There is none, or several.
    """
    wanted = name.replace('-', '_')
    named = [row for row in rows if row.name == wanted]
    if not named:
        known = ', '.join(dict.fromkeys(row.name for row in rows))
        raise ValueError(f'no figure is published for {name!r}; expected one of {known}')
    free = any(row.weights or row.method for row in named)
    found = [row for row in named if row.method == (method or 'csa')] if free else named
    if not free and method is not None:
        raise ValueError(f'{name} is trained: --method is for training-free segmentation')
    if not found:
        known = ', '.join(row.method for row in named)
        raise ValueError(f'no figure of {method} is published for {name}; expected one of {known}')
    if encoder is not None:
        known = ', '.join(str(row.encoder) for row in found)
        found = [row for row in found if row.encoder == encoder]
        if not found:
            raise ValueError(f'--encoder {encoder}: {name} is published for {known}')
    elif len(found) > 1:
        known = ', '.join(str(row.encoder) for row in found)
        raise ValueError(f'{name} is published for several encoders; give --encoder, of {known}')
    return found[0]


def configure(row: PublishedRow, args: argparse.Namespace) -> Config:
    """The published settings, on the data and the weights at hand.

    Raises:
        ValueError: A trained model without a checkpoint, or no such file.
    """
    cfg = row.config()
    place_checkpoint(cfg, args.weights)
    if args.root is not None:
        cfg.test_dataloader.dataset.data_root = str(args.root)
    cfg.launcher = args.launcher
    cfg.work_dir = str(args.work_dir / row.name.replace('/', '_') / (row.method or 'trained'))
    return cfg


def weights_of(row: PublishedRow, cfg: Config) -> dict[str, Any]:
    """Where the weights come from, the SHA-256 of a file, and whether they are the published ones,
    None where no digest of those is known."""
    source = cfg.get('load_from') or cfg.model.backbone.pretrained
    path = Path(source).expanduser()
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    known = is_published_encoder(source, row.weights) if row.weights else None
    return dict(source=source, sha256=digest, published=known)


def verdict(
    row: PublishedRow, measured: Mapping[str, float], args: argparse.Namespace, *, why_not: str
) -> str:
    """``reproduced``, ``differs``, or ``not comparable`` and why."""
    if why_not:
        return f'not comparable: {why_not}'
    far = [n for n, v in row.metrics.items() if not abs(measured[n] - v) <= args.tolerance]
    return 'differs' if far else 'reproduced'


def line_of(record: Mapping[str, Any]) -> str:
    """The record in one line."""
    figures = '; '.join(
        f'{name} {record["measured"][name]:.2f}, published {value:g}, '
        f'difference {record["measured"][name] - value:+.2f}'
        for name, value in record['published'].items()
    )
    what = ' '.join(filter(None, (record['name'], record['method'], record['encoder'])))
    versions = ', '.join(f'{name} {number}' for name, number in record['versions'].items())
    return (
        f'{what}: {figures}, tolerance {record["tolerance"]:g}: {record["verdict"]} '
        f'({record["samples"]} samples; settings {record["settings_digest"][:12]}; {versions}; '
        f'{record["machine"]})'
    )


def reproduce(args: argparse.Namespace) -> None:
    """Check the data and the weights, evaluate, compare.

    Raises:
        ValueError: Something is not as it has to be, or the figure is not reproduced.
    """
    rows = published_rows()
    if args.list:
        print(table_of_rows(rows))
        return
    row = find_row(rows, args.name, args.method, args.encoder)
    cfg = configure(row, args)
    benchmark = BENCHMARKS[row.data]
    samples = check_split(cfg, benchmark, incomplete=args.incomplete)
    used, weights = settings(cfg), weights_of(row, cfg)
    reasons = []
    if samples != benchmark.samples:
        reasons.append(f'{samples} of {benchmark.samples} samples')
    if weights['published'] is False:
        reasons.append(f'{weights["source"]} is not {":".join(row.weights)}')
    runner = build_runner(cfg)
    runner.register_hook(Stopwatch(row.name))
    scores = runner.test()
    if not is_main_process():
        return
    missing = sorted(row.metrics.keys() - scores.keys())
    if missing:
        raise ValueError(f'{row.path}: its evaluator gives no {", ".join(missing)}')
    measured = {name: round(float(scores[name]), 2) for name in row.metrics}
    record = dict(
        name=row.name,
        method=row.method,
        encoder=row.encoder or '',
        measured=measured,
        published=row.metrics,
        published_source=row.source,
        tolerance=args.tolerance,
        verdict=verdict(row, measured, args, why_not=', '.join(reasons)),
        samples=samples,
        samples_expected=benchmark.samples,
        weights=weights | dict(tensors=weights_digest(runner.model)),
        settings=used,
        settings_digest=digest_of(used),
        versions={name: version(name) for name in LIBRARIES}
        | dict(mmseg_siglip=mmseg_siglip.__version__, python=platform.python_version()),
        machine=machine(),
        date=date.today().isoformat(),
        model_index=dict(
            Config=str(row.path.relative_to(row.path.parents[2])),
            Results=[dict(Metrics=measured, Source='measured by `mmseg-siglip reproduce`')],
        ),
    )
    out = args.out or Path(cfg.work_dir, 'reproduced.json')
    write_atomically(json.dumps(record, indent=2) + '\n', out)
    print(f'{line_of(record)}\nwritten to {out}')
    if record['verdict'] != 'reproduced':
        raise ValueError(f'{row.name}: {record["verdict"]}')
