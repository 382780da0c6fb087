from __future__ import annotations

import re

import numpy as np
from PIL import Image

from mmseg_siglip.api import Answer, DepthMap
from mmseg_siglip.cli.jobs.demo.exhibits import ENLARGED, SIZE, Case
from mmseg_siglip.cli.jobs.demo.gallery import GAP, HEADINGS, Row, write_gallery

IMAGE = np.full((*SIZE, 3), 90, np.uint8)


def test_a_page_that_needs_nothing_else(tmp_path):
    depth = DepthMap(np.ones(SIZE, np.float32), 'metre', IMAGE)
    answer = Answer('<two>', 'how many?', IMAGE)
    rows = [
        Row('Depth & more', [Case('', depth, depth)] * 2, dict(delta1=0.91234), 'test a'),
        Row('Questions', [Case('how many?', answer, answer)], dict(right=84.52), 'test "b"'),
    ]
    page = write_gallery(rows, 'Scenes < photographs', tmp_path)
    text = page.read_text()
    assert page == tmp_path / 'index.html'
    assert all(f'<th>{name}</th>' in text for name in HEADINGS)
    assert 'Depth &amp; more' in text and '&lt;two&gt;' in text and '<two>' not in text
    assert 'delta1 <b>0.912</b>' in text and 'right <b>84.5</b>' in text
    assert 'http' not in text
    pictures = re.findall(r'src="([^"]+)"', text)
    assert len(pictures) == 2 * 3 + 1
    assert Image.open(tmp_path / 'overview.png').width == 2 * ENLARGED * SIZE[1] + GAP
    for name in pictures:
        assert Image.open(tmp_path / name).width == ENLARGED * SIZE[1]
