"""Images without truth are named and counted, and in no mean."""

from __future__ import annotations

import pytest

from mmseg_siglip.evaluation import missing_truth
from mmseg_siglip.evaluation.missing_truth import WITHOUT, split_scored

SCORED = dict(rmse=1.0)


def test_all_have_truth():
    assert split_scored([SCORED, SCORED], 'depth') == ([SCORED, SCORED], {})


def test_those_without_are_named(monkeypatch):
    said = []
    monkeypatch.setattr(missing_truth, 'print_log', lambda text, *_: said.append(text))
    results = [{WITHOUT: 'a.png'}, SCORED, {WITHOUT: 'b.png'}]
    assert split_scored(results, 'depth') == ([SCORED], {WITHOUT: 2})
    assert said == ['2 of 3 images have no depth and are not counted: a.png, b.png']


def test_none_has_truth():
    with pytest.raises(ValueError, match=r'some image with depth, found 2 without, first a\.png'):
        split_scored([{WITHOUT: 'a.png'}, {WITHOUT: 'b.png'}], 'depth')
