"""Methods, encoders and data sets: one table.

Every row is measured alone, stored when it is done, and not measured again.
"""

from __future__ import annotations

import argparse
import gc
import sys
import traceback
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from tqdm import tqdm

from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.common import config_folder, is_users, one_line
from mmseg_siglip.cli.jobs.benchmark_config import (
    OtherKind,
    check_distinct_configs,
    compose,
    composed_for,
    encoder_label,
    encoders_of,
    find_config,
    prepare,
    set_options,
)
from mmseg_siglip.cli.jobs.benchmark_row import measure
from mmseg_siglip.cli.jobs.benchmark_table import BLANK, NO_COUNTS, Done, compared, plot, table
from mmseg_siglip.cli.jobs.finished_rows import FinishedRows
from mmseg_siglip.cli.jobs.protocol import (
    CONFIGS_ARE_OF,
    TWIN,
    apply_own,
    dataset_name,
    method_data,
    method_fields,
    method_label,
    set_fields,
)
from mmseg_siglip.cli.jobs.published import (
    PUBLISHED_ENCODER,
    is_published_encoder,
    published_rows,
)
from mmseg_siglip.cli.jobs.stopwatch import machine
from mmseg_siglip.io.files import write_atomically, write_csv

__all__ = ['benchmark', 'compose', 'find_config', 'published', 'set_options', 'table']

PLACES = ('data_root', 'data_prefix', 'indices', 'num_scenes')  # of data, and how much of them


def settings(cfg: Config) -> dict[str, Any]:
    """What a score depends on besides the encoder and the number of images."""
    model, evaluators = deepcopy(cfg.model.to_dict()), deepcopy(cfg.test_evaluator)
    model.get('backbone', {}).pop('pretrained', None)
    model.setdefault('postprocessor', None)
    dataset = cfg.test_dataloader.dataset
    for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
        evaluator.pop('output_dir', None)
    return dict(
        model=model,
        dataset={key: value for key, value in dataset.items() if key not in PLACES},
        evaluators=evaluators,
    )


def published(cfg: Config) -> tuple[float, str] | tuple[None, None]:
    """The published mIoU and its source, if `cfg` has the settings that it was published for."""
    ours = Path(cfg.filename).resolve().is_relative_to(config_folder().resolve())
    if not ours or cfg.get('load_from') or 'backbone' not in cfg.model:
        return None, None
    encoder, attention = cfg.model.backbone.pretrained, cfg.model.get('attention', 'csa')
    name = attention if isinstance(attention, str) else attention['type']
    figure = method_data(name, 'PUBLISHED_MIOU', {}).get(dataset_name(cfg))
    if figure is not None:
        original = read_config(cfg.filename)
        set_fields(original, apply_own(original, name))
        wanted = method_data(name, 'PUBLISHED_ENCODER', PUBLISHED_ENCODER)
        if is_published_encoder(encoder, wanted) and settings(cfg) == settings(original):
            return figure, f'published, {method_data(name, "SOURCE", "")}'
    return published_in_configs(cfg)


def published_in_configs(cfg: Config) -> tuple[float, str] | tuple[None, None]:
    """See `published`; of the method that the configs are for."""
    path = Path(cfg.filename)
    if not is_published_encoder(cfg.model.backbone.pretrained):
        return None, None
    if settings(cfg) != settings(read_config(path)):
        return None, None
    for row in published_rows():
        if row.path == path and row.method == CONFIGS_ARE_OF:
            return row.metrics['mIoU'], row.source
    return None, None


def row_settings(cfg: Config, method: str, args: argparse.Namespace) -> dict[str, Any]:
    """All that a stored row depends on."""
    loader = cfg.test_dataloader
    return settings(cfg) | dict(
        row=[dataset_name(cfg), method_label(method), encoder_label(cfg, args), args.protocol],
        weights=[cfg.model.get('backbone', {}).get('pretrained'), cfg.get('load_from')],
        places={key: loader.dataset[key] for key in PLACES if key in loader.dataset},
        batch=loader.batch_size,
        pictures=str(args.save_vis or ''),
    )


def row_of(
    composed: Config | OtherKind, method: str, args: argparse.Namespace, rows: FinishedRows
) -> Done:
    """A row: the stored one, or measured now and stored.

    Raises:
        Exception: It cannot be measured.
    """
    if isinstance(composed, OtherKind):
        raise composed
    cfg = prepare(composed, method, args)
    path = rows.path(row_settings(cfg, method, args))
    stored = rows.load(path)
    if stored is not None:
        tqdm.write(f'{dataset_name(cfg)} {method_label(method)}: taken from {path}', sys.stderr)
        return Done(*stored)
    done = measure(cfg, method, args, published(cfg))
    if is_main_process():
        rows.save(path, *done)
    return done


def failed_row(
    name: str,
    composed: Config | OtherKind,
    method: str,
    args: argparse.Namespace,
    error: Exception,
) -> Done:
    """A row that says why there is none. What is no bad input shows its traceback, too."""
    if not is_users(error):
        traceback.print_exc(file=sys.stderr)
    encoder = args.encoder or args.checkpoint or ''
    row = dict(
        BLANK,
        dataset=find_config(name).stem.removesuffix(TWIN),
        attention=method_label(method),
        encoder=encoder if isinstance(composed, OtherKind) else encoder_label(composed, args),
        protocol=args.protocol or 'config',
        error=one_line(error),
    )
    return Done(row, NO_COUNTS)


def write_tables(done: list[Done], args: argparse.Namespace) -> str:
    """The files that were asked for; returns the table in Markdown."""
    rows = compared(done, args.baseline)
    text = f'{table(rows)}\n\n{machine()}\n'
    if args.out is not None:
        write_csv(rows, args.out)
    if args.markdown is not None:
        write_atomically(text, args.markdown)
    if args.plot is not None:
        plot(rows, args.plot)
    return text


def benchmark(args: argparse.Namespace) -> None:
    """Measure all rows; what is missing is looked for first, so that no long run ends by a typo.

    Raises:
        ValueError: A name or data are not there, or in the end a row has failed.
    """
    for method in args.attention:
        method_fields(method)
    check_distinct_configs(args.datasets)
    encoders = encoders_of(args)
    configs = [(name, own, composed_for(name, own)) for name in args.datasets for own in encoders]
    rows, done = FinishedRows(args.work_dir / 'rows'), []
    for (name, own, composed), method in product(configs, args.attention):
        try:
            done.append(row_of(composed, method, own, rows))
        except Exception as error:
            done.append(failed_row(name, composed, method, own, error))
        gc.collect()
        if is_main_process():
            text = write_tables(done, args)
    if is_main_process():
        print(text)
    failures = [row.row for row in done if row.row['error']]
    if failures:
        first = failures[0]
        what = ' '.join(filter(None, (first[key] for key in ('dataset', 'attention', 'encoder'))))
        raise ValueError(f'{len(failures)} of {len(done)} rows failed; {what}: {first["error"]}')
