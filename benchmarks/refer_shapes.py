"""Referring segmentation on ShapesWorld, trained here: does the text matter, at any resolution?

    python benchmarks/refer_shapes.py --picture docs/refer_shapes.png

Trains configs/refer_sam/shapes.py twice, with the phrases and with every phrase emptied (or takes
checkpoints), SigLIP seeing each batch at one of three sizes. Then scores both on held-out scenes,
with coloured shapes that training never showed, at each of the three sizes; and the first once
more with the phrases exchanged among the objects of each scene.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from measure import markdown, write_csv
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from PIL import Image

from mmseg_siglip.engine import Runner
from mmseg_siglip.referring import Referred, ReferringSegmenter
from mmseg_siglip.registry import DATASETS, TRANSFORMS

CONFIG = Path(__file__).resolve().parents[1] / 'configs/refer_sam/shapes.py'
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


def load(args: argparse.Namespace, *, said: str | None, name: str) -> Config:
    """The config with a transform of the phrases, or none, in every pipeline."""
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir, cfg.experiment_name = str(args.out / name), f'{name}_{np.random.randint(2**31)}'
    cfg.test_dataloader.dataset.num_scenes = args.images
    if said is not None:
        for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            cfg[key].dataset.pipeline.insert(-1, dict(type=said))
    return cfg


def train(cfg: Config) -> str:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return str(Path(runner.work_dir) / f'iter_{runner.max_iters}.pth')


def score(cfg: Config, checkpoint: str, size: Sequence[int]) -> dict[str, float]:
    cfg.load_from, cfg.model.encoder.image_size = checkpoint, tuple(size)
    metrics = Runner.from_cfg(cfg).test()
    return {column: metrics[column] for column in COLUMNS}


def draw(checkpoint: str, path: Path, scenes: int = 3, phrases: int = 4) -> None:
    """A sheet: a scene a row, what its phrases mean side by side."""
    segmenter = ReferringSegmenter(CONFIG, checkpoint)
    dataset = Config.fromfile(CONFIG).test_dataloader.dataset
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
    parser.add_argument('--checkpoint', help='evaluate this one instead of training')
    parser.add_argument('--blind', help='the same, of the model that reads nothing')
    parser.add_argument('--images', type=int, default=200, help='held-out scenes [%(default)s]')
    parser.add_argument('--prompt-mode', default='query', help='[%(default)s]')
    parser.add_argument('--picture', type=Path, help='PNG to draw predictions into')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/refer_shapes'))
    args = parser.parse_args(argv)
    args.cfg_options = {'model.decode_head.prompt_mode': args.prompt_mode}
    reads = args.checkpoint or train(load(args, said=None, name='reads'))
    blind = args.blind or train(load(args, said='EmptyPhrases', name='blind'))
    rows = []
    for size in Config.fromfile(CONFIG).model.encoder.train_sizes:
        for name, said, checkpoint in (
            ('reads the phrase', None, reads),
            ('same, phrases exchanged', 'ExchangePhrases', reads),
            ('trained without phrases', 'EmptyPhrases', blind),
        ):
            cfg = load(args, said=said, name=f'test_{said}')
            sees, grid = ('x'.join(str(side // n) for side in size) for n in (1, PATCH))
            row = {'model': name, 'SigLIP sees': sees, 'grid': grid}
            rows.append(row | score(cfg, checkpoint, size))
    write_csv(rows, args.out / 'table.csv')
    print(markdown(rows))
    if args.picture is not None:
        draw(reads, args.picture)


if __name__ == '__main__':
    main()
