from types import SimpleNamespace

import pytest
import torch
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_siglip.cli.jobs import costs
from mmseg_siglip.cli.jobs.costs import MemoryWatch, count_flops, flops_ratio, is_supervised
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense import DenseMethod
from mmseg_siglip.models.segmentors import SCLIPSegmentor


class Twice(DenseMethod):
    """Another look at the same picture, which nothing comes of."""

    residual, ffn = True, True

    def mix(self, q, k, v, trunk: Trunk):
        return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v

    def forward(self, trunk: Trunk):
        trunk.project(trunk.look(trunk.images).last.run(self))
        return super().forward(trunk)


@pytest.fixture
def runner(openai_file):
    def build(**options):
        model = SCLIPSegmentor(
            dict(type='CLIPBackbone', pretrained=openai_file),
            ['cat', 'sky', 'road'],
            templates='plain',
            test_cfg=dict(crop_size=(32, 32), stride=(32, 32)),
            **options,
        ).eval()
        sample = dict(
            inputs=torch.zeros(3, 64, 96, dtype=torch.uint8),
            data_samples=SegDataSample(metainfo=dict(ori_shape=(64, 96), img_shape=(64, 96))),
        )
        return SimpleNamespace(
            model=model, test_dataloader=SimpleNamespace(dataset=[sample]), sample=sample
        )

    return build


def test_twice_the_encoder(runner):
    assert flops_ratio(runner(attention='vanilla')) == 1
    assert flops_ratio(runner(attention=Twice())) == pytest.approx(2, rel=0.01)


def test_the_second_attention_of_csa_is_counted(runner):
    """Six windows of 4 x 4 patches and CLS: a product with keys and one with values more."""
    found = {
        name: count_flops((own := runner(attention=name)).model, own.sample)
        for name in ('vanilla', 'csa')
    }
    width = runner().model.backbone.hidden_size
    more = found['csa'] - found['vanilla']
    assert more == 6 * 4 * 17**2 * width


def test_the_model_is_as_before(runner):
    step = dict(type='PAMRPostProcessor', num_iter=2)
    own = runner(attention='naclip', postprocessor=step)
    flops_ratio(own)
    assert own.model.attention == 'naclip' and len(own.model.postprocessors) == 1


def test_no_encoder_no_ratio():
    assert flops_ratio(SimpleNamespace(model=nn.Linear(2, 2))) is None


def test_memory_is_the_most_that_was_held():
    runner = SimpleNamespace(model=nn.Linear(2, 2))
    watch = MemoryWatch()
    watch.before_test_epoch(runner)
    for size in (20, 120, 20):
        held = torch.ones(size * 2**18)  # 4 bytes each
        watch._done.wait(0.05)
        del held
    watch.after_test_epoch(runner)
    assert watch.peak == pytest.approx(120, abs=30)


def test_memory_that_nothing_tells(monkeypatch, tmp_path):
    monkeypatch.setattr(costs, 'STATUS', tmp_path / 'none')
    watch, runner = MemoryWatch(), SimpleNamespace(model=nn.Linear(2, 2))
    watch.before_test_epoch(runner)
    watch.after_test_epoch(runner)
    assert watch.peak is None


def test_supervised_is_what_some_part_says():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    assert not is_supervised(model)
    model[1][0].supervised = True
    assert is_supervised(model)
