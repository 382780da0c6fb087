from __future__ import annotations

import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel, MMDistributedDataParallel
from torch.serialization import get_unsafe_globals_in_checkpoint

from mmseg_siglip.engine import Runner
from mmseg_siglip.engine.runner import unwrapped
from mmseg_siglip.registry import MODELS


def build(config, folder, **options):
    cfg = Config.fromfile(config)
    cfg.work_dir = str(folder)
    cfg.experiment_name = f'{config.stem}-{folder.name}-{len(options)}'
    cfg.merge_from_dict(options)
    return Runner.from_cfg(cfg)


def train(config, folder, **options):
    runner = build(config, folder, **options)
    runner.train()
    return runner


def log(folder):
    return ''.join(file.read_text() for file in folder.glob('*/*.log'))


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


def test_a_resumed_run_without_a_seed_sees_what_is_left(tiny_config, tmp_path, monkeypatch):
    seen, call = [], Runner.call_hook

    def spy(self, name, **kwargs):
        if name == 'before_train_iter':
            seen.append([sample.img_path for sample in kwargs['data_batch']['data_samples']])
        call(self, name, **kwargs)

    monkeypatch.setattr(Runner, 'call_hook', spy)
    text = tiny_config.read_text()
    tiny_config.write_text(text[: text.index('randomness')])
    train(tiny_config, tmp_path / 'run')
    whole = list(seen)
    (tmp_path / 'run' / 'iter_8.pth').unlink()
    seen.clear()
    train(tiny_config, tmp_path / 'run', resume=True)
    assert seen == whole[6:]


def test_what_a_resumed_run_does_not_take_from_its_config_is_told(tiny_config, tmp_path):
    train(tiny_config, tmp_path / 'run', **{'train_cfg.max_iters': 2})
    assert 'no parameter is named' not in log(tmp_path / 'run')
    options = {
        'train_cfg.max_iters': 4,
        'optim_wrapper.optimizer.lr': 0.5,
        'train_dataloader.batch_size': 3,
    }
    train(tiny_config, tmp_path / 'run', resume=True, **options)
    told = log(tmp_path / 'run')
    assert 'The checkpoint goes before the config: lr 0.05 (config: 0.5).' in told
    assert 'The checkpoint is of 2 samples a step, this training of 3' in told
    assert 'PolyLR ends at iter 20, the training at 4' in told
    rules = dict(custom_keys=dict(bakcbone=dict(lr_mult=0.1)))
    options['optim_wrapper.paramwise_cfg'] = rules
    with pytest.raises(ValueError, match='iter_4.pth: expected the optimizer of .* parameters'):
        train(tiny_config, tmp_path / 'run', resume=True, **options)
    assert "no parameter is named like 'bakcbone'" in log(tmp_path / 'run')


def test_averages_are_not_trained_instead_of_what_they_are_of(tiny_config, tmp_path):
    averaged = dict(custom_hooks=[dict(type='EMAHook', momentum=0.5)])
    train(tiny_config, tmp_path / 'run', **averaged)
    options = dict(load_from=str(tmp_path / 'run' / 'iter_4.pth'), resume=True)
    with pytest.raises(ValueError, match=r'iter_4\.pth: expected an EMAHook in custom_hooks, as'):
        train(tiny_config, tmp_path / 'rest', **options)
    train(tiny_config, tmp_path / 'rest', **options, **averaged)


def test_a_step_in_its_middle_is_not_resumed(tiny_config, tmp_path):
    options = {
        'train_cfg.max_iters': 6,
        'default_hooks.checkpoint.interval': 3,
        'optim_wrapper.accumulative_counts': 2,
    }
    whole = train(tiny_config, tmp_path / 'run', **options)
    file = tmp_path / 'run/iter_3.pth'
    said = 'iter_3.pth: expected a checkpoint behind a whole step, found iteration 3 in the middle'
    for count in (1, 2, 3):
        options['optim_wrapper.accumulative_counts'] = count
        with pytest.raises(ValueError, match=said):
            train(tiny_config, tmp_path / 'again', resume=True, load_from=str(file), **options)
    assert 'iteration 3 is from the middle of a step' in log(tmp_path / 'run')
    file, options['optim_wrapper.accumulative_counts'] = tmp_path / 'run/iter_6.pth', 4
    train(tiny_config, tmp_path / 'ended', resume=True, load_from=str(file), **options)
    said = (
        'a multiple of optim_wrapper.accumulative_counts, 4, found 6: the next step would be of 2'
    )
    options['train_cfg.max_iters'] = 8
    with pytest.raises(ValueError, match=said):
        train(tiny_config, tmp_path / 'more', resume=True, load_from=str(file), **options)
    options |= {'train_cfg.max_iters': 6, 'optim_wrapper.accumulative_counts': 2}
    options['default_hooks.checkpoint.interval'] = 2
    train(tiny_config, tmp_path / 'parts', **options | {'train_cfg.max_iters': 4})
    rest = train(tiny_config, tmp_path / 'parts', resume=True, **options)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name]), name


