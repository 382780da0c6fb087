import pytest
import torch

from mmseg_siglip.precision import autocast, compute_dtype

CPU = torch.device('cpu')


def test_named_formats():
    assert compute_dtype('fp32', CPU) is torch.float32
    assert compute_dtype('bf16', CPU) is torch.bfloat16
    assert compute_dtype('fp16', CPU) is torch.float16


@pytest.mark.parametrize('amx', [True, False])
@pytest.mark.parametrize('avx', [True, False])
def test_auto_follows_the_units_for_bfloat16(monkeypatch, amx, avx):
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: amx)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: avx)
    expected = torch.bfloat16 if amx or avx else torch.float32
    assert compute_dtype('auto', CPU) is expected


@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
def test_products_run_in_that_format(precision):
    a = torch.randn(4, 4)
    with autocast(precision, CPU):
        assert (a @ a).dtype is compute_dtype(precision, CPU)


def test_unknown():
    with pytest.raises(ValueError, match="unknown precision 'int8'; expected one of auto, fp32"):
        compute_dtype('int8', CPU)
