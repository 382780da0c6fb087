from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.dataset import ConcatDataset, DefaultSampler, InfiniteSampler
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader

from mmseg_siglip.datasets.shapes_world.phrases import ShapesReferringDataset
from mmseg_siglip.datasets.shapes_world.segmentation import ShapesWorldDataset
from mmseg_siglip.engine import Runner
from mmseg_siglip.engine.whole_evaluation import require_whole


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg_siglip'):
        yield


def loop(count, sampler=DefaultSampler, **options):
    data = list(range(count))
    given = dict(sampler=sampler(data), **options)
    return SimpleNamespace(dataloader=DataLoader(data, **given))


def test_all_samples_are_seen():
    for given in (
        loop(5, batch_size=3),
        loop(6, batch_size=3, drop_last=True),
        loop(5, batch_size=1, drop_last=True),
    ):
        assert require_whole(given, 'test_dataloader') is given
    with pytest.raises(
        ValueError, match='test_dataloader.drop_last: expected False, found True, by which 2 of 5'
    ):
        require_whole(loop(5, batch_size=3, drop_last=True), 'test_dataloader')
    with pytest.raises(ValueError, match='val_dataloader.sampler: expected one that ends'):
        require_whole(loop(5, InfiniteSampler), 'val_dataloader')


@pytest.mark.parametrize('part', ['val', 'test'])
def test_a_runner_looks_at_it(tiny_config, tmp_path, part):
    cfg = Config.fromfile(tiny_config)
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = f'whole-{part}-{tmp_path.name}'
    cfg[f'{part}_dataloader'].sampler = dict(type='InfiniteSampler')
    runner = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match=f'{part}_dataloader.sampler: expected one that ends'):
        getattr(runner, part)()


def test_an_epoch_comes_to_an_end(tiny_config, tmp_path):
    """MMEngine's goes on in the first for ever."""
    cfg = Config.fromfile(tiny_config)
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = f'epochs-{tmp_path.name}'
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
    runner = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match='train_dataloader.sampler: expected one that ends'):
        runner.train()
    cfg.experiment_name += '-ends'
    cfg.train_dataloader.sampler = dict(type='DefaultSampler')
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.epoch == 1


def among(*transforms, wrap=None):
    data = ShapesWorldDataset(
        num_scenes=2, pipeline=[*transforms, dict(type='PackSegInputs')], test_mode=True
    )
    return SimpleNamespace(dataloader=DataLoader(wrap(data) if wrap else data))


@pytest.mark.parametrize('wrap', [None, lambda data: ConcatDataset([data, data])])
@pytest.mark.parametrize(
    'transform',
    [dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')],
    ids=lambda transform: transform['type'],
)
def test_samples_are_no_chance(transform, wrap):
    kind = transform['type']
    assert require_whole(among(wrap=wrap), 'test_dataloader')
    with pytest.raises(ValueError, match=f'test_dataloader.dataset.pipeline: .* found {kind}, by'):
        require_whole(among(transform, wrap=wrap), 'test_dataloader')


def test_all_phrases_are_scored():
    given = dict(num_scenes=2, pipeline=[])
    whole = SimpleNamespace(dataloader=DataLoader(ShapesReferringDataset(test_mode=True, **given)))
    assert require_whole(whole, 'val_dataloader') is whole
    drawn = SimpleNamespace(dataloader=DataLoader(ShapesReferringDataset(**given)))
    with pytest.raises(ValueError, match='val_dataloader.dataset.test_mode: expected True, found'):
        require_whole(drawn, 'val_dataloader')
