"""Where a class of ours stands in for MMEngine's, what MMEngine's own tests ask of it holds."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook as BaseCheckpointHook
from mmengine.model import BaseModel
from mmengine.optim import MultiStepLR, OptimWrapper, OptimWrapperDict, StepLR
from mmengine.registry import DefaultScope

from mmseg_siglip.engine import AmpOptimWrapper, CheckpointHook, Runner
from mmseg_siglip.registry import OPTIM_WRAPPER_CONSTRUCTORS, SCOPE

SCHEDULE = dict(type='MultiStepLR', milestones=[1, 2])


class Lines(BaseModel):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)

    def forward(self, inputs, labels=None, mode='tensor'):
        out = self.second(self.first(inputs))
        return dict(loss=(out - labels).square().mean()) if mode == 'loss' else [out]

    def train_step(self, data, optim_wrapper):
        if not isinstance(optim_wrapper, OptimWrapperDict):
            return super().train_step(data, optim_wrapper)
        losses = self(**data, mode='loss')
        losses['loss'].backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
            wrapper.zero_grad()
        return losses


class Triangle(BaseMetric):
    """A score that rises up to the fifth evaluation, and falls."""

    default_prefix = 'test'
    evaluations = 0

    def process(self, *args):
        self.results.append(0)

    def compute_metrics(self, results):
        self.evaluations += 1
        return dict(acc=1 - abs(self.evaluations - 5) / 11)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope(SCOPE):
        yield


@pytest.fixture
def build(tmp_path):
    """A function that builds a runner of 12 iterations, or of four in an epoch."""
    numbers = count()
    samples = [dict(inputs=torch.randn(2), labels=torch.ones(1)) for _ in range(36)]

    def collate(batch):
        return {name: torch.stack([one[name] for one in batch]) for name in batch[0]}

    def build(kind='iter', last=11, *, val=False, folder='run', **options):
        data = samples if kind == 'iter' else samples[:12]
        loader = torch.utils.data.DataLoader(data, 3, collate_fn=collate)
        evaluation = dict(
            val_dataloader=loader,
            val_cfg=dict(),
            val_evaluator=[Triangle()],
        )
        checkpoint = dict(type='CheckpointHook', interval=1, by_epoch=kind == 'epoch')
        checkpoint.update(options.pop('checkpoint', {}))
        bounds = {f'max_{kind}s': last, 'val_interval': 1, 'by_epoch': kind == 'epoch'}
        given = dict(
            model=Lines(),
            work_dir=str(tmp_path / folder),
            train_dataloader=loader,
            train_cfg=bounds,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            param_scheduler=dict(SCHEDULE, by_epoch=kind == 'epoch'),
            default_scope=SCOPE,
            default_hooks=dict(checkpoint=checkpoint),
            log_level='ERROR',
            experiment_name=f'{tmp_path.name}{next(numbers)}',
            **(evaluation if val else {}),
        )
        return Runner(**given | options)

    return build


def numbers(folder, kind):
    return sorted(int(file.stem.rpartition('_')[2]) for file in folder.glob(f'{kind}_*.pth'))


@pytest.mark.parametrize('kind', ['iter', 'epoch'])
@pytest.mark.parametrize(
    ('options', 'kept'),
    [
        (dict(interval=2), [2, 4, 6, 8, 10, 11]),
        (dict(interval=2, save_last=False), [2, 4, 6, 8, 10]),
        (dict(max_keep_ckpts=1), [11]),
        (dict(max_keep_ckpts=3), [9, 10, 11]),
        (dict(interval=2, save_begin=5), [5, 7, 9, 11]),
        (dict(interval=2, save_begin=1), [1, 3, 5, 7, 9, 11]),
    ],
)
def test_which_checkpoints_are_kept(build, tmp_path, kind, options, kept):
    build(kind, checkpoint=options).train()
    folder = tmp_path / 'run'
    assert numbers(folder, kind) == kept
    last = folder / f'{kind}_{kept[-1]}.pth'
    assert (folder / 'last_checkpoint').read_text() == str(last)
    info = torch.load(last)['message_hub']['runtime_info']
    assert info['last_ckpt'] == str(last)
    if 'max_keep_ckpts' in options:
        assert info['keep_ckpt_ids'] == kept


@pytest.mark.parametrize('kind', ['iter', 'epoch'])
def test_fewer_are_kept_after_a_resume(build, tmp_path, kind):
    build(kind, checkpoint=dict(max_keep_ckpts=3)).train()
    last = str(tmp_path / f'run/{kind}_11.pth')
    build(kind, 12, checkpoint=dict(max_keep_ckpts=2), resume=True, load_from=last).train()
    assert numbers(tmp_path / 'run', kind) == [11, 12]


@pytest.mark.parametrize('kind', ['iter', 'epoch'])
def test_parts_names_and_places(build, tmp_path, kind):
    options = dict(save_optimizer=False, save_param_scheduler=False, interval=5)
    options |= dict(out_dir=str(tmp_path / 'out'), filename_tmpl='test_{}.pth')
    build(kind, checkpoint=options).train()
    assert numbers(tmp_path / 'out/run', 'test') == [5, 10, 11]
    saved = torch.load(tmp_path / 'out/run/test_11.pth')
    assert 'optimizer' not in saved and 'param_schedulers' not in saved
    build(kind, 1, folder='all').train()
    assert {'optimizer', 'param_schedulers'} < torch.load(tmp_path / f'all/{kind}_1.pth').keys()


@pytest.mark.parametrize('kind', ['iter', 'epoch'])
@pytest.mark.parametrize('interval', [1, 2])
def test_the_best_is_one_and_is_saved_whole(build, tmp_path, kind, interval):
    options = dict(save_best='test/acc', interval=interval, published_keys=['meta', 'state_dict'])
    build(kind, val=True, checkpoint=options).train()
    folder = tmp_path / 'run'
    best, published = sorted(folder.glob('best_*'), key=lambda file: len(file.name))
    assert best.name == f'best_test_acc_{kind}_5.pth'
    assert published.name.startswith(best.stem) and torch.load(published).keys() == {
        'meta',
        'state_dict',
    }
    for saved in map(torch.load, (best, folder / f'{kind}_5.pth')):
        meta = saved['meta']
        assert (meta['epoch'], meta['iter']) == ((5, 20) if kind == 'epoch' else (0, 5))
    assert saved['message_hub']['runtime_info']['best_ckpt'] == str(best)
    assert len(list(folder.glob(f'{kind}_11-????????.pth'))) == 1


@pytest.mark.parametrize(
    ('options', 'scores', 'best'),
    [
        (dict(save_best='auto'), [dict(acc=0.5, map=0.3)], dict(best_score=0.5)),
        (
            dict(save_best='acc'),
            [dict(acc=0.5), dict(acc=0.8), dict(acc=0.6)],
            dict(best_score=0.8),
        ),
        (dict(save_best='loss'), [dict(loss=0.8), dict(loss=0.5)], dict(best_score=0.5)),
        (dict(save_best='acc', rule='less'), [dict(acc=0.8), dict(acc=0.3)], dict(best_score=0.3)),
        (
            dict(save_best=['acc', 'mIoU']),
            [dict(acc=0.5, mIoU=0.6), dict(acc=0.4, mIoU=0.7)],
            dict(best_score_acc=0.5, best_score_mIoU=0.7),
        ),
        (
            dict(save_best=['FID', 'IS'], rule=['less', 'greater']),
            [dict(FID=2, IS=2), dict(FID=3, IS=3)],
            dict(best_score_FID=2, best_score_IS=3),
        ),
        (dict(save_best=None), [dict(acc=0.5)], {}),
        (dict(save_best='acc'), [{}], {}),
    ],
)
def test_rules_of_the_best(build, tmp_path, options, scores, best):
    runner = build('iter')
    hook = CheckpointHook(by_epoch=False, **options)
    hook.before_train(runner)
    for number, metrics in enumerate(scores):
        runner.train_loop._iter = 9 + number
        hook.after_val_epoch(runner, metrics)
    info = runner.message_hub.runtime_info
    assert {key: value for key, value in info.items() if key.startswith('best_score')} == best
    files = [str(file) for file in (tmp_path / 'run').glob('best_*.pth')]
    assert sorted(files) == sorted(v for k, v in info.items() if k.startswith('best_ckpt'))
    assert len(files) == len(best) and not (tmp_path / 'run/last_checkpoint').exists()


def test_what_the_hook_takes():
    assert issubclass(CheckpointHook, BaseCheckpointHook)
    with pytest.raises(ValueError, match='cannot be set at the same time'):
        CheckpointHook(file_client_args=dict(backend='disk'), backend_args=dict(backend='local'))
    for wrong in (
        dict(save_best=dict(acc='acc')),
        dict(save_best=['auto', 'acc']),
        dict(save_best=['acc'], rule=1),
        dict(save_best=['acc'], rule=['greater', 'loss']),
    ):
        with pytest.raises(AssertionError):
            CheckpointHook(**wrong)
    hook = CheckpointHook(greater_keys='acc', less_keys=['loss_cls'])
    assert (hook.greater_keys, hook.less_keys) == (('acc',), ['loss_cls'])


@pytest.mark.parametrize(('kind', 'progress'), [('epoch', (3, 12)), ('iter', (0, 3))])
def test_loading_and_resuming(build, tmp_path, kind, progress):
    whole = build(kind, 3)
    whole.train()
    file = str(tmp_path / f'run/{kind}_3.pth')
    saved = torch.load(file)
    assert (saved['meta']['epoch'], saved['meta']['iter']) == progress
    assert saved['meta']['experiment_name'] == whole.experiment_name

    loaded = build(kind, 3)
    loaded.load_checkpoint(file)
    assert (loaded.epoch, loaded.iter, loaded._has_loaded) == (0, 0, True)
    assert isinstance(loaded.optim_wrapper, dict) and isinstance(loaded.param_schedulers, dict)

    other = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.2)))
    resumed = build(kind, 3, **other)
    resumed.resume(file)
    automatic = build(kind, 3, resume=True, **other)
    automatic.load_or_resume()
    for runner in (resumed, automatic):
        assert (runner.epoch, runner.iter, runner._has_loaded) == (*progress, True)
        assert runner.optim_wrapper.param_groups[0]['lr'] == pytest.approx(1e-4)
        assert isinstance(runner.param_schedulers[0], MultiStepLR)
        assert len(runner.message_hub.get_scalar('train/lr').data[1]) == progress[1]
    first = build(kind, 3, resume=True, load_from=str(tmp_path / f'run/{kind}_1.pth'))
    first.load_or_resume()
    assert (first.epoch, first.iter) == ((1, 4) if kind == 'epoch' else (0, 1))


def test_resuming_parts(build, tmp_path):
    build('iter', 3).train()
    saved = torch.load(tmp_path / 'run/iter_3.pth')
    for name in ('seed', 'dataset_meta'):
        saved['meta'].pop(name, None)
    del saved['optimizer'], saved['param_schedulers']
    torch.save(saved, tmp_path / 'part.pth')
    runner = build('iter', 3)
    runner.resume(str(tmp_path / 'part.pth'), resume_optimizer=False, resume_param_scheduler=False)
    assert runner.iter == 3 and isinstance(runner.optim_wrapper, dict)
    with pytest.raises(ValueError, match='part.pth: expected optimizer in it'):
        build('iter', 3).resume(str(tmp_path / 'part.pth'))


class TwoOptimizers:
    """A constructor of wrappers, one for each layer."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        self.rates = optim_wrapper_cfg['rates']

    def __call__(self, model):
        layers = {name: getattr(model, name).parameters() for name in self.rates}
        return OptimWrapperDict(
            **{
                name: OptimWrapper(torch.optim.SGD(layer, lr=self.rates[name]))
                for name, layer in layers.items()
            }
        )


