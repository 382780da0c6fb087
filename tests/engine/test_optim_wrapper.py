import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from mmseg_siglip.engine import AmpOptimWrapper


@pytest.fixture
def wrapper():
    config = dict(type='AmpOptimWrapper', dtype='bfloat16', optimizer=dict(type='SGD', lr=0.1))
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    with DefaultScope.overwrite_default_scope('mmseg_siglip'):
        return model, build_optim_wrapper(model, config)


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
