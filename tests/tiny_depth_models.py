"""Small published models of depth, in transformers' folders and in the releases' own files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image, fromarray
from torch import Tensor
from transformers import (
    BeitConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
    PreTrainedModel,
    Tipsv2DptConfig,
    Tipsv2DptForDensePrediction,
    Tipsv2DptImageProcessor,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
    ZoeDepthImageProcessor,
)

WIDTH, STAGES, CHANNELS = 64, [8, 12, 16, 20], 16
IMAGENET = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])


def seeded(model: PreTrainedModel, *, std: float = 0.1) -> PreTrainedModel:
    """`model` with weights that make its depth vary, and by which no last ReLU is all zeros."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        is_scale = re.search(r'norm(_before|_after|\d)?\.weight|lambda', name) is not None
        torch.nn.init.normal_(parameter, float(is_scale), std, generator=generator)
        if name.startswith(('head.conv3', 'head.head.4')):
            parameter.data.abs_()
    return model.eval()


@torch.no_grad()
def by_transformers(model: PreTrainedModel, processor: DPTImageProcessor, photo: Image) -> Tensor:
    """Its depth (H, W) of an image, as transformers' documentation says to compute it."""
    outputs = model(**processor(photo, return_tensors='pt'))
    (found,) = processor.post_process_depth_estimation(outputs, [photo.size[::-1]])
    return found['predicted_depth']


def photograph(size: tuple[int, int], seed: int = 0) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return fromarray(pixels)


def save(model: PreTrainedModel, processor: DPTImageProcessor | None, folder: Path) -> Path:
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return folder


def depth_anything(
    *, max_depth: int | None = None, taps: tuple[int, ...] = (3, 6, 9, 12), side: int = 70
) -> DepthAnythingForDepthEstimation:
    """Depth Anything on a DINOv2 of 12 blocks."""
    vision = dict(
        model_type='dinov2', hidden_size=WIDTH, num_hidden_layers=12, num_attention_heads=1,
        mlp_ratio=2, patch_size=14, image_size=side, out_indices=list(taps), apply_layernorm=True,
        reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=vision,
        reassemble_hidden_size=WIDTH,
        neck_hidden_sizes=STAGES,
        fusion_hidden_size=CHANNELS,
        depth_estimation_type='relative' if max_depth is None else 'metric',
        max_depth=max_depth,
    )
    return seeded(DepthAnythingForDepthEstimation(config))


def depth_anything_processor(side: int = 70) -> DPTImageProcessor:
    size = dict(height=side, width=side)
    return DPTImageProcessor(size=size, keep_aspect_ratio=True, ensure_multiple_of=14, **IMAGENET)


def dpt(**fields) -> DPTForDepthEstimation:
    """DPT on a ViT of 12 blocks, positions for 64 pixels, or on what `fields` say."""
    defaults = dict(
        hidden_size=WIDTH, num_hidden_layers=12, num_attention_heads=1, intermediate_size=96,
        image_size=64, patch_size=16, neck_hidden_sizes=STAGES, fusion_hidden_size=CHANNELS,
    )  # fmt: skip
    return seeded(DPTForDepthEstimation(DPTConfig(**defaults | fields)))


def beit() -> BeitConfig:
    return BeitConfig(
        hidden_size=WIDTH, num_hidden_layers=12, num_attention_heads=1, intermediate_size=96,
        image_size=64, patch_size=16, use_relative_position_bias=True, reshape_hidden_states=False,
        out_indices=[3, 6, 9, 12],
    )  # fmt: skip


def dpt_processor(side: int = 64) -> DPTImageProcessor:
    return DPTImageProcessor(size=dict(height=side, width=side))


