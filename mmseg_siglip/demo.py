"""The main job on what the package brings along: ``python -m mmseg_siglip.demo``.

Open-vocabulary segmentation of held-out ShapesWorld scenes by the shipped SigLIP, evaluated by
MMSegmentation's metric: the best method with its pictures, then five attentions with every readout,
then colour-shape pairs that training never showed. More methods are rows of another command,
``mmseg-siglip benchmark --datasets shapes --methods ...``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from PIL import Image

from mmseg_siglip.api.drawing import add_legend
from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.protocol import method_fields, set_fields
from mmseg_siglip.engine import Runner
from mmseg_siglip.io.files import write_csv, write_image
from mmseg_siglip.models.backbones.siglip import READOUTS
from mmseg_siglip.models.backbones.site import SITES

ATTENTIONS = ('vanilla', 'maskclip', 'csa', 'clearclip', 'naclip')
OVERVIEW = (0, 1, 2, 3)
FAMILY = (
    'vanilla csa maskclip clearclip naclip sc_clip sfp gem clip_surgery resclip cliptrase itaclip '
    'scra scga'
).split()
GUIDED = (
    'proxyclip gla_clip stitched lposs lposs_plus trident corrclip textregion mask_crop'
).split()
"""Those with a second model, files of configs/_base_/methods/shapes."""
MORE = (
    'mmseg-siglip benchmark --datasets shapes --encoders tiny_siglip_shapes_trunk '
    f'tiny_siglip_shapes_head --methods {" ".join(FAMILY)} '
    f'{" ".join(f"shapes/{name}" for name in GUIDED)} --baseline vanilla --plot table.png'
)
"""The table of all methods, on the trunk and on the pooling head."""

BEST = 'vanilla'
"""The method of the pictures: a dense method or a file of configs/_base_/methods, the best on the
first 40 scenes of the val split."""
REFINED = dict(type='PAMRPostProcessor', num_iter=10, dilations=(1, 2, 4, 8, 16))
"""What refines it: no worse there than the published dilations, whose gaps show as dots."""


def build(
    name: str,
    out: Path,
    num_images: int,
    *,
    draw: bool = False,
    fields: Mapping[str, Any] | None = None,
) -> Runner:
    """A Runner of ``configs/sclip/<name>.py`` on `num_images` scenes, with further settings of the
    model."""
    cfg = read_config(config_folder() / 'sclip' / f'{name}.py')
    set_fields(cfg, fields or {})
    cfg.work_dir = str(out / name)
    cfg.test_dataloader.dataset.num_scenes = num_images
    cfg.default_hooks.visualization.update(draw=draw, interval=1)
    cfg.visualizer.save_dir = str(out / 'pictures')
    return Runner.from_cfg(cfg)


def overview(runner: Runner, path: Path) -> None:
    """A sheet of scenes: the picture, its truth, and what the model sees, above a legend."""
    dataset, rows = runner.test_dataloader.dataset, []
    palette = np.array(dataset.metainfo['palette'], np.uint8)
    for index in OVERVIEW:
        data = pseudo_collate([dataset[index]])
        image = data['inputs'][0].permute(1, 2, 0).numpy()[..., ::-1]
        (sample,) = runner.model.test_step(data)
        maps = (sample.gt_sem_seg, sample.pred_sem_seg)
        rows.append(np.hstack([image, *(palette[labels.data[0].cpu().numpy()] for labels in maps)]))
    sheet = np.vstack(rows).repeat(2, axis=0).repeat(2, axis=1)
    entries = zip(dataset.metainfo['classes'], map(tuple, palette), strict=True)
    write_image(add_legend(Image.fromarray(np.ascontiguousarray(sheet)), list(entries)), path)


def ablation(runner: Runner) -> Iterator[dict]:
    """One row of metrics for every attention, readout and site that go together."""
    model = runner.model
    for site, readout in product(SITES, READOUTS):
        if (site, readout) == ('head', 'raw'):
            continue
        model.backbone.site, model.backbone.readout = site, readout
        for name in ATTENTIONS:
            model.method = model.backbone.method_for(name)
            yield dict(site=site, readout=readout, attention=name, **runner.test())


def table(rows: Sequence[dict]) -> str:
    """Markdown: a line for each site and readout, a column for each attention, mIoU."""
    lines = [
        f'| attention on | readout | {" | ".join(ATTENTIONS)} |',
        '|---|---|' + '--:|' * len(ATTENTIONS),
    ]
    for site, readout in dict.fromkeys((row['site'], row['readout']) for row in rows):
        scores = {
            row['attention']: f'{row["mIoU"]:.2f}'
            for row in rows
            if (row['site'], row['readout']) == (site, readout)
        }
        lines.append(f'| {site} | {readout} | {" | ".join(scores[name] for name in ATTENTIONS)} |')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog='python -m mmseg_siglip.demo', description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), help='folder to fill')
    parser.add_argument('--images', type=int, default=50, help='held-out scenes to segment')
    args = parser.parse_args(argv)

    fields = method_fields(BEST) | dict(postprocessor=REFINED)
    runner = build('shapes', args.out, args.images, draw=True, fields=fields)
    best = runner.test()
    overview(runner, args.out / 'overview.png')

    MMLogger.get_current_instance().setLevel('WARNING')
    quiet = build('shapes', args.out, args.images)
    MMLogger.get_current_instance().setLevel('WARNING')
    backbone = quiet.model.backbone
    chosen = dict(
        site=backbone.site_for(quiet.model.method),
        readout=backbone.readout,
        attention=quiet.model.attention,
    )
    rows = list(ablation(quiet))
    default = next(row for row in rows if chosen.items() <= row.items())
    write_csv(rows, args.out / 'ablation.csv')
    pairs_runner = build('shapes_pairs', args.out, args.images)
    MMLogger.get_current_instance().setLevel('WARNING')
    pairs = pairs_runner.test()

    print(f'\nmIoU on {args.images} held-out scenes, 13 classes, by attention and readout:\n')
    print(table(rows))
    print(
        f'\nDefault configuration ({chosen["attention"]} on the {chosen["site"]}, readout '
        f'{chosen["readout"]}): {default["mIoU"]:.2f} mIoU.'
    )
    print(f'Of the pictures ({BEST}, refined by PAMR): {best["mIoU"]:.2f} mIoU.')
    print(
        f'Colour-shape pairs (53 classes): {pairs["mIoU_seen_pairs"]:.2f} mIoU on pairs that '
        f'training showed, {pairs["mIoU_unseen_pairs"]:.2f} on pairs that it never did.'
    )
    print(f'Pictures: {args.out / "overview.png"}, and (truth left) {args.out / "pictures"}')
    print(f'Other methods, costs and doubts: {MORE}')


if __name__ == '__main__':
    main()
