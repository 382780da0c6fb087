"""A checkpoint in the published layout gives the published masks."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from rsrefseg_oracle import PlainRSRefSeg, random_model, small_rsrefseg, write_encoder
from tiny_sams import SAM_CONFIG
from torch.nn.functional import interpolate

from mmseg_siglip.models.adapters.rsrefseg import from_rsrefseg, trained_weights
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.weights.state import load_strict

TEXTS = ['the red star in the grass', 'dog', 'a photo of the large cat in the sky']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp('siglip'))


@pytest.fixture(scope='module')
def published(folder):
    return small_rsrefseg(folder)


def build(repository, folder, **options):
    """The model of the shipped config, on small encoders."""
    whole = Config.fromfile(repository / 'configs/refer_sam/rsrefseg_b.py')
    config = whole.model
    config.backbone.pretrained = folder
    config.sam.pop('checkpoint')
    config.sam.config = SAM_CONFIG
    for lora in (config.encoder.finetune, config.sam_finetune):
        lora.rank = lora.alpha = 4
    config.test_cfg = dict(return_logits=True)
    whole.merge_from_dict(options)
    torch.manual_seed(5)
    with DefaultScope.overwrite_default_scope(SCOPE):
        return MODELS.build(whole.model).eval()


@pytest.fixture(scope='module')
def model(repository, folder, published):
    model = build(repository, folder)
    load_strict(model, from_rsrefseg(published.state_dict()), 'published')
    return model


def images(count=3, size=(64, 64)):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(4))


def predict(model, pictures, texts, shape):
    samples = [SegDataSample(metainfo=dict(text=[text], ori_shape=shape)) for text in texts]
    found = model.predict(list(pictures), samples)
    return torch.stack([sample.seg_logits.data for sample in found])


def test_masks_equal_the_published_ones(model, published):
    """A batch, padded to its longest phrase, and one at a time, as its evaluation has them."""
    pictures = images()
    wanted = published(pictures, TEXTS)
    enlarged = interpolate(interpolate(wanted, size=64, mode='bilinear'), 50, mode='bilinear')
    found = predict(model, pictures, TEXTS, (50, 50))
    torch.testing.assert_close(found, enlarged, atol=1e-5, rtol=1e-5)
    assert wanted.std() > 0.05
    for picture, text, before in zip(pictures, TEXTS, wanted, strict=True):
        alone = published(picture[None], [text])
        (answer,), _ = model.answer([picture], [[text]])
        torch.testing.assert_close(answer.logits, alone[0], atol=1e-5, rtol=1e-5)
        if text == 'dog':  # whose padding spoke along
            assert (alone - before).abs().max() > 1e-3


def test_a_photograph_of_another_size_is_stretched_first(model, published):
    (picture,) = images(1, (48, 90))
    stretched = interpolate(picture[None], size=(64, 64), mode='bilinear')
    wanted = interpolate(published(stretched, TEXTS[:1]), size=64, mode='bilinear')
    wanted = interpolate(wanted, size=(48, 90), mode='bilinear')
    found = predict(model, [picture], TEXTS[:1], (48, 90))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_without_parity_masks_differ(repository, folder, published, model):
    own = build(
        repository, folder, **{'model.parity': False, 'model.decode_head.norm_cfg': dict(type='BN')}
    )
    load_strict(own, from_rsrefseg(published.state_dict()), 'published')
    pictures = images()
    ours, theirs = (predict(one, pictures, TEXTS, (64, 64)) for one in (own, model))
    assert (ours - theirs).abs().max() > 1e-2


def test_what_trains_as_published(repository, folder):
    """Each of it gets a gradient: adapters, decoder, mask embedding and prompter."""
    model = build(repository, folder).train()
    pictures, samples = images(), [SegDataSample(metainfo=dict(text=[text])) for text in TEXTS]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.ones(1, 64, 64, dtype=torch.uint8))
    losses = model.loss(list(pictures), samples)
    assert {name for name in losses if 'loss' in name} == {'loss_MaskBCELoss'}
    losses['loss_MaskBCELoss'].backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert not [name for name, p in trained.items() if p.grad is None]
    assert 'encoder.backbone.model.text_model.head.lora_A.default.weight' in trained
    assert not [name for name in trained if name.startswith('encoder') and 'lora' not in name]


def test_every_tensor_finds_its_place(model, published):
    state = published.state_dict()
    ours = from_rsrefseg(state)
    assert set(ours) == set(model.state_dict())
    left = [name for name in state if 'head' in name and 'vision' in name and 'lora' in name]
    assert len(left) == 2 and len(ours) == len(state) - 2


SO400M = dict(
    hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16
)
SIGLIP = dict(
    model_type='siglip',
    vision_config=dict(SO400M, image_size=384, patch_size=14),
    text_config=SO400M,
)
LARGE = dict(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    global_attn_indexes=[5, 11, 17, 23],
)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'vision'), [('rsrefseg_b', {}), ('rsrefseg_l', LARGE)])
def test_full_size(repository, name, vision):
    """Every tensor fits the shipped config's model, whose size is the published one."""
    sam = dict(model_type='sam', vision_config=vision)
    config = Config.fromfile(repository / f'configs/refer_sam/{name}.py').model
    config.backbone.pretrained, config.backbone.config = None, SIGLIP
    config.sam.checkpoint, config.sam.config = None, sam
    with torch.device('meta'), DefaultScope.overwrite_default_scope(SCOPE):
        published = PlainRSRefSeg(random_model(SIGLIP), random_model(sam), rank=16)
        model = MODELS.build(config)
    ours = {k: v.shape for k, v in from_rsrefseg(published.state_dict()).items()}
    assert ours == {k: v.shape for k, v in model.state_dict().items()}
    if name == 'rsrefseg_b':  # 984 million: DiCoR, table IV
        assert round(sum(p.numel() for p in model.parameters()) / 1e6) == 984
    assert model.decode_head.prompt_grid((27, 27)) == (7, 7)


@pytest.mark.parametrize('prefix', ['', 'module.', 'model._orig_mod.'])
@pytest.mark.parametrize('wrapper', ['state_dict', 'module', None])
def test_what_frameworks_put_around(published, prefix, wrapper):
    state = {prefix + name: value for name, value in published.state_dict().items()}
    checkpoint = state if wrapper is None else {wrapper: state, 'epoch': 85, 'optimizer': {}}
    assert set(trained_weights(checkpoint)) == set(published.state_dict())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('unknown', r'found 3\d\d weights and 1 others \(first neck.weight\)'),
        ('no prompter', r'found none for decode_head.activation.mix.\* and no others'),
        ('other', r'found none for .*vision_model.\* and 1 others \(first fc.weight\)'),
    ],
)
def test_refusals(published, change, message):
    state = dict(published.state_dict())
    if change == 'unknown':
        state['neck.weight'] = torch.ones(1)
    elif change == 'no prompter':
        state = {k: v for k, v in state.items() if not k.startswith('prompter')}
    else:
        state = {'fc.weight': torch.ones(1)}
    with pytest.raises(ValueError, match=f'expected the weights of an RSRefSeg, {message}'):
        from_rsrefseg(state)
