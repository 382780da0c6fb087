import pytest
import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from mmseg_siglip.models.decode_heads.sam_prompter import (
    ConvPrompter,
    Layer,
    Memory,
    PoolPrompter,
    QueryPrompter,
    adaptive_grid,
    conv_side,
    steps_to,
)

# side, steps until at most 7, and what real convolutions leave: the reference's table 2.1
TABLE = [(14, 1, 7), (16, 2, 4), (24, 2, 6), (27, 2, 7), (32, 3, 4), (37, 3, 5), (64, 4, 4)]


def inputs(grid, r=2, e=16, tokens=5, text=12):
    torch.manual_seed(0)
    real = torch.arange(tokens) < torch.tensor([[5], [2]])[:r]
    return torch.randn(r, e, *grid), torch.randn(1, e, *grid), torch.randn(r, tokens, text), real


@pytest.mark.parametrize(('side', 'steps', 'left'), TABLE)
def test_convolutions_round_up(side, steps, left):
    assert steps_to(side, 7) == steps
    assert conv_side(side, steps) == left
    stack = nn.Sequential(*(nn.Conv2d(1, 1, 3, stride=2, padding=1) for _ in range(steps)))
    assert stack(torch.zeros(1, 1, side, side)).shape[-2:] == (left, left)


def test_27_gives_14_then_7():
    assert [conv_side(27, steps) for steps in range(3)] == [27, 14, 7]


@pytest.mark.parametrize(
    ('grid', 'expected'), [((27, 27), (7, 7)), ((16, 32), (4, 7)), ((17, 33), (4, 7)),
                           ((3, 5), (3, 5)), ((1, 40), (1, 7))]
)  # fmt: skip
def test_adaptive_grid_follows_the_aspect(grid, expected):
    assert adaptive_grid(grid) == expected


@pytest.mark.parametrize('grid', [(27, 27), (24, 24), (17, 33), (8, 5)])
def test_conv_gives_a_prompt_for_every_cell(grid):
    prompter = ConvPrompter(16, steps=2)
    x, position, tokens, real = inputs(grid)
    sparse, same, _ = prompter(x, position, tokens, real)
    rows, columns = (conv_side(side, 2) for side in grid)
    assert sparse.shape == (2, rows * columns, 16) and same is x
    y = x + position
    for block in prompter.down[:2]:
        y = nn.functional.gelu(block.norm(nn.functional.conv2d(
            y, block.conv.weight, block.conv.bias, stride=2, padding=1
        )))  # fmt: skip
    y = prompter.down[2](y)
    torch.testing.assert_close(sparse[:, 1], y[:, :, 0, 1])  # row by row


@pytest.mark.parametrize('target', [None, (3, 5)])
@pytest.mark.parametrize('grid', [(27, 27), (4, 9), (2, 2)])
def test_pool_gives_the_same_number_for_any_grid(grid, target):
    prompter = PoolPrompter(16, target=target)
    x, position, tokens, real = inputs(grid)
    sparse, *_ = prompter(x, position, tokens, real)
    rows, columns = target or adaptive_grid(grid)
    expected = prompter.project(adaptive_avg_pool2d(x + position, (rows, columns)))
    torch.testing.assert_close(sparse, expected.flatten(2).transpose(1, 2))


@pytest.mark.parametrize('grid', [(27, 27), (4, 9), (1, 1)])
def test_query_gives_the_same_number_for_any_grid(grid):
    prompter = QueryPrompter(16, text_channels=12, num_prompts=6).eval()
    x, position, tokens, real = inputs(grid)
    sparse, refined, _ = prompter(x, position, tokens, real)
    assert sparse.shape == (2, 6, 16) and refined.shape == x.shape
    for i in range(2):  # a batch equals its items
        alone = prompter(x[i : i + 1], position, tokens[i : i + 1], real[i : i + 1])
        torch.testing.assert_close(alone[0][0], sparse[i], atol=1e-5, rtol=1e-4)
    padded = torch.where(real[..., None], tokens, 50.0)
    torch.testing.assert_close(prompter(x, position, padded, real)[0], sparse)
    other = prompter(x, position, tokens.roll(1, 0), real.roll(1, 0))[0]
    assert (other - sparse).abs().max() > 1e-3


def test_every_parameter_of_a_query_prompter_gets_a_gradient():
    prompter = QueryPrompter(16, text_channels=12)
    sparse, *_ = prompter(*inputs((5, 6)))
    (sparse * torch.randn_like(sparse)).sum().backward()
    # A bias of keys moves all scores of a query alike, which a softmax does not notice.
    dead = [
        name
        for name, parameter in prompter.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert not dead


def test_layer_equals_attention_written_out():
    layer = Layer(8, 1, memories=1).eval()
    x, place, values = torch.randn(2, 3, 8), torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    padding = torch.tensor([[False] * 4, [False, False, True, True]])

    def attend(attention, query, key, value, hidden=None):
        q, k, v = (
            part @ w.T + b
            for part, w, b in zip(
                (query, key, value),
                attention.in_proj_weight.chunk(3),
                attention.in_proj_bias.chunk(3),
                strict=True,
            )
        )
        scores = q @ k.transpose(1, 2) / 8**0.5
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None], -torch.inf)
        return attention.out_proj(scores.softmax(-1) @ v)

    own, other = layer.attentions
    y = layer.norms[0](x)
    expected = x + attend(own, y + place, y + place, y)
    query = layer.norms[1](expected) + place
    expected = expected + attend(other, query, values, values, padding)
    expected = expected + layer.mlp(layer.norms[2](expected))
    found = layer(x, place, [Memory(values, padding=padding)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
