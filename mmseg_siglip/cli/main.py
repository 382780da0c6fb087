"""``mmseg-siglip COMMAND ...``, and ``python -m mmseg_siglip`` likewise."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import mmseg_siglip
from mmseg_siglip.cli.common import UsageError, leave, run
from mmseg_siglip.ending import end_now, end_with

TORCHRUN = 'TORCHELASTIC_RUN_ID'  # a variable of the processes that torchrun starts
LAUNCHER = 'MMSEG_SIGLIP_LAUNCHER'  # of those that `tools/dist_predict.sh` starts: its process id
COMMANDS = {
    'segment': 'label each pixel of photographs with one of your words',
    'refer': 'find what phrases mean in photographs',
    'depth': 'predict the depth of photographs',
    'ask': 'ask a LLaVA model about photographs',
    'demo': 'a page of what each system does with what ships along',
    'serve': 'a page and an HTTP API over models of your choice',
    'label': 'any system over any number of images, on many machines, going on after a kill',
    'export': 'make another form of what label has labelled',
    'train': 'train the model of a config',
    'test': 'evaluate a model on the test set of a config',
    'benchmark': 'evaluate on several data sets, one table',
    'reproduce': 'measure a published figure again, and compare',
    'rank-templates': 'choose prompt templates for each class by images without labels',
    'trace': 'follow one image through a model, stage by stage',
    'convert': 'bring checkpoints into another layout, trained models into folders',
    'export-onnx': 'write a model as an ONNX graph, checked against torch',
    'patch-stats': 'sum up depth under each patch of a vision-language model',
    'completion': 'print tab completion for bash, zsh or fish',
}


def list_commands() -> str:
    lines = [f'  {name:<14} {what}' for name, what in COMMANDS.items()]
    return '\n'.join(
        [
            'usage: mmseg-siglip COMMAND ...',
            '',
            *lines,
            '',
            '`mmseg-siglip COMMAND --help` says more. Without a command it is segment.',
        ]
    )


def parser_of(command: str) -> tuple[argparse.ArgumentParser, ModuleType]:
    """The parser of a command, and its module."""
    module = import_module(f'mmseg_siglip.cli.{command.replace("-", "_")}')
    parser = argparse.ArgumentParser(prog=f'mmseg-siglip {command}', description=module.__doc__)
    module.add_arguments(parser)
    return parser, module


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: What comes after the name of the program; without it, the process's own, which ends
            with it.

    Returns:
        0; 1 where input could not be used. Arguments that make no sense raise ``SystemExit(2)``.
    """
    if argv is None:
        warnings.filterwarnings('ignore', r'`torch\.jit\.', FutureWarning)  # of other libraries
        try:
            status = main(sys.argv[1:])
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read it has gone
            end_now(1)
        leave(status)
    if not argv or argv[0] in ('-h', '--help'):
        print(list_commands(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    if argv[0] == '--version':
        print(mmseg_siglip.__version__)
        return 0
    command, rest = (argv[0], argv[1:]) if argv[0] in COMMANDS else ('segment', argv)
    parser, module = parser_of(command)
    args = parser.parse_args(rest)
    if LAUNCHER in os.environ:
        end_with(int(os.environ[LAUNCHER]))
    elif TORCHRUN in os.environ:
        end_with(os.getppid())
    try:
        return run(module.run, args, module.kept)
    except UsageError as error:
        parser.error(str(error))
