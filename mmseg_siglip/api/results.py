"""What came out for one image, and the forms that people need it in.

Shapes: an image is (H, W, 3) uint8, RGB; a mask or map is (H, W).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from matplotlib import colormaps
from PIL import Image

from mmseg_siglip.api.drawing import add_bar, add_legend, add_text
from mmseg_siglip.io.depth_unit import depth_bytes
from mmseg_siglip.io.files import image_bytes, write_array, write_atomically, write_image
from mmseg_siglip.io.normal_colours import normal_colours
from mmseg_siglip.misspelt import did_you_mean

LARGEST = 65535  # of 16 bits


@runtime_checkable
class Result(Protocol):
    """What every result has.

    Attributes:
        image: (H, W, 3) uint8, RGB, as the system saw it.
        suffix: What a file that `save` writes is called after the image's name.
        columns: What `to_row` has, and Arrow's names of the types.

    Examples:
        >>> import numpy as np
        >>> from mmseg_siglip.api import Answer, Result
        >>> isinstance(Answer('yes', 'Is it?', np.zeros((2, 3, 3), np.uint8)), Result)
        True
    """

    image: np.ndarray
    suffix: ClassVar[str]
    columns: ClassVar[Mapping[str, str]]

    def plot(self) -> Image.Image:
        """A picture for people; some have options."""

    def save(self, path: str | Path) -> None:
        """A file for programs, written whole or not at all; folders above it are made."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""

    def to_row(self) -> dict[str, Any]:
        """Plain values and bytes, ready for a table: all that `save` keeps."""


@dataclass(frozen=True)
class NormalMap:
    """Surface normals of one image.

    Attributes:
        normals: (H, W, 3) float32, of length 1: x to the right, y upwards, z towards the viewer.
        image: (H, W, 3) uint8, RGB.

    Examples:
        >>> import numpy as np
        >>> from mmseg_siglip.api import NormalMap
        >>> normals = np.zeros((2, 3, 3), np.float32) + np.float32([0, 0, 1])
        >>> found = NormalMap(normals, np.zeros((2, 3, 3), np.uint8))
        >>> found.to_dict()
        {'size': [2, 3], 'mean': [0.0, 0.0, 1.0]}
        >>> found.save('normals.npy')
    """

    suffix: ClassVar[str] = 'normals.png'
    columns: ClassVar[Mapping[str, str]] = dict(png='binary')

    normals: np.ndarray
    image: np.ndarray

    def plot(self) -> Image.Image:
        """x, y and z from -1 to 1 as red, green and blue, above what three of them mean."""
        facing = [('right', (1, 0, 0)), ('up', (0, 1, 0)), ('viewer', (0, 0, 1))]
        entries = [(name, tuple(normal_colours(np.float32(normal)))) for name, normal in facing]
        return add_legend(Image.fromarray(normal_colours(self.normals)), entries)

    def save(self, path: str | Path) -> None:
        """Write the map; the suffix says how.

        ``.npy``: float32, as it is. ``.png``: 8 bits, -1 to 1 as 0 to 255.

        Raises:
            ValueError: The suffix is another.
        """
        path = Path(path)
        if path.suffix == '.npy':
            write_array(self.normals, path)
        elif path.suffix == '.png':
            write_image(Image.fromarray(normal_colours(self.normals)), path)
        else:
            raise ValueError(f'{path}: expected a name in .png or .npy')

    def to_dict(self) -> dict[str, Any]:
        """``size`` (H, W) and ``mean`` (x, y, z); `save` has the map."""
        mean = [float(value) for value in self.normals.mean((0, 1))]
        return dict(size=list(self.normals.shape[:2]), mean=mean)

    def to_row(self) -> dict[str, Any]:
        """``png``, the bytes of a file that `save` writes."""
        return dict(png=image_bytes(Image.fromarray(normal_colours(self.normals))))


