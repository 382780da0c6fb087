import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

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
