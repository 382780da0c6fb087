"""Video files, a frame at a time, by PyAV (https://pyav.basswood-io.com), the extra ``video``.

Shapes: a frame is (H, W, 3) uint8, RGB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from mmseg_siglip.io.image_claims import refuse_pixels

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = ('.mp4', '.mov', '.m4v', '.mkv', '.webm', '.avi')
WRITTEN = ('.mp4', '.mov', '.m4v', '.mkv')  # containers of H.264 with times
MAX_PIXELS = 8192 * 4320  # of a frame
OPENED = dict(format_whitelist='mov,matroska,webm,avi', protocol_whitelist='file')
"""Playlists and the like, which lead FFmpeg to other files and addresses, are no videos here."""
CODEC = 'libx264'
CLOCK = re.compile(r'(\d+):(\d\d):(\d\d(?:\.\d+)?)')  # in Matroska's tags
MISSING = 3  # frames that a whole file may lack at its end
OTHERWISE = Fraction(25)  # frames a second, where a file does not say


def is_video(path: Path | str) -> bool:
    """Whether a file is a video by its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


def refuse_unwritten(path: Path | str) -> None:
    """Raises: ValueError: Of such a name no video is written."""
    if Path(path).suffix.lower() not in WRITTEN:
        raise ValueError(f'{path}: expected a video to write in {", ".join(WRITTEN)}')


def address_of(path: Path | str) -> str:
    """A file as FFmpeg takes it, which reads ``a:b.mp4`` as an address of the protocol a."""
    return str(Path(path).absolute())


