"""Label each pixel of photographs with one of your words; write labels, pictures and JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmseg_siglip.cli.common import (
    OneOf,
    add_device,
    add_images,
    add_out,
    add_trained,
    probability,
)
from mmseg_siglip.cli.photographs import answer, answers_so_far
from mmseg_siglip.cli.video import add_video, paint_video, paint_words, video_of, words_of_frames

if TYPE_CHECKING:
    from mmseg_siglip.api import OpenVocabSegmenter
    from mmseg_siglip.cli.video import Ask
    from mmseg_siglip.text.vocabulary import Vocabulary

TRAINING_FREE = dict(
    encoder='ViT-B/16', method='sclip', templates='imagenet80', guide=None, regions=None
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_images(parser)
    parser.add_argument(
        'words',
        help='words between commas, each a class, such as "cat, car|automobile" with a synonym; or '
        'the name or file of a vocabulary',
    )
    add_out(parser, 'segmented')
    add_background(parser)
    add_segmenter(parser)
    add_video(parser, labels='label maps')


def add_background(parser: argparse.ArgumentParser) -> None:
    """The arguments that `words_with_background` takes, and the threshold."""
    rest = parser.add_mutually_exclusive_group()
    rest.add_argument(
        '--background',
        metavar='WORDS',
        help='words between commas that together mean everything else, class 0',
    )
    rest.add_argument(
        '--none-of-these',
        action='store_true',
        help='let class 0 be for pixels that none of the words fits: --background background',
    )
    parser.add_argument(
        '--threshold',
        type=probability,
        metavar='P',
        help='pixels whose label has a lower probability, 0 to 1, become background; not with '
        "CAT-Seg [0, or the config's]",
    )


def words_with_background(
    args: argparse.Namespace, words: str | Sequence[str] | Vocabulary
) -> Vocabulary:
    """Words as a vocabulary, with the background that the arguments ask for.

    Raises:
        ValueError: They cannot be used.
    """
    from mmseg_siglip.text.vocabulary import Vocabulary

    background = args.none_of_these if args.background is None else args.background
    return Vocabulary.of_words(words, background=background)


def words_of_label(args: argparse.Namespace) -> Vocabulary:
    """The words of ``label``, by ``--words`` or ``--vocabulary``.

    Raises:
        ValueError: They cannot be used.
    """
    from mmseg_siglip.text.vocabulary import Vocabulary

    given = args.words if args.vocabulary is None else Vocabulary.load(args.vocabulary)
    return words_with_background(args, given)


def add_segmenter(parser: argparse.ArgumentParser) -> None:
    """The arguments that `build_segmenter` takes."""
    parser.add_argument(
        '--encoder',
        help='weights: an OpenAI or open_clip name, a folder, a file, a Hub id, or a saved system '
        'or ONNX file with its method; '
        'tiny_siglip_shapes ships along and knows coloured shapes only '
        f'[{TRAINING_FREE["encoder"]}]',
    )
    parser.add_argument(
        '--method',
        type=OneOf('mmseg_siglip.api.segment:METHODS'),
        metavar='NAME',
        help='how the encoder attends, such as sclip, naclip or clearclip; an unknown name gets '
        f'the list [{TRAINING_FREE["method"]}]',
    )
    parser.add_argument(
        '--templates',
        type=OneOf('mmseg_siglip.text.templates:TEMPLATES'),
        metavar='NAME',
        help='sentences around words, such as imagenet80, imagenet8 or plain '
        f'[{TRAINING_FREE["templates"]}]',
    )
    parser.add_argument(
        '--guide',
        help='second model of a method that asks for one, such as proxyclip or corrclip: a DINO, '
        "SAM or encoder, as a file, a folder or a Hub id [the method's own]",
    )
    parser.add_argument(
        '--regions',
        metavar='SAM',
        help='what finds regions for a method that asks for them, such as corrclip: SAM or SAM 2, '
        'as a file, a folder or a Hub id',
    )
    add_trained(
        parser, of='of a trained CAT-Seg or of SAM 3, instead of the five above', required=False
    )
    add_device(parser)


def build_segmenter(args: argparse.Namespace, device: str | None) -> OpenVocabSegmenter:
    """What the arguments above ask for; defaults are filled in.

    Raises:
        ValueError: They contradict each other, or there are no such weights.
    """
    from mmseg_siglip.api import OpenVocabSegmenter
    from mmseg_siglip.registry import DENSE_METHODS

    if args.config is not None:
        given = [f'--{name}' for name in TRAINING_FREE if getattr(args, name) is not None]
        if given:
            raise ValueError(f'{", ".join(given)}: expected nothing of the kind beside --config')
        return OpenVocabSegmenter.from_config(
            args.config, args.checkpoint, device=device, precision=args.precision
        )
    if args.checkpoint is not None:
        raise ValueError('--checkpoint: expected --config, whose weights these are')
    if args.encoder is not None and is_whole_segmenter(args.encoder):
        given = [f'--{name}' for name in list(TRAINING_FREE)[1:] if getattr(args, name) is not None]
        if given:
            raise ValueError(
                f'{", ".join(given)}: expected nothing of the kind beside {args.encoder}, a '
                'whole system'
            )
        return OpenVocabSegmenter.from_pretrained(
            args.encoder, device=device, precision=args.precision
        )
    for name, default in TRAINING_FREE.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    regions = None
    if args.regions is not None:
        if not DENSE_METHODS.get(args.method).uses_regions:
            raise ValueError(
                '--regions: expected a method that asks for regions, such as corrclip, found '
                f'--method {args.method}'
            )
        regions = dict(type='SAMRegions', sam=dict(type='SAMAdapter', checkpoint=args.regions))
    return OpenVocabSegmenter.from_pretrained(
        args.encoder,
        args.method,
        device=device,
        precision=args.precision,
        guide=args.guide,
        templates=args.templates,
        regions=regions,
    )


def is_whole_segmenter(source: str) -> bool:
    """Whether a source is a whole segmenter: an ONNX file, or what was saved as one."""
    from mmseg_siglip.api import OpenVocabSegmenter
    from mmseg_siglip.api.graphs import is_graph

    return is_graph(source) or OpenVocabSegmenter.saved(source) is not None


def kept(args: argparse.Namespace) -> str:
    return answers_so_far(args)


def run(args: argparse.Namespace) -> None:
    words, video = words_with_background(args, args.words), video_of(args)

    def build() -> OpenVocabSegmenter:
        segmenter = build_segmenter(args, args.device)
        segmenter.use(words, threshold=args.threshold)
        return segmenter

    options = dict(threshold=args.threshold)
    if video is not None:

        def ask() -> Ask:
            return words_of_frames(build(), words, smooth=args.smooth, **options)

        return paint_video(args, video, ask, paint_words)
    answer(args, build, words, done='segmented', options=lambda paths: options)
