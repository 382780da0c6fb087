import re

import pytest
import torch

from mmseg_siglip.precision import (
    autocast,
    compute_dtype,
    compute_name,
    cpu_kind,
    training_attention,
)

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


@pytest.mark.parametrize('kind', ['AMX', 'AVX512-BF16', 'AVX512', 'AVX2', 'aarch64'])
def test_each_kind_of_cpu(pretend_cpu, kind):
    pretend_cpu(kind)
    assert cpu_kind() == kind
    multiplies = kind in ('AMX', 'AVX512-BF16')
    assert compute_dtype('auto', CPU) is (torch.bfloat16 if multiplies else torch.float32)
    assert compute_dtype('bf16', CPU) is torch.bfloat16
    assert compute_name('auto', CPU) == ('bf16' if multiplies else 'fp32')
    assert compute_name('fp16', CPU) == 'fp16'


@pytest.mark.parametrize('kind', ['AMX', 'AVX512-BF16', 'AVX512', 'AVX2', 'aarch64'])
@pytest.mark.parametrize('gpu', [False, True])
def test_attention_trains_as_is_fast(monkeypatch, pretend_cpu, kind, gpu):
    pretend_cpu(kind)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    plain = kind in ('AMX', 'AVX512-BF16') and not gpu
    assert training_attention() == ('eager' if plain else 'sdpa')
    assert training_attention('eager') == 'eager' and training_attention('sdpa') == 'sdpa'


def test_no_other_file_decides(repository):
    """Contexts of half precision and the units of CPUs are in `precision.py` alone."""
    for folder in ('mmseg_siglip', 'tools', 'benchmarks', 'configs'):
        for path in (repository / folder).rglob('*.py'):
            if path == repository / 'mmseg_siglip/precision.py':
                continue
            text = path.read_text()
            opened = re.findall(r'torch(?:\.amp|\.cpu\.amp)?\.autocast\([^)]*\)', text)
            assert all(call.endswith('enabled=False)') for call in opened), path
            assert not re.search(r'torch\.cpu\._is|optim import AmpOptimWrapper$', text), path
            assert not re.search(r'AmpOptimWrapper\([^)]*force', text), path


@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
def test_products_run_in_that_format(precision):
    a = torch.randn(4, 4)
    with autocast(precision, CPU):
        assert (a @ a).dtype is compute_dtype(precision, CPU)


def test_unknown():
    with pytest.raises(ValueError, match="unknown precision 'int8'; expected one of auto, fp32"):
        compute_dtype('int8', CPU)
