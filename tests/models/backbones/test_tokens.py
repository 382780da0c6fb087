import pytest
import torch

from mmseg_siglip.models.backbones.tokens import Tokens

GRID = (2, 3)


@pytest.fixture(params=[0, 1, 5])
def tokens(request):
    return Tokens(torch.randn(2, request.param + 6, 4), GRID, request.param)


def test_patches_lie_row_by_row_behind_the_prefix(tokens):
    assert tokens.patches.shape == (2, 6, 4) and tokens.map.shape == (2, 4, *GRID)
    for row in range(2):
        for column in range(3):
            token = tokens.x[:, tokens.prefix + 3 * row + column]
            assert torch.equal(tokens.map[..., row, column], token)


def test_others_at_the_same_places(tokens):
    doubled = tokens.replace(2 * tokens.x)
    assert (doubled.grid, doubled.prefix) == (GRID, tokens.prefix)
    torch.testing.assert_close(doubled.map, 2 * tokens.map)
    bare = tokens.replace(tokens.patches)
    assert bare.prefix == 0 and torch.equal(bare.map, tokens.map)
