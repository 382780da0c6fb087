"""Settings that do not fit, with the nearest that would."""

from __future__ import annotations

import pytest
from mmengine.registry import Registry, init_default_scope

from mmseg_siglip.engine import CheckpointHook
from mmseg_siglip.misspelt import (
    check_options,
    did_you_mean,
    explain_settings,
    refuse_strange_settings,
    settings_of_class,
)
from mmseg_siglip.registry import DATASETS, HOOKS, METRICS, TRANSFORMS

THINGS = Registry('thing')


class Base:
    def __init__(self, *, height=0, width=0):
        pass


@THINGS.register_module()
class Wide(Base):
    def __init__(self, words, *, broad=True, **kwargs):
        super().__init__(**kwargs)


@THINGS.register_module()
class Bare:
    pass


@THINGS.register_module()
class Broken:
    """Its own fault, no setting's."""

    def __init__(self, depth=0):
        Base(depths=depth)


@THINGS.register_module()
class Keyless:
    def __init__(self, key):
        {}[key]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


@pytest.mark.parametrize(
    ('config', 'sentence'),
    [
        (dict(type='Wide', words=[], broud=1), "Wide has no setting broud; did you mean 'broad'?"),
        (
            dict(type='Wide', words=[], heigth=1),
            "Wide has no setting heigth; did you mean 'height'?",
        ),
        (dict(type='Wide', wrods=[]), "Wide has no setting wrods; did you mean 'words'?"),
        (dict(type='Wide'), 'Wide needs the setting words'),
        (
            dict(type='Wide', words=[], x=1),
            'Wide has no setting x; it has words, broad, height, width',
        ),
        (dict(type='Bare', x=1), 'Bare has no setting x; it has none'),
        (dict(type='Wid'), "there is no thing Wid; did you mean 'Wide'?"),
        (dict(type='Zebra'), 'there is no thing Zebra'),
        (dict(type='Broken'), None),
        (dict(type='Keyless', key='x'), None),
    ],
)
def test_what_does_not_fit(config, sentence):
    with pytest.raises((TypeError, KeyError)) as caught:
        THINGS.build(config)
    assert explain_settings(caught.value) == sentence


@pytest.mark.parametrize(
    ('registry', 'config', 'sentence'),
    [
        (DATASETS, dict(type='FolderDataset', vocabulry=['a']), "did you mean 'vocabulary'?"),
        (DATASETS, dict(type='FolderDataset', vocabulary=['a'], data_rot=''), "mean 'data_root'?"),
        (DATASETS, dict(type='FolderDatset'), "no dataset FolderDatset; did you mean 'FolderD"),
        (
            DATASETS,
            dict(type='mmseg.BaseSegDataset', sufix='.png'),
            'BaseSegDataset has no setting',
        ),
        (TRANSFORMS, dict(type='LoadAnnotations', ignor_index=1), "did you mean 'ignore_index'?"),
        (TRANSFORMS, dict(type='LoadShapesDepth', scale=1), 'LoadShapesDepth has no setting scale'),
        (HOOKS, dict(type='IterTimerHook', interval=1), 'IterTimerHook has no setting interval'),
    ],
)
def test_classes_of_a_config(registry, config, sentence):
    with pytest.raises((TypeError, KeyError)) as caught:
        registry.build(config)
    assert sentence in explain_settings(caught.value)


def test_settings_are_looked_for_no_further_than_they_are_passed_on():
    assert settings_of_class(Wide) == ['words', 'broad', 'height', 'width']
    assert settings_of_class(Base) == ['height', 'width'] and settings_of_class(Bare) == []


def test_what_a_class_would_pass_over_is_refused():
    """MMSeg's metric and MMEngine's hook take any setting."""
    with pytest.raises(ValueError, match='IoUMetric has no setting iou_metric; .* .iou_metrics'):
        METRICS.build(dict(type='IoUMetric', iou_metric=['mIoU']))
    METRICS.build(dict(type='IoUMetric', iou_metrics=['mIoU'], prefix='a', output_dir='b'))
    with pytest.raises(ValueError, match='CheckpointHook has no setting intervall; .* .interval'):
        refuse_strange_settings(CheckpointHook, CheckpointHook(intervall=3).args)
    refuse_strange_settings(Base, ['height', 'x'], further=['x'])


NAMES = ('sclip', 'naclip', 'clearclip')


def test_the_nearest_name_ends_the_sentence():
    assert did_you_mean('clear_clip', NAMES) == "; did you mean 'clearclip'?"
    assert did_you_mean('naclib', iter(NAMES)) == "; did you mean 'naclip'?"


def test_nothing_is_near():
    assert did_you_mean('sam', NAMES) == did_you_mean(5, NAMES) == ''
    assert did_you_mean('naclib', NAMES, likeness=0.9) == ''


def one(source, /, first, *rest, second=1, **others): ...


class Two:
    def __init__(self, third, fourth=2): ...


def test_options_that_nobody_takes():
    check_options(['first', 'second', 'third', 'fourth'], one, Two, what='it')
    check_options([], one, what='it')
    known = 'expected one of first, second, fourth'
    for option in ('source', 'rest', 'others', 'third'):
        with pytest.raises(ValueError, match=f"it: unknown option '{option}'; {known}"):
            check_options(['second', option], one, Two, but=['third'], what='it')
    with pytest.raises(ValueError, match=f"{known}; did you mean 'second'[?]"):
        check_options(['secnd'], one, Two, but=['third'], what='it')
