"""Questions about ShapesWorld: blind, with the image, with depth beside it.

    python benchmarks/vlm_shapes.py

Trains the four configs of configs/vlm/shapes*.py, or goes on where it was, and tests each on the
same held-out questions. The last two start from the second and train for the same time: the
projector alone, and the projector with depth fused. Chance is that of a guess among the answers of
a kind. With --depth-config the last one is tested once more, with predicted depth in place of the
true one. Afterwards it is written as a folder for ``python -m mmseg_siglip.vlm``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from measure import markdown, report, write_csv
from mmengine.config import Config
from torch.utils.data import Dataset

from mmseg_siglip.api import load_depth_model, predict_depth
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.engine import Runner
from mmseg_siglip.models.segmentors import SigLIPDepthEstimator
from mmseg_siglip.registry import DATASETS

ROWS = {
    'shapes_blind': 'blind',
    'shapes': 'image',
    'shapes_projector': 'image, projector trained on',
    'shapes_depth': 'image and depth, projector and fusion trained on',
}


def load(name: str, folder: Path) -> Config:
    config = Config.fromfile(config_folder() / 'vlm' / f'{name}.py')
    config.work_dir = str(folder / name)
    config.experiment_name = name
    config.randomness = dict(seed=0)
    if config.load_from:
        config.load_from = str(folder / Path(config.load_from).parent.name / 'last.pth')
    return config


def train(config: Config) -> float:
    """Train, unless that is done; seconds, of this run."""
    last = Path(config.work_dir, 'last.pth')
    if last.is_file():
        return float('nan')
    started = time.perf_counter()
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.test_cfg = config.test_dataloader = config.test_evaluator = None
    config.train_cfg.pop('val_interval', None)
    runner = Runner.from_cfg(config)
    runner.train()
    found = Path(config.work_dir, f'iter_{runner.max_iters}.pth')
    found.rename(last)
    return time.perf_counter() - started


class PredictedDepth(Dataset):
    """A data set of questions whose depth is what a model makes of the image.

    Args:
        dataset: A `ShapesQuestionDataset`.
        model: An estimator of metres.
    """

    def __init__(self, dataset: Dataset, model: SigLIPDepthEstimator) -> None:
        self.dataset, self.model = dataset, model
        self.metainfo = dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        item = self.dataset[index]
        item['data_samples'].depth = torch.from_numpy(predict_depth(self.model, item['inputs']))
        return item


def test(config: Config, checkpoint: Path, depth: SigLIPDepthEstimator | None = None) -> tuple:
    """Scores of a checkpoint, and the Runner."""
    config.load_from = str(checkpoint)
    config.experiment_name = f'{checkpoint.parent.name}_{"predicted" if depth else "test"}'
    config.test_dataloader.update(num_workers=0, persistent_workers=False)
    runner = Runner.from_cfg(config)
    if depth is not None:
        dataset = DATASETS.build(config.test_dataloader.dataset)
        loader = dict(config.test_dataloader, dataset=PredictedDepth(dataset, depth))
        runner._test_dataloader = loader
    return runner.test(), runner


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/vlm_shapes'))
    parser.add_argument('--rows', nargs='+', choices=ROWS, default=list(ROWS))
    parser.add_argument('--depth-config', help='such as configs/dpt/shapes_finetune.py')
    parser.add_argument('--depth-checkpoint')
    args = parser.parse_args(argv)
    rows = []
    for name in args.rows:
        seconds = train(load(name, args.out))
        last = args.out / name / 'last.pth'
        scores, runner = test(load(name, args.out), last)
        if not rows:
            answers = runner.test_dataloader.dataset.metainfo['answers']
            chance = {kind: 100 / len(words) for kind, words in sorted(answers.items())}
            rows.append({'model': 'chance', **chance, 'mean': sum(chance.values()) / len(chance)})
        kinds = [kind for kind in rows[0] if kind != 'model']
        rows.append({'model': ROWS[name]} | {kind: scores[f'answers/{kind}'] for kind in kinds})
        learnt = sum(p.numel() for p in runner.model.parameters() if p.requires_grad)
        print(
            f'{markdown(rows)}\n{learnt} parameters trained, {seconds / 60:.1f} minutes', flush=True
        )
    if args.depth_config:
        depth = load_depth_model(args.depth_config, args.depth_checkpoint)
        scores, _ = test(load(name, args.out), last, depth)
        rows.append(
            {'model': f'{ROWS[name]}, depth predicted'}
            | {kind: scores[f'answers/{kind}'] for kind in kinds}
        )
    write_csv(rows, args.out / 'table.csv')
    report(rows)
    runner.model.save_pretrained(args.out / 'llava')


if __name__ == '__main__':
    main()
