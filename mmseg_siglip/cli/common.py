"""What the commands share: arguments, one-line errors. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from mmseg_siglip.cli.overrides import Overrides
from mmseg_siglip.configs import config_folder as config_folder
from mmseg_siglip.ending import TRACEBACK_VARIABLE, Ending, end_children, end_now
from mmseg_siglip.lazy import resolve
from mmseg_siglip.misspelt import UNFIT, did_you_mean, explain_settings

PAMR_STEPS = 10  # SCLIP's
PICTURES = object()  # --save-vis without a folder: vis in the work folder

T = TypeVar('T')

WORKER = re.compile(r'DataLoader worker .*(killed by signal|exited unexpectedly)')


class UsageError(Exception):
    """Arguments that contradict each other: exit status 2."""


class OneOf:
    """An argument's type: one of names that a module knows, which is imported to check it.

    Args:
        place: ``module:name`` of a container of strings.
        default: A name that needs no check.
    """

    def __init__(self, place: str, default: str | None = None) -> None:
        self.place, self.default = place, default

    def __call__(self, text: str) -> str:
        if text == self.default:
            return text
        names = resolve(self.place)
        if text not in names:
            raise argparse.ArgumentTypeError(
                f'expected one of {", ".join(names)}, found {text!r}{did_you_mean(text, names)}'
            )
        return text


def at_least(least: int) -> Callable[[str], int]:
    """An argument's type: an integer of at least that."""

    def check(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f'expected a number of at least {least}, found {text}')
        return number

    return check


def positive(text: str) -> float:
    """An argument's type: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'expected a positive number, found {text}')
    return number


def below_one(text: str) -> float:
    """An argument's type: a number from 0 to below 1."""
    number = probability(text)
    if number == 1:
        raise argparse.ArgumentTypeError(f'expected a number from 0 to below 1, found {text}')
    return number


def probability(text: str) -> float:
    """An argument's type: a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f'expected a number from 0 to 1, found {text}')
    return number


def image_argument(text: str) -> str | Path:
    """An argument's type: the path of images, or an address as it is."""
    from mmseg_siglip.io.web_image import is_address

    return text if is_address(text) else Path(text)


def add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'images',
        nargs='+',
        type=image_argument,
        help='images of at most 100 million pixels and 1 GiB, folders (searched through, links '
        'followed), patterns in quotes such as "photos/**/*.jpg", or https:// addresses of images '
        'of at most 100 MB',
    )
    parser.add_argument(
        '--frame',
        type=at_least(0),
        metavar='N',
        help='of animations and files of several pages, which picture, counted from 0; without it '
        'they are refused',
    )


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument('--out', type=Path, default=Path(default), help='folder [%(default)s]')


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--precision',
        type=OneOf('mmseg_siglip.precision:PRECISIONS', 'auto'),
        default='auto',
        metavar='NAME',
        help='fp32, bf16, fp16, or auto, which takes what the device is fast at [%(default)s]',
    )
    parser.add_argument('--device', help='such as cuda:0 or cpu [a GPU, if there is one]')


def add_depth_scale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--depth-scale',
        type=positive,
        default=1000.0,
        metavar='UNITS',
        help='units of a depth map per metre [1000]',
    )


def add_trained(parser: argparse.ArgumentParser, *, of: str, required: bool = True) -> None:
    """A trained model."""
    parser.add_argument('--config', required=required, help=f'config {of}')
    parser.add_argument('--checkpoint', help="its weights [the config's load_from]")


def add_published_depth(parser: argparse.ArgumentParser, flag: str = '--model') -> None:
    """A published model of depth."""
    parser.add_argument(
        flag,
        metavar='FILE',
        help='Depth Anything, DPT or another: a folder or Hub id of transformers, or its own file',
    )


def add_encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--encoder',
        metavar='NAME',
        help="another encoder than the config's: a name of configs/_base_/encoders, or such a file",
    )


def add_slides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--slide-inference',
        action='store_true',
        help='predict by windows: test_cfg.mode=slide, which training-free configs have anyway',
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Overrides,
        metavar='KEY=VALUE',
        help='override settings of the config, such as model.attention=naclip, '
        'a.b=[1,2] or "a.pipeline.1=dict(type=Resize,scale=(8,8))"',
    )


