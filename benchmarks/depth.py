"""Depth against transformers' Depth Anything of equal size, in one run.

    python benchmarks/depth.py

Both have a ViT-B (12 blocks of width 768) with patches of 14 pixels, random weights, and the same
DPT decoder with the same weights; images of 378 x 378 pixels, so 27 x 27 patches. The encoders are
DINOv2's and SigLIP's. The two take turns, and ratios are of best times. The last two columns are
how far reduced precision moves depth, of our own model, its last layer scaled so that depth spreads
over the range: the mean distance, and the largest, over the standard deviation of depth.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from measure import Rates, measure, report, write_csv
from torch.utils.flop_counter import FlopCounterMode
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from mmseg_siglip.api import create_depth_model
from mmseg_siglip.models.adapters.depth_anything import load_depth_anything
from mmseg_siglip.models.segmentors import SigLIPDepthEstimator
from mmseg_siglip.precision import compute_dtype

WIDTH, LAYERS, HEADS, MLP, PATCH = 768, 12, 12, 3072, 14
TEXT = dict(hidden_size=32, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)


def siglip_config(
    width: int, layers: int, heads: int, mlp: int, patch: int, image_size: int
) -> dict:
    """A transformers configuration whose text tower is as good as none."""
    vision = dict(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=mlp,
        patch_size=patch,
        image_size=image_size,
    )
    text = dict(TEXT, vocab_size=8, bos_token_id=0, eos_token_id=1, pad_token_id=1)
    return dict(model_type='siglip', vision_config=vision, text_config=text)


def pair(side: int) -> tuple[DepthAnythingForDepthEstimation, SigLIPDepthEstimator]:
    """Depth Anything and ours, their decoders alike."""
    torch.manual_seed(0)
    encoder = Dinov2Config(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        patch_size=PATCH,
        image_size=side,
        out_indices=[3, 6, 9, 12],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=encoder,
        reassemble_hidden_size=WIDTH,
        neck_hidden_sizes=[96, 192, 384, 768],
        fusion_hidden_size=128,
        patch_size=PATCH,
        depth_estimation_type='metric',
        max_depth=10,
    )
    theirs = DepthAnythingForDepthEstimation(config).eval()
    ours = create_depth_model(
        siglip_config(WIDTH, LAYERS, HEADS, MLP, PATCH, side), image_size=None, decoder_channels=128
    )
    load_depth_anything(ours.decode_head, theirs.state_dict())
    return theirs, ours


def spread(model: SigLIPDepthEstimator, images: torch.Tensor) -> None:
    """Scale the last layer so that depth varies over its range: random weights give one depth, of
    which a difference would say nothing."""
    last = model.decode_head.conv3
    depth = model.encode_decode(images) / model.decode_head.max_depth
    logits = depth.double().logit()
    last.bias.copy_((last.bias - logits.mean()) / logits.std())
    last.weight.div_(logits.std())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Depth against transformers, in one run.')
    parser.add_argument('--side', type=int, default=378, help='pixels [%(default)s]')
    parser.add_argument('--batch', type=int, default=1, help='images [%(default)s]')
    parser.add_argument('--rounds', type=int, default=5, help='[%(default)s]')
    parser.add_argument('--out', type=Path, metavar='CSV')
    args = parser.parse_args(argv)
    rates = Rates.of_this_machine()
    print(rates, flush=True)
    theirs, ours = pair(args.side)
    images = torch.randn(args.batch, 3, args.side, args.side)

    def run_theirs() -> torch.Tensor:
        return theirs(images).predicted_depth

    def run_ours(precision: str) -> torch.Tensor:
        ours.precision = precision
        return ours.encode_decode(images)[:, 0]

    with torch.no_grad():
        spread(ours, images)
        with FlopCounterMode(display=False) as counter:
            exact = run_ours('fp32')
        run_theirs(), run_ours('auto')
        times: dict[str, list] = dict(theirs=[], fp32=[], auto=[])
        for _ in range(args.rounds):
            times['theirs'].append(measure(run_theirs, repeat=2))
            for precision in ('fp32', 'auto'):
                times[precision].append(measure(lambda p=precision: run_ours(p), repeat=2))
    best = {name: min(runs, key=lambda run: run.seconds) for name, runs in times.items()}
    peak = {name: max(run.peak for run in runs) / 2**20 for name, runs in times.items()}
    auto = compute_dtype('auto', torch.device('cpu')) != torch.float32
    rows = []
    for name, label, wanted in (
        ('theirs', "transformers' Depth Anything, fp32", ''),
        ('fp32', 'ours, fp32', 1.0),
        ('auto', f'ours, auto ({"bf16" if auto else "fp32"})', 2.5),
    ):
        floor = counter.get_total_flops() / rates.of('auto' if name == 'auto' else 'fp32')
        off = (best[name].result - exact).abs() / exact.std()
        rows.append(
            {
                'model': label,
                's': best[name].seconds,
                'times faster': best['theirs'].seconds / best[name].seconds,
                'wanted': wanted,
                'floor s': floor,
                'floor / s': floor / best[name].seconds,
                'peak MB': peak[name],
                'depth off, mean': '' if name == 'theirs' else float(off.mean()),
                'largest': '' if name == 'theirs' else float(off.max()),
            }
        )
    report(rows)
    if args.out:
        write_csv(rows, args.out)


if __name__ == '__main__':
    main()
