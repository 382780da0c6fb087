import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import parse
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from other_device import OnAnotherDevice
from PIL import Image

from mmseg_siglip import demo
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.encoders import find_encoder_config
from mmseg_siglip.cli.jobs.protocol import method_fields
from mmseg_siglip.models.backbones import SigLIPBackbone
from mmseg_siglip.models.backbones.trunk import method_names


@pytest.fixture(scope='module')
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    demo.main(['--out', str(folder), '--images', '6'])
    return folder


@pytest.mark.slow
def test_every_row_is_measured(output):
    rows = list(csv.DictReader((output / 'ablation.csv').open()))
    assert len({(row['site'], row['readout'], row['attention']) for row in rows}) == len(rows) == 25
    assert len({row['mIoU'] for row in rows}) > 20
    assert all(0 <= float(row['mIoU']) <= 100 for row in rows)


@pytest.mark.slow
def test_the_default_is_good(output):
    """On few scenes, well below what the README reports on many."""
    backbone = SigLIPBackbone('tiny_siglip_shapes')
    default = dict(
        site=backbone.site_for(backbone.method),
        readout=backbone.readout,
        attention=backbone.attention,
    )
    rows = csv.DictReader((output / 'ablation.csv').open())
    (row,) = (row for row in rows if default.items() <= row.items())
    assert float(row['mIoU']) > 50


@pytest.mark.slow
def test_pictures(output):
    assert Image.open(output / 'overview.png').size[0] == 3 * 192 * 2
    assert len(list((output / 'pictures').rglob('*.png'))) == 6


def test_what_the_pictures_show(tmp_path):
    fields = method_fields(demo.BEST) | dict(postprocessor=demo.REFINED)
    model = demo.build('shapes', tmp_path, 1, fields=fields).model
    assert model.attention == demo.BEST
    assert [type(step).__name__ for step in model.postprocessors] == ['PAMRPostProcessor']
    plain = demo.build('shapes', tmp_path, 1).model
    assert plain.attention == 'csa' and not plain.postprocessors


def test_the_other_command_is_one():
    """It has every method that runs on what ships along, on both sites."""
    command, *argv = demo.MORE.split()[1:]
    args = parse(command, argv)
    assert args.datasets == ['shapes'] and args.baseline in args.attention
    assert [find_encoder_config(name).stem for name in args.encoders] == args.encoders
    assert len(args.encoders) == 2
    folder = config_folder() / '_base_/methods/shapes'
    assert {*demo.GUIDED} == {path.stem for path in folder.glob('*.py')}
    assert {Path(name).name for name in args.attention} == {*demo.FAMILY, *demo.GUIDED}
    named = [*demo.FAMILY, *demo.GUIDED]
    assert len({*named}) == len(named) == 23 and {*named} <= {*method_names()}
    assert all(method_fields(name) for name in args.attention)


class Scenes(list):
    metainfo = dict(classes=['a'], palette=[[9, 9, 9]])


def test_overview_of_labels_on_another_device(tmp_path):
    labels = torch.zeros(1, 8, 8, dtype=torch.long).as_subclass(OnAnotherDevice)
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels), pred_sem_seg=PixelData(data=labels))
    scene = dict(inputs=torch.zeros(3, 8, 8, dtype=torch.uint8), data_samples=sample)
    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=Scenes([scene] * 4)),
        model=SimpleNamespace(test_step=lambda data: [sample]),
    )
    demo.overview(runner, tmp_path / 'overview.png')
    assert Image.open(tmp_path / 'overview.png').size[0] == 3 * 8 * 2


def test_table():
    rows = [
        dict(site='trunk', readout='map', attention=name, mIoU=float(i))
        for i, name in enumerate(demo.ATTENTIONS)
    ]
    assert demo.table(rows).splitlines()[2] == (
        '| trunk | map | 0.00 | 1.00 | 2.00 | 3.00 | 4.00 |'
    )
