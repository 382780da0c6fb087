"""What every dense method keeps to, on any encoder that it works with.

A method's test is

    class TestMine(DenseMethodContract):
        cases = [(dict(type='mine'), kind) for kind in ENCODERS]
"""

from __future__ import annotations

import copy

import pytest
import torch
from mmseg.structures import SegDataSample
from tiny_encoders import PE_SIZES, small_timm
from torch.nn.functional import cosine_similarity, normalize

from mmseg_siglip.models.backbones.trunk import Surroundings, View, build_method
from mmseg_siglip.models.backbones.vision_trunk import patch_grid
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.models.segmentors.parts import build_all, build_backbone

ENCODERS = ('clip', 'siglip', 'siglip head', 'naflex', 'pe', 'pe head', 'tips')
"""Kinds of encoder, those with a pooling head with a method on either site."""
POOLED = ('siglip', 'naflex', 'pe')


def images(*sizes):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(3, *size, generator=generator) for size in sizes]


def quarters(pixels):
    """Regions of an image (3, H, W): its quarters, the first of them none, the last striped."""
    height, width = pixels.shape[-2:]
    rows, columns = (torch.arange(n) * 2 // n for n in (height, width))
    regions = rows[:, None] * 2 + columns
    return torch.where(regions == 3, regions + torch.arange(height)[:, None] // 5 % 2, regions)


def steps_behind(model, batch, out):
    """What stands behind the method, one step of each kind that goes with it: an image has the same
    beside others as alone."""
    if model.method.gives != 'cosines':
        experts = dict(type='TemplateExperts', ranking=dict(cat=[0]))
        steps = [experts] if model.method.whole else [experts, dict(type='GlobalBias')]
        model.score_steps = build_all(steps)
    pamr = dict(type='PAMRPostProcessor', num_iter=1, dilations=(1,))
    model.postprocessors = build_all(pamr)
    model.label_steps = build_all([dict(type='RegionVote')])

    def predict(chosen):
        samples = [SegDataSample(metainfo=dict(ori_shape=out)) for _ in chosen]
        return model.predict(chosen, samples)

    for image, wanted in zip(batch, predict(batch), strict=True):
        (found,) = predict([image])
        torch.testing.assert_close(
            found.seg_logits.data, wanted.seg_logits.data, atol=1e-4, rtol=1e-3
        )
        same = found.pred_sem_seg.data == wanted.pred_sem_seg.data
        assert same.float().mean() > 0.95


class DenseMethodContract:
    """Tests of `cases`.

    Attributes:
        cases: A method, as `build_method` takes it, and a kind of encoder, one of `ENCODERS`.
        finer: Cells that it makes of a patch's side.
    """

    cases: list[tuple] = []
    finer = 1

    def pytest_generate_tests(self, metafunc):
        if 'spec' in metafunc.fixturenames:
            metafunc.parametrize(('spec', 'kind'), metafunc.cls.cases)

    @pytest.fixture(scope='class', autouse=True)
    def small(self):
        with small_timm(**PE_SIZES):
            yield

    @pytest.fixture
    def pretrained(self, kind, request):
        name, *site = kind.split()
        fixture = 'openai_file' if name == 'clip' else f'{name}_folder'
        options = dict(site=(site or ['trunk'])[0]) if name in POOLED else {}
        return dict(pretrained=request.getfixturevalue(fixture), **options)

    @pytest.fixture
    def encoder(self, pretrained):
        return build_backbone(pretrained)

    @pytest.fixture
    def method(self, spec):
        return build_method(copy.deepcopy(spec))

    def dense(self, encoder, method, batch):
        """(B, D, h, w) of a batch, each of whose elements is an image, or a window of one; of a
        method that gives one map for the image, (1, D, h, w)."""
        text = normalize(torch.randn(4, encoder.embed_dim, generator=torch.Generator()), dim=1)
        views = [
            View(
                0 if method.scope == 'image' else i,
                (0, 0, *image.shape[-2:]),
                method.prepare(encoder.to_pixels(image)),
                quarters(image) if method.uses_regions else None,
            )
            for i, image in enumerate(batch)
        ]
        known = Surroundings(views, lambda: text, 20.0)
        return encoder.dense(torch.stack(list(batch)), attention=method, surroundings=known)

    def grid_of(self, size, encoder):
        """(h, w) of what it gives for a window of `size` (H, W)."""
        grid = patch_grid(size, encoder.patch_size, encoder.image_size)
        return tuple(self.finer * n for n in grid)

    @pytest.mark.parametrize('size', [(32, 32), (40, 72), (33, 47), (8, 8)])
    @torch.no_grad()
    def test_any_size_and_no_dependence_on_neighbours(self, encoder, method, size):
        batch = images(size, size, size)
        dense = self.dense(encoder, method, batch)
        count = 1 if method.whole else 3
        assert dense.shape == (count, encoder.embed_dim, *self.grid_of(size, encoder))
        assert dense.isfinite().all()
        assert torch.equal(self.dense(encoder, method, batch), dense)
        if method.scope == 'window':
            for i, image in enumerate(batch):
                alone = self.dense(encoder, method, [image])
                torch.testing.assert_close(alone[0], dense[i], atol=1e-5, rtol=1e-4)

    @torch.no_grad()
    def test_half_precision_is_about_the_same(self, encoder, method):
        batch = images((32, 48), (32, 48))
        exact = self.dense(encoder, method, batch)
        with torch.autocast('cpu', torch.bfloat16):
            half = self.dense(encoder, method, batch)
        assert cosine_similarity(half.float(), exact, dim=1).min() > 0.98

    def test_inference_mode_and_what_is_not_read(self, encoder, method, kind):
        """First in inference mode: a tensor kept there would fail in the backward pass. What the
        encoder says that it does not read gets no gradient."""
        batch = images((24, 40), (24, 40))
        with torch.inference_mode():
            self.dense(encoder, method, batch)
        self.dense(encoder, method, batch).square().sum().backward()
        parts = encoder.unread(method) if 'head' not in kind else []
        unread = {id(p) for part in parts for p in part.parameters()}
        for parameter in encoder.parameters():
            if id(parameter) in unread:
                assert parameter.grad is None or not parameter.grad.any()
        assert any(p.grad is not None and p.grad.any() for p in encoder.parameters())

    def test_no_weights_of_its_own_in_checkpoints(self, encoder, method):
        assert not list(method.parameters()) and not method.state_dict()
        names = set(encoder.state_dict())
        encoder.method = encoder.method_for(method)
        assert set(encoder.state_dict()) == names

    @torch.no_grad()
    def test_windows_in_a_segmentor(self, pretrained, spec):
        """However many at once and whatever stands beside an image, it gets the same."""
        model = SCLIPSegmentor(
            pretrained,
            ['cat', 'sky, grass', 'road'],
            templates='plain',
            attention=copy.deepcopy(spec),
            logit_scale=20.0,
            test_cfg=dict(crop_size=(24, 32), stride=(16, 24), return_logits=True),
        ).eval()
        model.proposer = quarters
        batch, out = images((40, 56), (24, 32), (33, 45)), (50, 61)

        def predict(chosen, window_batch):
            model.test_cfg['window_batch'] = window_batch
            samples = [SegDataSample(metainfo=dict(ori_shape=out)) for _ in chosen]
            return [s.seg_logits.data for s in model.predict(chosen, samples)]

        together = predict(batch, 3)
        assert all(found.shape == (3, *out) for found in together)
        others = [predict(batch, 1), predict(batch, 100), *([predict([x], 3)[0]] for x in batch)]
        for i, wanted in enumerate(together):
            for found in (others[0][i], others[1][i], others[2 + i][0]):
                torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
        steps_behind(model, [batch[0], batch[2]], out)
        with pytest.raises(ValueError, match=r'at least one patch \(8x8 pixels\), found 7x40'):
            model.predict(images((7, 40)))
