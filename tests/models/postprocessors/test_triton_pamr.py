"""In a process of its own: the interpreter is chosen before Triton is imported."""

import logging
import os
import subprocess
import sys

import pytest
import torch

from mmseg_siglip.models.postprocessors import compiled_pamr, pamr

pytest.importorskip('triton')

INTERPRETED = """
import torch
from oracles import pamr
from mmseg_siglip.models.postprocessors.compiled_pamr import triton_kernel
from mmseg_siglip.models.postprocessors.pamr import PAMRPostProcessor, affinity
from mmseg_siglip.models.postprocessors.triton_pamr import iterate_by_triton

torch.manual_seed(0)
for size, num_iter, dilations in [
    ((12, 17), 1, (1,)), ((40, 33), 3, (2, 5)), ((5, 70), 2, (8, 16)), ((1, 1), 2, (3,))
]:
    images, logits = torch.randn(2, 3, *size), torch.randn(2, *size, 3).permute(0, 3, 1, 2)
    before = logits.clone()
    found = iterate_by_triton(logits, affinity(images, dilations), dilations, num_iter)
    for image, mask, one in zip(images, logits, found, strict=True):
        expected = pamr(image, mask, num_iter, dilations)
        torch.testing.assert_close(one, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(logits, before)
assert iterate_by_triton(logits[:, :0], affinity(images, (3,)), (3,), 2).shape == (2, 0, 1, 1)

refine = PAMRPostProcessor(num_iter=2, dilations=(3,), compiled=True)
kernel = triton_kernel(torch.device('cpu'))
given = dict(dilations=refine.dilations, num_iter=refine.num_iter)
weights = affinity(images, (3,)).unsqueeze(2)
torch.testing.assert_close(kernel(logits, weights, **given), refine._refine(logits, weights))
print('equal')
"""


def test_torch_refines_where_the_kernel_does_not_run(monkeypatch):
    lines = []
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(compiled_pamr, 'print_log', lambda *args: lines.append(args))
    compiled_pamr.triton_kernel.cache_clear()
    assert compiled_pamr.triton_kernel(torch.device('cpu')) is None
    assert compiled_pamr.triton_kernel(torch.device('cpu')) is None
    compiled_pamr.triton_kernel.cache_clear()
    [(line, _, level)] = lines
    assert line.startswith('PAMR runs without its compiled kernel, slower: ')
    assert level == logging.WARNING


def test_a_gpu_is_refined_by_the_kernel_when_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(
        pamr, 'triton_kernel', lambda device: asked.append(device) or (lambda *_, **o: o)
    )
    refine = pamr.PAMRPostProcessor(num_iter=4, dilations=(2,), compiled=True)
    assert refine._by_triton(torch.device('cpu')) is None
    assert refine._by_triton(torch.device('cuda:0'))(None, None) == dict(dilations=(2,), num_iter=4)
    assert asked == [torch.device('cuda:0')]


def test_equals_the_oracle_in_the_interpreter(repository):
    paths = os.pathsep.join(str(repository / part) for part in ('.', 'tests'))
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': paths}
    found = subprocess.run(
        [sys.executable, '-c', INTERPRETED], env=environment, capture_output=True, text=True
    )
    assert found.stdout.split() == ['equal'], found.stderr
