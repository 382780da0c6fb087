"""A batch is its images one by one, whatever their sizes and however they are cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmseg.structures import SegDataSample

from mmseg_siglip.models.segmentors import SCLIPSegmentor, SigLIPDepthEstimator

HEAD = dict(channels=8, post_process_channels=[4, 4, 6, 8], loss_decode=dict(type='SILogDepthLoss'))
SIZES = st.tuples(st.integers(8, 60), st.integers(8, 60))


@pytest.fixture(scope='module')
def segmentor(siglip_folder):
    torch.manual_seed(0)
    backbone = dict(pretrained=siglip_folder)
    return SCLIPSegmentor(backbone, vocabulary=['cat', 'dog', 'sky'], templates='plain').eval()


@pytest.fixture(scope='module')
def estimator(siglip_folder):
    torch.manual_seed(0)
    return SigLIPDepthEstimator(dict(pretrained=siglip_folder), HEAD).eval()


@st.composite
def requests(draw):
    """Images (3, H, W), the (H, W) that is asked for of each, and how they are cut."""
    sizes = draw(st.lists(SIZES, min_size=2, max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    images = [torch.randn(3, *size, generator=generator) for size in sizes]
    wanted = [draw(st.just(size) | SIZES) for size in sizes]
    crop = draw(st.tuples(*[st.sampled_from((16, 24, 32))] * 2))
    stride = tuple(draw(st.integers(side // 2, side)) for side in crop)
    cut = dict(crop_size=crop, stride=stride, window_batch=draw(st.integers(1, 8)))
    return images, wanted, cut


def samples(sizes):
    return [SegDataSample(metainfo=dict(ori_shape=size)) for size in sizes]


@settings(max_examples=25)
@given(request=requests(), mode=st.sampled_from(('slide', 'whole')))
def test_labels(segmentor, request, mode):
    images, wanted, cut = request
    segmentor.test_cfg.update(cut, mode=mode, return_logits=True)
    together = segmentor.predict(images, samples(wanted))
    for image, size, found in zip(images, wanted, together, strict=True):
        (alone,) = segmentor.predict([image], samples([size]))
        assert found.seg_logits.data.shape == (3, *size)
        torch.testing.assert_close(
            found.seg_logits.data, alone.seg_logits.data, atol=1e-5, rtol=1e-4
        )


@settings(max_examples=25)
@given(request=requests(), mode=st.sampled_from(('slide', 'whole')))
def test_depth(estimator, request, mode):
    images, wanted, cut = request
    estimator.test_cfg.update(cut, mode=mode)
    together = estimator.predict(images, samples(wanted))
    for image, size, found in zip(images, wanted, together, strict=True):
        (alone,) = estimator.predict([image], samples([size]))
        assert found.pred_depth_map.data.shape[-2:] == size
        torch.testing.assert_close(
            found.pred_depth_map.data, alone.pred_depth_map.data, atol=1e-5, rtol=1e-4
        )
