from __future__ import annotations

import re

import pytest

from mmseg_siglip.api.load import read_config
from mmseg_siglip.api.shipped import SHIPPED, build_shipped
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.weights.source import ASSETS


@pytest.mark.parametrize('source', SHIPPED)
def test_it_is_built(source):
    assert build_shipped(source, device='cpu').task == SHIPPED[source].task


def test_options_go_before_its_own():
    assert build_shipped('tiny_siglip_shapes', method='naclip').model.attention == 'naclip'


def test_the_untrained_one_is_as_its_config_has_it():
    config = read_config(config_folder() / 'sclip/shapes_best.py').model
    options = SHIPPED['tiny_siglip_shapes'].options
    assert options['method'] == config.attention
    assert options['postprocessor'] == config.postprocessor
    assert options['test_cfg'] == config.test_cfg


def test_all_of_it_is_small():
    assert sum(path.stat().st_size for path in ASSETS.rglob('*')) < 25e6


def test_it_names_no_place_of_the_machine_that_trained_it():
    for path in ASSETS.rglob('*'):
        if path.suffix in ('.json', '.md', '.jinja'):
            assert not re.search(r'["`( ]/[a-z]+/', path.read_text()), path
