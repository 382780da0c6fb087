"""What SAM's proposals cost: SAM-base, one image of 1024 x 1024, 8, 16 and 32 clicks a side.

    python benchmarks/sam_proposals.py --out sam_proposals.csv

Three ways: the package segment-anything's own generator, ours in float32, ours in automatic
precision. Weights are random, the same in all. Random predicted IoUs mean nothing, so the
thresholds are such that about a part of all masks (``--pass``) goes on to suppression. ``labels``
is the time to give the masks classes and to fuse them with a dense prediction of 21 words.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from measure import Rates, markdown, measure, report, write_csv
from mmengine.registry import init_default_scope
from segment_anything import sam_model_registry
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmseg_siglip.models.postprocessors import SAMProposals
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.sam import SAMPointGrid, SegmentAnythingGrid
from mmseg_siglip.models.sam.proposals import Proposals
from mmseg_siglip.registry import MODELS, SCOPE

SIDE, WORDS = 1024, 21


@MODELS.register_module()
class Known(nn.Module):
    """Proposals made before."""

    def __init__(self, found: Proposals) -> None:
        super().__init__()
        self.found = found

    def forward(self, pixels: Tensor, **dense) -> Proposals:
        return self.found


def thresholds(grid: SAMPointGrid, image: Tensor, part: float) -> tuple[float, float]:
    """Predicted IoU and stability that about a part of all masks pass together."""
    grid.min_iou, grid.min_stability = -torch.inf, 0.0
    points = torch.rand(48, 2, device=image.device) * SIDE
    _, iou, stable = grid._decode(grid.sam.encode(image[None]), points)
    each = 1 - part**0.5
    return float(iou.quantile(each)), float(stable.quantile(each))


def compare(
    package: nn.Module, grids: Mapping[str, SAMPointGrid], image: Tensor, logits: Tensor
) -> dict:
    """A row of the table."""
    theirs = measure(lambda: package(image))
    side = grids['fp32'].points_per_side
    row = {'clicks': side**2, 'package, s': theirs.seconds, 'its masks': len(theirs.result)}
    for name, grid in grids.items():
        ours = measure(lambda grid=grid: grid(image))
        row |= {f'ours {name}, s': ours.seconds, f'masks {name}': len(ours.result)}
    post = SAMProposals(dict(type='Known', found=ours.result))
    known = Context(
        query_to_class=range(WORDS),
        logit_scale=40.0,
        pixels=lambda: [image],
        features=list,
        text=list,
    )
    row['labels, s'] = measure(lambda: post(image[None], logits, known)).seconds
    return row


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Time proposals of SAM-base.')
    parser.add_argument('--points', type=int, nargs='+', default=[8, 16, 32], metavar='N')
    parser.add_argument('--batch', type=int, default=16, help='clicks at a time [%(default)s]')
    parser.add_argument('--pass', type=float, default=0.1, dest='part', help='[%(default)s]')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--out', type=Path, metavar='CSV')
    args = parser.parse_args(argv)
    init_default_scope(SCOPE)
    torch.manual_seed(0)
    image = interpolate(torch.rand(1, 3, 32, 32), size=(SIDE, SIDE))[0].to(args.device)
    logits = interpolate(torch.rand(1, WORDS, 16, 16), size=(SIDE, SIDE), mode='bilinear')
    original = sam_model_registry['vit_b']().eval().to(args.device)
    rows = []
    with TemporaryDirectory() as folder, torch.inference_mode():
        path = str(Path(folder, 'sam_vit_b.pth'))
        torch.save(original.state_dict(), path)
        sam = dict(type='SAMAdapter', checkpoint=path)
        grids = {name: SAMPointGrid(sam, precision=name) for name in ('fp32', 'auto')}
        loaded = grids['auto'].to(args.device).sam
        encoder = measure(lambda: loaded.encode(image[None]), repeat=2).seconds
        least = thresholds(grids['fp32'].to(args.device), image, args.part)
        print(f'{args.device}, {Rates.of_this_machine()}')
        print(f'SAM-base, the encoder alone in float32: {encoder:.2f} s', flush=True)
        for n in args.points:
            for grid in grids.values():
                grid.to(args.device)
                grid.points_per_side, grid.points_per_batch = n, args.batch
                grid.min_iou, grid.min_stability = least
            package = SegmentAnythingGrid(
                original,
                points_per_side=n,
                points_per_batch=args.batch,
                pred_iou_thresh=least[0],
                stability_score_thresh=least[1],
            )
            rows.append(compare(package, grids, image, logits.to(args.device)))
            print(markdown(rows[-1:]), flush=True)
    report(rows)
    if args.out:
        write_csv(rows, args.out)


if __name__ == '__main__':
    main()
