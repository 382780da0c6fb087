import pytest
import torch

from mmseg_siglip.models.backbones import block
from mmseg_siglip.models.backbones.block import merge_heads, split_heads


@pytest.mark.parametrize('units', [False, True])
@pytest.mark.parametrize('chunk_bytes', [1, 2 * 2 * 2 * 17 * 5, 2**24])
@pytest.mark.parametrize('biased', [False, True])
@torch.no_grad()
def test_some_queries_at_a_time_in_half_precision(monkeypatch, units, chunk_bytes, biased):
    """With a CPU's matrix units and without, within what bfloat16 rounds."""
    dtype = torch.bfloat16 if units else torch.float32
    monkeypatch.setattr(block, 'compute_dtype', lambda precision, device: dtype)
    monkeypatch.setattr(block, 'CHUNK_BYTES', chunk_bytes)
    fused = []
    original = block.scaled_dot_product_attention
    monkeypatch.setattr(
        block,
        'scaled_dot_product_attention',
        lambda *args, **options: (fused.append(1), original(*args, **options))[1],
    )
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 17, 8)
    bias = torch.randn(17, 17) if biased else None
    logits = q @ k.transpose(-1, -2) / 8**0.5 + (0 if bias is None else bias)
    expected = logits.softmax(-1) @ v
    half = [None if x is None else x.bfloat16() for x in (q, k, v, bias)]
    torch.testing.assert_close(block.attend(*half).float(), expected, atol=0.03, rtol=0.03)
    assert bool(fused) == (not units)
    torch.testing.assert_close(block.attend(q, k, v, bias), expected)


def test_gradients_go_through_the_fused_kernel(monkeypatch):
    monkeypatch.setattr(block, 'compute_dtype', lambda precision, device: torch.bfloat16)
    q, k, v = (torch.randn(1, 2, 17, 8, dtype=torch.bfloat16, requires_grad=True) for _ in 'qkv')
    found = block.attend(q, k, v)
    assert found.grad_fn.name().startswith('ScaledDotProduct')


def test_plain_attention_is_the_same():
    q, k, v = torch.randn(3, 2, 2, 17, 8)
    torch.testing.assert_close(block.attend_plainly(q, k, v), block.attend(q, k, v))


def test_heads_round_trip():
    x = torch.randn(2, 7, 12)
    assert split_heads(x, 3).shape == (2, 3, 7, 4)
    torch.testing.assert_close(merge_heads(split_heads(x, 3)), x)
