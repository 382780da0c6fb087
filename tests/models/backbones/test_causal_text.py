import copy

import pytest
import torch

from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.models.backbones.causal_text import common_prefix, is_causal


@pytest.fixture(scope='module')
def backbone(openai_file):
    return CLIPBackbone(openai_file)


@pytest.mark.parametrize(
    ('rows', 'length'),
    [([[1, 2, 3], [1, 2, 4]], 2), ([[1, 2, 3], [2, 2, 3]], 0), ([[1, 2, 3]], 2), ([[7], [7]], 0)],
)
def test_what_prompts_begin_with(rows, length):
    """At most all but the last token, so that every row keeps one of its own."""
    assert common_prefix(torch.tensor(rows)) == length


@torch.no_grad()
@pytest.mark.parametrize(
    ('texts', 'counts'),
    [
        (['sky'], [2, 1]),
        (['a photo of a sky', 'a photo of a cat'], [5, 4]),
        (['a photo of a sky', 'a photo of a cat', 'the sky'], [1, 18]),
    ],
    ids=['trimmed', 'shared prefix', 'nothing shared'],
)
def test_text_tower_runs_only_over_what_is_needed(backbone, texts, counts):
    tokens = []
    first = backbone.model.transformer.resblocks[0].ln_1
    hook = first.register_forward_pre_hook(lambda module, args: tokens.append(args[0][..., 0]))
    backbone.encode_text(texts)
    hook.remove()
    assert [part.numel() for part in tokens] == counts


@torch.no_grad()
@pytest.mark.parametrize('same', [0, 1, 5, 9])
def test_shared_prefixes_change_nothing(backbone, tiny_clip, same):
    """Against open_clip's own tower at its full context; ids drawn at random, end of text last."""
    torch.manual_seed(same)
    tokens = torch.randint(1, 1000, (4, 10))
    tokens[:, :same] = tokens[:1, :same]
    tokens[:, 9] = tiny_clip.vocab_size - 1
    padded = torch.nn.functional.pad(tokens, (0, backbone.model.context_length - 10))
    expected = tiny_clip.encode_text(padded)
    torch.testing.assert_close(backbone.encode_tokens(tokens), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_tokens_are_the_towers_own(backbone, tiny_clip):
    """Where rows share a prefix, too; what stands behind the end of text is padding."""
    texts = ['a photo of a cat', 'a photo of the red sky']
    x, real, pooled = backbone.encode_text_tokens(texts)
    ids = backbone.tokenizer(texts)
    length, end = x.shape[1], ids.argmax(-1)
    hidden = tiny_clip.token_embedding(ids) + tiny_clip.positional_embedding
    hidden = tiny_clip.ln_final(tiny_clip.transformer(hidden, attn_mask=tiny_clip.attn_mask))
    for row in range(2):
        assert real[row].sum() == end[row] + 1
        torch.testing.assert_close(x[row], hidden[row, :length], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pooled, tiny_clip.encode_text(ids), atol=1e-5, rtol=1e-4)


def test_other_towers_are_told_apart(tiny_clip):
    assert is_causal(tiny_clip)
    for change in (dict(text_pool_type='last'), dict(attn_mask=None), dict(text_projection=None)):
        other = copy.copy(tiny_clip)
        for name, value in change.items():
            other.__dict__.setdefault('_buffers', {})
            other._buffers, other._parameters = dict(other._buffers), dict(other._parameters)
            setattr(other, name, value)
        assert not is_causal(other), change
