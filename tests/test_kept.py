import pytest
import torch
from torch import nn

from mmseg_siglip.kept import LastUsed, channels, constant

CPU = torch.device('cpu')


def test_the_last_used_are_kept():
    kept, made = LastUsed(2), []

    def get(key):
        return kept(key, lambda: made.append(key) or torch.tensor(len(made)))

    assert get('a') is get('a') and made == ['a']
    get('b'), get('a'), get('c'), get('a')
    assert made == ['a', 'b', 'c'] and len(kept) == 2
    get('b')
    assert made[-1] == 'b'
    kept.clear()
    get('b')
    assert len(made) == 5 and len(kept) == 1


@pytest.mark.parametrize('values', [(1, 2, 3), ((1.0, 2.0), (3.0, 4.0))])
def test_a_constant(values):
    one = constant(values, dtype=torch.float32, device=CPU)
    assert torch.equal(one, torch.tensor(values, dtype=torch.float32))
    assert constant(values, dtype=torch.float32, device=CPU) is one
    other = constant(values, dtype=torch.float64, device=CPU)
    assert other.dtype == torch.float64
    assert torch.equal(channels((1.0, 2.0), one), torch.tensor([[[1.0]], [[2.0]]]))


def test_inference_mode_poisons_nothing():
    """What is made in inference mode is trained through later."""
    with torch.inference_mode():
        kept = constant((3.25, 4.5), dtype=torch.float32, device=CPU)
    x = torch.ones(2, requires_grad=True)
    (x * kept).sum().backward()
    assert not kept.is_inference() and torch.equal(x.grad, kept)


class Scaled(nn.Module):
    def forward(self, x):
        return x * constant((5.5, 6.5), dtype=x.dtype, device=x.device)


def test_export_poisons_nothing():
    """Nothing that stands for no values is kept, and what is kept is exported as what it is."""
    x = torch.randn(3, 2)
    exported = torch.export.export(Scaled(), (x,))
    expected = Scaled()(x)
    assert type(expected) is torch.Tensor and torch.equal(expected, x * torch.tensor([5.5, 6.5]))
    assert torch.equal(exported.module()(x), expected)
    assert torch.equal(torch.export.export(Scaled(), (x,)).module()(x), expected)
    assert torch.equal(Scaled()(x), expected)


def test_bytes_are_bounded_too():
    kept = LastUsed(100, most_bytes=1000)
    for key in range(5):
        kept(key, lambda: (torch.zeros(50), [torch.zeros(25)]))
    assert len(kept) == 3
    large = kept('large', lambda: torch.zeros(1000))
    assert large.shape == (1000,) and len(kept) == 3
