"""Results as HTML: an overlay with a legend, a picture, or words; and what can be downloaded."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping

from mmseg_siglip.web.results import INDICES, PICTURE, SEEN, ResultFiles
from mmseg_siglip.web.service import Answered

VIEW = ' <a class="view" href="#" download="view.png">view.png</a>'
"""What the overlay shows at the moment."""
EMPTY = '<p class="empty">The result will be here.</p>'


def view_of(places: Mapping[str, ResultFiles], answered: Answered) -> str:
    """What the page shows.

    Args:
        places: The results, by the address of the folder of their files.
        answered: What they are of.
    """
    parts = [_result(place, files) for place, files in places.items()]
    seconds = f'{answered.seconds:.2f} s, {html.escape(answered.model)}'
    return ''.join(parts) + f'<p class="seconds">{seconds}</p>'


def _result(place: str, files: ResultFiles) -> str:
    if files.legend:
        shown = _overlay(place, files)
    elif files.text:
        shown = f'<blockquote>{html.escape(files.text)}</blockquote>'
    else:
        shown = f'<img class="picture" src="{place}{PICTURE}" alt="the result">'
    names = [name for name in files.files if name not in (SEEN, INDICES)]
    links = ' '.join(f'<a href="{place}{name}" download="{name}">{name}</a>' for name in names)
    links += VIEW if files.legend else ''
    return f'<figure>{shown}<figcaption class="downloads">Download {links}</figcaption></figure>'


def _overlay(place: str, files: ResultFiles) -> str:
    """A canvas that ``page.js`` draws on, and the legend whose entries isolate a class."""
    colours = html.escape(json.dumps({entry['index']: entry['colour'] for entry in files.legend}))
    entries = ''.join(
        f'<li><button type="button" data-index="{entry["index"]}" aria-pressed="false">'
        f'<i style="background:{entry["colour"]}"></i><b>{html.escape(entry["name"])}</b> '
        f'<small>{100 * entry["share"]:.1f} %</small></button></li>'
        for entry in files.legend
    )
    return (
        f'<div class="overlay" data-seen="{place}{SEEN}" data-indices="{place}{INDICES}" '
        f'data-colours="{colours}"><canvas></canvas>'
        '<label class="opacity">Opacity <input type="range" min="0" max="100" value="55"></label>'
        f'<ul class="legend">{entries}</ul></div>'
    )
