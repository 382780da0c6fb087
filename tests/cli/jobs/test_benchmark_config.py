"""Which config a row runs, and with what in it."""

from __future__ import annotations

import pytest
from commands import parse

from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.benchmark_config import encoders_of, find_config, sam_postprocessor


def args(*words):
    return parse('benchmark', ['--datasets', 'shapes', *words])


def test_a_data_set_is_a_config():
    assert find_config('coco-stuff') == config_folder() / 'sclip/coco_stuff.py'
    with pytest.raises(ValueError, match="unknown dataset 'coco'; expected one of .*coco-stuff"):
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
