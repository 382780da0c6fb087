"""The Python interface: phrases and photographs in, masks out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny_sams import SAM_CONFIG
from tiny_systems import REFERRING

from mmseg_siglip.api import Referred, ReferringSegmenter, refer
from mmseg_siglip.models.sam import SAMAdapter


@pytest.fixture(scope='module')
def segmenter(refer_files):
    return ReferringSegmenter(*refer_files)


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)


def test_one_phrase_and_one_image(segmenter, rgb):
    found = segmenter(rgb, 'the red star left of the ring')
    assert isinstance(found, Referred) and isinstance(found.score, float)
    assert found.mask.shape == (50, 80) and found.mask.dtype == bool
    assert found.text == 'the red star left of the ring'
    assert found.plot().size[0] == 80


def test_lists_of_phrases_and_of_images(segmenter, rgb):
    phrases = ['the ring', 'the red star']
    several = segmenter(rgb, phrases)
    assert [one.text for one in several] == phrases
    assert np.array_equal(several[0].mask, segmenter(rgb, 'the ring').mask)
    both = segmenter([rgb, rgb[:30]], phrases)
    assert [[one.mask.shape for one in found] for found in both] == [[(50, 80)] * 2, [(30, 80)] * 2]
    assert [found.mask.shape for found in segmenter([rgb, rgb[:30]], 'the ring')] == [
        (50, 80),
        (30, 80),
    ]


def test_a_batch_equals_its_images(segmenter, rgb, monkeypatch):
    """In whatever parts they pass the encoders."""
    images = [rgb, rgb[:30], rgb[:, :40], rgb[10:]]
    phrases = ['the ring', 'the red star']
    alone = [segmenter(image, phrases) for image in images]
    for most in (1, 3, 8):
        monkeypatch.setattr(refer, 'ENCODED_AT_ONCE', most)
        for found, own in zip(segmenter(images, phrases), alone, strict=True):
            for one, other in zip(found, own, strict=True):
                assert np.array_equal(one.mask, other.mask)
                assert one.score == pytest.approx(other.score, abs=1e-5)


def test_a_model_that_is_built_already(segmenter, rgb, refer_files):
    again = ReferringSegmenter(segmenter.model)
    assert np.array_equal(again(rgb, 'the ring').mask, segmenter(rgb, 'the ring').mask)
    with pytest.raises(ValueError, match='takes no checkpoint'):
        ReferringSegmenter(segmenter.model, refer_files[1])


@pytest.mark.parametrize('text', ['', '   ', [], ['the ring', ''], [3]])
def test_phrases_that_say_nothing_are_refused(segmenter, rgb, text):
    with pytest.raises(ValueError, match='expected .*phrases'):
        segmenter(rgb, text)


def test_other_configs_and_weights_are_refused(refer_files, tmp_path):
    config, checkpoint = refer_files
    torch.save(dict(state_dict=dict(a=torch.zeros(1))), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='does not fit'):
        ReferringSegmenter(config, tmp_path / 'other.pth')
    depth = dict(type='SigLIPDepthEstimator', backbone=REFERRING['backbone'], decode_head={})
    with pytest.raises(ValueError, match='expected a ReferringSegmentor'):
        ReferringSegmenter(Config(dict(model=depth)), checkpoint)


@pytest.fixture(scope='module')
def sam_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sam')
    SAMAdapter(config=SAM_CONFIG).save_pretrained(folder)
    return str(folder)


def test_an_encoder_and_a_sam_in_one_line(siglip_folder, sam_folder, rgb):
    """As the call ``SigLipSamSegmentator(siglip_model_name=, sam_model_name=, target_...)``."""
    with pytest.warns(UserWarning, match='prompter between .* is untrained') as told:
        segmenter = ReferringSegmenter.from_pretrained(
            siglip=siglip_folder, sam=sam_folder, target_spatial_dim=2, device='cpu'
        )
    assert len(told) == 1
    head = segmenter.model.decode_head
    assert (head.prompt_mode, head.dense, head.steps) == ('conv', 'global', 1)  # 4 x 4 to 2 x 2
    assert segmenter.model.sam.resize == 'squash' and segmenter.model.precision == 'auto'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for phrase in ('the red star', 'the cat'):
            assert segmenter(rgb, phrase).mask.shape == (50, 80)


def test_any_prompter_between_them(siglip_folder, sam_folder):
    with pytest.warns(UserWarning, match='untrained'):
        segmenter = ReferringSegmenter.from_pretrained(
            siglip_folder, sam_folder, prompt_mode='query', num_prompts=4, device='cpu'
        )
    head = segmenter.model.decode_head
    assert (head.prompt_mode, head.dense, head.num_prompts) == ('query', 'refined', 4)
    with pytest.raises(ValueError, match='target_spatial_dim is an option of prompt_mode conv'):
        ReferringSegmenter.from_pretrained(
            siglip_folder, sam_folder, prompt_mode='query', target_spatial_dim=7
        )
    with pytest.raises(ValueError, match=r'from_pretrained\(siglip, sam\), or a folder of save'):
        ReferringSegmenter.from_pretrained(siglip_folder)
