"""Questions about ShapesWorld: blind, with the image, with depth beside it.

    python benchmarks/vlm_shapes.py

Trains the four configs of configs/vlm/shapes*.py, or goes on where it was, and tests each on the
same held-out questions. The last two start from the second and train for the same time: the
projector alone, and the projector with depth fused. Chance is that of a guess among the answers of
a kind. Afterwards the last one is written as a folder for ``python -m mmseg_siglip.vlm``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from measure import markdown, write_csv
from mmengine.config import Config

from mmseg_siglip.demo import config_folder
from mmseg_siglip.engine import Runner

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


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/vlm_shapes'))
    parser.add_argument('--rows', nargs='+', choices=ROWS, default=list(ROWS))
    args = parser.parse_args(argv)
    rows = []
    for name in args.rows:
        seconds = train(load(name, args.out))
        config = load(name, args.out)
        config.load_from = str(args.out / name / 'last.pth')
        config.experiment_name = f'{name}_test'
        runner = Runner.from_cfg(config)
        scores = runner.test()
        if not rows:
            answers = runner.test_dataloader.dataset.metainfo['answers']
            chance = {kind: 100 / len(words) for kind, words in sorted(answers.items())}
            rows.append({'model': 'chance', **chance, 'mean': sum(chance.values()) / len(chance)})
        trained = sum(p.numel() for p in runner.model.parameters() if p.requires_grad)
        row = {kind: scores[f'answers/{kind}'] for kind in rows[0] if kind != 'model'}
        rows.append(
            {'model': ROWS[name], **row, 'trained, M': trained / 1e6, 'minutes': seconds / 60}
        )
        print(markdown(rows[1:]), flush=True)
    rows[0] |= {'trained, M': 0.0, 'minutes': 0.0}
    write_csv(rows, args.out / 'table.csv')
    print('\n' + markdown(rows))
    runner.model.save_pretrained(args.out / 'llava')


if __name__ == '__main__':
    main()
