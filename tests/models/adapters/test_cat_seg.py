"""A checkpoint in the published layout gives the same numbers in our modules."""

from __future__ import annotations

import pytest
import torch
from cat_seg_oracle import AGGREGATOR, CLIP, PlainAggregator, published_state
from tiny_encoders import CLIP_CONFIG
from torch.nn.functional import linear, normalize

from mmseg_siglip.models.adapters.cat_seg import from_detectron2
from mmseg_siglip.models.segmentors import CATSegSegmentor

CLASSES = ['cat', 'dog', 'sky', 'grass', 'person']


@pytest.fixture(scope='module')
def published(tiny_clip):
    """The modules of a published model, and its state dict with the names that Detectron2 wrote."""
    torch.manual_seed(0)
    plain = PlainAggregator(CLIP_CONFIG['embed_dim'], window=4).eval().requires_grad_(False)
    for parameter in plain.parameters():
        parameter += 0.03 * torch.randn_like(parameter)
    width = CLIP_CONFIG['vision_cfg']['width']
    ups = torch.nn.ConvTranspose2d(width, 256, 2, 2), torch.nn.ConvTranspose2d(width, 128, 4, 4)
    state = published_state(plain, ups, tiny_clip)
    state[AGGREGATOR + 'layers.0.swin_block.block_2.attn_mask'] = torch.zeros(4, 16, 16)
    return plain, ups, state


def segmentor(**options):
    head = dict(type='CATSegHead', window=4)
    backbone = dict(type='CLIPBackbone', arch=CLIP_CONFIG, position_offset=0.0)
    return CATSegSegmentor(backbone, head, CLASSES, **options).eval()


@torch.no_grad()
def naive(plain, ups, clip, tokenize, image):
    """The published forward pass, from pixels and words to logits, in stock modules."""
    visual, taps = clip.visual, []
    x = visual.conv1(image[None]).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(1, 1, -1), x], 1) + visual.positional_embedding
    x = visual.ln_pre(x)
    *body, last = visual.transformer.resblocks
    for block in body:
        x = block(x)
        taps.append(x[:, 1:].transpose(1, 2).unflatten(2, (4, 4)))
    attn = last.attn
    v = linear(last.ln_1(x), attn.in_proj_weight.chunk(3)[2], attn.in_proj_bias.chunk(3)[2])
    v = attn.out_proj(v) + x[:, :1]
    v = visual.ln_post(v + last.mlp(last.ln_2(v))) @ visual.proj
    features = v[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    prompts = [f'A photo of a {name} in the scene' for name in CLASSES]
    text = normalize(clip.encode_text(tokenize(prompts)), dim=-1)[:, None]
    guidance = [up(tap) for up, tap in zip(ups, taps, strict=True)]
    return plain(features, text, guidance)


@pytest.mark.parametrize('finetune', ['none', 'qv'])
@torch.no_grad()
def test_forward_equals_the_published_one(published, tiny_clip, finetune):
    plain, ups, state = published
    model = segmentor(finetune=finetune)
    model.load_state_dict(from_detectron2(state), strict=True)
    image = torch.randn(3, 32, 32)
    wanted = naive(plain, ups, tiny_clip, model.backbone.tokenizer, image)
    torch.testing.assert_close(model([image])[0][None], wanted, atol=1e-4, rtol=1e-4)
    assert wanted.std() > 0.01


def test_every_tensor_finds_its_place(published):
    *_, state = published
    ours = from_detectron2(state)
    model = segmentor(finetune='none')
    assert set(ours) == set(model.state_dict())


@pytest.mark.parametrize('change', ['unknown', 'no head', 'no key'])
def test_refusals(published, change):
    *_, state = published
    state = dict(state)
    if change == 'unknown':
        state['backbone.stem.weight'] = torch.ones(1)
        message = r'and 1 others \(first backbone.stem.weight\)'
    elif change == 'no head':
        state = {k: v for k, v in state.items() if not k.startswith(AGGREGATOR)}
        message = 'found 0, '
    else:
        del state[CLIP + 'visual.transformer.resblocks.0.attn.k_proj_weight']
        message = 'expected q, k and v, found q, v'
    with pytest.raises(ValueError, match=message):
        from_detectron2(state)