@dataclass(frozen=True)
class DepthMap:
    """Depth of one image.

    Attributes:
        depth: (H, W) float32: metres, or inverse depth, larger where nearer, up to an unknown
            scale and shift.
        unit: ``metre`` or ``inverse``.
        image: (H, W, 3) uint8, RGB.
        normals: Surface normals, where they were asked for.

    Examples:
        >>> import numpy as np
        >>> from mmseg_siglip.api import DepthMap
        >>> depth = np.float32([[1, 2, 3], [2, 3, 4]])
        >>> found = DepthMap(depth, 'metre', np.zeros((2, 3, 3), np.uint8))
        >>> found.limits, found.relative
        ((1.0, 4.0), False)
        >>> found.save('depth.png')  # 16 bits, millimetres
        >>> found.plot(palette='viridis').save('picture.png')
    """

    suffix: ClassVar[str] = 'depth.png'
    columns: ClassVar[Mapping[str, str]] = dict(png='binary', unit='string')

    depth: np.ndarray
    unit: str
    image: np.ndarray
    normals: NormalMap | None = None

    @property
    def relative(self) -> bool:
        """Whether it knows no metres."""
        return self.unit == 'inverse'

    @property
    def limits(self) -> tuple[float, float] | None:
        """The smallest and the largest finite value; None if there is none."""
        finite = self.depth[np.isfinite(self.depth)]
        return (float(finite.min()), float(finite.max())) if finite.size else None

    def _spread(self) -> np.ndarray:
        """(H, W) in [0, 1]: from the smallest to the largest value, 0 where there is none."""
        low, high = self.limits or (0.0, 0.0)
        finite = np.isfinite(self.depth)
        return np.where(finite, self.depth - low, 0) / ((high - low) or 1.0)

    def plot(self, *, palette: str = 'magma') -> Image.Image:
        """Depth in colours, the nearest bright and the unknown black, above a bar with its ends.

        Args:
            palette: Colours from far to near: the name of one of matplotlib's colormaps.

        Raises:
            ValueError: It has none of that name.
        """
        if palette not in colormaps:
            meant = did_you_mean(palette, colormaps)
            raise ValueError(
                f'palette: expected a colormap of matplotlib, found {palette!r}{meant}'
            )
        colours = (colormaps[palette](np.linspace(0.1, 1, 256))[:, :3] * 255).astype(np.uint8)
        ends = ('far', 'near')
        if self.unit == 'metre':
            colours = colours[::-1]
            ends = [f'{value:.2f} m' for value in self.limits or (np.nan, np.nan)]
        shown = colours[(255 * self._spread()).round().astype(np.uint8)]
        shown[~np.isfinite(self.depth)] = 0
        return add_bar(Image.fromarray(shown), colours, *ends)

    def save(self, path: str | Path, *, scale: float = 1000.0) -> None:
        """Write the map; the suffix says how.

        ``.npy``: float32, as it is. ``.png``: 16 bits; `scale` units a metre, so millimetres, and
        0 where depth is unknown and at least 1 where it is. Inverse depth has no unit: its range is
        spread over 0 to 65535. The file says which; see `decode_depth`.

        Raises:
            ValueError: The suffix is another, `scale` is not positive, or depth is beyond what 16
                bits hold at that scale.
        """
        path = Path(path)
        if path.suffix == '.npy':
            write_array(self.depth, path)
            return
        if path.suffix != '.png':
            raise ValueError(f'{path}: expected a name in .png or .npy')
        try:
            write_atomically(self._png(scale), path)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from None

    def to_row(self, *, scale: float = 1000.0) -> dict[str, Any]:
        """``png``, the bytes of a file that `save` writes, and ``unit``.

        Raises:
            ValueError: `scale` is not positive, or depth is beyond what 16 bits hold at that scale.
        """
        return dict(png=self._png(scale), unit=self.unit)

    def _png(self, scale: float) -> bytes:
        if not 0 < scale < np.inf:
            raise ValueError(f'scale: expected units a metre, a positive number, found {scale}')
        units = LARGEST * self._spread()
        if self.unit == 'metre':
            units = scale * np.where(np.isfinite(self.depth), self.depth, 0).clip(min=0)
            if units.max() > LARGEST:
                raise ValueError(
                    f'expected at most {LARGEST / scale:g} m at a depth scale of {scale:g}, found '
                    f'{self.depth.max():g} m; take a smaller scale, or .npy'
                )
            units = np.where(units > 0, units.clip(min=1), 0)
        per_metre = scale if self.unit == 'metre' else None
        return depth_bytes(units.round().astype(np.uint16), per_metre=per_metre)

    def to_dict(self) -> dict[str, Any]:
        """``size`` (H, W), ``unit``, ``relative``, ``limits`` (smallest, largest)."""
        limits = self.limits and list(self.limits)
        size = list(self.depth.shape)
        return dict(size=size, unit=self.unit, relative=self.relative, limits=limits)


class Answer(str):
    """The answer to a question about one image: a string that knows what it answers.

    Attributes:
        question: What was asked.
        image: (H, W, 3) uint8, RGB.
        complete: Whether it came to its end, or was cut where it had as many tokens as it may.

    Examples:
        >>> import numpy as np
        >>> from mmseg_siglip.api import Answer
        >>> answer = Answer('a cup', 'What is nearest?', np.zeros((2, 3, 3), np.uint8))
        >>> answer
        'a cup'
        >>> answer.to_dict()
        {'question': 'What is nearest?', 'answer': 'a cup', 'complete': True}
    """

    suffix: ClassVar[str] = 'answer.txt'
    columns: ClassVar[Mapping[str, str]] = dict(
        question='string', answer='string', complete='bool_'
    )

    question: str
    image: np.ndarray
    complete: bool

    def __new__(cls, text: str, question: str, image: np.ndarray, complete: bool = True) -> Answer:
        answer = super().__new__(cls, text)
        answer.question, answer.image, answer.complete = question, image, complete
        return answer

    def __getnewargs__(self) -> tuple[str, str, np.ndarray, bool]:
        return str(self), self.question, self.image, self.complete

    def plot(self) -> Image.Image:
        """The image above question and answer."""
        return add_text(Image.fromarray(self.image), [self.question, self])

    def save(self, path: str | Path) -> None:
        """Write the answer as text, UTF-8."""
        write_atomically(f'{self}\n', path)

    def to_dict(self) -> dict[str, Any]:
        """``question``, ``answer`` and ``complete``."""
        return dict(question=self.question, answer=str(self), complete=self.complete)

    def to_row(self) -> dict[str, Any]:
        """As `to_dict`."""
        return self.to_dict()
