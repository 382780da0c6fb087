import pytest
import torch

from mmseg_siglip.models.decode_heads.text_visual_activation import (
    ImageFeatures,
    TextFeatures,
    TextVisualActivation,
    activations,
)

SCALE, BIAS = 7.0, -2.0


def features(b=2, c=6, d=5, grid=(3, 4), r=3, tokens=4, taps=0):
    torch.manual_seed(0)
    image = ImageFeatures(
        torch.randn(b, c, *grid),
        torch.randn(b, d, *grid),
        tuple(torch.randn(b, c, *grid) for _ in range(taps)),
    )
    real = torch.arange(tokens) < torch.tensor([[4], [2], [1]])[:r]
    text = TextFeatures(
        torch.randn(r, tokens, c), torch.randn(r, tokens, d), real, torch.randn(r, d)
    )
    return image, text, torch.tensor([1, 0, 1])[:r]


def cosine(a, b):
    return (a @ b) / (a.norm() * b.norm())


def naive(image, text, rows, weight):
    """RSRefSeg's formulas, one phrase and one patch at a time."""
    fused = torch.zeros(len(rows), len(weight), *image.patches.shape[-2:])
    evidence = torch.zeros(len(rows), *image.patches.shape[-2:])
    for r, b in enumerate(rows.tolist()):
        words = text.similar[r][text.real[r]]
        for y in range(fused.shape[2]):
            for x in range(fused.shape[3]):
                v, s = image.patches[b, :, y, x], image.similar[b, :, y, x]
                local = torch.zeros_like(v)
                for word in words:
                    local += torch.sigmoid(SCALE * cosine(s, word) + BIAS) * v / len(words)
                local = (v + local) / 2
                g = SCALE * cosine(s, text.pooled[r]) + BIAS
                parts = [local, torch.sigmoid(g) * v, v]
                parts += [tap[b, :, y, x] for tap in image.taps]
                fused[r, :, y, x] = weight @ torch.cat(parts)
                evidence[r, y, x] = g
    return fused, evidence


@pytest.mark.parametrize('taps', [0, 2])
def test_equals_the_formulas(taps):
    image, text, rows = features(taps=taps)
    module = TextVisualActivation(6, 8, num_taps=taps)
    found = module(image, text, rows, scale=SCALE, bias=BIAS)
    expected = naive(image, text, rows, module.mix.weight[:, :, 0, 0])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_padding_says_nothing():
    image, text, rows = features()
    found, _ = activations(image.similar, text, rows, scale=SCALE, bias=BIAS)
    changed = TextFeatures(
        text.tokens,
        torch.where(text.real[..., None], text.similar, 100.0),
        text.real,
        text.pooled,
    )
    again, _ = activations(image.similar, changed, rows, scale=SCALE, bias=BIAS)
    assert torch.equal(found, again)


def test_activations_keep_their_precision_under_autocast():
    image, text, rows = features()
    expected = activations(image.similar, text, rows, scale=100.0, bias=-10.0)
    with torch.autocast('cpu', torch.bfloat16):
        found = activations(image.similar, text, rows, scale=100.0, bias=-10.0)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
