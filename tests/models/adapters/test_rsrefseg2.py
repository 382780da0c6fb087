"""A checkpoint in the published layout gives the published prompts, masks and losses."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from rsrefseg2_oracle import PlainRSRefSeg2, small_rsrefseg2
from rsrefseg_oracle import random_model, write_encoder
from tiny_sams import SAM2_CONFIG
from torch.nn import functional as F

from mmseg_siglip.models.adapters.rsrefseg2 import from_rsrefseg2, is_rsrefseg2
from mmseg_siglip.registry import MODELS, SCOPE
from mmseg_siglip.weights.state import load_strict

TEXTS = ['the red star in the grass', 'dog', 'a photo of the large cat in the sky']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp('siglip'))


@pytest.fixture(scope='module')
def published(folder):
    return small_rsrefseg2(folder)


def build(repository, folder):
    """The model of the shipped config, on small encoders."""
    config = Config.fromfile(repository / 'configs/refer_sam/rsrefseg2.py').model
    config.backbone.pretrained = folder
    config.sam.pop('checkpoint')
    config.sam.config = SAM2_CONFIG
    for lora in (config.encoder.finetune, config.sam_finetune):
        lora.rank = lora.alpha = 4
    config.test_cfg = dict(return_logits=True)
    torch.manual_seed(5)
    with DefaultScope.overwrite_default_scope(SCOPE):
        return MODELS.build(config)


@pytest.fixture
def model(repository, folder, published):
    model = build(repository, folder).eval()
    load_strict(model, from_rsrefseg2(published.published_state()), 'published')
    return model


def images(count=3, size=(64, 64)):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def test_masks_equal_the_published_ones(model, published):
    pictures = images()
    wanted = published(pictures, TEXTS)
    answers, _ = model.answer(list(pictures), [[text] for text in TEXTS])
    found = torch.stack([answer.logits for answer in answers])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert wanted.std() > 0.05
    decoder = published.sam.mask_decoder  # whose proposals were taken where its answer is unstable
    decoder.dynamic_multimask_via_stability = False
    alone = published(pictures, TEXTS)
    decoder.dynamic_multimask_via_stability = True
    assert (alone - wanted).abs().max() > 1e-2


@torch.no_grad()
def test_black_fills_up_a_photograph_for_both_encoders(model, published):
    (picture,) = images(1, (24, 40))
    large = F.interpolate(picture[None], size=(38, 64), mode='bilinear')
    wanted = published(F.pad(large, (0, 0, 0, 26)), TEXTS[:1])
    wanted = F.interpolate(wanted, size=(64, 64), mode='bilinear')[..., :38, :]
    wanted = F.interpolate(wanted, size=(24, 40), mode='bilinear')[0]
    sample = SegDataSample(metainfo=dict(text=TEXTS[:1], ori_shape=(24, 40)))
    (sample,) = model.predict([picture], [sample])
    torch.testing.assert_close(sample.seg_logits.data, wanted, atol=1e-5, rtol=1e-5)


def plain_losses(published, pictures, masks):
    """Of masks (B, S, S), as the published config weighs them."""
    _, _, q1, q2, v = published.prompt(pictures, TEXTS)
    logits = F.interpolate(published(pictures, TEXTS), size=masks.shape[-2:], mode='bilinear')
    z, y = logits[:, 0], masks.float()
    p = z.sigmoid().flatten(1)
    overlap = (2 * p * y.flatten(1)).sum(1)
    squares = p.square().sum(1) + 1e-3 + y.flatten(1).square().sum(1) + 1e-3
    cosine = F.cosine_similarity(q1.mean(1), q2.mean(1), dim=1)
    cells = F.interpolate(y[:, None], size=v.shape[-2:], mode='bilinear', align_corners=True) > 0.5
    region = F.normalize((v * cells).mean((2, 3)), dim=1)
    head = published.decode_head
    pairs = head.logit_scale2.exp() * region @ F.normalize(q2.mean(1), dim=1).T + head.logit_bias2
    truth = torch.arange(len(pairs))
    both = F.cross_entropy(pairs, truth) + F.cross_entropy(pairs.T, truth)
    return dict(
        loss_MaskBCELoss=5 * F.binary_cross_entropy_with_logits(z, y),
        loss_MaskDiceLoss=5 * (1 - overlap / squares).mean(),
        loss_overlap=0.5 * cosine.square().mean(),
        loss_contrast=0.5 * both / 2,
    )


def truth_of(pictures):
    y, x = torch.meshgrid(*(torch.arange(n) for n in pictures.shape[-2:]), indexing='ij')
    masks = torch.stack([x + y < 50, (x > 20) & (y < 40), (x == 0) & (y == 1)]).to(torch.uint8)
    samples = [SegDataSample(metainfo=dict(text=[text])) for text in TEXTS]
    for sample, mask in zip(samples, masks, strict=True):
        sample.gt_sem_seg = PixelData(data=mask[None])
    return masks, samples


def test_losses_equal_the_published_ones(model, published):
    """No process group is there; the last mask is too small for any patch's centre."""
    pictures = images()
    masks, samples = truth_of(pictures)
    with torch.no_grad():
        wanted = plain_losses(published, pictures, masks)
        found = model.loss(list(pictures), samples)
    for name, value in wanted.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4), name


