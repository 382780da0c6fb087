"""Tiny weights of what encoders on DINO and RADIO add to them, by their publishers' names."""

import math
from argparse import Namespace

import pytest
import torch

C = 32
TALK2DINO = {
    'linear_layer.weight': (32, 48),
    'linear_layer.bias': (32,),
    'hidden_layers.0.weight': (32, 32),
    'hidden_layers.0.bias': (32,),
}
"""As ``vitb_mlp_infonce.pth`` has it, there of 768 and 512 channels."""
T, WIDE = 64, 128
VISION_BLOCK = {
    'norm1.weight': (C,),
    'norm1.bias': (C,),
    'attn.qkv.weight': (3 * C, C),
    'attn.proj.weight': (C, C),
    'attn.proj.bias': (C,),
    'ls1.gamma': (C,),
    'norm2.weight': (C,),
    'norm2.bias': (C,),
    'mlp.w1.weight': (WIDE, C),
    'mlp.w1.bias': (WIDE,),
    'mlp.w2.weight': (WIDE, C),
    'mlp.w2.bias': (WIDE,),
    'mlp.w3.weight': (C, WIDE),
    'mlp.w3.bias': (C,),
    'ls2.gamma': (C,),
}
TEXT_BLOCK = {
    'attention_norm.weight': (T,),
    'attention_norm.bias': (T,),
    'attention.qkv.weight': (3 * T, T),
    'attention.proj.weight': (T, T),
    'attention.proj.bias': (T,),
    'ffn_norm.weight': (T,),
    'ffn_norm.bias': (T,),
    'feed_forward.fc1.weight': (4 * T, T),
    'feed_forward.fc1.bias': (4 * T,),
    'feed_forward.fc2.weight': (T, 4 * T),
    'feed_forward.fc2.bias': (T,),
}
DINO_TXT = {
    **{
        f'visual_model.head.blocks.{i}.{part}': VISION_BLOCK[part]
        for i in range(2)
        for part in VISION_BLOCK
    },
    'visual_model.head.ln_final.weight': (C,),
    'visual_model.head.ln_final.bias': (C,),
    'text_model.backbone.token_embedding.weight': (49408, T),
    'text_model.backbone.positional_embedding': (77, T),
    **{
        f'text_model.backbone.blocks.{i}.{part}': TEXT_BLOCK[part]
        for i in range(2)
        for part in TEXT_BLOCK
    },
    'text_model.backbone.ln_final.weight': (T,),
    'text_model.backbone.ln_final.bias': (T,),
    'text_model.head.linear_projection.weight': (2 * C, T),
    'logit_scale': (1,),
}
"""The published file's names, there of 1024, 1280 and 2752 channels and 24 text blocks."""
HIDDEN = 40
RADIO_HEAD = {
    'fc1.weight': (HIDDEN, C),
    'fc1.bias': (HIDDEN,),
    **{
        f'blocks.{i}.{part}': shape
        for i in range(2)
        for part, shape in {
            '0.weight': (HIDDEN,),
            '0.bias': (HIDDEN,),
            '2.weight': (HIDDEN, HIDDEN),
            '2.bias': (HIDDEN,),
        }.items()
    },
    'final.0.weight': (HIDDEN,),
    'final.0.bias': (HIDDEN,),
    'final.2.weight': (C, HIDDEN),
    'final.2.bias': (C,),
}
"""As in NVIDIA's files, there of 1280, 1520 and 1536 channels."""


def draw(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) / math.sqrt(shape[-1] if shape[1:] else 4)
        for name, shape in shapes.items()
    }


def save(tensors, folder, name):
    path = folder / name
    torch.save(tensors, path)
    return str(path)


@pytest.fixture(scope='session')
def talk2dino_file(tmp_path_factory):
    return save(draw(TALK2DINO, 3), tmp_path_factory.mktemp('talk2dino'), 'vits_mlp_infonce.pth')


@pytest.fixture(scope='session')
def dino_txt_file(tmp_path_factory):
    state = draw(DINO_TXT, 5) | dict(logit_scale=torch.tensor([2.0]))
    return save(state, tmp_path_factory.mktemp('dino_txt'), 'vision_head_and_text_encoder.pth')


@pytest.fixture(scope='session')
def radio_file(tmp_path_factory):
    """The trunk and others' heads lie in the file, too."""
    head = draw(RADIO_HEAD, 7)
    heads = {f'_heads.siglip2-g.{name}': value for name, value in head.items()}
    heads |= {f'_heads.dino_v3.{name}': 2 * value for name, value in head.items()}
    features = {f'_feature_projections.siglip2-g.{name}': -v for name, v in head.items()}
    state = heads | features | {'base_model.blocks.0.norm1.weight': torch.ones(C)}
    state = dict(args=Namespace(model='vit'), state_dict=state)
    return save(state, tmp_path_factory.mktemp('radio_adaptors'), 'c-radio.pth.tar')


@pytest.fixture(scope='session')
def talk2dino(talk2dino_file, dino_folder, openai_file):
    return dict(pretrained=talk2dino_file, dino=dino_folder, clip=openai_file)


@pytest.fixture(scope='session')
def dino_txt(dino_txt_file, dino3_folder):
    return dict(pretrained=dino_txt_file, dino=dino3_folder)


@pytest.fixture(scope='session')
def radio(radio_file, radio_folder, siglip_folder):
    """The second CLS token is the adaptor's."""
    return dict(pretrained=radio_file, radio=radio_folder, siglip=siglip_folder, summary_token=1)
