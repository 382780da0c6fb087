"""How often the host waits for a GPU's regions and masks, whose number decides what comes next."""

from __future__ import annotations

import pytest
import torch
from host_blocking import count, distant, far_module, images
from test_host_blocking import WORDS, segmenter
from tiny_sams import SAM_CONFIG
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmseg_siglip.models.regions import RegionProposer
from mmseg_siglip.registry import MODELS

SAM = dict(type='SAMAdapter', config=SAM_CONFIG)
EVERY_BLOB = dict(type='SAMComponents', sam=SAM, min_area=0.0, min_overlap=0.0)
EVERY_CLICK = dict(type='SAMPointGrid', sam=SAM, points_per_side=4, min_iou=0.0, min_stability=0.0)
EVERY_REFINED = dict(type='SAMRefine', sam=SAM, coarse_thd=0.0, min_pixels=4, min_iou=0.0)
FOUR = dict(regions=dict(type='FourRegions'))
CORRCLIP_ONE = dict(FOUR, method='corrclip', test_cfg=dict(window_batch=1))
CASES = {
    'corrclip': (3, 3, dict(FOUR, method='corrclip')),
    'corrclip, a window at a time': (9, 33, CORRCLIP_ONE),
    'mask_crop': (5, 13, dict(FOUR, method='mask_crop')),
    'textregion': (4, 10, dict(FOUR, method='textregion')),
    'vote': (2, 4, dict(FOUR, label_steps=[dict(type='RegionVote')])),
    'refine': (3, 7, dict(label_steps=[EVERY_REFINED])),
    'blobs': (7, 19, dict(postprocessor=dict(type='SAMProposals', proposer=EVERY_BLOB))),
    'clicks': (7, 19, dict(postprocessor=dict(type='SAMProposals', proposer=EVERY_CLICK))),
}
"""Waits for one picture, waits for three, of 4, 8 and 4 windows, and the options of a segmenter."""


@MODELS.register_module()
class FourRegions(RegionProposer):
    def forward(self, pixels: Tensor) -> Tensor:
        rows, columns = (
            torch.arange(side, device=pixels.device) * 2 // side for side in pixels.shape[-2:]
        )
        return rows[:, None] * 2 + columns


@pytest.mark.parametrize('name', CASES)
def test_waits(siglip_folder, name):
    *waits, options = CASES[name]
    system = segmenter(siglip_folder, **options)
    pictures = images((40, 48), (40, 72), (40, 48))
    with sdpa_kernel(SDPBackend.MATH):
        expected = system.torch(pictures, WORDS)
    with distant() as counter:
        far_module(system.model)
        for some, wanted in zip((pictures[:1], pictures), waits, strict=True):
            found = count(lambda some=some: system.torch(some, WORDS), counter)
            assert counter.waits == wanted, counter.blocking
    for (labels, scores), (own, likely) in zip(found, expected, strict=True):
        assert torch.equal(labels, own)
        torch.testing.assert_close(scores, likely, atol=1e-5, rtol=1e-5)
