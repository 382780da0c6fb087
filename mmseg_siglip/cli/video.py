"""A video in, a painted video of the same size and times out, in memory that does not grow."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mmseg_siglip.cli.common import UsageError, at_least, below_one
from mmseg_siglip.io.files import whole_file
from mmseg_siglip.io.video import VideoReader, VideoWriter, is_video, refuse_unwritten
from mmseg_siglip.io.web_image import is_address

if TYPE_CHECKING:
    import numpy as np

    from mmseg_siglip.api import DepthMap, DepthPredictor, OpenVocabSegmenter, Segmentation
    from mmseg_siglip.text.vocabulary import Vocabulary

FRAMES_AT_ONCE = 4
Ask = Callable[[Sequence['np.ndarray']], Iterable[Any]]
"""From frames (H, W, 3) uint8, RGB, of one size, to a result for each."""


def add_video(parser: argparse.ArgumentParser, *, labels: str) -> None:
    """The arguments of `paint_video`.

    Args:
        parser: Of a command with ``images``, ``frame`` and ``out``.
        labels: What is written for each frame.
    """
    group = parser.add_argument_group(
        'a video in the place of images',
        'writes a video of the same size and times, without sound, to --out, a name in .mp4 or '
        'the like or a folder. It needs the extra video.',
    )
    group.add_argument(
        '--batch-size', type=at_least(1), metavar='N', help=f'frames at once [{FRAMES_AT_ONCE}]'
    )
    group.add_argument(
        '--smooth',
        type=below_one,
        metavar='S',
        help='against flicker: frames before count, the one n frames ago S^n as much; 0 to below 1',
    )
    group.add_argument('--labels', type=Path, metavar='FOLDER', help=f'{labels} of each frame')


def video_of(args: argparse.Namespace) -> Path | None:
    """The one video that the arguments name; None where they name images.

    Raises:
        UsageError: Options of a video without one, or one beside other things.
        ValueError: It lies on the web.
    """
    videos = [given for given in args.images if is_video(given) and not Path(given).is_dir()]
    if not videos:
        for name in ('smooth', 'labels', 'batch_size'):
            if getattr(args, name) is not None:
                raise UsageError(f'--{name.replace("_", "-")} needs a video')
        return None
    if len(args.images) > 1 or args.frame is not None:
        beside = '--frame' if len(args.images) == 1 else f'{len(args.images)} things'
        raise UsageError(f'{videos[0]}: expected a video alone, found {beside}')
    if is_address(videos[0]):
        raise ValueError(f'{videos[0]}: expected a video on this machine; download it first')
    return videos[0]


def target_of(out: Path, video: Path) -> Path:
    """Where the painted video belongs.

    Raises:
        ValueError: In the place of the video itself, or in a container that is not written.
    """
    target = out if is_video(out) and not out.is_dir() else out / f'{video.stem}.mp4'
    refuse_unwritten(target)
    if target.resolve() == video.resolve():
        raise ValueError(f'--out {out}: expected another file than the video')
    return target


def paint_video(
    args: argparse.Namespace,
    video: Path,
    build: Callable[[], Ask],
    paint: Callable[[Any], np.ndarray],
    save: Callable[[Any, Path], None] = lambda result, path: result.save(path),
) -> None:
    """Paint every frame.

    Args:
        args: See `add_video`.
        video: The file.
        build: Makes what is asked, once the video is known to be one.
        paint: From a result to its picture, of the frame's size.
        save: Writes a result to a path that ends in its ``suffix``.

    Raises:
        ValueError: The video cannot be read, or not to its end; what was painted until then is
            kept, and can be played.
    """
    target, stopped = target_of(args.out, video), None
    hidden = target.with_name(f'.{secrets.token_hex(8)}{target.suffix}')
    with VideoReader(video) as reader:
        ask = build()
        with whole_file(target, draft=hidden) as draft, _writer(draft, reader) as writer:
            try:
                frames = tqdm(reader, total=reader.frames)
                for batch in batches(frames, args.batch_size or FRAMES_AT_ONCE):
                    results = ask([rgb for rgb, _ in batch])
                    for (_, time), result in zip(batch, results, strict=True):
                        if args.labels is not None:
                            name = f'{writer.count:06d}.{result.suffix}'
                            save(result, args.labels / name)
                        writer.write(paint(result), time)
            except BaseException as error:
                if not writer.count:
                    raise
                stopped = error
    print(f'{writer.count} frames, without sound, in {target}')
    if isinstance(stopped, ValueError):
        raise ValueError(f'{stopped}; the {writer.count} frames before are in {target}')
    if stopped is not None:
        raise stopped


def _writer(draft: Path, reader: VideoReader) -> VideoWriter:
    return VideoWriter(draft, rate=reader.rate, time_base=reader.time_base)


def batches(
    frames: Iterable[tuple[np.ndarray, int]], size: int
) -> Iterator[list[tuple[np.ndarray, int]]]:
    """Frames and their times, `size` at once; those before a damaged one as well."""
    batch: list[tuple[np.ndarray, int]] = []
    try:
        for frame in frames:
            batch.append(frame)
            if len(batch) == size:
                yield batch
                batch = []
    except ValueError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def words_of_frames(
    segmenter: OpenVocabSegmenter, words: Vocabulary, *, smooth: float | None, **options: Any
) -> Ask:
    """What labels frames; with `smooth`, by an `ExponentialAverage` of the classes' scores.

    Args:
        segmenter: It.
        words: Of the classes.
        smooth: Strength.
        options: Of the segmenter's call.
    """
    from mmseg_siglip.api.smoothing import ExponentialAverage

    if not smooth:
        return lambda frames: segmenter(list(frames), words, **options)
    segmenter.use(words, **options)
    average = ExponentialAverage(smooth)

    def ask(frames: Sequence[np.ndarray]) -> Iterator[Segmentation]:
        for rgb in frames:  # one by one, since scores of all classes are large
            (scores,) = segmenter.class_scores([rgb])
            yield segmenter.of_scores(rgb, average(scores))

    return ask


def depth_of_frames(predictor: DepthPredictor, *, smooth: float | None) -> Ask:
    """What measures frames; with `smooth`, an `ExponentialAverage` of the maps."""
    import torch

    from mmseg_siglip.api import DepthMap
    from mmseg_siglip.api.smoothing import ExponentialAverage

    average = ExponentialAverage(smooth or 0.0)

    def ask(frames: Sequence[np.ndarray]) -> Iterator[DepthMap]:
        for result in predictor(list(frames)):
            mean = average(torch.from_numpy(result.depth))
            yield DepthMap(mean.numpy().copy(), result.unit, result.image)

    return ask


def paint_words(result: Segmentation) -> np.ndarray:
    """A frame tinted by class, its legend over the lowest rows."""
    from mmseg_siglip.api.drawing import blend, legend_over
    from mmseg_siglip.api.segmentation import ALPHA

    colours = result.palette
    picture = blend(result.image, colours[result.labels], ALPHA)
    every = range(len(result.classes))
    for shown in (every, result.found):  # all classes where they fit, so that nothing moves
        entries = [(result.classes[index], tuple(colours[index])) for index in shown]
        if legend_over(picture, entries, cut=shown is not every):
            break
    return picture


def paint_depth(result: DepthMap) -> np.ndarray:
    """Depth in colours, from the nearest to the farthest of the frame."""
    import numpy as np

    height, width = result.depth.shape
    return np.asarray(result.plot())[:height, :width]
