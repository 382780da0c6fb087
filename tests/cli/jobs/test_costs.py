from types import SimpleNamespace

import pytest
import torch
from mmseg.structures import SegDataSample
from tiny_sams import PANOPTIC
from torch import nn

from mmseg_siglip.cli.jobs import costs
from mmseg_siglip.cli.jobs.costs import (
    MemoryWatch,
    count_flops,
    flops_ratio,
    is_supervised,
    without_caches,
)
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense import DenseMethod
from mmseg_siglip.models.segmentors import SAM3Segmentor, SCLIPSegmentor


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


REGIONS = dict(type='PanopticRegions', config=PANOPTIC['eomt'])


def test_supervised_is_what_some_part_says(runner, sam3_folder):
    assert not is_supervised(runner().model)
    assert is_supervised(runner(regions=REGIONS).model)
    assert is_supervised(runner(regions=dict(type='CachedRegions', proposer=REGIONS)).model)
    model = SAM3Segmentor(dict(pretrained=sam3_folder), ['cat'])
    assert is_supervised(model) == getattr(SAM3Segmentor, 'supervised', False)


def test_every_row_pays_for_its_regions(runner, tmp_path):
    """Operations and time are the same, whether a row before has found the regions or not."""
    own = runner(
        attention='textregion',
        regions=dict(type='CachedRegions', proposer=REGIONS, folder=str(tmp_path)),
    )
    cold, warm = flops_ratio(own), flops_ratio(own)
    assert list(tmp_path.glob('*.npz')) and warm < cold
    without_caches(own.model)
    assert flops_ratio(own) == flops_ratio(own) == cold


def test_the_base_of_a_method_that_needs_no_windows(runner):
    """`vanilla` on the windows of the settings, here six of 32 x 32 pixels."""
    found = {}
    for mode in ('slide', 'whole'):
        own = runner(attention='textregion', regions=REGIONS)
        own.model.test_cfg = dict(own.model.test_cfg, mode=mode)
        found[mode] = flops_ratio(own), count_flops(own.model, own.sample)
    plain = runner(attention='vanilla')
    assert found['slide'][1] == found['whole'][1]
    base = count_flops(plain.model, plain.sample)
    assert found['slide'][0] == found['slide'][1] / base != found['whole'][0]
