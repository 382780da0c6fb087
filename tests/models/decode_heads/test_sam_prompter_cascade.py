import pytest
import torch
from torch.nn.functional import adaptive_avg_pool1d

from mmseg_siglip.models.decode_heads.sam_prompter_cascade import CascadedPrompter, pool_tokens

E, TEXT = 16, 12


def inputs(grid, lengths=(5, 2)):
    torch.manual_seed(0)
    real = torch.arange(5) < torch.tensor(lengths)[:, None]
    r = len(lengths)
    return torch.randn(r, E, *grid), torch.randn(1, E, *grid), torch.randn(r, 5, TEXT), real


def test_tokens_are_pooled_over_their_own_length():
    lengths = [1, 2, 3, 4, 5, 7, 8]
    tokens = torch.randn(len(lengths), 8, TEXT)
    real = torch.arange(8) < torch.tensor(lengths)[:, None]
    found = pool_tokens(tokens, real, 3)
    for row, n in enumerate(lengths):
        expected = adaptive_avg_pool1d(tokens[row, :n].T, 3).T
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize('grid', [(27, 27), (4, 9), (1, 1)])
def test_as_many_prompts_for_any_grid(grid):
    prompter = CascadedPrompter(E, text_channels=TEXT, num_prompts=6).eval()
    x, position, tokens, real = inputs(grid)
    sparse, cells, aspects = prompter(x, position, tokens, real)
    assert sparse.shape == (2, 6, E) and cells.shape == x.shape and aspects.shape == (2, 2, E)
    for i in range(2):  # a batch equals its items
        alone = prompter(x[i : i + 1], position, tokens[i : i + 1], real[i : i + 1])
        for one, together in zip(alone, (sparse, cells, aspects), strict=True):
            torch.testing.assert_close(one[0], together[i], atol=1e-5, rtol=1e-4)
    padded = torch.where(real[..., None], tokens, 50.0)
    torch.testing.assert_close(prompter(x, position, padded, real)[0], sparse)


def test_each_step_reads_its_own_aspect():
    """The cells meet the first aspect before the second, and the prompts only the second."""
    prompter = CascadedPrompter(E, text_channels=TEXT, num_layers=1).eval()
    place, thing = torch.randn(2, 1, 3, E), torch.randn(2, 1, 3, E)
    x, position, tokens, real = inputs((3, 4), lengths=(5,))
    found = {}
    for i, j in ((0, 0), (1, 0), (0, 1)):
        prompter.tell_apart = lambda words, real, i=i, j=j: [place[i], thing[j]]
        seen = {}
        hook = prompter.locate[0].register_forward_hook(
            lambda _, args, cells, seen=seen: seen.update(cells=cells)
        )
        found[i, j] = *prompter(x, position, tokens, real), seen['cells']
        hook.remove()
    base = found[0, 0]
    torch.testing.assert_close(found[0, 1][-1], base[-1])  # located without the second
    for other in (found[1, 0], found[0, 1]):
        assert (other[0] - base[0]).abs().max() > 1e-4
        assert (other[1] - base[1]).abs().max() > 1e-4


def test_the_two_aspects_differ_and_both_follow_the_phrase():
    prompter = CascadedPrompter(E, text_channels=TEXT).eval()
    x, position, tokens, real = inputs((3, 4), lengths=(5, 5))
    aspects = prompter(x, position, tokens, real).aspects
    assert (aspects[:, 0] - aspects[:, 1]).abs().max() > 1e-3
    assert (aspects[0] - aspects[1]).abs().amax(-1).min() > 1e-3
    again = prompter(torch.randn_like(x), position, tokens, real).aspects
    torch.testing.assert_close(again, aspects)  # of the phrase alone


def test_every_parameter_gets_a_gradient():
    prompter = CascadedPrompter(E, text_channels=TEXT)
    sparse, cells, aspects = prompter(*inputs((5, 6)))
    sum((part * torch.randn_like(part)).sum() for part in (sparse, cells, aspects)).backward()
    assert not [
        name
        for name, parameter in prompter.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
