from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from torch.serialization import get_unsafe_globals_in_checkpoint

from mmseg_siglip.engine import Runner


def train(config, folder, **options):
    cfg = Config.fromfile(config)
    cfg.work_dir = str(folder)
    cfg.experiment_name = f'{config.stem}-{folder.name}-{len(options)}'
    cfg.merge_from_dict(options)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_a_resumed_run_ends_as_an_unbroken_one(tiny_config, tmp_path, caplog):
    whole = train(tiny_config, tmp_path / 'whole')
    train(tiny_config, tmp_path / 'parts', **{'train_cfg.max_iters': 4})
    for file in (tmp_path / 'parts').glob('*.pth'):
        assert get_unsafe_globals_in_checkpoint(file) == []
    rest = train(tiny_config, tmp_path / 'parts', resume=True)
    assert rest.iter == 8
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name]), name
    for loss in ('train/loss', 'train/lr'):
        ours, theirs = (r.message_hub.get_scalar(loss).data for r in (rest, whole))
        assert ours[0].tolist() == theirs[0].tolist()
        assert ours[1].tolist() == theirs[1].tolist()


@pytest.mark.parametrize('gpu', [False, True])
def test_memory_is_page_locked_for_a_gpu(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    sampler = dict(type='DefaultSampler', shuffle=False)
    config = dict(dataset=[1, 2, 3], sampler=sampler, batch_size=1, num_workers=0)
    assert Runner.build_dataloader(config).pin_memory is gpu
    assert Runner.build_dataloader(dict(config, pin_memory=False)).pin_memory is False
