from __future__ import annotations

import pytest
import torch

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.finetune import choose_trainable, text_trains


def trained(backbone):
    return {name: p for name, p in backbone.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    'arch, vision, text, total',
    [
        ('ViT-B-16', 14_155_776, 6_291_456, 20_447_232),
        ('ViT-L-14-336', 50_331_648, 14_155_776, 64_487_424),
    ],
)
def test_query_and_value_counts_are_the_published(arch, vision, text, total):
    counts = []
    for towers in (('vision',), ('text',), ('vision', 'text')):
        with torch.device('meta'):
            backbone = CLIPBackbone(arch=arch)
            choose_trainable(backbone, 'qv', towers=towers)
        counts.append(sum(p.numel() for p in trained(backbone).values()))
    assert counts == [vision, text, total]


def test_clip_trains_queries_and_values_alone(openai_file):
    images = torch.randn(1, 3, 32, 32)
    backbone = CLIPBackbone(openai_file)
    before = backbone.dense(images, attention='vanilla').detach(), backbone.encode_text(['a cat'])
    old = {k: v.clone() for k, v in backbone.state_dict().items()}
    choose_trainable(backbone, 'qv')
    torch.testing.assert_close(backbone.dense(images, attention='vanilla'), before[0])
    torch.testing.assert_close(backbone.encode_text(['a cat']), before[1])
    names = trained(backbone)
    assert len(names) == 2 * (3 + 2) and all(p.ndim == 2 for p in names.values())

    optimizer = torch.optim.AdamW(names.values(), lr=0.1, weight_decay=0.1)
    loss = backbone.dense(images, attention='vanilla').sum() + backbone.encode_text(['a cat']).sum()
    loss.backward()
    optimizer.step()
    block = backbone.model.visual.transformer.resblocks[0].attn
    moved = block.in_proj_weight - old['model.visual.transformer.resblocks.0.attn.in_proj_weight']
    q, k, v = moved.chunk(3)
    assert q.abs().min() > 0 and v.abs().min() > 0 and not k.any()


def test_a_checkpoint_from_before_still_loads(openai_file):
    plain, split = CLIPBackbone(openai_file), CLIPBackbone(openai_file)
    choose_trainable(split, 'qv')
    for parameter in split.parameters():
        parameter.data.zero_()
    split.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(split.dense(images), plain.dense(images))


def test_siglip(siglip_folder):
    backbone = SigLIPBackbone(siglip_folder)
    choose_trainable(backbone, 'qv')
    assert all(
        name.endswith(('self_attn.q_proj.weight', 'self_attn.v_proj.weight'))
        for name in trained(backbone)
    )
    assert len(trained(backbone)) == 2 * (3 + 2) and text_trains(backbone)
    choose_trainable(backbone, 'qv', towers=('vision',))
    assert len(trained(backbone)) == 6 and not text_trains(backbone)
    choose_trainable(backbone, 'none')
    assert not trained(backbone)
    choose_trainable(backbone, 'all', towers=('text',))
    assert text_trains(backbone)
    assert all(name.startswith('model.text_model') for name in trained(backbone))
    choose_trainable(backbone, 'all')
    left = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    probe = 'model.vision_model.head.probe'
    assert left == {'model.logit_scale', 'model.logit_bias', probe}


def test_lora(siglip_folder):
    backbone = SigLIPBackbone(siglip_folder)
    choose_trainable(backbone, dict(type='lora', rank=2, targets=['v_proj']))
    assert trained(backbone) and all('lora_' in name for name in trained(backbone))
    assert text_trains(backbone)
    backbone = SigLIPBackbone(siglip_folder)
    choose_trainable(backbone, 'lora', towers=('vision',))
    assert trained(backbone) and not text_trains(backbone)


def test_what_an_encoder_lacks_is_named(siglip_folder, monkeypatch):
    backbone = SigLIPBackbone(siglip_folder)
    monkeypatch.setattr(backbone, 'towers', lambda: dict(vision=Tower('vision_model')))
    with pytest.raises(
        ValueError, match="'qv': .* of a vision tower, found a SigLIPBackbone, whic"
    ):
        choose_trainable(backbone, 'qv', towers=('vision',))
    backbone.keep_vision(pooling=True)
    with pytest.raises(ValueError, match='expected an encoder with its text tower'):
        choose_trainable(backbone, 'all')
    choose_trainable(backbone, 'all', towers=('vision',))
    assert trained(backbone)


@pytest.mark.parametrize(
    'mode, towers, message',
    [
        ('some', ('vision',), "expected one of none, qv, lora, all.*found 'some'"),
        (dict(type='qv', rank=2), ('vision',), 'expected one of none'),
        ('qv', (), 'towers: expected some of'),
        ('qv', ('image',), 'towers: expected some of'),
    ],
)
def test_refusals(siglip_folder, mode, towers, message):
    with pytest.raises(ValueError, match=message):
        choose_trainable(SigLIPBackbone(siglip_folder), mode, towers=towers)
