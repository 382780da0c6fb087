import pytest
import torch

from mmseg_siglip.models.labelling import DROPPED
from mmseg_siglip.models.postprocessors import PromptDenoising
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.registry import MODELS


def context(owner, scale=1.0):
    parts = dict.fromkeys(('pixels', 'features', 'text'), list)
    return Context(query_to_class=owner, logit_scale=scale, **parts)


def denoise(cosines, owner, scale=1.0, **options):
    images = torch.zeros(len(cosines), 3, *cosines.shape[-2:])
    step = MODELS.build(dict(type='PromptDenoising', **options))
    return step(images, cosines, context(owner, scale))


def slow(cosines, owner, scale, threshold):
    """Image after image, class after class."""
    cosines = cosines.clone()
    for one in cosines:
        probabilities = (scale * one).softmax(0)
        best = {
            c: max(probabilities[q].max().item() for q, own in enumerate(owner) if own == c)
            for c in set(owner)
        }
        for q, own in enumerate(owner):
            if best[own] < threshold <= max(best.values()):
                one[q] = DROPPED
    return cosines


@pytest.mark.parametrize('owner', [(0, 1, 2, 3), (0, 1, 1, 0)])
@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.5, 0.9])
def test_equals_the_loops(owner, threshold, monkeypatch):
    cosines = torch.randn(3, 4, 5, 7, generator=torch.Generator().manual_seed(0)) / 3
    expected = slow(cosines, owner, 4.0, threshold)
    assert torch.equal(denoise(cosines, owner, 4.0, threshold=threshold), expected)
    by_itself = denoise(cosines, owner, 1.0, threshold=threshold, logit_scale=4.0)
    assert torch.equal(by_itself, expected)
    monkeypatch.setattr('mmseg_siglip.models.postprocessors.prompt_denoising.CHUNK_BYTES', 1)
    assert torch.equal(denoise(cosines, owner, 4.0, threshold=threshold), expected)


def test_a_class_goes_from_the_image_that_lacks_it():
    cosines = torch.zeros(2, 2, 1, 3)
    cosines[:, 0, 0, 0] = 9
    cosines[1, 1, 0, 2] = 9
    found = denoise(cosines, (0, 1), threshold=0.6)
    assert (found[0, 1] == DROPPED).all() and torch.equal(found[1], cosines[1])
    assert torch.equal(found[0, 0], cosines[0, 0])


def test_where_nothing_is_likely_all_stay():
    cosines = torch.zeros(1, 3, 2, 2)
    assert torch.equal(denoise(cosines, (0, 1, 2)), cosines)


def test_one_word():
    cosines = torch.zeros(1, 1, 2, 2)
    assert torch.equal(denoise(cosines, (0,), threshold=1.0), cosines)


def test_bad_input():
    with pytest.raises(ValueError, match=r'expected threshold in \[0, 1\], found 2'):
        PromptDenoising(threshold=2)
