"""Serve a page, an HTTP API and Label Studio's protocol for models of your choice.

Visitors choose among the models named here and name none themselves. Without any, the small systems
that ship along answer: they know coloured shapes only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg_siglip.api.system import SYSTEMS
from mmseg_siglip.cli.common import OneOf, add_device, at_least
from mmseg_siglip.cli.segment import TRAINING_FREE

METHOD = TRAINING_FREE['method']


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for task in SYSTEMS:
        parser.add_argument(
            f'--{task}',
            nargs='+',
            action='extend',
            default=[],
            metavar='NAME=SOURCE',
            help=f'models of {task}: what its from_pretrained takes, or CONFIG.py,CHECKPOINT; '
            'visitors see the name',
        )
    parser.add_argument(
        '--method',
        type=OneOf('mmseg_siglip.api.segment:METHODS', METHOD),
        metavar='NAME',
        help='how encoders of --segment attend until a visitor chooses another '
        f'[{METHOD}; of the one that ships along its best]',
    )
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to listen at [%(default)s, this machine alone]'
    )
    parser.add_argument('--port', type=at_least(1), default=7860, help='[%(default)s]')
    parser.add_argument(
        '--label-studio-images',
        type=Path,
        metavar='FOLDER',
        help="where Label Studio's tasks find their images [none: only those that they hold]",
    )
    add_device(parser)


def kept(args: argparse.Namespace) -> str:
    return 'uploads and results are gone; the same command begins anew'


def run(args: argparse.Namespace) -> None:
    from mmseg_siglip.web.arenas import limit_arenas
    from mmseg_siglip.web.temporary import temporary_files

    limit_arenas()
    with temporary_files():
        serve_until_ended(args)


def serve_until_ended(args: argparse.Namespace) -> None:
    try:
        from mmseg_siglip.web.server import serve
    except ModuleNotFoundError as error:
        raise ValueError(
            f"serve needs {error.name}: pip install 'mmseg_siglip[demo]' brings it along"
        ) from error
    from mmseg_siglip.device import find_device
    from mmseg_siglip.web.limits import Limits
    from mmseg_siglip.web.menu import Menu, build_offer, shipped_offers

    named = {task: getattr(args, task) for task in SYSTEMS}
    common = dict(device=find_device(args.device), precision=args.precision)
    offers = [
        build_offer(task, text, method=args.method, **common)
        for task, texts in named.items()
        for text in texts
    ]
    menu = Menu(offers or shipped_offers(method=args.method, **common))
    print(f'http://{args.host}:{args.port}', flush=True)
    serve(
        menu,
        Limits.on(common['device'].type),
        host=args.host,
        port=args.port,
        folder=args.label_studio_images,
    )
