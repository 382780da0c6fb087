"""The estimator: any size, batches, windows, flips, what trains and what does not."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_siglip.models.backbones import build_encoder
from mmseg_siglip.models.lora import lora_layers
from mmseg_siglip.models.segmentors import SigLIPDepthEstimator

ENCODERS = ('siglip', 'clip')
TEXT_SIDE = dict(
    siglip={'text_model'},
    clip={'transformer', 'token_embedding', 'positional_embedding', 'ln_final', 'text_projection'},
)
POOLING = dict(siglip='head', clip='proj')
HEAD = dict(channels=8, post_process_channels=[4, 4, 6, 8], loss_decode=dict(type='SILogDepthLoss'))


@pytest.fixture(scope='module')
def sources(siglip_folder, openai_file):
    return dict(siglip=siglip_folder, clip=openai_file)


@pytest.fixture(scope='module')
def build(sources):
    def build(head=(), *, encoder='siglip', **options):
        torch.manual_seed(0)
        backbone = dict(pretrained=sources[encoder])
        return SigLIPDepthEstimator(backbone, dict(HEAD, **dict(head)), **options).eval()

    return build


def sample(size=None, depth=None, **metainfo):
    result = SegDataSample(metainfo=dict(metainfo, **(dict(ori_shape=size) if size else {})))
    if depth is not None:
        result.gt_depth_map = PixelData(data=depth)
    return result


class Ramp(nn.Module):
    """A decoder whose depth is a pixel's own red value: windows and flips can be checked by it."""

    predicts, readout_type = 'depth', 'ignore'

    def __init__(self):
        super().__init__()
        self.images = None

    def forward(self, taps):
        return self.images[:, :1]


def with_ramp(model):
    model.decode_head = ramp = Ramp()
    encode = model.extract_feat

    def extract(images, metas=None):
        ramp.images = images
        return encode(images)

    model.extract_feat = extract
    return model


@pytest.mark.parametrize('encoder', ENCODERS)
@pytest.mark.parametrize('size', [(32, 32), (40, 24), (37, 50), (8, 90)])
def test_any_size_gives_depth_of_that_size(build, encoder, size):
    model = build(encoder=encoder)
    depth = model._forward(torch.randn(2, 3, *size))
    assert depth.shape == (2, 1, *size) and torch.isfinite(depth).all()
    result = model.predict(torch.randn(1, 3, *size), [sample((61, 83))])[0]
    assert result.pred_depth_map.data.shape == (1, 61, 83)
    assert result.depth_kind == 'depth'


@pytest.mark.parametrize('encoder', ENCODERS)
def test_a_batch_of_mixed_sizes_equals_singles(build, encoder):
    model = build(encoder=encoder)
    images = [torch.randn(3, *size) for size in ((32, 32), (40, 24), (32, 32), (37, 50))]
    together = model.predict(images)
    for image, result in zip(images, together, strict=True):
        alone = model.predict([image])[0].pred_depth_map.data
        torch.testing.assert_close(result.pred_depth_map.data, alone, atol=1e-4, rtol=1e-4)


def test_padding_does_not_count_for_another_image(build):
    """MMSeg pads a batch to its largest image; the small one's depth must not change by that."""
    model, small = build(), torch.randn(3, 24, 24)
    alone = model.predict([small])[0].pred_depth_map.data
    beside = model.predict([small, torch.randn(3, 64, 64)])[0].pred_depth_map.data
    torch.testing.assert_close(alone, beside)


def test_slide_is_kept_and_covers_every_pixel(build):
    model = with_ramp(build(test_cfg=dict(mode='slide', crop_size=(16, 24), stride=(8, 16))))
    calls = []
    encode = model.encode_decode
    model.encode_decode = lambda x, m=None: (calls.append(tuple(x.shape)), encode(x))[1]
    images = torch.randn(2, 3, 37, 50)
    depth = model.inference(images)
    torch.testing.assert_close(depth, images[:, :1])
    assert calls and all(shape[2:] == (16, 24) for shape in calls)
    model.test_cfg['window_batch'] = 3
    torch.testing.assert_close(model.inference(images), depth)


def test_slide_differs_from_whole_but_not_when_one_window_holds_the_image(build):
    whole, slide = build(), build(test_cfg=dict(mode='slide', crop_size=(24, 24), stride=(16, 16)))
    images = torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        assert (whole.inference(images) - slide.inference(images)).abs().max() > 1e-4
        small = images[..., :24, :20]
        torch.testing.assert_close(whole.inference(small), slide.inference(small))


