import numpy as np
import pytest

from mmseg_siglip.cli.jobs import finished_rows
from mmseg_siglip.cli.jobs.finished_rows import FinishedRows, contents, files_in


@pytest.fixture
def rows(tmp_path):
    return FinishedRows(tmp_path / 'rows')


def test_a_row_comes_back(rows):
    path = rows.path(dict(model=dict(a=1), weights=[]))
    assert rows.load(path) is None
    counts = np.arange(12).reshape(2, 2, 3)
    rows.save(path, dict(mIoU=3.5, published_mIoU=None), counts)
    row, found = rows.load(path)
    assert row == dict(mIoU=3.5, published_mIoU=None) and np.array_equal(found, counts)


def test_another_setting_or_other_weights_are_another_row(rows, tmp_path, monkeypatch):
    weights = tmp_path / 'weights'
    weights.mkdir()
    (weights / 'a.bin').write_bytes(b'one')
    given = dict(model=dict(parts=[dict(checkpoint=str(weights))]), weights=[None], images=3)
    paths = [rows.path(given), rows.path(given | dict(images=4))]
    (weights / 'a.bin').write_bytes(b'another')
    paths.append(rows.path(given))
    (tmp_path / 'encoder.pt').write_bytes(b'one')
    other = given | dict(weights=[str(tmp_path / 'encoder.pt'), None])
    paths.append(rows.path(other))
    (tmp_path / 'encoder.pt').write_bytes(b'another')
    paths.append(rows.path(other))
    monkeypatch.setattr(finished_rows, 'machine', lambda: 'another machine')
    paths.append(rows.path(given))
    monkeypatch.setattr(finished_rows, 'PACKAGE', weights)
    paths.append(rows.path(given))
    (weights / 'b.py').touch()
    paths.append(rows.path(given))
    assert len(set(paths)) == 8 and paths[-1] == rows.path(given)


def test_what_is_no_file(tmp_path):
    place = tmp_path / 'x'
    place.write_text('')
    values = dict(a='x' * 5000, b=['', str(place)], c=dict(d='csa', e=None))
    assert list(files_in(values)) == [(str(place), place)]


def test_names_within_a_folder_count(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        (tmp_path / name / f'{name}.txt').write_text('same')
    assert contents(tmp_path / 'a') != contents(tmp_path / 'b')
    assert contents(tmp_path / 'a/a.txt') == contents(tmp_path / 'b/b.txt')
