import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from mmseg_siglip.cli.main import main
from mmseg_siglip.engine import AmpOptimWrapper, optim_wrapper


def build(**options):
    config = dict(optimizer=dict(type='SGD', lr=0.1)) | dict(type='AmpOptimWrapper') | options
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    with DefaultScope.overwrite_default_scope('mmseg_siglip'):
        return model, build_optim_wrapper(model, config)


@pytest.fixture
def wrapper(pretend_cpu):
    pretend_cpu('AMX')
    return build(dtype='bfloat16')


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(optim_wrapper, 'print_log', lambda line, logger: lines.append(line))
    return lines


def forward(model, optimizer):
    torch.manual_seed(1)
    with optimizer.optim_context(model):
        return model(torch.randn(3, 4))


def test_ours_is_built(wrapper):
    assert isinstance(wrapper[1], AmpOptimWrapper)


def test_products_run_in_bfloat16_on_a_cpu_and_weights_stay_float32(wrapper):
    model, optimizer = wrapper
    before = model.weight.detach().clone()
    with optimizer.optim_context(model):
        out = model(torch.randn(3, 4))
    assert out.dtype == torch.bfloat16
    optimizer.update_params(out.float().square().mean())
    assert model.weight.dtype == torch.float32 and not torch.equal(model.weight, before)


@pytest.mark.parametrize('kind', ['AMX', 'AVX512-BF16'])
def test_a_cpu_that_multiplies_bfloat16_uses_it(pretend_cpu, said, kind):
    pretend_cpu(kind)
    assert forward(*build(dtype='bfloat16')).dtype == torch.bfloat16
    assert said == [f'AmpOptimWrapper: runs in bfloat16, for which this CPU ({kind}) has units.']


@pytest.mark.parametrize('options', [{}, dict(dtype='bfloat16')], ids=['mixed', 'bfloat16'])
@pytest.mark.parametrize('kind', ['AVX512', 'AVX2', 'aarch64'])
def test_a_cpu_that_does_not_trains_as_without_and_says_so(pretend_cpu, said, kind, options):
    pretend_cpu(kind)
    model, optimizer = build(**options)
    (line,) = said
    assert f'asked for bfloat16, runs in float32: this CPU ({kind}) has no units' in line
    plain = torch.nn.Linear(4, 2)
    plain.load_state_dict(model.state_dict())
    plainly = OptimWrapper(optimizer=torch.optim.SGD(plain.parameters(), lr=0.1))
    for _ in range(2):
        for a, b in ((model, optimizer), (plain, plainly)):
            b.update_params(forward(a, b).square().mean())
    assert torch.equal(model.weight, plain.weight)


def test_who_insists_gets_bfloat16_anywhere(pretend_cpu, said):
    pretend_cpu('AVX2')
    assert forward(*build(dtype='bfloat16', force=True)).dtype == torch.bfloat16
    assert said == ['AmpOptimWrapper: runs in bfloat16, because optim_wrapper.force=True insists.']


@pytest.mark.parametrize('kind', ['AMX', 'AVX2'])
@pytest.mark.parametrize(
    'config',
    [
        *('cat_seg/shapes', 'dpt/nyu_frozen', 'dpt/kitti_finetune', 'normals/nyu'),
        *('refer_sam/shapes_cascade', 'refer_sam/shapes_rsrefseg2', 'refer_sam/rsrefseg2'),
    ],
)
def test_configs_of_all_systems_take_what_is_fast(pretend_cpu, said, repository, config, kind):
    pretend_cpu(kind)
    wrapper = Config.fromfile(repository / f'configs/{config}.py').optim_wrapper
    _, optimizer = build(**{k: wrapper[k] for k in ('type', 'dtype') if k in wrapper})
    expected = torch.bfloat16 if kind == 'AMX' else torch.float32
    assert optimizer.cast_dtype == expected and kind in said[0]


def test_another_format_is_refused():
    with pytest.raises(ValueError, match='expected dtype bfloat16, found float16'):
        build(dtype='float16')


@pytest.mark.parametrize(('first', 'second'), [('AMX', 'AVX2'), ('AVX2', 'AMX')])
def test_training_goes_on_on_another_kind_of_cpu(pretend_cpu, tiny_config, tmp_path, first, second):
    def log():
        return ''.join(file.read_text() for file in (tmp_path / 'run').glob('*/*.log'))

    argv = [str(tiny_config), '--amp', '--work-dir', str(tmp_path / 'run'), '--resume']
    for kind, iterations in ((first, 2), (second, 4)):
        pretend_cpu(kind)
        assert main(['train', *argv, '--cfg-options', f'train_cfg.max_iters={iterations}']) == 0
    momenta = torch.load(tmp_path / 'run/iter_4.pth')['optimizer']['state']
    assert all(state['momentum_buffer'].dtype == torch.float32 for state in momenta.values())
    assert 'resumed epoch: 0, iter: 2' in log()
    assert log().count('asked for bfloat16, runs in float32') == 1


def test_a_scale_begins_anew_after_a_cpu(wrapper):
    model, optimizer = wrapper
    forward(*wrapper).float().sum().backward()
    optimizer.optimizer.step()
    saved = optimizer.state_dict()
    optimizer.loss_scaler = torch.amp.GradScaler('cpu', init_scale=8.0)  # as a GPU's is
    optimizer.load_state_dict(saved)
    assert optimizer.loss_scaler.get_scale() == 8.0
    scaled = optimizer.state_dict()
    assert scaled['loss_scaler']['scale'] == 8.0
    wrapper[1].load_state_dict(scaled | dict(loss_scaler=scaled['loss_scaler'] | dict(scale=4.0)))
    assert optimizer.loss_scaler.get_scale() == 4.0


def test_state_round_trip(wrapper):
    _, optimizer = wrapper
    optimizer.load_state_dict(optimizer.state_dict())


def test_attention_on_a_cpu_is_not_the_fused_one(wrapper):
    """Neither in the forward pass nor where the backward pass computes it again."""
    _, optimizer = wrapper
    attention = torch.nn.functional.scaled_dot_product_attention
    q = torch.randn(1, 2, 5, 8, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        with optimizer.optim_context(torch.nn.Module()):
            out = checkpoint(
                attention, q.bfloat16(), q.bfloat16(), q.bfloat16(), use_reentrant=False
            )
        optimizer.backward(out.float().sum())
    names = {event.key for event in profiler.key_averages()}
    assert not any('flash' in name for name in names) and 'aten::_softmax' in names
    torch.testing.assert_close(out.float(), attention(q, q, q), atol=0.02, rtol=0.02)
    assert q.grad.abs().sum() > 0
    assert not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
