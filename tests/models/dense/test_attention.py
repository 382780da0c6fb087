import pytest
import torch
from oracles import attend

from mmseg_siglip.models.dense import attention
from mmseg_siglip.models.dense.attention import (
    ATTENTIONS,
    gaussian_bias,
    get_attention,
    merge_heads,
    split_heads,
)

GRID = (3, 5)


@pytest.mark.parametrize('name', ATTENTIONS)
def test_mix_equals_the_formula(name):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 1 + 15, 4)
    mixed = ATTENTIONS[name].mix(q[None], k[None], v[None], grid=GRID, num_prefix=1)[0]
    torch.testing.assert_close(mixed, attend(name, q, k, v, GRID))


@pytest.mark.parametrize('units', [False, True])
@pytest.mark.parametrize('chunk_bytes', [1, 2 * 2 * 2 * 17 * 5, 2**24])
@pytest.mark.parametrize('biased', [False, True])
@torch.no_grad()
def test_some_queries_at_a_time_in_half_precision(monkeypatch, units, chunk_bytes, biased):
    """With a CPU's matrix units and without, within what bfloat16 rounds."""
    dtype = torch.bfloat16 if units else torch.float32
    monkeypatch.setattr(attention, 'compute_dtype', lambda precision, device: dtype)
    monkeypatch.setattr(attention, 'CHUNK_BYTES', chunk_bytes)
    fused = []
    original = attention.scaled_dot_product_attention
    monkeypatch.setattr(
        attention,
        'scaled_dot_product_attention',
        lambda *args, **options: (fused.append(1), original(*args, **options))[1],
    )
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 17, 8)
    bias = torch.randn(17, 17) if biased else None
    logits = q @ k.transpose(-1, -2) / 8**0.5 + (0 if bias is None else bias)
    expected = logits.softmax(-1) @ v
    half = [None if x is None else x.bfloat16() for x in (q, k, v, bias)]
    torch.testing.assert_close(attention.attend(*half).float(), expected, atol=0.03, rtol=0.03)
    assert bool(fused) == (not units)
    torch.testing.assert_close(attention.attend(q, k, v, bias), expected)


def test_gradients_go_through_the_fused_kernel(monkeypatch):
    monkeypatch.setattr(attention, 'compute_dtype', lambda precision, device: torch.bfloat16)
    q, k, v = (torch.randn(1, 2, 17, 8, dtype=torch.bfloat16, requires_grad=True) for _ in 'qkv')
    found = attention.attend(q, k, v)
    assert found.grad_fn.name().startswith('ScaledDotProduct')


def test_rows_of_csa_sum_to_two():
    v = torch.ones(1, 2, 16, 4)
    q, k = torch.randn(2, 1, 2, 16, 4)
    mixed = ATTENTIONS['csa'].mix(q, k, v, grid=GRID, num_prefix=1)
    torch.testing.assert_close(mixed, torch.full_like(mixed, 2.0))


def test_gaussian_bias_by_hand():
    bias = gaussian_bias(GRID, 1)
    assert bias.shape == (16, 16)
    assert bias[0].eq(0).all() and bias[:, 0].eq(0).all()
    assert bias.diag()[1:].eq(1).all()
    knight = torch.tensor(-(2**2 + 1**2) / 50.0).exp()
    torch.testing.assert_close(bias[1, 1 + 2 * 5 + 1], knight)


def test_reduced_methods_drop_residual_and_ffn():
    kept = {name: (method.residual, method.ffn) for name, method in ATTENTIONS.items()}
    assert kept == {
        'vanilla': (True, True),
        'maskclip': (False, False),
        'csa': (True, True),
        'clearclip': (False, False),
        'naclip': (False, False),
    }


@pytest.mark.parametrize('name', ATTENTIONS)
def test_reads_is_what_the_result_depends_on(name):
    torch.manual_seed(0)
    qkv = [torch.randn(1, 2, 15, 4, requires_grad=True) for _ in 'qkv']
    ATTENTIONS[name].mix(*qkv, grid=GRID, num_prefix=0).square().sum().backward()
    read = [part for part, x in zip('qkv', qkv, strict=True) if x.grad is not None]
    assert ATTENTIONS[name].reads == ''.join(read)


def test_unknown_name():
    with pytest.raises(ValueError, match="unknown attention 'qkv'; expected one of vanilla"):
        get_attention('qkv')


def test_heads_round_trip():
    x = torch.randn(2, 7, 12)
    assert split_heads(x, 3).shape == (2, 3, 7, 4)
    torch.testing.assert_close(merge_heads(split_heads(x, 3)), x)
