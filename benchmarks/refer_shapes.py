"""Referring segmentation on ShapesWorld, trained here: does the text matter, at any resolution?

    python benchmarks/refer_shapes.py --prompt-modes query cascade rsrefseg2 pool conv \\
        --picture docs/refer_shapes.png

Trains configs/refer_sam/shapes.py twice, with the phrases and with every phrase emptied, SigLIP
seeing each batch at one of three sizes. Then scores both on held-out scenes, with coloured shapes
that training never showed, at each of the three sizes; and the first once more with the phrases
exchanged among the objects of each scene. Further prompt modes are trained and scored with the
phrases alone. Checkpoints that are there from an earlier run are taken.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from measure import markdown, report, write_csv
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from PIL import Image

from mmseg_siglip.api import Referred, ReferringSegmenter
from mmseg_siglip.engine import Runner
from mmseg_siglip.registry import DATASETS, TRANSFORMS

CONFIGS = Path(__file__).resolve().parents[1] / 'configs/refer_sam'
MODES = dict(
    query='shapes',
    cascade='shapes_cascade',
    rsrefseg2='shapes_rsrefseg2',
    pool='shapes_pool',
    conv='shapes_conv',
)
PATCH = 8  # of the shipped SigLIP
COLUMNS = ('oIoU', 'mIoU', 'Pr@0.5', 'Pr@0.7', 'Pr@0.9')


@TRANSFORMS.register_module()
class EmptyPhrases(BaseTransform):
    """Say nothing of any object."""

    def transform(self, results: dict) -> dict:
        return dict(results, text=[''] * len(results['text']))


@TRANSFORMS.register_module()
class ExchangePhrases(BaseTransform):
    """Give every mask the phrase of another object of the image, if there is one."""

    def transform(self, results: dict) -> dict:
        text, targets = results['text'], results['targets']
        count = len(text)
        exchanged = [
            next(
                (
                    text[(i + k) % count]
                    for k in range(1, count)
                    if targets[(i + k) % count] != targets[i]
                ),
                '',
            )
            for i in range(count)
        ]
        return dict(results, text=exchanged)


def load(args: argparse.Namespace, mode: str, *, said: str | None, name: str) -> Config:
    """The config of a mode, with a transform of the phrases, or none, in every pipeline."""
    cfg = Config.fromfile(CONFIGS / f'{MODES[mode]}.py')
    cfg.work_dir, cfg.experiment_name = str(args.out / name), f'{name}_{np.random.randint(2**31)}'
    cfg.test_dataloader.dataset.num_scenes = args.images
    if said is not None:
        for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            cfg[key].dataset.pipeline.insert(-1, dict(type=said))
    return cfg


def train(cfg: Config) -> str:
    """The checkpoint that training ends with."""
    path = Path(cfg.work_dir) / f'iter_{cfg.train_cfg.max_iters}.pth'
    if not path.exists():
        Runner.from_cfg(cfg).train()
    return str(path)


def score(cfg: Config, checkpoint: str, size: Sequence[int]) -> dict[str, float]:
    cfg.load_from, cfg.model.encoder.image_size = checkpoint, tuple(size)
    metrics = Runner.from_cfg(cfg).test()
    return {column: metrics[column] for column in COLUMNS}


def draw(mode: str, checkpoint: str, path: Path, scenes: int = 3, phrases: int = 4) -> None:
    """A sheet: a scene a row, what its phrases mean side by side."""
    config = CONFIGS / f'{MODES[mode]}.py'
    segmenter = ReferringSegmenter(config, checkpoint)
    dataset = Config.fromfile(config).test_dataloader.dataset
    data = DATASETS.build(dict(dataset, phrases_per_image=phrases, pipeline=[]))
    rows = []
    for index in range(scenes):
        info = data.get_data_info(index)
        found = segmenter(info['img'][..., ::-1], info['text'])
        rows.append(np.hstack([np.asarray(enlarged(one).plot()) for one in found]))
    sheet = np.vstack(rows)
    Image.fromarray(sheet).quantize(96).save(path, optimize=True)


def enlarged(found: Referred, width: int = 288) -> Referred:
    """With room for the phrase below the picture."""
    size = width, round(width * len(found.mask) / found.mask.shape[1])
    image = Image.fromarray(found.image).resize(size)
    mask = Image.fromarray(found.mask).resize(size)
    return replace(found, mask=np.asarray(mask), image=np.asarray(image))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=200, help='held-out scenes [%(default)s]')
    parser.add_argument(
        '--prompt-modes',
        nargs='+',
        choices=MODES,
        default=['query'],
        metavar='MODE',
        help=f'{", ".join(MODES)}; the first in full and drawn, the others with phrases [query]',
    )
    parser.add_argument('--picture', type=Path, help='PNG to draw predictions into')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/refer_shapes'))
    args = parser.parse_args(argv)
    first, *others = args.prompt_modes
    tests = [
        ('reads the phrase', first, None, 'reads'),
        ('same, phrases exchanged', first, 'ExchangePhrases', 'reads'),
        ('trained without phrases', first, 'EmptyPhrases', 'blind'),
        *(('reads the phrase', mode, None, 'reads') for mode in others),
    ]
    rows = []
    for model, mode, said, trained in tests:
        hidden = 'EmptyPhrases' if trained == 'blind' else None
        checkpoint = train(load(args, mode, said=hidden, name=f'{mode}_{trained}'))
        for size in Config.fromfile(CONFIGS / f'{MODES[mode]}.py').model.encoder.train_sizes:
            cfg = load(args, mode, said=said, name=f'{mode}_test')
            sees, grid = ('x'.join(str(side // n) for side in size) for n in (1, PATCH))
            row = {'prompts': mode, 'model': model, 'SigLIP sees': sees, 'grid': grid}
            rows.append(row | score(cfg, checkpoint, size))
            print(markdown(rows[-1:]), flush=True)
    write_csv(rows, args.out / 'table.csv')
    report(rows)
    if args.picture is not None:
        draw(first, train(load(args, first, said=None, name=f'{first}_reads')), args.picture)


if __name__ == '__main__':
    main()