def zoe_depth() -> tuple[ZoeDepthForDepthEstimation, ZoeDepthImageProcessor]:
    config = ZoeDepthConfig(
        backbone_config=beit(), backbone_hidden_size=WIDTH, neck_hidden_sizes=STAGES,
        fusion_hidden_size=CHANNELS, bottleneck_features=CHANNELS, num_relative_features=8,
        bin_embedding_dim=16, num_attractors=[4, 3, 2, 1],
        bin_configurations=[dict(n_bins=8, min_depth=0.001, max_depth=10.0, name='nyu')],
    )  # fmt: skip
    processor = ZoeDepthImageProcessor(size=dict(height=64, width=64), ensure_multiple_of=32)
    return seeded(ZoeDepthForDepthEstimation(config), std=0.05), processor


def tips_config() -> Tipsv2DptConfig:
    vision = dict(
        model_type='tipsv2_vision_model', hidden_size=WIDTH, num_hidden_layers=12, mlp_ratio=2,
        num_attention_heads=1, patch_size=14, image_size=56, num_register_tokens=1,
        out_indices=[3, 6, 9, 12], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    return Tipsv2DptConfig(
        backbone_config=vision, neck_hidden_sizes=STAGES, fusion_hidden_size=CHANNELS,
        num_depth_bins=32, num_labels=5,
    )  # fmt: skip


def tips(kind: type[PreTrainedModel] = Tipsv2DptForDensePrediction) -> PreTrainedModel:
    """DPT on TIPS v2: depth, normals and five classes, or what `kind` has of these."""
    return seeded(kind(tips_config()))


def tips_processor(side: int = 56) -> Tipsv2DptImageProcessor:
    return Tipsv2DptImageProcessor(size=dict(height=side, width=side))


SCRATCH = [
    (r'neck\.convs\.(\d)\.', lambda m: f'scratch.layer{int(m[1]) + 1}_rn.'),
    (
        r'neck\.fusion_stage\.layers\.(\d)\.projection\.',
        lambda m: f'scratch.refinenet{4 - int(m[1])}.out_conv.',
    ),
    (
        r'neck\.fusion_stage\.layers\.(\d)\.residual_layer(\d)\.convolution(\d)\.',
        lambda m: f'scratch.refinenet{4 - int(m[1])}.resConfUnit{m[2]}.conv{m[3]}.',
    ),
]
DEPTH_HEAD = [
    *((old, lambda m, new=new: f'depth_head.{new(m)}') for old, new in SCRATCH),
    (r'neck\.reassemble_stage\.layers\.(\d)\.projection\.', r'depth_head.projects.\1.'),
    (r'neck\.reassemble_stage\.layers\.(\d)\.resize\.', r'depth_head.resize_layers.\1.'),
    (r'head\.conv1\.', 'depth_head.scratch.output_conv1.'),
    (r'head\.conv2\.', 'depth_head.scratch.output_conv2.0.'),
    (r'head\.conv3\.', 'depth_head.scratch.output_conv2.2.'),
]
DINOV2 = [
    (r'backbone\.embeddings\.position_embeddings', 'pretrained.pos_embed'),
    (r'backbone\.embeddings\.patch_embeddings\.projection\.', 'pretrained.patch_embed.proj.'),
    (r'backbone\.embeddings\.', 'pretrained.'),
    (r'backbone\.layernorm\.', 'pretrained.norm.'),
    (r'backbone\.encoder\.layer\.', 'pretrained.blocks.'),
]
DINOV2_BLOCK = [
    (r'\.attention\.attention\.(query|key|value)\.', r'.attn.\1.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.layer_scale(\d)\.lambda1', r'.ls\1.gamma'),
]
ACT_POSTPROCESS = [
    *SCRATCH,
    (
        r'neck\.reassemble_stage\.readout_projects\.(\d)\.0\.',
        lambda m: f'pretrained.act_postprocess{int(m[1]) + 1}.0.project.0.',
    ),
    (
        r'neck\.reassemble_stage\.layers\.(\d)\.projection\.',
        lambda m: f'pretrained.act_postprocess{int(m[1]) + 1}.3.',
    ),
    (
        r'neck\.reassemble_stage\.layers\.(\d)\.resize\.',
        lambda m: f'pretrained.act_postprocess{int(m[1]) + 1}.4.',
    ),
    (r'head\.head\.', 'scratch.output_conv.'),
]
TIMM_VIT = [
    (r'(dpt|backbone\.beit)\.embeddings\.position_embeddings', 'pretrained.model.pos_embed'),
    (
        r'(dpt|backbone\.beit)\.embeddings\.patch_embeddings\.projection\.',
        'pretrained.model.patch_embed.proj.',
    ),
    (r'(dpt|backbone\.beit)\.embeddings\.', 'pretrained.model.'),
    (r'dpt\.layernorm\.', 'pretrained.model.norm.'),
    (r'dpt\.encoder\.layer\.|backbone\.beit\.layers\.', 'pretrained.model.blocks.'),
]
TIMM_BLOCK = [
    (r'\.attention\.attention\.(query|key|value)\.', r'.attn.\1.'),
    (r'\.attention\.(q|k|v)_proj\.', r'.attn.\1.'),
    (r'\.attention\.(output\.dense|o_proj)\.', '.attn.proj.'),
    (r'\.(intermediate\.dense|mlp\.fc1)\.', '.mlp.fc1.'),
    (r'\.(output\.dense|mlp\.fc2)\.', '.mlp.fc2.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'\.lambda_(\d)', r'.gamma_\1'),
    (r'\.relative_position_bias\.', '.attn.'),
]


def renamed(state: dict[str, Tensor], *tables: list) -> dict[str, Tensor]:
    """Each table's patterns in turn; of a name, the first that is found counts."""
    found = {}
    for name, value in state.items():
        for table in tables:
            for old, new in table:
                name, count = re.subn(old, new, name, count=1)
                if count:
                    break
        found[name] = value.clone()
    return found


def fused(state: dict[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
    """``attn.query``, ``attn.key`` and ``attn.value`` as one ``attn.qkv``."""
    found = dict(state)
    for name in state:
        if f'.attn.{names[0]}.' in name:
            parts = [name.replace(f'.attn.{names[0]}.', f'.attn.{part}.') for part in names]
            if all(part in found for part in parts):
                whole = name.replace(f'.attn.{names[0]}.', '.attn.qkv.')
                found[whole] = torch.cat([found.pop(part) for part in parts])
    return found


def depth_anything_release(model: DepthAnythingForDepthEstimation) -> dict[str, Tensor]:
    """Its weights as ``depth_anything_v2_vits.pth`` has them."""
    state = renamed(model.state_dict(), DEPTH_HEAD, DINOV2, DINOV2_BLOCK)
    return fused(state, ('query', 'key', 'value'))


def dpt_release(model: DPTForDepthEstimation) -> dict[str, Tensor]:
    """Its weights as ``dpt_large_384.pt`` has them, the classifier of the encoder included."""
    state = renamed(model.state_dict(), ACT_POSTPROCESS, TIMM_VIT, TIMM_BLOCK)
    classifier = {
        'pretrained.model.head.weight': torch.zeros(10, WIDTH),
        'pretrained.model.head.bias': torch.zeros(10),
    }
    return fused(state, ('query', 'key', 'value')) | classifier


def dpt_beit_release(model: DPTForDepthEstimation) -> dict[str, Tensor]:
    """Its weights as ``dpt_beit_large_512.pt`` has them, with what transformers leaves out."""
    state = renamed(model.state_dict(), ACT_POSTPROCESS, TIMM_VIT, TIMM_BLOCK)
    found = {}
    for name, value in state.items():
        bias = re.fullmatch(r'(.*\.attn)\.(q|v)\.bias', name)
        found[f'{bias[1]}.{bias[2]}_bias' if bias else name] = value
    found = fused(found, ('q', 'k', 'v'))
    for i in range(12):
        name = f'pretrained.model.blocks.{i}.attn.relative_position_index'
        found[name] = torch.zeros(17, 17, dtype=torch.long)
    for part in ('fc_norm', 'head'):
        found[f'pretrained.model.{part}.weight'] = torch.zeros(WIDTH)
    return found
