"""Steps of training in bfloat16 against the same steps in float32, for benchmarks/gpu.py."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import MODELS, SCOPE

if TYPE_CHECKING:
    from gpu import Clock

BASES = Path(__file__).resolve().parents[1] / 'configs/_base_/models'
SAM_SMALL = dict(image_size=64, patch_size=8)
SAM = dict(model_type='sam')
SMALL_SAM = dict(
    model_type='sam',
    vision_config=dict(
        SAM_SMALL,
        hidden_size=32,
        output_channels=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        window_size=4,
        global_attn_indexes=[1],
        num_pos_feats=16,
    ),
    prompt_encoder_config=dict(SAM_SMALL, hidden_size=32),
    mask_decoder_config=dict(hidden_size=32, mlp_dim=64, iou_head_hidden_dim=32),
)


def models(arch: str, *, small: bool) -> Iterator[tuple[str, dict, int, int]]:
    """Name, configuration, side of an image and images of a step."""
    backbone = dict(type='CLIPBackbone', arch=arch)
    cat_seg = Config.fromfile(BASES / ('cat_seg_tiny.py' if small else 'cat_seg.py')).model
    head = {} if small else dict(decode_head=cat_seg.decode_head)
    own = dict(cat_seg, backbone=backbone, attention=None, readout=None, templates='single')
    own['vocabulary'] = ['sky', 'sea', 'sand'] if small else cat_seg.vocabulary
    yield 'CAT-Seg', own | head, *((224, 1) if small else (384, 4))
    dpt = Config.fromfile(BASES / 'dpt.py').model
    yield 'DPT', dict(dpt, backbone=backbone), *((224, 1) if small else (448, 8))
    refer = dict(
        type='ReferringSegmentor',
        backbone=backbone,
        sam=dict(type='SAMAdapter', config=SMALL_SAM if small else SAM),
        decode_head=dict(type='SAMPrompterDecodeHead'),
    )
    yield 'referring', refer, *((64, 1) if small else (512, 2))


def batch_of(name: str, side: int, count: int, device: torch.device) -> tuple:
    """Images and samples with truth."""
    images = torch.rand(count, 3, side, side, device=device)
    samples = []
    for _ in range(count):
        sample = SegDataSample(metainfo=dict(text=['the red cup', 'a dog']))
        if name == 'DPT':
            depth = 1 + 5 * torch.rand(1, side, side, device=device)
            sample.gt_depth_map = PixelData(data=depth)
        else:
            planes, kinds = (2, 2) if name == 'referring' else (1, 3)
            labels = torch.randint(kinds, (planes, side, side), device=device)
            sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return images, samples


def train_step(
    model: nn.Module,
    images: Tensor,
    samples: list,
    optimizer: torch.optim.Optimizer,
    precision: str,
) -> None:
    optimizer.zero_grad()
    with autocast(precision, images.device):
        loss, _ = model.parse_losses(model.loss(images, samples))
    loss.backward()
    optimizer.step()


def training_rows(arch: str, clock: Clock, *, small: bool) -> Iterator[dict]:
    """One line a system, by seconds of a step."""
    for name, config, side, count in models(arch, small=small):
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(SCOPE):
            model = MODELS.build(config).to(clock.device).train()
        images, samples = batch_of(name, side, count, clock.device)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-6)

        fast, slow = (
            partial(train_step, model, images, samples, optimizer, precision)
            for precision in ('bf16', 'fp32')
        )
        ours, plain, memory = clock(fast), clock(slow), clock.peak(fast)
        yield {
            'part': f'{name}, a step of {count} at {side} pixels in bfloat16',
            'plain / ours': plain / ours,
            'ours s': ours,
            'note': 'to float32' + (memory and f', {memory} GB'),
        }
        del model, optimizer, trained, fast, slow
