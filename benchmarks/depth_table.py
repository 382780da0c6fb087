"""Train depth and compare: the best constant, a random encoder, a frozen one, a fine-tuned one.

    python benchmarks/depth_table.py shapes --picture depth_shapes.png
    MMSEG_SIGLIP_DATA=DIR python benchmarks/depth_table.py rgbd

Each row is trained by its config and tested on the same held-out images. The random encoder has the
architecture of the trained one, untrained and frozen under the same decoder. The constant is the
best there is for each column, chosen on the test set itself. Started again, finished rows are read
from the work folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from measure import report, write_csv
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image, ImageDraw

from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.engine import Runner
from mmseg_siglip.evaluation.depth_metric import DepthMetric
from mmseg_siglip.registry import DATASETS, SCOPE

COLUMNS = ('abs_rel', 'delta1', 'rmse', 'silog')
SETS = {
    'shapes': ('shapes_frozen', 'shapes_finetune'),
    'rgbd': ('rgbd_frozen_tiny', 'rgbd_finetune_tiny'),
}
LARGER_IS_BETTER = ('delta1',)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train depth and compare it in one table.')
    parser.add_argument('data', choices=SETS)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/depth_table'))
    parser.add_argument('--out', type=Path, metavar='CSV')
    parser.add_argument('--picture', type=Path, metavar='PNG', help='image, truth and predictions')
    return parser.parse_args(argv)


def load(name: str, folder: Path, start: Path | None = None) -> Config:
    config = Config.fromfile(config_folder() / 'dpt' / f'{name}.py')
    config.work_dir = str(folder)
    config.load_from = str(start) if start else None
    config.experiment_name = folder.name
    config.randomness = dict(seed=0)
    return config


def trained(config: Config) -> Path:
    """Train by a config, or go on; the last checkpoint."""
    last = Path(config.work_dir, f'iter_{config.train_cfg.max_iters}.pth')
    if not last.is_file():
        config = config.copy()
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
        config.test_cfg = config.test_dataloader = config.test_evaluator = None
        config.train_cfg.pop('val_interval', None)
        Runner.from_cfg(config).train()
    return last


def tested(config: Config, checkpoint: Path) -> tuple[dict[str, float], Runner]:
    config = config.copy()
    config.load_from = str(checkpoint)
    config.experiment_name = f'{config.experiment_name}_test'
    runner = Runner.from_cfg(config)
    scores = runner.test()
    return {name: scores[f'depth/{name}'] for name in COLUMNS}, runner


def best_constant(config: Config) -> dict[str, float]:
    """For each score the best that one number for all pixels of all test images can do."""
    options = {k: v for k, v in config.test_evaluator.items() if k != 'type'}
    metric = DepthMetric(**options)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    truths = [sample['data_samples'].gt_depth_map.data[0] for sample in dataset]
    truths = [truth[::2, ::2].contiguous() for truth in truths]
    low = min(float(truth[truth > 0].quantile(0.01)) for truth in truths)
    high = max(float(truth.quantile(0.99)) for truth in truths)
    best: dict[str, float] = {}
    for constant in np.geomspace(low, high, 40):
        scores = [
            metric.score(torch.full_like(truth, constant), truth, name='test image')
            for truth in truths
        ]
        for name in COLUMNS:
            mean = float(np.mean([score[name] for score in scores]))
            better = max if name in LARGER_IS_BETTER else min
            best[name] = better(best.get(name, mean), mean)
    return best


def panel(depth: np.ndarray, low: float, high: float) -> Image.Image:
    """Near is bright: inverse depth between the two bounds as colours."""
    import matplotlib

    valid = depth > 0
    inverse = 1 / np.where(valid, depth, high)
    shade = np.clip((inverse - 1 / high) / (1 / low - 1 / high), 0, 1)
    colours = matplotlib.colormaps['magma'](shade)[..., :3] * valid[..., None]
    return Image.fromarray((colours * 255).astype(np.uint8))


def picture(runners: dict[str, Runner], rows: int = 2) -> Image.Image:
    """Test images, their truth, and what each model predicts, in one scale of colours a row."""
    dataset = next(iter(runners.values())).test_dataloader.dataset
    cells, height, width = [], 0, 0
    for index in range(rows):
        data = dataset[index]
        truth = data['data_samples'].gt_depth_map.data[0].numpy()
        height, width = truth.shape
        bgr = data['inputs'].permute(1, 2, 0).numpy()
        line = [Image.fromarray(np.ascontiguousarray(bgr[..., ::-1])).resize((width, height))]
        low, high = np.quantile(truth[truth > 0], [0.01, 0.99])
        line.append(panel(truth, low, high))
        for runner in runners.values():
            batch = dict(inputs=[data['inputs']], data_samples=[data['data_samples']])
            result = runner.model.test_step(batch)[0].pred_depth_map.data[0].cpu().numpy()
            line.append(panel(result, low, high))
        cells.append(line)
    head = 16
    sheet = Image.new('RGB', (width * len(cells[0]), head + height * rows), 'white')
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(['image', 'true depth', *runners]):
        draw.text((column * width + 4, 2), name, fill='black')
        for row in range(rows):
            sheet.paste(cells[row][column], (column * width, head + row * height))
    return sheet


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    init_default_scope(SCOPE)
    frozen, finetune = SETS[args.data]
    folder = args.work_dir / args.data
    config = load(frozen, folder / 'frozen')
    random = load(frozen, folder / 'random')
    encoder = random.model.backbone.pretrained
    random.model.backbone = dict(type='SigLIPBackbone', config=encoder)
    rows, runners = [{'encoder': 'none: the best constant', **best_constant(config)}], {}
    start = trained(config)
    for label, row, checkpoint in (
        ('random, frozen', random, None),
        (f'{encoder}, frozen', config, start),
        (f'{encoder}, fine-tuned', load(finetune, folder / 'finetuned', start), None),
    ):
        scores, runner = tested(row, checkpoint or trained(row))
        runners[label.removeprefix(f'{encoder}, ')] = runner
        rows.append({'encoder': label, **scores})
    report(rows)
    if args.out:
        write_csv(rows, args.out)
    if args.picture:
        args.picture.parent.mkdir(parents=True, exist_ok=True)
        picture(runners).save(args.picture, optimize=True)


if __name__ == '__main__':
    main()
