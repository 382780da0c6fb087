"""Small videos of moving squares."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 10


def frame_of(number: int, size=(48, 64)) -> np.ndarray:
    """A grey level that says which frame it is, and a bright square that moves."""
    rgb = np.full((*size, 3), 40 + 4 * (number % 40), np.uint8)
    left = (3 * number) % (size[1] - 16)
    rgb[8:24, left : left + 16] = (250, 220, 30)
    return rgb


def write_video(
    path: Path,
    count: int = 12,
    *,
    size=(48, 64),
    times=None,
    rotation: int | None = None,
    gop: int = 4,
    **options: str,
) -> Path:
    """A video of `count` frames, at 10 a second or at `times` in tenths of a second."""
    with av.open(str(path), 'w', options=options) as container:
        stream = container.add_stream('libx264', rate=RATE, options=dict(crf='10'))
        stream.height, stream.width, stream.pix_fmt = *size, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, RATE)
        stream.codec_context.gop_size = gop
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(frame_of(number, size), format='rgb24')
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_video(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """Frames and when each is shown, seconds, by the library alone."""
    with av.open(str(path)) as container:
        frames = [*container.decode(video=0)]
        return [frame.to_ndarray(format='rgb24') for frame in frames], [f.time for f in frames]
