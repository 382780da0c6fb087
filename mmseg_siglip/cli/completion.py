"""Print tab completion of this command for your shell, to be kept as a file.

bash reads ~/.local/share/bash-completion/completions/mmseg-siglip, zsh a file _mmseg-siglip in a
folder of its fpath, fish ~/.config/fish/completions/mmseg-siglip.fish. No Python runs at a Tab.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from mmseg_siglip.lazy import resolve

SHELLS = ('bash', 'zsh', 'fish')
PROGRAM = 'mmseg-siglip'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('shell', nargs='?', choices=SHELLS, default='bash', help='[%(default)s]')


def kept(args: argparse.Namespace) -> str:
    return 'nothing is kept; the same command begins anew'


def run(args: argparse.Namespace) -> None:
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise ValueError(
            "completion needs shtab: pip install 'mmseg_siglip[completion]' brings it along"
        ) from error
    print(shtab.complete(whole_parser(shtab.FILE), args.shell))


def whole_parser(file: Mapping[str, str]) -> argparse.ArgumentParser:
    """One parser of every command, whose values are files where they are none of a list.

    Args:
        file: What shtab takes as a file of each shell.
    """

    def completing(add: Callable[..., argparse.Action]) -> Callable[..., argparse.Action]:
        def add_argument(*names: str, **options: Any) -> argparse.Action:
            action = add(*names, **options)
            if action.choices is None and action.nargs != 0:
                action.complete = file
            return action

        return add_argument

    class Parser(argparse.ArgumentParser):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.add_argument = completing(self.add_argument)

        def add_argument_group(self, *args: Any, **options: Any) -> Any:
            group = super().add_argument_group(*args, **options)
            group.add_argument = completing(group.add_argument)
            return group

    whole = Parser(prog=PROGRAM)
    whole.add_argument('--version', action='version', version='')
    kinds = whole.add_subparsers(metavar='COMMAND')
    for name, what in resolve('mmseg_siglip.cli.main:COMMANDS').items():
        parser = kinds.add_parser(name, help=what)
        resolve(f'mmseg_siglip.cli.{name.replace("-", "_")}:add_arguments')(parser)
    return whole
