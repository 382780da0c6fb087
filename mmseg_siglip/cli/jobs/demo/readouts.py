"""Which attention and which readout of the shipped SigLIP label patches best, in numbers.

Five attentions with every readout on held-out ShapesWorld scenes, then colour-shape pairs that
training never showed. More methods are rows of another command,
``mmseg-siglip benchmark --datasets shapes --methods ...``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from mmengine.logging import MMLogger

from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.engine import Runner
from mmseg_siglip.io.files import write_csv
from mmseg_siglip.models.backbones.siglip import READOUTS
from mmseg_siglip.models.backbones.site import SITES

ATTENTIONS = ('vanilla', 'maskclip', 'csa', 'clearclip', 'naclip')
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


def build(name: str, out: Path, num_images: int) -> Runner:
    """A Runner of ``configs/sclip/<name>.py`` on `num_images` scenes."""
    cfg = read_config(config_folder() / 'sclip' / f'{name}.py')
    cfg.work_dir = str(out / name)
    cfg.test_dataloader.dataset.num_scenes = num_images
    return Runner.from_cfg(cfg)


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


def measure_readouts(out: Path, images: int) -> None:
    """Measure, print the tables of the README, and write ``ablation.csv``."""
    runner = build('shapes', out, images)
    MMLogger.get_current_instance().setLevel('WARNING')
    backbone = runner.model.backbone
    chosen = dict(
        site=backbone.site_for(runner.model.method),
        readout=backbone.readout,
        attention=runner.model.attention,
    )
    rows = []
    for row in ablation(runner):
        rows.append(row)
        print('[{}] {site} {readout} {attention}: {mIoU:.2f}'.format(len(rows), **row), flush=True)
    default = next(row for row in rows if chosen.items() <= row.items())
    write_csv(rows, out / 'ablation.csv')
    pairs_runner = build('shapes_pairs', out, images)
    MMLogger.get_current_instance().setLevel('WARNING')
    pairs = pairs_runner.test()

    print(f'\nmIoU on {images} held-out scenes, 13 classes, by attention and readout:\n')
    print(table(rows))
    print(
        f'\nDefault configuration ({chosen["attention"]} on the {chosen["site"]}, readout '
        f'{chosen["readout"]}): {default["mIoU"]:.2f} mIoU.'
    )
    print(
        f'Colour-shape pairs (53 classes): {pairs["mIoU_seen_pairs"]:.2f} mIoU on pairs that '
        f'training showed, {pairs["mIoU_unseen_pairs"]:.2f} on pairs that it never did.'
    )
    print(f'Other methods, costs and doubts: {MORE}')