def test_flip_is_the_mean_of_both_directions(build):
    model = build(test_cfg=dict(flip=True))
    images = torch.randn(1, 3, 32, 40)
    with torch.no_grad():
        plain = build()
        expected = (plain.inference(images) + plain.inference(images.flip(-1)).flip(-1)) / 2
        torch.testing.assert_close(model.inference(images), expected)
        mirrored = model.inference(images.flip(-1)).flip(-1)
        torch.testing.assert_close(model.inference(images), mirrored, atol=1e-5, rtol=1e-4)


def test_a_mirrored_view_is_turned_back(build):
    model, image = with_ramp(build()), torch.randn(3, 16, 24)
    for direction, axes in (('horizontal', [-1]), ('vertical', [-2]), ('diagonal', [-2, -1])):
        view = sample(flip=True, flip_direction=direction)
        depth = model.predict([image.flip(axes)], [view])[0].pred_depth_map.data
        torch.testing.assert_close(depth, image[:1])


@pytest.mark.parametrize('encoder', ENCODERS)
@pytest.mark.parametrize('readout', ['ignore', 'project', 'add'])
@pytest.mark.parametrize('norm', ['none', 'post_ln', 'per_tap'])
def test_every_parameter_that_requires_a_gradient_gets_one(build, encoder, readout, norm):
    model = build(dict(readout_type=readout), encoder=encoder, tap_norm=norm).train()
    samples = [sample(depth=torch.rand(1, 40, 24) + 1) for _ in range(2)]
    losses = model.loss(torch.randn(2, 3, 40, 24), samples)
    assert list(losses) == ['decode.loss_silog']
    losses['decode.loss_silog'].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert any(p.requires_grad for p in model.backbone.parameters())


@pytest.mark.parametrize('encoder', ENCODERS)
@pytest.mark.parametrize('readout', ['ignore', 'project'])
def test_what_depth_does_not_need_is_gone_and_refused(build, sources, encoder, readout):
    model = build(dict(readout_type=readout), encoder=encoder)
    whole = build_encoder(sources[encoder])
    lost = set(whole.model.state_dict()) - set(model.backbone.model.state_dict())
    text = {name for name in lost if whole.is_text(name)}
    assert {name.split('.')[0] for name in text} == TEXT_SIDE[encoder]
    assert {name.split('.')[1] for name in lost - text} == (
        {POOLING[encoder]} if readout == 'ignore' else set()
    )
    with pytest.raises(ValueError, match=f'text tower, found a {type(whole).__name__} that was re'):
        model.backbone.encode_text(['a cat'])
    images = torch.randn(1, 3, 32, 32)
    for joint in (model.backbone.dense, model.backbone.encode_image):
        if readout == 'ignore':
            with pytest.raises(ValueError, match='into the joint space, found a .* to its trunk'):
                joint(images)
        else:
            assert torch.equal(joint(images), getattr(whole, joint.__name__)(images))


@pytest.mark.parametrize('encoder', ENCODERS)
def test_blocks_behind_the_last_tap_are_left_alone(build, encoder):
    model = build(encoder=encoder, tap_layers=(0, 0, 1, 1))
    layers = model.backbone.layers_of('vision')
    assert [any(p.requires_grad for p in layer.parameters()) for layer in layers] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize('encoder', ENCODERS)
def test_a_frozen_backbone_stays_in_eval_and_gets_no_gradient(build, encoder):
    model = build(encoder=encoder, freeze_backbone=True).train()
    assert not any(module.training for module in model.backbone.modules())
    assert model.decode_head.training
    losses = model.loss(torch.randn(1, 3, 32, 32), [sample(depth=torch.ones(1, 32, 32))])
    losses['decode.loss_silog'].backward()
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())
    model.freeze_backbone = False
    assert model.train().backbone.training