def test_what_trains_as_published(repository, folder):
    """Each of it gets a gradient: adapters, decoder, prompter, and the encoder's scale and bias."""
    model = build(repository, folder).train()
    pictures = images()
    losses = model.loss(list(pictures), truth_of(pictures)[1])
    sum(value for name, value in losses.items() if name.startswith('loss')).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert not [name for name, p in trained.items() if p.grad is None]
    siglip = 'encoder.backbone.model.'
    assert {f'{siglip}logit_scale', f'{siglip}logit_bias'} <= set(trained)
    assert all(trained[f'{siglip}logit_{name}'].grad.abs() > 0 for name in ('scale', 'bias'))
    assert f'{siglip}text_model.head.lora_A.default.weight' in trained
    frozen = [name for name in trained if name.startswith(siglip) and 'lora' not in name]
    assert len(frozen) == 2


def test_every_tensor_finds_its_place(model, published):
    state = published.published_state()
    ours = from_rsrefseg2(state)
    assert is_rsrefseg2(state) and set(ours) == set(model.state_dict())
    pooling = [name for name in state if 'vision' in name and '.head.' in name and 'lora' in name]
    assert len(pooling) == 6
    # less three scalars that nothing reads; four point embeddings in one; one code in two places
    assert len(ours) == len(state) - 6 - 3 - 3 + 1


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('unknown', r'found \d+ weights and 1 others \(first prompter.dense_prompt_mlp.weight\)'),
        ('no queries', r'found none for decode_head.prompter.query_places.0\* and no others'),
        ('sam', r'found vision_encoder.pos_embed of its backbone.model.\*'),
    ],
)
def test_refusals(published, change, message):
    state = published.published_state()
    if change == 'unknown':
        state['prompter.dense_prompt_mlp.weight'] = torch.ones(1)
    elif change == 'no queries':
        del state['prompter.text_query_pe_embedding1']
    else:
        state = {k: v for k, v in state.items() if not k.startswith('backbone.')}
        state['backbone.model.vision_encoder.pos_embed'] = torch.ones(1)
    with pytest.raises(
        ValueError, match=f'expected the weights of an RSRefSeg 2 on SAM 2, {message}'
    ):
        from_rsrefseg2(state)


SO400M = dict(
    hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16
)
SIGLIP = dict(
    model_type='siglip',
    vision_config=dict(SO400M, image_size=512, patch_size=16),
    text_config=dict(SO400M, vocab_size=256000),
)
LARGE = dict(
    model_type='sam2',
    vision_config=dict(
        backbone_config=dict(
            hidden_size=144,
            num_attention_heads=2,
            blocks_per_stage=[2, 6, 36, 4],
            embed_dim_per_stage=[144, 288, 576, 1152],
            num_attention_heads_per_stage=[2, 4, 8, 16],
            window_size_per_stage=[8, 4, 16, 8],
            global_attention_blocks=[23, 33, 43],
        ),
        backbone_channel_list=[1152, 576, 288, 144],
    ),
)


@pytest.mark.slow
def test_full_size(repository):
    """Every tensor fits the shipped config's model, whose size is the published one."""
    config = Config.fromfile(repository / 'configs/refer_sam/rsrefseg2.py').model
    config.backbone.pretrained, config.backbone.config = None, SIGLIP
    config.sam.checkpoint, config.sam.config = None, LARGE
    with torch.device('meta'), DefaultScope.overwrite_default_scope(SCOPE):
        published = PlainRSRefSeg2(random_model(SIGLIP), random_model(LARGE), rank=16)
        model = MODELS.build(config)
    ours = {k: v.shape for k, v in from_rsrefseg2(published.published_state()).items()}
    assert ours == {k: v.shape for k, v in model.state_dict().items()}
    count = sum(p.numel() for p in model.parameters())
    assert count / 1e6 == pytest.approx(1447, abs=2)  # DiCoR, table IV
