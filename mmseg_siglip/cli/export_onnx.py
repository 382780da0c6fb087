"""Write a model as an ONNX graph, once onnxruntime says what torch says.

The graph takes images that are normalised already, in whole patches; resizing, padding, windows and
labels stay outside, where `OpenVocabSegmenter.from_pretrained('x.onnx')` and
`DepthPredictor.from_pretrained` do them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmseg_siglip.cli.common import add_published_depth, add_trained, at_least
from mmseg_siglip.cli.depth import OPTIONS, build_predictor, check_model
from mmseg_siglip.cli.segment import add_segmenter, build_segmenter

if TYPE_CHECKING:
    from mmseg_siglip.onnx.export import Agreement

KINDS = {
    'segment': 'patch features of a training-free segmenter and their cosines with words, or the '
    'logits of a CAT-Seg',
    'depth': 'the depth of a DPT that was trained here',
    'tower': 'the tokens of the vision tower of a LLaVA model',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest='kind', metavar='KIND', required=True)
    parts = {name: kinds.add_parser(name, help=what) for name, what in KINDS.items()}
    segment, depth, tower = parts.values()
    segment.add_argument(
        '--words',
        help='words between commas, synonyms after "|", or a vocabulary, that the graph shall '
        "know [a CAT-Seg's own]",
    )
    add_segmenter(segment)
    add_published_depth(depth)
    add_trained(depth, of='of configs/dpt', required=False)
    tower.add_argument(
        '--encoder', required=True, help='its weights: a folder or Hub id of transformers'
    )
    tower.add_argument(
        '--layer', type=int, default=-2, help="as in transformers' hidden_states [%(default)s]"
    )
    for part in parts.values():
        part.set_defaults(device='cpu', precision='auto', **dict.fromkeys(OPTIONS))
        part.add_argument('out', metavar='OUT', type=Path, help='file to write, in .onnx')
        part.add_argument(
            '--size',
            type=at_least(1),
            nargs=2,
            metavar=('H', 'W'),
            help='pixels of the one size that the graph is for [any in whole patches; of a '
            'CAT-Seg, its views]',
        )
        part.add_argument(
            '--int8',
            action='store_true',
            help='round the weights of matrix products to 8 bits; see docs/onnx.md for what that '
            'costs',
        )


def kept(args: argparse.Namespace) -> str:
    return f'{args.out} is not written; the same command begins anew'


def run(args: argparse.Namespace) -> None:
    if args.precision == 'auto':
        args.precision = 'fp32'  # what graphs are written of
    found = dict(segment=export_segmenter, depth=export_depth, tower=export_tower)[args.kind](args)
    print(f'{found}; {args.out.stat().st_size / 1e6:.1f} MB')


def export_segmenter(args: argparse.Namespace) -> Agreement:
    """Raises: ValueError: See `OpenVocabSegmenter.export_onnx`; or words are missing."""
    segmenter = build_segmenter(args, args.device)
    if args.words is None and segmenter.model.training_free:
        raise ValueError('--words: expected the words that the graph shall know, found none')
    return segmenter.export_onnx(args.out, args.words, size=args.size, int8=args.int8)


def export_depth(args: argparse.Namespace) -> Agreement:
    """Raises: ValueError: See `DepthPredictor.export_onnx`."""
    check_model(args)
    return build_predictor(args).export_onnx(args.out, size=args.size, int8=args.int8)


def export_tower(args: argparse.Namespace) -> Agreement:
    """Raises: ValueError: See `export_graph`; or there is no such tower."""
    from mmseg_siglip.onnx.export import export_graph
    from mmseg_siglip.onnx.parts import graph_part
    from mmseg_siglip.vlm import build_vision_tower

    tower = build_vision_tower(args.encoder, select_layer=args.layer)
    return export_graph(graph_part(tower), args.out, size=args.size, int8=args.int8)
