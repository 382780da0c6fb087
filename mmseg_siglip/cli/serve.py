"""Serve a page, an HTTP API and Label Studio's protocol for models of your choice.

Visitors choose among the models named here and name none themselves. Without any, the small SigLIP
that ships along segments coloured shapes.
"""

from __future__ import annotations

import argparse

from mmseg_siglip.api.system import SYSTEMS
from mmseg_siglip.cli.common import OneOf, add_device, at_least

SHIPPED = 'shapes=tiny_siglip_shapes'
METHOD = 'sclip'
METHOD_OF_SHIPPED = 'vanilla'


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
        type=OneOf('mmseg_siglip.api.segment:METHODS'),
        metavar='NAME',
        help=f'how encoders of --segment attend until a visitor chooses another [{METHOD}]',
    )
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to listen at [%(default)s, this machine alone]'
    )
    parser.add_argument('--port', type=at_least(1), default=7860, help='[%(default)s]')
    add_device(parser)


def kept(args: argparse.Namespace) -> str:
    return 'uploads and results are gone; the same command begins anew'


def run(args: argparse.Namespace) -> None:
    try:
        from mmseg_siglip.web.server import serve
    except ModuleNotFoundError as error:
        raise ValueError(
            f"serve needs {error.name}: pip install 'mmseg_siglip[demo]' brings it along"
        ) from error
    from mmseg_siglip.device import find_device
    from mmseg_siglip.web.limits import Limits
    from mmseg_siglip.web.menu import Menu, build_offer

    named = {task: getattr(args, task) for task in SYSTEMS}
    method = args.method or METHOD
    if not any(named.values()):
        named['segment'] = [SHIPPED]
        method = args.method or METHOD_OF_SHIPPED
    device = find_device(args.device)
    menu = Menu(
        build_offer(task, text, device=device, precision=args.precision, method=method)
        for task, texts in named.items()
        for text in texts
    )
    print(f'http://{args.host}:{args.port}', flush=True)
    serve(menu, Limits.on(device.type), host=args.host, port=args.port)
