"""Label any number of images: pixels by your words, masks by phrases, depth, or answers.

What is done is kept shard by shard: started again on the same folder, by however many processes and
machines, it goes on where it was.
"""

from __future__ import annotations

import argparse

from mmseg_siglip.cli.common import (
    OneOf,
    UsageError,
    add_depth_scale,
    add_ranks,
    at_least,
)
from mmseg_siglip.cli.segment import add_background, add_segmenter, words_of_label

FORMATS = (
    'png, of words and phrases also coco or coco-polygons, masks in one JSON, or yolo, polygons in '
    'a text file an image; jsonl of questions [the first that suits]'
)
OF_WORDS = ('encoder', 'method', 'templates', 'guide', 'regions', 'threshold', 'background')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument('--words', help='as of segment: words between commas, synonyms after |')
    asked.add_argument('--vocabulary', help='name or file of a vocabulary (with synonyms)')
    asked.add_argument('--phrases', help='as of refer: phrases between ";", each a mask')
    asked.add_argument('--depth', action='store_true', help='depth, as of depth')
    asked.add_argument('--question', help='as of ask: one question about each image')
    add_shards(parser)
    add_background(parser)
    add_segmenter(parser)
    parser.add_argument(
        '--model',
        help='of phrases, depth and questions: a published or saved model, as of refer, depth and '
        'ask',
    )
    add_depth_scale(parser)


def add_shards(
    parser: argparse.ArgumentParser,
    *,
    images: str = 'images',
    batch_size: int = 8,
    formats: str = FORMATS,
) -> None:
    """The arguments that `mmseg_siglip.cli.jobs.shards.label_shards` takes."""
    parser.add_argument(
        'images',
        nargs='+',
        metavar='IMAGES',
        help=f'folders of {images} (searched through, links followed), {images}, text files with '
        'one path a line, or shards, also at addresses: WebDataset tars such as '
        's3://bucket/shard-{000..003}.tar, Parquet files; one image has at most 100 million pixels '
        'and 1 GiB',
    )
    parser.add_argument(
        '--out',
        required=True,
        help='folder to fill, or an address such as s3://bucket/labels with --format parquet',
    )
    parser.add_argument(
        '--format',
        metavar='NAME',
        help=f'what is made of the tables in the end: {formats}; parquet is the tables alone',
    )
    parser.add_argument(
        '--batch-size',
        type=at_least(1),
        default=batch_size,
        help='images at once [%(default)s]',
    )
    parser.add_argument(
        '--num-workers',
        type=at_least(0),
        default=2,
        help='threads that read, decode and encode, for each worker [%(default)s]',
    )
    run = parser.add_argument_group('shards and workers')
    run.add_argument(
        '--shard-size',
        type=at_least(1),
        default=200,
        help='files of a folder or list that are kept as one, on average [%(default)s]',
    )
    run.add_argument('--column', default='image', help='of Parquet files [%(default)s]')
    run.add_argument(
        '--retry-failed', action='store_true', help='label again what failed in an earlier run'
    )
    run.add_argument(
        '--engine',
        type=OneOf('mmseg_siglip.cli.jobs.shards:ENGINES', 'process'),
        default='process',
        metavar='NAME',
        help='where workers run: process, processes of their own; ray, the actors of a cluster; '
        'loop, this process, which a crash ends [%(default)s]',
    )
    run.add_argument(
        '--workers', type=at_least(1), metavar='N', help='how many [one a GPU, else one]'
    )
    run.add_argument(
        '--address',
        help="of a Ray cluster that `ray start` made, 'auto' for this machine's [a new one]",
    )
    add_ranks(run)


def kept(args: argparse.Namespace) -> str:
    return f'what is labelled is in {args.out}; the same command goes on from there'


def run(args: argparse.Namespace) -> None:
    of_words = args.words is not None or args.vocabulary is not None
    if of_words and args.model is not None:
        raise UsageError('--model: expected --encoder beside --words and --vocabulary')
    given = [f'--{name}' for name in OF_WORDS if getattr(args, name) is not None]
    if not of_words and (given or args.none_of_these):
        raise UsageError(f'{", ".join(given) or "--none-of-these"}: expected only beside --words')
    if not of_words and (args.model is None) == (args.config is None):
        raise UsageError('expected one of --model and --config')
    task = task_asked(args)
    check_shards(args, task)
    if task == 'segment':
        words_of_label(args)  # refused before anything is loaded
    from mmseg_siglip.cli.jobs.shards import label_shards
    from mmseg_siglip.labelling.labeller import LazyRecipe

    recipe = LazyRecipe('mmseg_siglip.cli.jobs.label:build_labeller', (task, args))
    label_shards(args, task, recipe, 'labelled')


def task_asked(args: argparse.Namespace) -> str:
    """Which system is to label."""
    if args.phrases is not None:
        return 'refer'
    if args.question is not None:
        return 'ask'
    return 'depth' if args.depth else 'segment'


def check_shards(args: argparse.Namespace, task: str) -> None:
    """Raises: UsageError: Arguments contradict each other."""
    from mmseg_siglip.labelling.exports import check_export

    try:
        args.format = check_export(task, args.format)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if args.address is not None and args.engine != 'ray':
        raise UsageError('--address needs --engine ray')
    if args.engine == 'loop' and (args.workers or 1) > 1:
        raise UsageError('--engine loop has one worker')
    if args.retry_failed and args.launcher != 'none':
        raise UsageError('--retry-failed is for one process: expected no --launcher')
    if args.engine == 'ray' and args.launcher != 'none':
        raise UsageError('--engine ray starts its own processes: expected no --launcher')