@pytest.mark.parametrize(
    ('encoder', 'targets', 'block'),
    [('siglip', ['q_proj', 'fc1'], 'layers.0.'), ('clip', ['out_proj', 'c_fc'], 'resblocks.0.')],
)
def test_lora_trains_adapters_and_the_decoder_alone(build, encoder, targets, block):
    model = build(encoder=encoder, lora=dict(rank=2, targets=targets)).train()
    assert len(lora_layers(model.backbone)) == 6
    losses = model.loss(torch.randn(1, 3, 32, 32), [sample(depth=torch.rand(1, 32, 32) + 1)])
    losses['decode.loss_silog'].backward()
    for name, parameter in model.named_parameters():
        expected = 'lora_' in name or not name.startswith('backbone')
        assert parameter.requires_grad == expected
        assert (parameter.grad is not None) == expected, name
    shallow = build(encoder=encoder, lora=dict(rank=2), tap_layers=(0, 0, 0, 0))
    trained = [n for n, p in shallow.backbone.named_parameters() if p.requires_grad]
    assert trained and all(block in name for name in trained)


def test_training_pads_depth_with_none(build):
    model = build()
    data = dict(
        inputs=[
            torch.zeros(3, 20, 30, dtype=torch.uint8),
            torch.zeros(3, 33, 9, dtype=torch.uint8),
        ],
        data_samples=[sample(depth=torch.ones(1, 20, 30)), sample(depth=torch.ones(1, 33, 9))],
    )
    batch = model.data_preprocessor(data, training=True)
    assert batch['inputs'].shape == (2, 3, 40, 32)
    for padded, size in zip(batch['data_samples'], ((20, 30), (33, 9)), strict=True):
        depth = padded.gt_depth_map.data
        assert depth.shape == (1, 40, 32) and depth.sum() == size[0] * size[1]
    losses = model.train().loss(**batch)
    assert torch.isfinite(losses['decode.loss_silog'])


def test_relative_models_say_so(build):
    model = build(dict(output='relative'))
    assert model.predict(torch.randn(1, 3, 32, 32))[0].depth_kind == 'inverse'


def test_reduced_precision_stays_close(build):
    model, images = build(), torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        exact = model.encode_decode(images)
        model.precision = 'bf16'
        near = model.encode_decode(images)
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    assert (near - exact).abs().max() < 0.5


def test_weights_of_a_saved_model_load(build):
    model, other = build(), build()
    state = copy.deepcopy(model.state_dict())
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(state)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(other._forward(images), model._forward(images))


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(tap_layers=(-18, -12, -6, -2)), 'expected blocks from -3 to 2, found -18'),
        (dict(precision='int8'), "precision: expected one of .* found 'int8'"),
        (dict(freeze_backbone=True, lora=dict(rank=2)), 'freeze_backbone and lora contradict'),
        (
            dict(lora=dict(rank=2, towers=('vision', 'text'))),
            'its text tower, found a SigLIPBackbone that was reduced to its vision side',
        ),
        (dict(test_cfg=dict(mode='slide_flip')), "expected 'slide' or 'whole', found 'slide_flip'"),
        (
            dict(data_preprocessor=dict(type='SegDataPreProcessor', size_divisor=8)),
            'seg_pad_val: expected 0, which means no depth, found 255',
        ),
    ],
)
def test_bad_options_get_one_sentence(build, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(**options)


def test_an_image_smaller_than_a_patch_is_refused(build):
    with pytest.raises(ValueError, match='expected an image of at least one patch'):
        build().predict([torch.zeros(3, 4, 40)])


def test_the_encoder_is_recognised_by_its_contents(siglip_folder, openai_file):
    """No type in the config: weights tell the kind; a configuration alone is a SigLIP's."""
    for source, kind in ((siglip_folder, 'SigLIPBackbone'), (openai_file, 'CLIPBackbone')):
        model = SigLIPDepthEstimator(dict(pretrained=source), HEAD)
        assert type(model.backbone).__name__ == kind
    random = SigLIPDepthEstimator(dict(config=siglip_folder), HEAD)
    assert type(random.backbone).__name__ == 'SigLIPBackbone'
    with pytest.raises(ValueError, match='backbone: expected type or pretrained, found neither'):
        SigLIPDepthEstimator({}, HEAD)


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_an_image_whose_depth_is_no_number_is_named(build, mode):
    model = build(test_cfg=dict(mode=mode))
    images = [torch.randn(3, *size) for size in ((32, 32), (40, 24), (32, 32))]
    named = [sample(img_path=f'{name}.png') for name in 'abc']
    images[2][0, 5, 5] = float('nan')
    with pytest.raises(ValueError, match=r'^c\.png: expected a prediction of finite numbers'):
        model.predict(images, named)
    with pytest.raises(ValueError, match='^the image: expected a prediction of finite numbers'):
        model.predict(images[2:])
