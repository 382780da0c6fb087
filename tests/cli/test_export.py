import json

import pytest
from commands import command
from labelled import fill, random_labels

from mmseg_siglip.labelling.objects import ShardStore
from mmseg_siglip.labelling.rows import schema_of, write_table

main = command('export')


@pytest.fixture
def labelled(tmp_path):
    fill(tmp_path / 'labelled', {'a.jpg': random_labels(0), 'b.jpg': random_labels(1)})
    return tmp_path / 'labelled'


def test_another_form_of_what_is_labelled(labelled, tmp_path, capsys):
    assert main([labelled]) == 0 and (labelled / 'labels/a.jpg.png').is_file()
    assert main([labelled, '--format', 'coco', '--out', tmp_path / 'coco']) == 0
    assert len(json.loads((tmp_path / 'coco/labels.json').read_text())['images']) == 2
    assert f'{labelled} exported to {tmp_path}/coco' in capsys.readouterr().out


def test_failures_are_told(labelled, capsys):
    store = ShardStore(labelled)
    rows = [dict(path='c.jpg', failure='is an empty file')]
    store.put('s-1', lambda file: write_table(rows, schema_of({}, {}), file))
    store.write_index(['s-0', 's-1'])
    assert main([labelled]) == 1
    assert 'the first is c.jpg: is an empty file' in capsys.readouterr().err
    assert (labelled / 'labels/a.jpg.png').is_file()


def test_what_is_no_such_folder(tmp_path, capsys):
    assert main([tmp_path / 'absent']) == 1
    assert 'expected manifest.json, found none' in capsys.readouterr().err
    assert main(['memory://nowhere/x']) == 1
    assert 'expected --out, a folder to fill' in capsys.readouterr().err


def test_a_run_that_has_not_ended(labelled, capsys):
    (labelled / 'shards.txt').unlink()
    assert main([labelled]) == 1
    assert 'expected shards.txt of a run that has ended, found none' in capsys.readouterr().err