def test_shards_are_refused(tiny_config, tmp_path):
    with pytest.raises(ValueError, match='model_wrapper_cfg: .* found MMFullyShardedDataParallel'):
        build(tiny_config, tmp_path, model_wrapper_cfg=dict(type='MMFullyShardedDataParallel'))


@pytest.mark.parametrize('gpu', [False, True])
def test_memory_is_page_locked_for_a_gpu(monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    sampler = dict(type='DefaultSampler', shuffle=False)
    config = dict(dataset=[1, 2, 3], sampler=sampler, batch_size=1, num_workers=0)
    assert Runner.build_dataloader(config).pin_memory is gpu
    assert Runner.build_dataloader(dict(config, pin_memory=False)).pin_memory is False


@pytest.fixture
def with_parts(monkeypatch):
    """A segmentor with parts named as a wrapper names what it holds, and with the start of it."""

    class Parts(MODELS.get('EncoderDecoder')):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.module = torch.nn.Linear(1, 1)
            self.modules_list = torch.nn.ModuleList([torch.nn.Linear(1, 1)])

        def loss(self, *args, **kwargs):
            zeros = sum(
                p.sum() for p in (*self.module.parameters(), *self.modules_list[0].parameters())
            )
            return dict(super().loss(*args, **kwargs), loss_parts=zeros.square())

    monkeypatch.setitem(MODELS.module_dict, 'Parts', Parts)
    return {'model.type': 'Parts', 'train_cfg.max_iters': 4}


def test_a_part_named_module_is_resumed(tiny_config, tmp_path, with_parts):
    whole = train(tiny_config, tmp_path / 'run', **with_parts)
    (tmp_path / 'run' / 'iter_4.pth').unlink()
    torch.manual_seed(8)
    rest = train(tiny_config, tmp_path / 'run', resume=True, **with_parts)
    assert 'module.weight' in rest.model.state_dict()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name]), name
    assert 'do not match exactly' not in log(tmp_path / 'run')


def test_the_prefix_of_a_wrapper_goes_where_nothing_fits_with_it(tiny_config, tmp_path):
    runner = build(tiny_config, tmp_path / 'run')
    state = runner.model.state_dict()
    torch.save({f'module.{name}': value + 1 for name, value in state.items()}, tmp_path / 'w.pth')
    expected = {name: value + 1 for name, value in state.items()}
    runner.load_checkpoint(str(tmp_path / 'w.pth'))
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    torch.save({'net.w': torch.ones(1)}, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='x.pth does not fit EncoderDecoder'):
        runner.load_checkpoint(str(tmp_path / 'x.pth'), revise_keys=[('^net', 'backbone')])
    torch.save(dict(state_dict=[1]), tmp_path / 'y.pth')
    with pytest.raises(ValueError, match='y.pth: expected a state_dict of names and tensors'):
        runner.load_checkpoint(str(tmp_path / 'y.pth'))


@pytest.mark.parametrize(
    ('state', 'converter'),
    [
        ({'model': {'sem_seg_head.predictor.clip_model.proj': torch.ones(1)}}, 'cat-seg'),
        ({'state_dict': {'clip_vision_encoder.model.w': torch.ones(1)}}, 'rsrefseg'),
    ],
)
def test_a_published_file_is_sent_to_its_converter(tiny_config, tmp_path, state, converter):
    torch.save(state, tmp_path / 'published.pth')
    runner = build(tiny_config, tmp_path / 'run', load_from=str(tmp_path / 'published.pth'))
    with pytest.raises(
        ValueError,
        match=f'published.pth does not fit .*, which .mmseg-siglip convert {converter}. conv',
    ):
        runner.test()


