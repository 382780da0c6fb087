"""Depth and normals of one encoder: one pass, windows, mirrors, losses, and TIPS v2 as a whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny_depth_models import CHANNELS, STAGES, photograph, tips, tips_processor
from torch.nn.functional import interpolate, normalize
from transformers import Tipsv2Config, Tipsv2Model
from transformers.models.tipsv2.configuration_tipsv2 import Tipsv2TextConfig

from mmseg_siglip.api import DepthPredictor
from mmseg_siglip.models.adapters.tips_dpt import load_tips_dpt
from mmseg_siglip.models.segmentors import SigLIPDepthEstimator
from mmseg_siglip.models.segmentors.depth_model import mirrored_maps

SMALL = dict(channels=8, post_process_channels=[4, 4, 6, 8])
ANGLE, SILOG = dict(type='NormalAngleLoss'), dict(type='SILogDepthLoss')


def build(pretrained, **options):
    torch.manual_seed(0)
    model = SigLIPDepthEstimator(
        dict(pretrained=pretrained),
        dict(SMALL, loss_decode=SILOG),
        normal_head=dict(SMALL, loss_decode=ANGLE),
        **options,
    )
    return model.eval()


@pytest.fixture(scope='module')
def model(siglip_folder):
    return build(siglip_folder)


def samples(size, count=2):
    found = []
    for _ in range(count):
        sample = SegDataSample(metainfo=dict(img_path='a.png'))
        normals = normalize(torch.randn(3, *size), dim=0)
        sample.set_data(dict(gt_depth_map=PixelData(data=torch.rand(1, *size) + 1)))
        sample.set_data(dict(gt_normal_map=PixelData(data=normals)))
        found.append(sample)
    return found


def passes(model, call):
    """How often each layer of the encoder runs in `call`: every number that occurs."""
    runs = dict.fromkeys(
        name
        for name, module in model.backbone.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    )
    hooks = []
    for name in runs:
        runs[name] = 0
        module = model.backbone.get_submodule(name)
        hooks.append(module.register_forward_hook(lambda *_, n=name: runs.update({n: runs[n] + 1})))
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    return set(runs.values()) - {0}  # attention calls some of its layers by their weights


@pytest.mark.parametrize('readout', ['ignore', 'project'])
def test_both_decoders_read_one_pass(siglip_folder, readout):
    """In prediction, in training, and from a photograph; with the encoder's pooling, too."""
    head = dict(SMALL, readout_type=readout)
    source = dict(pretrained=siglip_folder)
    normals = dict(head, loss_decode=ANGLE)
    model = SigLIPDepthEstimator(source, dict(head, loss_decode=SILOG), normal_head=normals)
    photo = photograph((40, 56))
    assert passes(model, lambda: model.predict([torch.randn(3, 40, 56)])) == {1}
    assert passes(model, lambda: DepthPredictor(model)(photo, normals=True)) == {1}
    model.train()
    batch = torch.randn(2, 3, 40, 56), samples((40, 56))
    assert passes(model, lambda: sum(model.loss(*batch).values()).backward()) == {1}


def test_maps_at_the_size_of_the_image(model):
    (sample,) = model.predict(
        [torch.randn(3, 40, 56)], [SegDataSample(metainfo=dict(ori_shape=(61, 80)))]
    )
    depth, normals = sample.pred_depth_map.data, sample.pred_normal_map.data
    assert depth.shape == (1, 61, 80) and normals.shape == (3, 61, 80)
    torch.testing.assert_close(normals.norm(dim=0), torch.ones(61, 80))
    assert normals.std() > 0 and depth.std() > 0


def test_depth_is_what_it_is_without_normals(model, siglip_folder):
    torch.manual_seed(0)
    alone = SigLIPDepthEstimator(dict(pretrained=siglip_folder), SMALL).eval()
    image = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    assert (
        not alone.has_normals
        and 'pred_normal_map' not in alone.predict([torch.randn(3, 40, 56)])[0]
    )
    assert torch.equal(model.predict_depth([image])[0], alone.predict_depth([image])[0])


