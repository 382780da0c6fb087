"""Tiny SAMs, and panoptic models, with random weights that matter, in their publishers' formats."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from open_clip import SimpleTokenizer
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from transformers import (
    AutoConfig,
    AutoModel,
    CLIPTokenizer,
    Sam3ImageProcessor,
    Sam3Processor,
)

SIDE, PATCH, WIDTH = 64, 8, 32
SIZE = dict(image_size=SIDE, patch_size=PATCH)
SAM_CONFIG = dict(
    model_type='sam',
    vision_config=dict(
        SIZE,
        hidden_size=32,
        output_channels=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        window_size=3,
        global_attn_indexes=[1],
        num_pos_feats=WIDTH // 2,
    ),
    prompt_encoder_config=dict(SIZE, hidden_size=WIDTH, mask_input_channels=8),
    mask_decoder_config=dict(hidden_size=WIDTH, mlp_dim=48, iou_head_hidden_dim=32),
)
SAM2_CONFIG = dict(
    model_type='sam2',
    vision_config=dict(
        backbone_config=dict(
            hidden_size=16,
            num_attention_heads=1,
            image_size=[64, 64],
            blocks_per_stage=[1, 1, 2, 1],
            embed_dim_per_stage=[16, 32, 64, 128],
            num_attention_heads_per_stage=[1, 2, 4, 8],
            window_size_per_stage=[8, 4, 2, 2],
            global_attention_blocks=[3],
            window_positional_embedding_background_size=[4, 4],
        ),
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=WIDTH,
    ),
    prompt_encoder_config=dict(hidden_size=WIDTH, image_size=64, patch_size=16),
    mask_decoder_config=dict(hidden_size=WIDTH, mlp_dim=48, iou_head_hidden_dim=32),
)

NARROW = dict(hidden_size=32, num_attention_heads=4)
LAYERS = dict(NARROW, intermediate_size=48, num_layers=2)
BYTES, VOCABULARY = 512, 1024
TEXT = dict(
    NARROW,
    intermediate_size=48,
    projection_dim=16,
    max_position_embeddings=32,
    vocab_size=VOCABULARY,
)
SAM3_PARTS = dict(
    vision_config=dict(
        model_type='sam3_vision_model',
        backbone_config=dict(
            NARROW,
            intermediate_size=48,
            num_hidden_layers=3,
            image_size=56,
            patch_size=14,
            window_size=2,
            global_attn_indexes=[1],
            pretrain_image_size=28,
        ),
        fpn_hidden_size=32,
    ),
    geometry_encoder_config=dict(LAYERS, num_layers=1, roi_size=3),
    detr_encoder_config=LAYERS,
    detr_decoder_config=dict(LAYERS, num_queries=5),
    mask_decoder_config=NARROW,
)
CLIP_TEXT = dict(TEXT, model_type='clip_text_model', hidden_act='gelu')
SAM3_CONFIGS = dict(
    sam3=dict(SAM3_PARTS, model_type='sam3', text_config=dict(CLIP_TEXT, num_hidden_layers=2)),
    sam3_lite_text=dict(
        SAM3_PARTS, model_type='sam3_lite_text', text_config=dict(TEXT, num_hidden_layers=3)
    ),
)

EOMT = dict(
    model_type='eomt',
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=2,
    image_size=64,
    patch_size=16,
    num_blocks=1,
    num_queries=6,
    num_upscale_blocks=1,
    num_labels=4,
)
EOMT_DINOV3 = dict(
    EOMT,
    model_type='eomt_dinov3',
    intermediate_size=48,
    head_dim=16,
)
MASK2FORMER = dict(
    model_type='mask2former',
    feature_size=32,
    mask_feature_size=32,
    hidden_dim=32,
    encoder_feedforward_dim=32,
    dim_feedforward=32,
    encoder_layers=1,
    decoder_layers=2,
    num_attention_heads=2,
    num_queries=6,
    num_labels=4,
    backbone_config=dict(
        model_type='swin',
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    ),
)
PANOPTIC = dict(eomt=EOMT, eomt_dinov3=EOMT_DINOV3, mask2former=MASK2FORMER)


def disturb(model, seed=0, scale=0.05):
    """Zeros and tiny weights would hide mistakes."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += scale * torch.randn_like(parameter)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope='session')
def sam_config():
    return SAM_CONFIG


@pytest.fixture(scope='session')
def sam2_config():
    return SAM2_CONFIG


def original_sam_model():
    """The package segment-anything's own modules, small."""
    grid = (SIDE // PATCH,) * 2
    encoder = ImageEncoderViT(
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=32,
        depth=3,
        num_heads=2,
        out_chans=WIDTH,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=3,
        global_attn_indexes=(1,),
    )
    prompts = PromptEncoder(WIDTH, grid, (SIDE, SIDE), mask_in_chans=8)
    transformer = TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=8, mlp_dim=48)
    decoder = MaskDecoder(transformer_dim=WIDTH, transformer=transformer, iou_head_hidden_dim=32)
    return disturb(Sam(encoder, prompts, decoder))


@pytest.fixture(scope='session')
def original_sam():
    return original_sam_model()


@pytest.fixture(scope='session')
def original_sam_file(original_sam, tmp_path_factory):
    """`original_sam` as published: a bare state dict."""
    path = tmp_path_factory.mktemp('sam') / 'sam_vit_tiny.pth'
    torch.save(original_sam.state_dict(), path)
    return str(path)


def write_sam3(kind, folder):
    """A SAM 3 with weights large enough to matter, as transformers publishes it."""
    fields = deepcopy(SAM3_CONFIGS[kind])
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(fields.pop('model_type'), **fields))
    disturb(model, scale=0.1)
    # What words differ by, and places.
    model.text_projection.weight *= 10
    model.mask_decoder.mask_embedder.layers[-1].weight *= 10
    model.mask_decoder.semantic_projection.weight *= 20
    model.detr_decoder.presence_head.layer3.bias -= 1
    model.save_pretrained(folder)
    write_sam3_processor(folder)
    return str(folder)


def write_sam3_processor(folder):
    """SAM 3's, with the commonest of CLIP's word pieces."""
    simple = SimpleTokenizer()
    words = [*list(simple.encoder)[: VOCABULARY - 2], '<|startoftext|>', '<|endoftext|>']
    merges = sorted(simple.bpe_ranks, key=simple.bpe_ranks.get)[: VOCABULARY - 2 - BYTES]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=merges)
    images = Sam3ImageProcessor(size=dict(height=56, width=56))
    Sam3Processor(images, tokenizer).save_pretrained(folder)


@pytest.fixture(scope='session')
def sam3_folder(tmp_path_factory):
    return write_sam3('sam3', tmp_path_factory.mktemp('sam3'))


@pytest.fixture(scope='session')
def sam3_lite_folder(tmp_path_factory):
    return write_sam3('sam3_lite_text', tmp_path_factory.mktemp('sam3_lite_text'))
