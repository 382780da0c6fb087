from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader

from mmseg_siglip.engine import Runner
from mmseg_siglip.engine.whole_evaluation import require_whole


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
