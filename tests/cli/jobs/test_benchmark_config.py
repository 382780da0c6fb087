"""Which config a row runs, and with what in it."""

from __future__ import annotations

import csv

import pytest
from commands import command, parse

from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.benchmark_config import (
    check_distinct_configs,
    compose,
    encoders_of,
    find_config,
    sam_postprocessor,
)


def args(*words):
    return parse('benchmark', ['--datasets', 'shapes', *words])


def test_a_data_set_is_a_config():
    assert find_config('coco-stuff') == config_folder() / 'sclip/coco_stuff.py'
    with pytest.raises(ValueError, match="'coco'; expected a .py config, or one of .*coco-stuff"):
        find_config('coco')


def test_each_encoder_has_its_own_folder(tmp_path):
    weights = tmp_path / 'mine.pth'
    weights.touch()
    one, two = encoders_of(args('--encoders', 'siglip2_b16_256', str(weights)))
    assert (one.encoder, two.checkpoint) == ('siglip2_b16_256', str(weights))
    assert one.work_dir != two.work_dir and two.work_dir.name == 'mine'
    plain = args()
    assert encoders_of(plain) == [plain]
    with pytest.raises(ValueError, match='nothing_of_the_kind'):
        encoders_of(args('--encoders', 'nothing_of_the_kind'))


def test_sam_by_clicks_or_by_components():
    clicks = sam_postprocessor(args('--use-sam', 'sam.pth', '--sam-points', '8'))
    assert clicks['proposer']['type'] == 'SAMPointGrid'
    assert clicks['proposer']['points_per_side'] == 8
    refined = sam_postprocessor(args('--use-sam', 'sam.pth', '--sam-refine'))
    assert refined['proposer']['type'] == 'SAMComponents'
    assert refined['proposer']['sam'] == dict(type='SAMAdapter', checkpoint='sam.pth')


OWN = """
_base_ = 'mmseg_siglip::sclip/shapes.py'
model = dict(backbone=dict(_delete_=True, pretrained='tiny_siglip_shapes'), templates='plain')
test_dataloader = dict(num_workers=0, persistent_workers=False)
"""


def test_own_configs(tmp_path, monkeypatch, capsys):
    """An encoder without a type, and a name of ours, which has no published figure."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'voc21.py').write_text(OWN)
    table = ['--out', 'table.csv', '--num-samples', '1', '--work-dir', 'work']
    assert command('benchmark')(['--datasets', 'voc21.py', *table]) == 0
    with open('table.csv') as file:
        (own,) = csv.DictReader(file)
    assert own['dataset'] == 'voc21' and float(own['mIoU']) > 0 and own['published_mIoU'] == ''
    with pytest.raises(ValueError, match=r'config not found: there is no file none\.py'):
        find_config('none.py')
    (tmp_path / 'voc21.py').write_text("model = dict(type='SAM3Segmentor')\n")
    with pytest.raises(ValueError, match=r'voc21\.py has no test_dataloader'):
        compose('voc21.py', args())


def test_own_configs_of_one_name_are_refused(tmp_path):
    (tmp_path / 'shapes.py').write_text(OWN)
    check_distinct_configs(['shapes', 'shapes'])
    with pytest.raises(ValueError, match='expected configs of different names, found'):
        check_distinct_configs(['shapes', str(tmp_path / 'shapes.py')])
