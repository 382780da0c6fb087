from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d

from mmseg_siglip.models.decode_heads.cat_seg_decoder import Up, folded_kernel


def test_folded_kernel_by_hand():
    """One channel, ones everywhere: each output counts the inputs that it sees, inside."""
    kernel = folded_kernel(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3))
    assert kernel.shape == (4, 1, 2, 2)
    # Row 0 of a phase pair sees one upsampled row of the input above and two of its own.
    assert kernel[0, 0].tolist() == [[1, 2], [2, 4]] and kernel[3, 0].tolist() == [[4, 2], [2, 1]]


@pytest.mark.parametrize('grid', [(5, 7), (1, 1), (2, 9)])
@torch.no_grad()
def test_step_equals_its_convolutions_one_after_another(grid):
    torch.manual_seed(0)
    up, batch, classes = Up(16, 32, 6), 2, 3
    x = torch.randn(batch * classes, 16, *grid)
    guidance = torch.randn(batch, 6, 2 * grid[0], 2 * grid[1])
    y = conv_transpose2d(x, up.up.weight, up.up.bias, stride=2)
    y = torch.cat([y, guidance.repeat_interleave(classes, 0)], 1)
    y = nn.functional.relu(up.norm1(conv2d(y, up.conv1.weight, padding=1)))
    y = nn.functional.relu(up.norm2(up.conv2(y)))
    torch.testing.assert_close(up(x, up.guide(guidance), up.kernel()), y, atol=1e-5, rtol=1e-4)
