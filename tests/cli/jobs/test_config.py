from __future__ import annotations

import argparse

import pytest

from mmseg_siglip.cli.common import add_config
from mmseg_siglip.cli.jobs.config import load_config, require, require_data


def load(*argv):
    parser = argparse.ArgumentParser()
    add_config(parser)
    return load_config(parser.parse_args([str(arg) for arg in argv]))


def test_options_and_folders_are_merged(tiny_config, monkeypatch):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    cfg = load(
        tiny_config, '--cfg-options', 'train_cfg.max_iters=3', 'model.backbone.strides=(2,1)'
    )
    assert cfg.train_cfg.max_iters == 3
    assert cfg.model.backbone.strides == (2, 1)
    assert cfg.work_dir == f'work_dirs/{tiny_config.stem}'
    assert load(tiny_config, '--work-dir', 'here').work_dir == 'here'
    tiny_config.write_text(tiny_config.read_text() + "work_dir = 'there'\n")
    assert load(tiny_config).work_dir == 'there'


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('none.py', None, r'config not found: there is no file .*none\.py'),
        ('evil.yaml', 'a: 1', r'evil\.yaml is a \.yaml config, expected a \.py file'),
        ('evil.json', '{}', r'evil\.json is a \.json config, expected a \.py file'),
        ('broken.py', 'a = (', r'broken\.py cannot be read: '),
        ('base.py', "_base_ = './none.py'", r'base\.py cannot be read: .*none\.py'),
        ('imports.py', "custom_imports = dict(imports=['no_such_module'])", r'no_such_module'),
    ],
)
def test_bad_configs_are_one_sentence(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / name)
    assert '\n' not in str(caught.value)


def test_a_yaml_config_is_refused_before_it_is_read(tmp_path):
    bird = tmp_path / 'bird'
    (tmp_path / 'evil.yaml').write_text(f"a: !!python/object/apply:builtins.open ['{bird}', 'w']\n")
    with pytest.raises(ValueError, match='expected a .py file'):
        load(tmp_path / 'evil.yaml')
    assert not bird.exists()


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('tset_dataloader.batch_size=2', 'nothing reads tset_dataloader .* mean .test_data'),
        ('metainfo.classes=a,b', 'nothing reads metainfo of .*; expected what its value went into'),
        ('seed=3', 'nothing reads seed of'),
    ],
)
def test_an_override_of_nothing(tiny_config, option, message):
    with pytest.raises(ValueError, match=f'--cfg-options {option.partition("=")[0]}: {message}'):
        load(tiny_config, '--cfg-options', option)
    tiny_config.write_text(tiny_config.read_text() + "runner_type = 'Own'\n")
    load(tiny_config, '--cfg-options', option)


def test_an_override_that_does_not_fit(tiny_config):
    with pytest.raises(ValueError, match=r'--cfg-options do not fit'):
        load(tiny_config, '--cfg-options', 'param_scheduler.7.end=3')


@pytest.mark.parametrize(
    'options', [['model=x', 'model.a.b=1'], ['default_scope.' + 'a.' * 3000 + 'a=1']]
)
def test_overrides_at_odds_or_without_end(tiny_config, options):
    with pytest.raises(ValueError, match='--cfg-options do not fit'):
        load(tiny_config, '--cfg-options', *options)


def test_a_missing_field_is_named(tiny_config):
    with pytest.raises(ValueError, match='has no tta_model'):
        require(load(tiny_config), 'model', 'tta_model')


def test_missing_data_is_named_before_a_model_is_built(tmp_path):
    (tmp_path / 'list.txt').touch()
    dataset = dict(type='PascalVOCDataset', data_root=str(tmp_path), ann_file='list.txt')
    require_data(dataset)
    with pytest.raises(ValueError, match='none/VOC is not there; prepare the data of PascalVOC'):
        require_data(dict(dataset, data_root='none/VOC'))
    with pytest.raises(ValueError, match=r'val\.txt is not there'):
        require_data(dict(dataset, ann_file='val.txt'))


@pytest.mark.parametrize('more', [{}, dict(data_root=''), dict(data_root='s3://bucket/VOC')])
def test_only_local_data_is_looked_for(more):
    require_data(dict(type='ShapesWorldDataset', **more))
