import pytest
import torch
from torch.nn.functional import cosine_similarity

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.trunk import Surroundings
from mmseg_siglip.models.scores.key_smoothing import smooth
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.registry import MODELS


@pytest.fixture
def sample():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 4, 3, 5, generator=generator)
    return logits.softmax(1), torch.randn(2, 15, 6, generator=generator)


def slow(probabilities, keys, threshold, parity):
    found = probabilities.clone().flatten(2)
    for image, (p, k) in enumerate(zip(probabilities.flatten(2), keys, strict=True)):
        for i in range(len(k)):
            if p[:, i].max() >= threshold:
                continue
            if parity:
                unit = k / k.square().sum(0).sqrt()
                weights = unit @ unit[i]
            else:
                weights = cosine_similarity(k, k[i][None]).clamp(min=0)
                weights = weights / weights.sum()
            found[image, :, i] = p @ weights
    return found.view_as(probabilities)


@pytest.mark.parametrize('parity', [False, True])
@pytest.mark.parametrize('threshold', [0.0, 0.7, 1.0])
def test_equals_the_loops(sample, threshold, parity, monkeypatch):
    expected = slow(*sample, threshold, parity)
    torch.testing.assert_close(smooth(*sample, threshold, parity=parity), expected)
    assert threshold == 0 or not torch.equal(expected, sample[0])
    monkeypatch.setattr('mmseg_siglip.models.scores.key_smoothing.CHUNK_BYTES', 1)
    torch.testing.assert_close(smooth(*sample, threshold, parity=parity), expected)


def test_ours_are_probabilities(sample):
    found = smooth(*sample, 1.0)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 3, 5))
    assert found.min() >= 0


def test_keys_of_nothing(sample):
    for parity in (False, True):
        assert smooth(sample[0], torch.zeros(2, 15, 6), 1.0, parity=parity).isfinite().all()


@pytest.mark.parametrize('site', [None, 'trunk', 'head'])
@torch.no_grad()
def test_as_a_step(site, openai_file, siglip_folder):
    encoder = SigLIPBackbone(siglip_folder) if site else CLIPBackbone(openai_file)
    options = dict(site=site) if site else {}
    cosines = 0.1 * torch.randn(2, 3, 4, 6)
    known = Surroundings(logit_scale=30.0)
    trunk = encoder.trunk(torch.randn(2, 3, 32, 48), surroundings=known, **options)
    keys = trunk.last.qkv()[1].transpose(1, 2).flatten(2)[:, trunk.prefix :]
    expected = slow((30 * cosines).softmax(1), keys, 0.8, False)
    step = MODELS.build(dict(type='KeySmoothing', threshold=0.8))
    found = step(cosines, None, trunk)
    torch.testing.assert_close((30 * found).softmax(1), expected)
    theirs = MODELS.build(dict(type='KeySmoothing', threshold=0.8, parity=True))
    expected = slow((30 * cosines).softmax(1), keys, 0.8, True)
    torch.testing.assert_close(theirs(cosines, None, trunk), expected)


def test_in_a_segmentor(openai_file):
    def predict(*steps):
        model = SCLIPSegmentor(
            dict(pretrained=openai_file),
            ['cat', 'sky', 'road'],
            templates='plain',
            score_steps=steps,
            test_cfg=dict(crop_size=24, stride=16, return_logits=True),
        ).eval()
        image = torch.randn(3, 40, 32, generator=torch.Generator().manual_seed(0))
        return model.predict([image])[0].seg_logits.data

    smoothed = predict(dict(type='KeySmoothing'))
    torch.testing.assert_close(smoothed.sum(0), torch.ones(40, 32))
    assert smoothed.std((1, 2)).sum() < predict().std((1, 2)).sum()


def test_bad_input(openai_file):
    with pytest.raises(ValueError, match=r'expected threshold in \[0, 1\], found 2'):
        MODELS.build(dict(type='KeySmoothing', threshold=2))
    trunk = CLIPBackbone(openai_file).trunk(torch.randn(1, 3, 32, 32))
    step = MODELS.build(dict(type='KeySmoothing'))
    with pytest.raises(ValueError, match=r'own \(4, 4\) patches, found \(8, 8\) cells'):
        step(torch.randn(1, 2, 8, 8), None, trunk)
