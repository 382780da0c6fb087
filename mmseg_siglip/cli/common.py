"""What the command lines share: arguments, the config, one-line errors."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS

from mmseg_siglip.api.segment import METHODS, OpenVocabSegmenter
from mmseg_siglip.cli.encoders import add_encoder_argument, apply_encoder
from mmseg_siglip.engine import Runner
from mmseg_siglip.engine.processes import LAUNCHERS
from mmseg_siglip.precision import PRECISIONS
from mmseg_siglip.text.templates import TEMPLATES

TRACEBACK_VARIABLE = 'MMSEG_SIGLIP_TRACEBACK'
TRAINING_FREE = dict(encoder='ViT-B/16', method='sclip', templates='imagenet80')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that training and testing have in common, named as in MMSegmentation."""
    parser.add_argument('config', metavar='CONFIG', help='a .py config')
    parser.add_argument('--work-dir', help='folder of logs and results [work_dirs/<config name>]')
    add_encoder_argument(parser)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, such as model.attention=naclip',
    )
    add_launcher(parser)


def add_launcher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--launcher',
        choices=LAUNCHERS,
        default='none',
        help='who started the processes of a distributed run',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def add_segmenter_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `build_segmenter` takes."""
    parser.add_argument(
        '--encoder',
        help='weights: an OpenAI or open_clip name, a folder, a file, a Hub id; '
        'tiny_siglip_shapes ships along and knows coloured shapes only '
        f'[{TRAINING_FREE["encoder"]}]',
    )
    parser.add_argument('--method', choices=METHODS, help=f'[{TRAINING_FREE["method"]}]')
    parser.add_argument('--templates', choices=TEMPLATES, help=f'[{TRAINING_FREE["templates"]}]')
    parser.add_argument('--config', help='of a trained CAT-Seg, instead of the three above')
    parser.add_argument('--checkpoint', help='its weights')
    parser.add_argument('--precision', choices=PRECISIONS, default='auto')
    parser.add_argument('--device', help='such as cuda:0 or cpu')


def build_segmenter(args: argparse.Namespace, device: str | None) -> OpenVocabSegmenter:
    """What the arguments above ask for; defaults are filled in.

    Raises:
        ValueError: They contradict each other, or there are no such weights.
    """
    if args.config is not None:
        given = [f'--{name}' for name in TRAINING_FREE if getattr(args, name) is not None]
        if given:
            raise ValueError(f'{", ".join(given)}: expected nothing of the kind beside --config')
        return OpenVocabSegmenter.from_config(
            args.config, args.checkpoint, device=device, precision=args.precision
        )
    if args.checkpoint is not None:
        raise ValueError('--checkpoint: expected --config, whose weights these are')
    for name, default in TRAINING_FREE.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    return OpenVocabSegmenter.from_pretrained(
        args.encoder,
        args.method,
        device=device,
        precision=args.precision,
        templates=args.templates,
    )


def load_config(args: argparse.Namespace) -> Config:
    """The config with the arguments above merged into it.

    Raises:
        ValueError: the file is missing, is not Python, cannot be parsed, or an override does not
            fit it; or there is no such encoder.
    """
    path = Path(args.config)
    if not path.is_file():
        raise ValueError(f'config not found: there is no file {path}.')
    if path.suffix != '.py':
        raise ValueError(f'{path} is a {path.suffix or "nameless"} config, expected a .py file.')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    try:
        cfg = Config.fromfile(path)
    except Exception as error:
        raise ValueError(f'{path} cannot be read: {one_line(error)}') from error
    if args.encoder is not None:
        apply_encoder(cfg, args.encoder)
    try:
        cfg.merge_from_dict(args.cfg_options or {})
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(f'--cfg-options do not fit {path}: {one_line(error)}') from error
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    cfg.setdefault('work_dir', str(Path('work_dirs', path.stem)))
    return cfg


def require(cfg: Config, *fields: str) -> None:
    """Refuse a config that lacks a field."""
    for field in fields:
        if cfg.get(field) is None:
            raise ValueError(f'{cfg.filename} has no {field}.')


def require_data(dataset: Mapping) -> None:
    """Refuse a dataset whose local files are not there, before any model is built.

    Args:
        dataset: Its configuration. Without ``data_root``, or with a remote one, nothing is checked.
    """
    root = dataset.get('data_root')
    if not root or '://' in root:
        return
    for path in (Path(root), Path(root, dataset.get('ann_file') or '')):
        if not path.exists():
            raise ValueError(
                f'{path} is not there; prepare the data of {dataset["type"]}, or set data_root '
                'of the dataset'
            )


def refuse_inside(out: Path, images: Sequence[str | Path]) -> None:
    """Refuse an output folder in which the next run would look for images."""
    for image in map(Path, images):
        if image.resolve() in (out.resolve(), *out.resolve().parents):
            raise ValueError(f'--out {out} lies in the images {image}: choose a folder elsewhere')


def build_runner(cfg: Config) -> Runner:
    """Our Runner, or the one that the config names as ``runner_type``."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def one_line(error: BaseException) -> str:
    """The message of an error, without line breaks or a worker process's traceback."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if 'Original Traceback' in text:
        text = text.strip().splitlines()[-1].partition(': ')[2]
    return ' '.join(text.split()) or type(error).__name__


def _is_users(error: Exception) -> bool:
    """Bad input, as against a bug; a ``TypeError`` where a config's arguments fit no class."""
    if isinstance(error, TypeError):
        return re.search(r'__init__\(\) (got an unexpected|missing)', str(error)) is not None
    return isinstance(error, (ValueError, OSError, KeyError, ImportError))


def run(command: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None) -> int:
    """Run a command; the user's mistakes become one line on stderr and exit status 1.

    With ``MMSEG_SIGLIP_TRACEBACK=1`` every error keeps its traceback.
    """
    try:
        command(argv)
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE) == '1' or not _is_users(error):
            raise
        rank = os.environ.get('RANK')
        print(f'error: {f"(rank {rank}) " if rank else ""}{one_line(error)}', file=sys.stderr)
        return 1
    if torch.distributed.is_initialized():  # gloo's threads abort a process that ends without this
        torch.distributed.destroy_process_group()
    return 0


def leave(status: int) -> NoReturn:
    """End the process; one of several without the interpreter's last steps.

    In these gloo's threads, which outlive the process group, now and then abort a process that has
    done its work ("terminate called without an active exception").
    """
    if 'RANK' in os.environ:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
