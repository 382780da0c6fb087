"""What it costs to look at fewer classes: time, memory and agreement by vocabulary and limit.

    python benchmarks/cat_seg_classes.py CHECKPOINT

Time and memory are those of the head at the published sizes for ViT-B/16 (24 x 24 grid, one view,
random weights, float32). Agreement is that of labels on held-out ShapesWorld scenes with and
without the limit, by the model of configs/cat_seg/shapes.py that CHECKPOINT holds; its vocabulary
is ShapesWorld's 53 classes, filled up with words of ADE20K's 847, which are not in the pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from measure import measure, report, write_csv
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
from mmseg_siglip.models.decode_heads import CATSegHead
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.vocabulary import Vocabulary
from mmseg_siglip.weights.checkpoint import load_checkpoint_file

SIZES = (19, 59, 150, 459, 847)
LIMITS = (None, 256, 128, 64, 32, 16)
CONFIG = Path(__file__).resolve().parents[1] / 'configs/cat_seg/shapes.py'


def words(count: int) -> list[str]:
    """Grounds, coloured shapes, then what is not there."""
    shapes = Vocabulary.load('shapes_pairs').names
    others = [name for name in Vocabulary.load('ade847').names if name not in shapes]
    return [*shapes[-5:], *shapes[:-5], *others][:count]


def head_cost(count: int, limit: int | None) -> tuple[float, float]:
    """Processor seconds and megabytes of one view."""
    torch.manual_seed(0)
    head = CATSegHead(in_channels=768, embed_dim=512, pad_len=256 if limit else 0).eval()
    data = (
        torch.randn(1, 512, 24, 24),
        [torch.randn(1, 768, 24, 24)] * 2,
        torch.randn(count, 1, 512),
    )
    found = measure(lambda: head(*data, max_classes=limit), repeat=2)
    return found.cpu, found.peak / 2**20


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='of configs/cat_seg/shapes.py')
    parser.add_argument('--images', type=int, default=10)
    parser.add_argument('--sizes', type=int, nargs='+', default=SIZES)
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/benchmarks/cat_seg_classes.csv')
    )
    args = parser.parse_args(argv)
    init_default_scope('mmseg_siglip')
    model = MODELS.build(Config.fromfile(CONFIG).model).eval()
    model.load_state_dict(load_checkpoint_file(args.checkpoint)['state_dict'])
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.backbone.mean, model.backbone.std))
    images = [
        (torch.from_numpy(generate(scene_seed('test', i), size=(128, 192)).image) - 0.0).permute(
            2, 0, 1
        )
        for i in range(args.images)
    ]
    images = [(image - mean) / std for image in images]
    rows = []
    for count in args.sizes:
        model.set_classes(words(count))
        model.decode_head.aggregator.pad_len = 0  # no limit; class attention still pads
        whole = None
        for limit in [None, *(limit for limit in LIMITS[1:] if limit < count)]:
            model.test_cfg['max_classes'] = limit
            labels = torch.stack([sample.pred_sem_seg.data for sample in model.predict(images)])
            whole = labels if whole is None else whole
            with torch.no_grad():
                seconds, peak = head_cost(count, limit)
            rows.append(
                {
                    'classes': count,
                    'kept': limit or 'all',
                    'head CPU s': seconds,
                    'head MB': peak,
                    'same label, %': 100 * (labels == whole).float().mean().item(),
                }
            )
            print(rows[-1], flush=True)
    write_csv(rows, args.out)
    report(rows)


if __name__ == '__main__':
    main()
