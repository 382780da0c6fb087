"""The table of dense methods is whole and up to date."""

from __future__ import annotations

import re

from method_table import DOCUMENT, document, methods, paper

from mmseg_siglip.models.backbones.trunk import method_names
from mmseg_siglip.models.dense import Stitched, Value


def test_the_document_is_the_table():
    assert DOCUMENT.read_text(encoding='utf-8') == document(), 'run python tests/method_table.py'


def test_every_method_has_a_row():
    rows = DOCUMENT.read_text(encoding='utf-8').partition('|---|')[2]
    assert {name for name in method_names() if f'`{name}`' in rows} == set(method_names())
    assert len(methods()) == rows.count('\n| ')
    assert all(len(re.findall(r'(?<!\\)\|', row)) == 7 for row in rows.split('\n')[1:] if row)


def test_every_method_names_its_paper():
    assert {kind for kind in methods() if not paper(kind)} == {Stitched, Value}
