import copy

import pytest
import torch
from torch import nn

from mmseg_siglip.models.guides import Frozen, all_weights


@pytest.fixture
def owner():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), Frozen(nn.Sequential(nn.Linear(3, 2), nn.Dropout())))


def test_it_is_not_seen(owner):
    assert list(owner.state_dict()) == ['0.weight', '0.bias']
    assert len(list(owner.parameters())) == 2
    owner.train()
    assert not owner[1].model.training
    x = torch.randn(4, 3)
    assert torch.equal(owner(x), owner(x)) and not owner(x).requires_grad


def test_it_moves_and_is_copied_with_its_owner(owner):
    held = owner[1].model[0]
    twin = copy.deepcopy(owner)
    owner.to(torch.float64)
    assert held.weight.dtype == torch.float64
    assert twin[1].model[0].weight.dtype == torch.float32 and twin[1].model is not owner[1].model


def test_all_weights_are_its_owners_and_its_own(owner):
    weights = all_weights(owner)
    assert set(weights) == {'0.weight', '0.bias', '1.0.weight', '1.0.bias'}
    assert torch.equal(weights['1.0.weight'], owner[1].model[0].weight)
