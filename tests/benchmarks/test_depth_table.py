import importlib
from types import SimpleNamespace

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from other_device import OnAnotherDevice


def test_picture_of_depth_on_another_device(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / 'benchmarks'))
    depth_table = importlib.import_module('depth_table')
    depth = torch.linspace(1, 5, 64).reshape(1, 8, 8)
    truth = SegDataSample(gt_depth_map=PixelData(data=depth))
    found = SegDataSample(pred_depth_map=PixelData(data=depth.as_subclass(OnAnotherDevice)))
    scene = dict(inputs=torch.zeros(3, 8, 8, dtype=torch.uint8), data_samples=truth)
    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=[scene] * 2),
        model=SimpleNamespace(test_step=lambda data: [found]),
    )
    sheet = depth_table.picture(dict(frozen=runner))
    assert sheet.size == (3 * 8, 16 + 2 * 8)
    assert list(sheet.crop((8, 16, 16, 24)).getdata()) == list(
        sheet.crop((16, 16, 24, 24)).getdata()
    )