@pytest.mark.parametrize(
    'schedule', [None, SCHEDULE, dict(first=SCHEDULE, second=dict(type='StepLR', step_size=2))]
)
def test_several_optimizers_are_resumed(build, tmp_path, monkeypatch, schedule):
    monkeypatch.setitem(OPTIM_WRAPPER_CONSTRUCTORS.module_dict, 'TwoOptimizers', TwoOptimizers)

    def rates(first, second):
        both = dict(first=first, second=second)
        return dict(optim_wrapper=dict(constructor='TwoOptimizers', rates=both))

    build('epoch', 3, param_scheduler=schedule, **rates(0.01, 0.02)).train()
    runner = build('epoch', 3, param_scheduler=schedule, **rates(0.3, 0.4))
    runner.resume(str(tmp_path / 'run/epoch_3.pth'))
    found = [wrapper.param_groups[0]['lr'] for wrapper in runner.optim_wrapper.values()]
    if schedule is None:
        assert found == [0.01, 0.02] and runner.param_schedulers is None
        return
    kinds = [MultiStepLR, MultiStepLR if schedule is SCHEDULE else StepLR]
    assert [type(some[0]) for some in runner.param_schedulers.values()] == kinds
    assert found == pytest.approx([1e-4, 2e-4 if schedule is SCHEDULE else 0.002])


def test_what_the_amp_wrapper_takes(pretend_cpu):
    pretend_cpu('AMX')
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for scale in ('dynamic', 512.0, dict(init_scale=1, growth_factor=2)):
        assert AmpOptimWrapper(scale, optimizer=optimizer).cast_dtype == torch.bfloat16
    with pytest.raises(TypeError, match='loss_scale must be of type float'):
        AmpOptimWrapper('unknown', optimizer=optimizer)
    wrapper = AmpOptimWrapper(optimizer=optimizer, accumulative_counts=2)
    with wrapper.optim_context(model):
        loss = model(torch.ones(1, 1)).float().sum()
    wrapper.update_params(loss)
    state = wrapper.state_dict()
    other = AmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.2))
    other.load_state_dict(state)
    assert other.optimizer.state_dict() == optimizer.state_dict()
    other.load_state_dict(torch.optim.SGD(model.parameters(), lr=0.3).state_dict())
    assert other.optimizer.param_groups[0]['lr'] == 0.3