def test_wrappers_are_taken_off():
    class Views(BaseTTAModel):
        merge_preds = None

    views, processes = (kind.__new__(kind) for kind in (Views, MMDistributedDataParallel))
    for wrapper in (views, processes):
        torch.nn.Module.__init__(wrapper)
    views.module = torch.nn.Module()
    views.module.module = torch.nn.Linear(1, 1)
    processes.module = views
    assert unwrapped(processes) is unwrapped(views) is unwrapped(views.module) is views.module


@pytest.mark.parametrize('best', [None, 'mIoU'])
def test_an_evaluation_alone_scores_and_saves_nothing(tiny_config, tmp_path, best):
    options = {'default_hooks.checkpoint.save_best': best} if best else {}
    runner = build(tiny_config, tmp_path / 'run', **options)
    assert 'mIoU' in runner.val()
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_an_evaluation_takes_whole_weights_and_no_training(tiny_config, tmp_path):
    runner = train(tiny_config, tmp_path / 'run', **{'train_cfg.max_iters': 2})
    checkpoint = torch.load(tmp_path / 'run' / 'iter_2.pth')
    del checkpoint['optimizer'], checkpoint['param_schedulers']
    checkpoint['meta']['iter'] = 10**15
    torch.save(checkpoint, tmp_path / 'weights.pth')
    options = dict(resume=True, load_from=str(tmp_path / 'weights.pth'))
    found = build(tiny_config, tmp_path / 'val', **options)
    found.val()
    for name, tensor in runner.model.state_dict().items():
        assert torch.equal(tensor, found.model.state_dict()[name]), name
    del checkpoint['state_dict']['decode_head.conv_seg.weight']
    torch.save(checkpoint, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match='weights.pth does not fit EncoderDecoder: 1 of its'):
        build(tiny_config, tmp_path / 'val', **options).val()
    with pytest.raises(ValueError, match='weights.pth: expected meta.iter within train_cfg.max'):
        build(tiny_config, tmp_path / 'new', **options).train()
    checkpoint['meta']['iter'] = 2
    torch.save(checkpoint, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match='weights.pth: expected optimizer in it'):
        build(tiny_config, tmp_path / 'new', **options).train()


def test_runs_in_one_folder_are_told_apart(tiny_config, tmp_path):
    """A run that starts anew says so, and is what is resumed; a copy of it goes on by itself."""
    folder, short = tmp_path / 'run', {'train_cfg.max_iters': 2}
    first = train(tiny_config, folder)
    assert 'of another run' not in log(folder)
    train(tiny_config, folder, **short)
    assert f'{folder} holds iter_8.pth of another run: this one starts anew beside it' in log(
        folder
    )
    shutil.copytree(folder, tmp_path / 'copy')
    rest = train(tiny_config, tmp_path / 'copy', resume=True)
    assert f'Resuming from {tmp_path / "copy" / "iter_2.pth"}' in log(tmp_path / 'copy')
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name]), name
    stamps = {
        file.name: torch.load(file)['meta']['run'] for file in (tmp_path / 'copy').glob('iter_*')
    }
    assert len(stamps) == 4 and len(set(stamps.values())) == 1


def test_a_run_with_its_checkpoints_elsewhere_finds_them(tiny_config, tmp_path):
    options = {
        'default_hooks.checkpoint.out_dir': str(tmp_path / 'elsewhere'),
        'default_hooks.checkpoint.filename_tmpl': 'step-{}.pth',
    }
    train(tiny_config, tmp_path / 'run', **options, **{'train_cfg.max_iters': 4})
    place = tmp_path / 'elsewhere' / 'run'
    assert sorted(file.name for file in place.iterdir()) == ['step-2.pth', 'step-4.pth']
    assert train(tiny_config, tmp_path / 'run', **options, resume=True).iter == 8
    assert f'Resuming from {place / "step-4.pth"}' in log(tmp_path / 'run')


@pytest.mark.parametrize('args', [dict(backend='petrel'), 's3://bucket'])
def test_other_storage_is_refused(tiny_config, tmp_path, args):
    runner = build(tiny_config, tmp_path / 'run')
    where, backend = (args, None) if isinstance(args, str) else (str(tmp_path), args)
    for options in (dict(backend_args=backend), dict(file_client_args=backend)):
        with pytest.raises(ValueError, match='writes to local disks only, found .*(petrel|bucket)'):
            runner.save_checkpoint(where, 'a.pth', **options)