def add_ranks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--launcher',
        type=OneOf('mmseg_siglip.engine.processes:LAUNCHERS', 'none'),
        default='none',
        metavar='NAME',
        help='who started the processes of a distributed run: pytorch, slurm or mpi',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def add_launcher(parser: argparse.ArgumentParser) -> None:
    add_ranks(parser)
    parser.add_argument(
        '--patience',
        type=positive,
        default=600,
        metavar='SECONDS',
        help='how long to wait for a process of the run that gives no sign of life [%(default)s]',
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """The arguments of `load_config`, named as in MMSegmentation."""
    parser.add_argument('config', metavar='CONFIG', help='a .py config')
    parser.add_argument('--work-dir', help='folder of logs and results [work_dirs/<config name>]')
    add_encoder(parser)
    add_overrides(parser)
    add_launcher(parser)


def refuse_inside(out: Path, images: Sequence[str | Path]) -> None:
    """Refuse an output folder in which the next run would look for images."""
    for image in map(Path, images):
        if image.resolve() in (out.resolve(), *out.resolve().parents):
            raise ValueError(f'--out {out} lies in the images {image}: choose a folder elsewhere')


def one_line(error: BaseException) -> str:
    """The message of an error, without line breaks or a worker process's traceback."""
    if isinstance(error, Exception) and (unfit := explain_settings(error)):
        return unfit
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if 'Original Traceback' in text:
        text = text.strip().splitlines()[-1].partition(': ')[2]
    return ' '.join(text.split()) or type(error).__name__


def is_users(error: Exception) -> bool:
    """Bad input, as against a bug; a ``TypeError`` where a config's arguments fit no class."""
    if isinstance(error, TypeError):
        return UNFIT.search(str(error)) is not None
    return isinstance(error, (ValueError, OSError, KeyError, ImportError))


def explained(error: Exception) -> str | None:
    """What it means that another process of this run has ended; None of any other error."""
    peers = sys.modules.get('mmseg_siglip.engine.peers')
    if isinstance(error, RuntimeError) and WORKER.search(str(error)):
        return (
            f'a process that reads data has ended: {one_line(error)} If memory ran out, take fewer '
            'of them (num_workers)'
        )
    return peers and peers.explain(error)


def finish() -> None:
    """Wait for files that are being written; tell the other processes of a run that this one ends
    by itself."""
    writers = sys.modules.get('mmseg_siglip.io.writers')
    if writers:
        writers.wait_for_all()
    peers = sys.modules.get('mmseg_siglip.engine.peers')
    if peers and peers.Peers.current:
        peers.Peers.current.finish()


def run(command: Callable[[T], None], argument: T, kept: Callable[[T], str]) -> int:
    """Run a command; the user's mistakes become one line on stderr and exit status 1.

    Ctrl-C and SIGTERM become one, too, with what `kept` says of the argument, and status 130 and
    143. With ``MMSEG_SIGLIP_TRACEBACK=1`` every error keeps its traceback.
    """
    with Ending(lambda: kept(argument)) as ending:
        try:
            command(argument)
        except BaseException as error:
            if ending.number is not None or isinstance(error, KeyboardInterrupt):
                end_children()
                return ending.tell()
            if os.environ.get(TRACEBACK_VARIABLE) == '1' or not isinstance(error, Exception):
                raise
            line = one_line(error) if is_users(error) else explained(error)
            if line is None:
                raise
            rank = os.environ.get('RANK')
            print(f'error: {f"(rank {rank}) " if rank else ""}{line}', file=sys.stderr)
            return 1
        finally:
            finish()
    distributed = sys.modules.get('torch.distributed')
    if distributed and distributed.is_initialized():  # else gloo's threads abort the process
        distributed.destroy_process_group()
    return 0


def leave(status: int) -> NoReturn:
    """End the process; one of several, or one that was stopped, without the interpreter's steps.

    In these gloo's threads, which outlive the process group, now and then abort a process that has
    done its work ("terminate called without an active exception").
    """
    if 'RANK' in os.environ or status > 128:
        end_now(status)
    sys.exit(status)
