"""What is written below a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROW = 22
SIZE = 14
NARROWEST = 240  # pixels that lines of text get, however narrow the picture is


def _below(picture: Image.Image, height: int, width: int = 0) -> tuple[Image.Image, ImageDraw.Draw]:
    """`picture` with `height` white rows below it, and what draws on both."""
    canvas = Image.new('RGB', (max(picture.width, width), picture.height + height), 'white')
    canvas.paste(picture)
    return canvas, ImageDraw.Draw(canvas)


def add_legend(picture: Image.Image, entries: Sequence[tuple[str, tuple]]) -> Image.Image:
    """Names beside patches of their colours, in rows below the picture."""
    font = ImageFont.load_default(size=SIZE)
    places, x, y = [], 6, 4
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
