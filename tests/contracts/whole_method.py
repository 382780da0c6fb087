"""What a dense method keeps to that sees an image in one piece and gives one map of scores."""

from __future__ import annotations

import copy

import pytest
import torch
from contracts.dense_method import DenseMethodContract, images, quarters, steps_behind
from mmseg.structures import SegDataSample

from mmseg_siglip.models.backbones.vision_trunk import patch_grid
from mmseg_siglip.models.segmentors import SCLIPSegmentor


class WholeMethodContract(DenseMethodContract):
    """`DenseMethodContract` where each element of a batch is an image."""

    def dense(self, encoder, method, batch):
        """(B, Q, h, w)."""
        dense = super().dense
        return torch.cat([dense(encoder, method, [image]) for image in batch])

    @pytest.mark.parametrize('size', [(32, 32), (40, 72), (33, 47), (8, 8)])
    @torch.no_grad()
    def test_any_size_and_no_dependence_on_neighbours(self, encoder, method, size):
        batch = images(size, size)
        dense = self.dense(encoder, method, batch)
        grid = patch_grid(size, encoder.patch_size, encoder.image_size)
        assert dense.shape == (2, 4, *(encoder.patch_size * n for n in grid))
        assert dense.isfinite().all() and torch.equal(self.dense(encoder, method, batch), dense)

    @torch.no_grad()
    def test_windows_in_a_segmentor(self, pretrained, spec):
        """Whatever stands beside an image, and whatever the windows, it gets the same."""
        model = SCLIPSegmentor(
            pretrained,
            ['cat', 'sky, grass', 'road'],
            templates='plain',
            attention=copy.deepcopy(spec),
            logit_scale=20.0,
            test_cfg=dict(mode='whole', return_logits=True),
        ).eval()
        model.proposer = quarters
        batch, out = images((40, 56), (24, 32), (33, 45)), (50, 61)

        def predict(chosen):
            samples = [SegDataSample(metainfo=dict(ori_shape=out)) for _ in chosen]
            return [s.seg_logits.data for s in model.predict(chosen, samples)]

        together = predict(batch)
        for image, wanted in zip(batch, together, strict=True):
            assert wanted.shape == (3, *out)
            torch.testing.assert_close(predict([image])[0], wanted, atol=1e-5, rtol=1e-4)
        model.test_cfg.update(mode='slide', crop_size=(24, 32), stride=(16, 24))
        for found, wanted in zip(predict(batch), together, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
        steps_behind(model, [batch[0], batch[2]], out)
