"""What its equality with the published formulas (`test_rsrefseg2.py`) does not show."""

import pytest
import torch
from torch.nn.functional import interpolate

from mmseg_siglip.models.decode_heads.sam_prompter_rsrefseg2 import RSRefSeg2Prompter
from mmseg_siglip.models.decode_heads.text_visual_activation import TextFeatures

C, E = 12, 8
OPTIONS = dict(scale=9.0, bias=-3.0)


def build(grid=(4, 4)):
    torch.manual_seed(0)
    return RSRefSeg2Prompter(C, E, grid=grid, num_prompts=5, num_layers=2).eval()


def inputs(grid=(4, 4), lengths=(5, 2)):
    torch.manual_seed(1)
    real = torch.arange(5) < torch.tensor(lengths)[:, None]
    tokens = torch.randn(len(lengths), 5, C)
    text = TextFeatures(tokens, tokens, real, torch.randn(len(lengths), C))
    return torch.randn(len(lengths), C, *grid), text


def test_as_many_weights_as_published():
    with torch.device('meta'):
        prompter = RSRefSeg2Prompter(1152, 256, grid=(32, 32), num_prompts=9, num_layers=2)
    assert round(sum(p.numel() for p in prompter.parameters()) / 1e6, 1) == 82.8


@torch.no_grad()
@pytest.mark.parametrize('grid', [(4, 4), (9, 3), (1, 1)])
def test_any_grid_and_a_batch_equals_its_items(grid):
    prompter = build()
    patches, text = inputs(grid)
    together = prompter(patches, text, (16, 24), **OPTIONS)
    assert [part.shape for part in together] == [(2, 5, E), (2, 1, 16, 24), (2, 2, C)]
    for i in range(2):
        own = slice(i, i + 1)
        alone = prompter(patches[own], text[own], (16, 24), **OPTIONS)
        for one, both in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], both[i], atol=1e-5, rtol=1e-4)
    assert (together[1] >= -12).all() and (together[1] <= 6).all()  # a cosine, scaled and shifted


@torch.no_grad()
def test_positions_of_another_grid_are_resized():
    small, large = build((4, 4)), build((8, 6))
    large.load_state_dict(small.state_dict() | {'cell_place': large.cell_place})
    place = interpolate(small.cell_place, size=(8, 6), mode='bicubic', align_corners=True)
    large.cell_place.copy_(place)
    found, expected = (one(*inputs((8, 6)), (16, 16), **OPTIONS) for one in (small, large))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_padding_says_nothing():
    prompter = build()
    patches, text = inputs()
    filled = torch.where(text.real[..., None], text.tokens, 50.0)
    other = TextFeatures(filled, filled, text.real, text.pooled)
    for one, two in zip(
        prompter(patches, text, (8, 8), **OPTIONS),
        prompter(patches, other, (8, 8), **OPTIONS),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


@torch.no_grad()
def test_cells_do_not_read_one_another():
    prompter = build()
    seen = []
    prompter.look[-1].register_forward_hook(lambda _, args, result: seen.append(result[1]))
    patches, text = inputs()
    changed = patches.clone()
    changed[..., 0, 0] += 1
    for cells in (patches, changed):
        prompter(cells, text, (8, 8), **OPTIONS)
    torch.testing.assert_close(seen[0][:, 1:], seen[1][:, 1:])
    assert (seen[0][:, 0] - seen[1][:, 0]).abs().max() > 1e-2


def test_every_parameter_gets_a_gradient():
    prompter = build().train()
    parts = prompter(*inputs(), (8, 8), **OPTIONS)
    sum((part * torch.randn_like(part)).sum() for part in parts).backward()
    bias = 'k_proj.bias'  # the same for every key
    for name, parameter in prompter.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any() or name.endswith((bias, 'refine.0.bias')), name
