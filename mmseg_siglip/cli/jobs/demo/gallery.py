"""The page: pictures in a folder, and a table of them in HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mmseg_siglip.api import Answer, Result, Segmentation
from mmseg_siglip.cli.jobs.demo.exhibits import ENLARGED, Case, for_people
from mmseg_siglip.io.files import write_atomically, write_image

HEADINGS = 'System', 'Picture', 'Asked', 'Answer', 'Truth', 'Score'
GAP = 12  # pixels between the pictures of the sheet
TINT = dict(opacity=0.7, outlines=True)
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .6rem .8rem; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid; }
tbody { border-bottom: 1px solid #8886; }
img { display: block; border-radius: 4px; }
code { font-size: .85em; overflow-wrap: anywhere; }
.title { font-weight: 600; }
.asked { min-width: 10rem; }
.score { margin: 0 0 .6rem; white-space: nowrap; }
"""


class Row(NamedTuple):
    """A system of the page.

    Attributes:
        title: What is done.
        cases: What it was asked, by scene.
        scores: What was measured, by name.
        command: The command that measures it.
    """

    title: str
    cases: Sequence[Case]
    scores: Mapping[str, float]
    command: str


def write_gallery(rows: Sequence[Row], note: str, folder: Path) -> Path:
    """Write the page and its pictures into a folder, and the first of each system as a sheet.

    Args:
        rows: A system each.
        note: A sentence on the data.
        folder: Its place.

    Returns:
        The page, ``index.html``; the sheet is ``overview.png`` beside it.
    """
    write_image(draw_sheet([row.cases[0] for row in rows]), folder / 'overview.png', optimize=True)
    bodies = ''.join(_body(row, number, folder) for number, row in enumerate(rows))
    heads = ''.join(f'<th>{name}</th>' for name in HEADINGS)
    page = folder / 'index.html'
    write_atomically(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>mmseg_siglip</title>'
        f'<style>{STYLE}</style></head><body><h1>mmseg_siglip</h1><p>{escape(note)}</p>'
        f'<table><thead><tr>{heads}</tr></thead>{bodies}</table></body></html>\n',
        page,
    )
    return page


def draw_sheet(cases: Sequence[Case]) -> Image.Image:
    """Side by side, what was asked about scenes, answers below them."""
    columns = [(_scene(case.answer), _drawn(case.answer)) for case in cases]
    width = sum(max(part.width for part in column) + GAP for column in columns) - GAP
    height = max(sum(part.height + GAP for part in column) for column in columns) - GAP
    sheet, left = Image.new('RGB', (width, height), 'white'), 0
    for column in columns:
        top = 0
        for part in column:
            sheet.paste(part, (left, top))
            top += part.height + GAP
        left += max(part.width for part in column) + GAP
    return sheet


def _body(row: Row, number: int, folder: Path) -> str:
    lines = []
    for place, case in enumerate(row.cases):
        name = f'{number + 1}_{place + 1}'
        cells = [
            _picture(_scene(case.answer), folder, f'{name}_scene'),
            f'<div class="asked">{escape(case.asked) or "–"}</div>',
            _shown(case.answer, folder, f'{name}_answer'),
            _shown(case.truth, folder, f'{name}_truth'),
        ]
        lines.append(''.join(f'<td>{cell}</td>' for cell in cells))
    span, scores = len(lines), '<br>'.join(_scores(row.scores))
    first, *others = lines
    return (
        f'<tbody><tr><td class="title" rowspan="{span}">{escape(row.title)}</td>{first}'
        f'<td rowspan="{span}"><p class="score">{scores}</p>'
        f'<code>{escape(row.command)}</code></td></tr>'
        + ''.join(f'<tr>{cells}</tr>' for cells in others)
        + '</tbody>'
    )


def _scores(scores: Mapping[str, float]) -> Iterator[str]:
    for name, value in scores.items():
        yield f'{escape(name)} <b>{value:.{3 if value < 1 else 1}f}</b>'


def _scene(result: Result) -> Image.Image:
    height, width = result.image.shape[:2]
    return Image.fromarray(result.image).resize((width * ENLARGED, height * ENLARGED))


def _shown(result: Result, folder: Path, name: str) -> str:
    """Words as they are, anything else as a picture."""
    if isinstance(result, Answer):
        return escape(result)
    return _picture(_drawn(result), folder, name)


def _drawn(result: Result) -> Image.Image:
    result = for_people(result)
    return result.plot(**TINT) if isinstance(result, Segmentation) else result.plot()


def _picture(image: Image.Image, folder: Path, name: str) -> str:
    write_image(image, folder / 'pictures' / f'{name}.png', optimize=True)
    return f'<img src="pictures/{name}.png" alt="{name}" width="{image.width}">'
