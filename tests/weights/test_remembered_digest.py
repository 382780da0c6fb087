import pytest
import torch
from torch import nn

from mmseg_siglip.weights import remembered_digest as module
from mmseg_siglip.weights.differences import tensors_digest
from mmseg_siglip.weights.remembered_digest import fingerprint, remembered_digest


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))


@pytest.fixture
def counted(monkeypatch):
    calls = []

    def count(state):
        calls.append(len(state))
        return tensors_digest(state)

    monkeypatch.setattr(module, 'tensors_digest', count)
    return calls


def test_it_is_computed_once(layer, counted):
    for _ in range(3):
        assert remembered_digest(layer, layer.state_dict()) == tensors_digest(layer.state_dict())
    with torch.inference_mode():
        remembered_digest(layer, layer.state_dict())
    assert len(counted) == 1


@pytest.mark.parametrize(
    'change',
    [
        lambda weight: weight.data.add_(1e-7 * weight.abs().max()),
        lambda weight: weight.data.mul_(-1),
        lambda weight: weight.data[1, 2].add_(1e-6),
        lambda weight: weight.data.copy_(weight.flip(0)),
    ],
)
def test_a_change_is_seen_also_through_data(layer, counted, change):
    before = remembered_digest(layer, layer.state_dict())
    change(layer[0].weight)
    after = remembered_digest(layer, layer.state_dict())
    assert before != after == tensors_digest(layer.state_dict()) and len(counted) == 2


def test_a_step_of_training_and_other_weights(layer, counted):
    with torch.no_grad():
        layer[0].bias += 1
    first = remembered_digest(layer, layer.state_dict())
    with torch.no_grad():
        layer[0].weight[:, [0, 1]] = layer[0].weight[:, [1, 0]]  # the sum stays
    assert remembered_digest(layer, layer.state_dict()) != first
    layer.half()
    assert remembered_digest(layer, layer.state_dict()) == tensors_digest(layer.state_dict())


def test_any_type_and_shape():
    state = dict(a=torch.tensor(3), b=torch.zeros(2, 3, dtype=torch.bfloat16))
    state |= dict(c=torch.ones(5, dtype=torch.bool), d=torch.arange(9, dtype=torch.uint8)[1:])
    same = fingerprint(state)
    assert fingerprint(dict(state)) == same != fingerprint(dict(state, a=torch.tensor(4)))
    with torch.inference_mode():
        assert fingerprint(dict(a=torch.zeros(3))) == fingerprint(dict(a=torch.zeros(3)))
    assert fingerprint({}) == fingerprint({})


@pytest.mark.parametrize(
    'change',
    [lambda x: x.neg_(), lambda x: x[:, 1::2].neg_(), lambda x: x[::2].neg_()],
)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_signs_are_seen(dtype, change):
    value = torch.randn(256, 2048).to(dtype)
    before = fingerprint(dict(a=value))
    change(value.data)
    assert fingerprint(dict(a=value)) != before


def test_values_that_change_places_are_seen():
    value = torch.randn(3 * 2048 + 8)
    seen = {fingerprint(dict(a=value))}
    for first, second in ((0, 2), (4096, 6), (2, 2050), (6146, 6148)):
        pair = value[[first, first + 1, second, second + 1]]
        value.data[[second, second + 1, first, first + 1]] = pair
        seen.add(fingerprint(dict(a=value)))
    assert len(seen) == 5


def test_a_change_anywhere_in_a_long_tensor_is_seen():
    value = torch.randn(3 * 2048 + 7)
    before = fingerprint(dict(a=value))
    for place in (0, 2047, 2048, 5000, 6143, 6144, 6150):
        value.data[place] += 1e-3
        after = fingerprint(dict(a=value))
        assert after != before
        before = after