def test_a_mirrored_picture_has_turned_normals(siglip_folder):
    flipping = build(siglip_folder, test_cfg=dict(flip=True))
    x = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        found = flipping.inference(x)
        again = flipping.inference(x.flip(-1))
    torch.testing.assert_close(again, mirrored_maps(found, (-1,)), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(again, found.flip(-1), atol=1e-3)
    sample = SegDataSample(metainfo=dict(flip=True, flip_direction='horizontal'))
    (turned,) = flipping.predict([x[0].flip(-1)], [sample])
    (plain,) = flipping.predict([x[0]])
    torch.testing.assert_close(
        turned.pred_normal_map.data, plain.pred_normal_map.data, atol=1e-4, rtol=1e-3
    )


@pytest.mark.parametrize(('axes', 'signs'), [((-1,), (1, -1, 1, 1)), ((-2, -1), (1, -1, -1, 1))])
def test_mirroring_by_hand(axes, signs):
    maps = torch.randn(2, 4, 5, 6)
    expected = maps.flip(axes) * torch.tensor(signs)[:, None, None]
    assert torch.equal(mirrored_maps(maps, axes), expected)
    assert torch.equal(mirrored_maps(maps[:, :1], axes), maps[:, :1].flip(axes))


def test_windows_are_averaged(siglip_folder):
    options = dict(mode='slide', crop_size=(32, 32), stride=(16, 24))
    sliding = build(siglip_folder, test_cfg=options)
    x = torch.randn(1, 3, 48, 56)
    with torch.no_grad():
        found = sliding.inference(x)
        corner = sliding.encode_decode(x[..., :32, :32])
    assert found.shape == (1, 4, 48, 56)
    torch.testing.assert_close(found[..., :16, :24], corner[..., :16, :24], atol=1e-5, rtol=1e-4)
    assert sliding.predict([x[0]])[0].pred_normal_map.data.norm(dim=0).sub(1).abs().max() < 1e-5


def test_both_train(siglip_folder):
    model = build(siglip_folder).train()
    losses = model.loss(torch.randn(2, 3, 40, 56), samples((40, 56)))
    assert set(losses) == {'decode.loss_silog', 'normals.loss_angle'}
    losses['normals.loss_angle'].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.normal_head.parameters())
    assert all(p.grad is None for p in model.decode_head.parameters())
    with pytest.raises(ValueError, match='a.png: expected gt_normal_map to train on, found none'):
        bare = samples((40, 56))
        for sample in bare:
            del sample.gt_normal_map
        model.loss(torch.randn(2, 3, 40, 56), bare)


def test_from_a_photograph(model):
    found = DepthPredictor(model)(photograph((40, 56)), normals=True)
    assert found.depth.shape == (40, 56) and found.normals.normals.shape == (40, 56, 3)
    assert DepthPredictor(model)(photograph((40, 56))).normals is None


def test_outputs_in_the_wrong_place(siglip_folder):
    source = dict(pretrained=siglip_folder)
    with pytest.raises(ValueError, match='decode_head: expected an output of depth, found normals'):
        SigLIPDepthEstimator(source, dict(SMALL, output='normals'))
    with pytest.raises(ValueError, match='normal_head: expected output normals, found metric'):
        SigLIPDepthEstimator(source, SMALL, normal_head=dict(SMALL, output='metric'))
    with pytest.raises(ValueError, match="tap_readout 'cls': expected an encoder with a CLS token"):
        readout = dict(SMALL, readout_type='project')
        SigLIPDepthEstimator(source, readout, tap_readout='cls')
    with pytest.raises(ValueError, match="tap_readout: expected one of pooled, cls, found 'mean'"):
        SigLIPDepthEstimator(source, SMALL, tap_readout='mean')


@pytest.mark.parametrize('size', [(56, 56), (70, 98)])
def test_tips_heads_on_tips_here_are_transformers_model(tmp_path, size):
    """Encoder, taps with their own CLS, and both decoders, put together from our parts."""
    theirs = tips()
    vision = theirs.backbone.state_dict()
    text = Tipsv2TextConfig(
        hidden_size=64, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1,
        vocab_size=40, max_position_embeddings=8,
    )  # fmt: skip
    fields = theirs.config.backbone_config.to_dict()
    whole = Tipsv2Model(Tipsv2Config(vision_config=fields, text_config=text.to_dict()))
    whole.vision_model.load_state_dict(vision)
    whole.save_pretrained(tmp_path)
    head = dict(type='TIPSHead', channels=CHANNELS, post_process_channels=STAGES,
                readout_type='project')  # fmt: skip
    torch.manual_seed(0)
    ours = SigLIPDepthEstimator(
        dict(type='TIPSBackbone', config=whole.config.to_dict()),
        dict(head, output='bins', num_bins=32),
        normal_head=head,
        tap_readout='cls',
    ).eval()
    ours.backbone.model.vision_model.load_state_dict(vision)
    for part in ours.heads:
        load_tips_dpt(part, theirs.state_dict())
    pixels = tips_processor()(photograph(size), return_tensors='pt', do_resize=False).pixel_values
    with torch.no_grad():
        outputs = theirs(pixels)
        found = ours.encode_decode(pixels)
    depth, normals = (
        interpolate(x, size=size, mode='bilinear')
        for x in (outputs.predicted_depth[:, None], normalize(outputs.normals, dim=1))
    )
    torch.testing.assert_close(found[:, :1], depth, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[:, 1:], normalize(normals, dim=1), atol=1e-3, rtol=1e-3)
    assert np.std(depth.numpy()) > 0
