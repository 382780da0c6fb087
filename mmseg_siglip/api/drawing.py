"""What is drawn on a picture, and written below it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from mmseg_siglip.misspelt import did_you_mean
from mmseg_siglip.text.class_colours import class_colours
from mmseg_siglip.text.vocabulary import same

AnyColour = str | Sequence[int]
"""Three numbers from 0 to 255, RGB, or what CSS has: ``'#ff8000'``, ``'orange'``."""
Palette = Mapping[str, AnyColour] | Sequence[AnyColour] | np.ndarray
"""Colours of some classes by their names, or one for each class."""

ROW = 22
ABOVE = 4  # pixels above the rows of a legend
SIZE = 14
RIM = 2  # pixels around letters on a picture
NARROWEST = 240  # pixels that lines of text get, however narrow the picture is


def colour_of(given: AnyColour) -> tuple[int, int, int]:
    """Three numbers from 0 to 255, RGB.

    Raises:
        ValueError: It is no colour.
    """
    if isinstance(given, str):
        try:
            return ImageColor.getrgb(given)[:3]
        except ValueError:
            meant = did_you_mean(given, ImageColor.colormap)
            raise ValueError(f'expected a colour, found {given!r}{meant}') from None
    values = np.asarray(given)
    whole = values.shape == (3,) and np.issubdtype(values.dtype, np.integer)
    if not whole or values.min() < 0 or values.max() > 255:
        raise ValueError(f'expected a colour, three integers from 0 to 255, found {given!r}')
    red, green, blue = values.tolist()
    return red, green, blue


def palette_of(names: Sequence[str], palette: Palette | None = None) -> np.ndarray:
    """A colour for each class, `class_colours` where `palette` gives none: (C, 3) uint8, RGB.

    Raises:
        ValueError: It is of other classes, or what it gives is no colour.
    """
    colours = class_colours(names)
    if isinstance(palette, Mapping):
        places = {same(name): index for index, name in enumerate(names)}
        for name, given in palette.items():
            if same(str(name)) not in places:
                meant = did_you_mean(name, names)
                raise ValueError(f'palette: expected names of classes, found {name!r}{meant}')
            colours[places[same(name)]] = colour_of(given)
    elif palette is not None:
        if len(palette) != len(names):
            raise ValueError(
                f'palette: expected a colour for each of {len(names)} classes, found {len(palette)}'
            )
        colours[:] = [colour_of(given) for given in palette]
    return colours


def blend(image: np.ndarray, colours: np.ndarray, opacity: float) -> np.ndarray:
    """An image (H, W, 3) under colours, which broadcast to it: (H, W, 3) uint8.

    Args:
        image: RGB, 0 to 255.
        colours: RGB, 0 to 255.
        opacity: Their part: 0 leaves the image, 1 hides it.

    Raises:
        ValueError: `opacity` is another number.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f'opacity: expected 0 to 1, found {opacity}')
    return ((1 - opacity) * image + opacity * colours).round().astype(np.uint8)


def borders(labels: np.ndarray) -> np.ndarray:
    """Pixels with another label above, below, left or right of them: (H, W) to (H, W) bool."""
    found = np.zeros(labels.shape, bool)
    rows, columns = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    found[1:] |= rows
    found[:-1] |= rows
    found[:, 1:] |= columns
    found[:, :-1] |= columns
    return found


def inmost(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of the pixel of a mask (H, W) that is the farthest from its border; of several, the
    one in their middle."""
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    places = np.argwhere(depth == depth.max())
    y, x = places[np.abs(places - places.mean(0)).sum(1).argmin()]
    return int(x), int(y)


def write_name(picture: Image.Image, name: str, mask: np.ndarray) -> None:
    """A name on what it names, white with a black rim, inside the picture where it fits."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=SIZE)
    x, y = inmost(mask)
    left, top, right, bottom = draw.textbbox((x, y), name, font, 'mm', stroke_width=RIM)
    x += max(0, -left) - max(0, right - picture.width)
    y += max(0, -top) - max(0, bottom - picture.height)
    draw.text((x, y), name, 'white', font, 'mm', stroke_width=RIM, stroke_fill='black')


def _below(picture: Image.Image, height: int, width: int = 0) -> tuple[Image.Image, ImageDraw.Draw]:
    """`picture` with `height` white rows below it, and what draws on both."""
    canvas = Image.new('RGB', (max(picture.width, width), picture.height + height), 'white')
    canvas.paste(picture)
    return canvas, ImageDraw.Draw(canvas)


def add_legend(picture: Image.Image, entries: Sequence[tuple[str, tuple]]) -> Image.Image:
    """Names beside patches of their colours, in rows below the picture."""
    font = ImageFont.load_default(size=SIZE)
    places, x, y = [], 6, ABOVE
    for name, colour in entries:
        width = 20 + round(font.getlength(name)) + 14
        if x > 6 and x + width > picture.width:
            x, y = 6, y + ROW
        places.append((x, picture.height + y, name, colour))
        x += width
    canvas, draw = _below(picture, y + ROW)
    for x, y, name, colour in places:
        draw.rectangle((x, y + 2, x + 14, y + 16), fill=tuple(int(v) for v in colour))
        draw.text((x + 20, y + 1), name, fill='black', font=font)
    return canvas


def legend_over(
    picture: np.ndarray, entries: Sequence[tuple[str, tuple]], *, cut: bool = False
) -> bool:
    """Write a legend over the lowest rows of a picture (H, W, 3) uint8, at most a third of them.

    Args:
        picture: Changed in its place.
        entries: Names and colours.
        cut: Whether the rows of the legend that fit are written where not all do.

    Returns:
        Whether anything was written.
    """
    height, width = picture.shape[:2]
    legend = np.asarray(add_legend(Image.new('RGB', (width, 1)), entries))[1:, :width]
    rows = (height // 3 - ABOVE) // ROW
    if len(legend) > height // 3 and not (cut and rows > 0):
        return False
    legend = legend[: ABOVE + ROW * rows]
    picture[height - len(legend) :] = legend
    return True


def add_bar(picture: Image.Image, colours: np.ndarray, left: str, right: str) -> Image.Image:
    """A bar of `colours`, (N, 3) uint8, below the picture, and what its ends mean."""
    canvas, draw = _below(picture, 16 + ROW, NARROWEST // 2)
    bar = Image.fromarray(colours[None]).resize((canvas.width, 12), Image.Resampling.NEAREST)
    canvas.paste(bar, (0, picture.height + 4))
    font = ImageFont.load_default(size=SIZE)
    for x, text, anchor in ((2, left, 'la'), (canvas.width - 2, right, 'ra')):
        draw.text((x, picture.height + 18), text, fill='black', font=font, anchor=anchor)
    return canvas


def add_text(picture: Image.Image, paragraphs: Sequence[str]) -> Image.Image:
    """Paragraphs below the picture, broken into lines."""
    width = max(picture.width, NARROWEST)
    lines = [
        line
        for paragraph in paragraphs
        for line in textwrap.wrap(paragraph, width=2 * width // SIZE) or ['']
    ]
    canvas, draw = _below(picture, ROW * len(lines) + 8, width)
    font = ImageFont.load_default(size=SIZE)
    for i, line in enumerate(lines):
        draw.text((6, picture.height + 4 + ROW * i), line, fill='black', font=font)
    return canvas