def pyav() -> ModuleType:
    """PyAV.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import av
    except ImportError:
        raise ImportError(
            "videos need PyAV: pip install 'mmseg_siglip[video]' (the extra video)"
        ) from None
    av.logging.set_level(av.logging.PANIC)  # what matters is raised
    return av


class VideoReader:
    """The frames of a video, upright, and when each is shown; one is held at a time.

    Args:
        path: The file. Of several videos in it, the first counts; sound is not read.

    Attributes:
        rate: Frames a second, the mean.
        time_base: Seconds of a unit of time.
        frames: How many the file says that it holds; None if it does not.

    Raises:
        ValueError: It is no video, or a frame has more than `MAX_PIXELS`.
        ImportError: PyAV is not installed.
    """

    def __init__(self, path: Path | str) -> None:
        self.path, self._av = path, pyav()
        if not Path(path).is_file():
            raise ValueError(f'{path}: no such video')
        try:
            self._container = self._av.open(address_of(path), options=dict(OPENED))
        except (self._av.FFmpegError, ValueError) as error:
            raise ValueError(f'{path} cannot be read as a video: {reason(error)}') from None
        if not self._container.streams.video:
            self._container.close()
            raise ValueError(f'{path} holds no video')
        self._stream = self._container.streams.video[0]
        self.rate = self._stream.average_rate or OTHERWISE
        self.time_base = self._stream.time_base or 1 / self.rate
        self.frames = self._stream.frames or None
        self._judge(self._stream.codec_context)
        self._stream.codec_context.options = dict(max_pixels=str(MAX_PIXELS))

    def _judge(self, sized: Any) -> None:
        refuse_pixels(sized.width or 0, sized.height or 0, str(self.path), MAX_PIXELS)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *raised: object) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        """Each frame and its time, in units of `time_base` from the first.

        Raises:
            ValueError: A frame is damaged, has another size than the first, or the file ends
                before it should.
        """
        count, size, first, last = 0, None, None, -1
        packets = ended = 0
        try:
            for packet in self._container.demux(self._stream):
                packets += packet.size > 0
                if packet.pts is not None:
                    ended = max(ended, packet.pts + (packet.duration or self._step))
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise ValueError(f'{self.path}: frame {count} is damaged')
                    self._judge(frame)
                    rgb = upright(frame.to_ndarray(format='rgb24'), frame.rotation)
                    size = size or rgb.shape
                    if rgb.shape != size:
                        raise ValueError(
                            f'{self.path}: expected frames of {size[1]} x {size[0]} pixels, found '
                            f'{rgb.shape[1]} x {rgb.shape[0]} at frame {count}'
                        )
                    time = last + self._step if frame.pts is None else frame.pts
                    first = time if first is None else first
                    last = max(time, last + 1) if count else time
                    yield rgb, last - first
                    count += 1
        except self._av.FFmpegError as error:
            raise ValueError(
                f'{self.path}: frame {count} cannot be decoded: {reason(error)}'
            ) from None
        if not count:
            raise ValueError(f'{self.path} holds no frame that can be decoded')
        shown = last - first + self._step
        self._refuse_cut(packets, shown)
        self._refuse_early_end(max(shown, ended))

    @property
    def _step(self) -> int:
        """Units of time from a frame to the next."""
        return max(1, round(1 / (self.rate * self.time_base)))

    def _refuse_cut(self, packets: int, shown: int) -> None:
        said, duration = self._stream.frames, self._stream.duration
        if packets < said and duration and shown < duration - MISSING * self._step:
            raise ValueError(f'{self.path} is cut short: expected {said} frames, found {packets}')

    def _refuse_early_end(self, ended: int) -> None:
        """Refuse a Matroska, which counts no frames, that ends before the time it says."""
        said, found = self._said_end(), ended * self.time_base
        if said is not None and found < said - MISSING * self._step * self.time_base:
            raise ValueError(
                f'{self.path} is cut short: expected {float(said):.2f} seconds, found '
                f'{float(found):.2f}'
            )

    def _said_end(self) -> Fraction | None:
        """Seconds from the beginning of a Matroska to the end of its video, if it says so."""
        whole = self._container.duration  # of all that is in it, such as a longer sound
        if 'matroska' not in self._container.format.name or whole is None:
            return None
        seconds = Fraction(whole, self._av.time_base)
        if match := CLOCK.fullmatch(self._stream.metadata.get('DURATION', '')):
            hours, minutes, rest = match.groups()
            return min(seconds, 3600 * int(hours) + 60 * int(minutes) + Fraction(rest))
        return seconds if len(self._container.streams) == 1 else None


class VideoWriter:
    """A silent H.264 video, playable up to the last frame that was written.

    Args:
        path: The file; its suffix says which kind.
        rate: Frames a second, the mean.
        time_base: Seconds of a unit of time.

    Attributes:
        count: Frames written.

    Raises:
        ValueError: The suffix is none of `WRITTEN`.
        ImportError: PyAV is not installed.
    """

    def __init__(self, path: Path | str, *, rate: Fraction, time_base: Fraction) -> None:
        refuse_unwritten(path)
        self._av, self.count = pyav(), 0
        self._container = self._av.open(address_of(path), 'w')
        self._rate, self._time_base = rate, time_base
        self._stream: Any = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def write(self, rgb: np.ndarray, time: int) -> None:
        """Add a frame to be shown at a time; an odd side is made even by doubling its last row."""
        import numpy as np  # commands that only parse words have no need of it

        height, width = rgb.shape[:2]
        if height % 2 or width % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
        if self._stream is None:
            self._stream = self._container.add_stream(CODEC, rate=self._rate)
            self._stream.height, self._stream.width = rgb.shape[:2]
            self._stream.pix_fmt = 'yuv420p'
            self._stream.codec_context.time_base = self._time_base
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format='rgb24')
        frame.pts, frame.time_base = time, self._time_base
        self._container.mux(self._stream.encode(frame))
        self.count += 1


def upright(rgb: np.ndarray, degrees: int) -> np.ndarray:
    """A frame turned anticlockwise by quarter turns, as telephones say how they were held."""
    import numpy as np

    turns = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def reason(error: Exception) -> str:
    """What FFmpeg says, without the file's name."""
    return getattr(error, 'strerror', None) or str(error)
