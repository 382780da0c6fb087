"""CAT-Seg's head against a plain implementation of the same formulas, in one run.

    python benchmarks/cat_seg.py

Random weights of the published sizes for ViT-B/16 (24 x 24 grid, 512 channels), one view, float32,
no gradients. The plain side is tests/cat_seg_oracle.py: guidance repeated for every class, classes
padded with real tokens, every convolution as it stands. The floor is the arithmetic that our side
still does (matrix products, convolutions, attention) over the measured rate of matrix products; it
is compared with processor time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from measure import Rates, measure, report, write_csv
from torch.utils.flop_counter import FlopCounterMode

from mmseg_siglip.models.adapters.cat_seg import head_weights
from mmseg_siglip.models.decode_heads import CATSegHead

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tests'))
from cat_seg_oracle import PlainAggregator  # noqa: E402

WIDTH, JOINT, GRID = 768, 512, (24, 24)


def pair() -> tuple[PlainAggregator, CATSegHead]:
    """Both sides, with the same weights."""
    torch.manual_seed(0)
    plain = PlainAggregator(JOINT).eval().requires_grad_(False)
    head = CATSegHead(in_channels=WIDTH, embed_dim=JOINT).eval().requires_grad_(False)
    upsampling = {k: v for k, v in head.state_dict().items() if k.startswith('upsample')}
    head.load_state_dict(head_weights(plain.state_dict()) | upsampling)
    return plain, head


def operations(call) -> float:
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    return counter.get_total_flops()


def compare(classes: int, rates: Rates, repeat: int) -> dict:
    """One row."""
    plain, head = pair()
    features, text = torch.randn(1, JOINT, *GRID), torch.randn(classes, 1, JOINT)
    taps = [torch.randn(1, WIDTH, *GRID) for _ in range(2)]

    def theirs():
        guidance = [head.upsample1(taps[0]), head.upsample2(taps[1])]
        return plain(features, text, guidance, windows=True)

    def ours():
        return head(features, taps, text)

    ours()
    found, wanted = measure(ours, repeat=repeat), measure(theirs, repeat=repeat)
    difference = (found.result - wanted.result).abs().max().item()
    mine, other = operations(ours), operations(theirs)
    return {
        'classes': classes,
        'plain s': wanted.seconds,
        'ours s': found.seconds,
        'times faster': wanted.seconds / found.seconds,
        'by CPU time': wanted.cpu / found.cpu,
        'plain GFLOP': other / 1e9,
        'ours GFLOP': mine / 1e9,
        'floor s': mine / rates.fp32,
        'floor / CPU': mine / rates.fp32 / (found.cpu / torch.get_num_threads()),
        'plain MB': wanted.peak / 2**20,
        'ours MB': found.peak / 2**20,
        'largest difference': f'{difference:.1e}',
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--classes', type=int, nargs='+', default=[171])
    parser.add_argument('--repeat', type=int, default=3)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks/cat_seg.csv'))
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    rates = Rates.of_this_machine()
    print(rates)
    with torch.no_grad():
        rows = [compare(classes, rates, args.repeat) for classes in args.classes]
    write_csv(rows, args.out)
    report(rows)


if __name__ == '__main__':
    main()
