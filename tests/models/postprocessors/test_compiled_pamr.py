import logging
import subprocess
from concurrent.futures import ThreadPoolExecutor
from shutil import which

import pytest
import torch
from oracles import pamr

from mmseg_siglip.models.postprocessors import compiled_pamr
from mmseg_siglip.models.postprocessors.pamr import PAMRPostProcessor, affinity

needs_compiler = pytest.mark.skipif(
    not any(map(which, compiled_pamr.COMPILERS)), reason='no C compiler is found'
)


@pytest.fixture
def unbuilt():
    """As in a process that has compiled nothing, before and after."""
    compiled_pamr.library.cache_clear()
    yield
    compiled_pamr.library.cache_clear()


@pytest.fixture(autouse=True)
def threads():
    found = torch.get_num_threads()
    yield
    torch.set_num_threads(found)


def both(images, logits, **options):
    plain = PAMRPostProcessor(**options)(images, logits)
    return PAMRPostProcessor(compiled=True, **options)(images, logits), plain


@pytest.fixture
def no_plain_path(monkeypatch):
    def refuse(*_):
        raise AssertionError('torch refined')

    monkeypatch.setattr(PAMRPostProcessor, '_refine', refuse)


@needs_compiler
@pytest.mark.parametrize('default', [torch.float64, torch.bfloat16])
def test_whatever_type_torch_makes_by_default(no_plain_path, default):
    images, logits = torch.rand(1, 3, 14, 25), torch.randn(1, 8, 14, 25)
    expected = PAMRPostProcessor(compiled=True)(images, logits)
    torch.set_default_dtype(default)
    try:
        found = PAMRPostProcessor(compiled=True)(images, logits)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


@pytest.mark.parametrize('shape', [(2, 1, 9, 7), (2, 4, 9, 7), (1, 3, 9, 7)])
def test_images_of_other_shapes_are_refined_as_without(shape):
    images, logits = torch.rand(shape), torch.randn(2, 5, 9, 7)
    assert torch.equal(*both(images, logits))


@needs_compiler
@pytest.mark.parametrize('count', [1, 3])
@pytest.mark.parametrize('size', [(40, 33), (5, 300), (1, 1), (130, 7)])
@pytest.mark.parametrize(('num_iter', 'dilations'), [(1, (1,)), (4, (2, 5, 3)), (10, (8, 16))])
def test_equals_the_oracle(no_plain_path, size, num_iter, dilations, count):
    torch.manual_seed(0)
    torch.set_num_threads(count)
    images, logits = torch.randn(2, 3, *size), torch.randn(2, 11, *size)
    found = PAMRPostProcessor(num_iter=num_iter, dilations=dilations, compiled=True)(images, logits)
    expected = torch.stack(
        [pamr(*pair, num_iter, dilations) for pair in zip(images, logits, strict=True)]
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@needs_compiler
def test_affinity_equals_the_plain_one():
    image, dilations = torch.randn(3, 21, 150), (1, 9)
    image[:, 5:, :40] = 0.25  # no deviation
    with ThreadPoolExecutor(2) as pool:
        found = compiled_pamr.compiled_affinity(compiled_pamr.library(), pool, image, dilations)
    by_neighbour = found.permute(2, 0, 1, 3).flatten(2)[..., :150]
    expected = affinity(image[None], dilations)[0]
    torch.testing.assert_close(by_neighbour, expected, atol=1e-6, rtol=1e-4)


@needs_compiler
def test_any_layout_of_memory_which_stays_as_it_was(no_plain_path):
    images = torch.randn(2, 20, 30, 3).permute(0, 3, 1, 2)
    logits = torch.randn(2, 9, 30, 20).transpose(2, 3)
    before = logits.clone()
    refine = PAMRPostProcessor(num_iter=2, dilations=(3,), compiled=True)
    with torch.inference_mode():
        found = refine(images, logits)
    assert torch.equal(found, refine(images.contiguous(), logits.contiguous()))
    assert torch.equal(logits, before) and found.is_contiguous()


@needs_compiler
@pytest.mark.parametrize('channels', [0, 1, 2, 17])
def test_any_number_of_channels(no_plain_path, channels):
    torch.set_num_threads(3)
    images, logits = torch.randn(1, 3, 12, 9), torch.randn(1, channels, 12, 9)
    found = PAMRPostProcessor(num_iter=2, compiled=True)(images, logits)
    assert found.shape == logits.shape
    for c in range(channels):
        torch.testing.assert_close(
            found[0, c], pamr(images[0], logits[0, c : c + 1], 2, (8, 16))[0]
        )


@needs_compiler
def test_numbers_that_are_none_spread_as_in_torch():
    images, logits = torch.randn(1, 3, 12, 30), torch.randn(1, 2, 12, 30)
    logits[0, 0, 4, 11], logits[0, 1, 3, 3] = torch.nan, torch.inf
    found, plain = both(images, logits, num_iter=1, dilations=(2,))
    torch.testing.assert_close(found, plain, equal_nan=True)


@needs_compiler
def test_smaller_logits_are_resized():
    found, plain = both(torch.randn(1, 3, 20, 30), torch.randn(1, 2, 5, 6), num_iter=2)
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_other_types_are_torchs(monkeypatch, dtype):
    monkeypatch.setattr(compiled_pamr, 'library', lambda: pytest.fail('not for this type'))
    found, plain = both(torch.randn(1, 3, 9, 9), torch.randn(1, 2, 9, 9).to(dtype), num_iter=2)
    assert found.dtype == dtype and torch.equal(found, plain)


@needs_compiler
def test_several_threads_at_once(unbuilt):
    refine = PAMRPostProcessor(num_iter=3, compiled=True)
    pairs = [(torch.randn(1, 3, 30, 40), torch.randn(1, 5, 30, 40)) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: refine(*pair), pairs))
    for pair, one in zip(pairs, found, strict=True):
        assert torch.equal(one, refine(*pair))


@pytest.mark.parametrize(
    ('compiler', 'said'),
    [
        ('no_such_compiler', 'No such file or directory'),
        ("sh -c 'echo out of order >&2; exit 1'", 'out of order'),
        ('true', 'cannot open shared object file'),
    ],
)
def test_without_a_compiler_torch_refines_and_the_log_says_so(unbuilt, monkeypatch, compiler, said):
    monkeypatch.setenv('CC', compiler)
    lines = []
    monkeypatch.setattr(compiled_pamr, 'print_log', lambda *args: lines.append(args))
    images, logits = torch.randn(1, 3, 9, 9), torch.randn(1, 2, 9, 9)
    for _ in range(2):
        found, plain = both(images, logits, num_iter=2)
        assert torch.equal(found, plain)
    [(line, _, level)] = lines
    assert level == logging.WARNING
    assert line.startswith('PAMR runs without its compiled loops, slower: ') and said in line


def test_no_compiler_at_all(unbuilt, monkeypatch):
    monkeypatch.delenv('CC', raising=False)
    monkeypatch.setattr(compiled_pamr, 'which', lambda _: None)
    with pytest.raises(ValueError, match=r'no C compiler is found \(cc, gcc, clang\)'):
        compiled_pamr.compile_loops()


def test_nothing_is_compiled_before_a_picture(unbuilt, monkeypatch):
    monkeypatch.setattr(subprocess, 'run', lambda *_, **__: pytest.fail('compiled'))
    PAMRPostProcessor(compiled=True)
    PAMRPostProcessor()(torch.randn(1, 3, 9, 9), torch.randn(1, 2, 9, 9))
