"""Referring segmentation on full-size encoders with random weights: shapes, prompts, cost.

    python benchmarks/refer_encoders.py

Each SigLIP reads an image of 768 x 1024 and four phrases, makes prompts in each mode, and SAM-base
(image encoder frozen, 1024 pixels) draws the masks. Trained are LoRA of rank 16 in both towers,
the prompter and SAM's decoder; one step forward, and one forward and backward, in bfloat16 where
that is faster. SAM's image encoder costs the same for all and is timed by itself.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from measure import CPU, measure, report, write_csv
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_siglip.engine.optim_wrapper import AmpOptimWrapper
from mmseg_siglip.models.decode_heads.sam_prompter import MODES
from mmseg_siglip.models.decode_heads.sam_prompter_head import SAMPrompterDecodeHead
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.source import bundled

B = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
SO400M = dict(
    hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16
)
PHRASES = ['the red star', 'the ring left of the star', 'the largest shape', 'the cross']
SIZE = (768, 1024)


def siglip(tower: dict, *, patch: int, side: int, vocabulary: int, naflex: bool = False) -> dict:
    where = dict(num_patches=(side // patch) ** 2) if naflex else dict(image_size=side)
    special = dict(bos_token_id=0, eos_token_id=1, pad_token_id=1)
    return dict(
        model_type='siglip2' if naflex else 'siglip',
        vision_config=dict(tower, patch_size=patch, **where),
        text_config=dict(
            tower, vocab_size=vocabulary, projection_size=tower['hidden_size'], **special
        ),
    )


ENCODERS = {
    'SigLIP B/16 224': siglip(B, patch=16, side=224, vocabulary=32000),
    'SigLIP B/16 256': siglip(B, patch=16, side=256, vocabulary=32000),
    'SigLIP 2 B/32 256': siglip(B, patch=32, side=256, vocabulary=256000),
    'SigLIP B/16 384': siglip(B, patch=16, side=384, vocabulary=32000),
    'SigLIP B/16 512': siglip(B, patch=16, side=512, vocabulary=32000),
    'SigLIP So400m/14 384': siglip(SO400M, patch=14, side=384, vocabulary=32000),
    'SigLIP 2 So400m/16 512': siglip(SO400M, patch=16, side=512, vocabulary=256000),
    'SigLIP 2 B/16 NaFlex': siglip(B, patch=16, side=256, vocabulary=256000, naflex=True),
}
LORA = dict(type='lora', rank=16, alpha=16, targets=['q_proj', 'k_proj', 'v_proj', 'out_proj'])


def build(encoder: dict, sam: dict):
    return MODELS.build(
        dict(
            type='ReferringSegmentor',
            backbone=dict(config=encoder, tokenizer=bundled('tiny_siglip_shapes'), with_cp=True),
            sam=sam,
            decode_head=dict(prompt_mode='query'),
            encoder=dict(finetune=LORA),
        )
    )


def sample() -> SegDataSample:
    one = SegDataSample(metainfo=dict(text=PHRASES, ori_shape=SIZE))
    masks = torch.zeros(len(PHRASES), *SIZE, dtype=torch.uint8)
    masks[:, 200:400, 300:500] = 1
    one.gt_sem_seg = PixelData(data=masks)
    return one


def prompts(model, grid: tuple[int, int]) -> dict[str, str]:
    """How many sparse prompts each mode makes of a grid."""
    siglip = model.siglip
    counts = {}
    for mode in MODES:
        with torch.device('meta'):
            head = SAMPrompterDecodeHead(
                in_channels=siglip.hidden_size,
                text_channels=model.encoder.text_channels,
                prompt_dim=model.sam.prompt_dim,
                native_grid=siglip.native_grid,
                prompt_mode=mode,
            )
        rows, columns = head.prompt_grid(grid)
        steps = f' ({head.steps} steps)' if mode == 'conv' else ''
        counts[mode] = f'{rows}x{columns} = {rows * columns}{steps}'
    return counts


def row(name: str, model, image: torch.Tensor) -> dict:
    wrapper = AmpOptimWrapper(dtype='bfloat16', optimizer=torch.optim.SGD(model.parameters(), 0.0))
    features = model.extract_feat([image])
    model.extract_feat = lambda images: features
    size = model.encoder.size_for(SIZE)
    seen = {}
    hook = model.decode_head.register_forward_pre_hook(
        lambda _, args: seen.update(grid=tuple(args[0].patches.shape[-2:]))
    )

    def forward() -> None:
        model.eval()
        with torch.no_grad(), wrapper.optim_context(model):
            model.answer([image], [PHRASES])

    def step() -> None:
        model.train()
        with wrapper.optim_context(model):
            losses = model.loss([image], [sample()])
        wrapper.backward(sum(value for key, value in losses.items() if 'loss' in key))

    once, trained = measure(forward, repeat=2), measure(step, repeat=2)
    hook.remove()
    dead = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if dead:
        raise ValueError(f'{name}: {len(dead)} parameters without a gradient, first {dead[0]}')
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    return {
        'encoder': name,
        'pixels': f'{size[0]}x{size[1]}',
        'grid': f'{seen["grid"][0]}x{seen["grid"][1]}',
        **prompts(model, seen['grid']),
        'parameters, M': millions,
        'trained, M': trainable,
        'forward, s': once.seconds,
        'step, s': trained.seconds,
        'step, GB': trained.peak / 2**30,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--encoders', nargs='+', choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument('--out', type=Path, default=Path('work_dirs/refer_encoders'))
    args = parser.parse_args(argv)
    init_default_scope('mmseg_siglip')
    torch.manual_seed(0)
    image, rows = torch.rand(3, *SIZE), []
    sam = dict(config=dict(model_type='sam'))
    for name in args.encoders:
        model = build(ENCODERS[name], sam)
        if not rows:
            started = time.perf_counter()
            with torch.no_grad(), autocast('auto', CPU):
                model.sam.encode([image])
            encoding = time.perf_counter() - started
        rows.append(row(name, model, image))
        print(rows[-1], flush=True)
        write_csv(rows, args.out / 'table.csv')
        del model
        gc.collect()
    report(rows)
    print(f"\nSAM-base's image encoder, forward: {encoding:.1f} s.")


if __name__ == '__main__':
    main()
