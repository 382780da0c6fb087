from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_siglip.engine import Runner
from mmseg_siglip.engine.parts_of_config import TOGETHER, require_parts


@pytest.mark.parametrize('fields', TOGETHER)
def test_all_or_none(fields):
    require_parts(dict.fromkeys(fields, {}))
    require_parts(dict.fromkeys(fields))
    first, second, third = fields
    with pytest.raises(ValueError, match=f'config has {first} but no {second} and no {third}: exp'):
        require_parts({first: {}, second: None})
    with pytest.raises(ValueError, match=f'has {second} and {third} but no {first}: expected'):
        require_parts({second: {}, third: {}})


def test_a_runner_says_which_file(tiny_config):
    config = Config.fromfile(tiny_config)
    config.val_evaluator = None
    with pytest.raises(ValueError, match=rf'{tiny_config} has val_dataloader and val_cfg but no v'):
        Runner.from_cfg(config)


def test_a_data_set_of_mmsegs_own_that_finds_nothing_says_where(tiny_config):
    init_default_scope('mmseg_siglip')
    loader = Config.fromfile(tiny_config).test_dataloader
    loader.dataset.update(type='mmseg.BaseSegDataset', img_suffix='.jpeg')
    sentence = r"mmseg\.BaseSegDataset: expected samples, found none by .*img_suffix='\.jpeg'"
    with pytest.raises(ValueError, match=sentence):
        Runner.build_dataloader(loader)
    loader.dataset.img_suffix = '.jpg'
    assert len(Runner.build_dataloader(loader).dataset) == 7
