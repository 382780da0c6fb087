import csv

import pytest
from PIL import Image

from mmseg_siglip import demo


@pytest.fixture(scope='module')
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    demo.main(['--out', str(folder), '--images', '6'])
    return folder


@pytest.mark.slow
def test_every_row_is_measured(output):
    rows = list(csv.DictReader((output / 'ablation.csv').open()))
    assert len({(row['site'], row['readout'], row['attention']) for row in rows}) == len(rows) == 25
    assert len({row['mIoU'] for row in rows}) > 20
    assert all(0 <= float(row['mIoU']) <= 100 for row in rows)


@pytest.mark.slow
def test_the_default_is_good(output):
    """On few scenes, well below what the README reports on many."""
    rows = list(csv.DictReader((output / 'ablation.csv').open()))
    assert max(float(row['mIoU']) for row in rows) > 40


@pytest.mark.slow
def test_pictures(output):
    assert Image.open(output / 'overview.png').size[0] == 3 * 192 * 2
    assert len(list((output / 'pictures').rglob('*.png'))) == 6


def test_table():
    rows = [
        dict(site='trunk', readout='map', attention=name, mIoU=float(i))
        for i, name in enumerate(demo.ATTENTIONS)
    ]
    assert demo.table(rows).splitlines()[2] == (
        '| trunk | map | 0.00 | 1.00 | 2.00 | 3.00 | 4.00 |'
    )


def test_configs_are_found():
    assert (demo.config_folder() / 'sclip' / 'shapes.py').is_file()
