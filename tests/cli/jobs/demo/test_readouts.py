import csv
from pathlib import Path

import pytest
from commands import parse

from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.demo.readouts import (
    ATTENTIONS,
    FAMILY,
    GUIDED,
    MORE,
    measure_readouts,
    table,
)
from mmseg_siglip.cli.jobs.encoders import find_encoder_config
from mmseg_siglip.cli.jobs.protocol import method_fields
from mmseg_siglip.models.backbones import SigLIPBackbone
from mmseg_siglip.models.backbones.trunk import method_names


@pytest.fixture(scope='module')
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    measure_readouts(folder, 6)
    return folder


@pytest.mark.slow
def test_every_row_is_measured(output):
    rows = list(csv.DictReader((output / 'ablation.csv').open()))
    assert len({(row['site'], row['readout'], row['attention']) for row in rows}) == len(rows) == 25
    assert len({row['mIoU'] for row in rows}) > 20
    assert all(0 <= float(row['mIoU']) <= 100 for row in rows)


@pytest.mark.slow
def test_the_default_is_good(output):
    """On few scenes, well below what docs/shapes_world.md reports on many."""
    backbone = SigLIPBackbone('tiny_siglip_shapes')
    default = dict(
        site=backbone.site_for(backbone.method),
        readout=backbone.readout,
        attention=backbone.attention,
    )
    rows = csv.DictReader((output / 'ablation.csv').open())
    (row,) = (row for row in rows if default.items() <= row.items())
    assert float(row['mIoU']) > 50


def test_the_other_command_is_one():
    """It has every method that runs on what ships along, on both sites."""
    command, *argv = MORE.split()[1:]
    args = parse(command, argv)
    assert args.datasets == ['shapes'] and args.baseline in args.attention
    assert [find_encoder_config(name).stem for name in args.encoders] == args.encoders
    assert len(args.encoders) == 2
    folder = config_folder() / '_base_/methods/shapes'
    assert {*GUIDED} == {path.stem for path in folder.glob('*.py')}
    assert {Path(name).name for name in args.attention} == {*FAMILY, *GUIDED}
    named = [*FAMILY, *GUIDED]
    assert len({*named}) == len(named) == 23 and {*named} <= {*method_names()}
    assert all(method_fields(name) for name in args.attention)


def test_table():
    rows = [
        dict(site='trunk', readout='map', attention=name, mIoU=float(i))
        for i, name in enumerate(ATTENTIONS)
    ]
    assert table(rows).splitlines()[2] == ('| trunk | map | 0.00 | 1.00 | 2.00 | 3.00 | 4.00 |')
