"""On a GPU, the host waits for no image that is trained on."""

from __future__ import annotations

import pytest
import torch
from host_blocking import DEVICE, Distant, count, distant, far_module, images, near
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny_systems import REFERRING, build

from mmseg_siglip.api import System
from mmseg_siglip.registry import MODELS


def to_train_on(*sizes: tuple[int, int]) -> dict:
    """A batch as the loader gives it, with the truth of every task."""
    generator, samples = torch.Generator().manual_seed(1), []
    for size in sizes:
        sample = SegDataSample(metainfo=dict(text=['the red circle', 'a square']))
        labels = torch.randint(0, 2, (2, *size), generator=generator)
        sample.gt_sem_seg = PixelData(data=labels)
        sample.gt_depth_map = PixelData(data=1 + torch.rand(1, *size, generator=generator))
        samples.append(sample)
    return dict(inputs=images(*sizes), data_samples=samples)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(
    'config',
    [
        dict(
            type='ImageListPreProcessor',
            mean=[1.0] * 3,
            std=[2.0, 3.0, 4.0],
            bgr_to_rgb=True,
            size_divisor=4,
        ),
        dict(type='UnitImagePreProcessor'),
    ],
)
def test_the_preprocessor_waits_for_nothing(config, training):
    preprocessor, sizes = MODELS.build(config), [(8, 9), (10, 7)]
    expected = preprocessor(to_train_on(*sizes), training)
    with distant() as counter:
        preprocessor.to(DEVICE)
        found = count(lambda: preprocessor(to_train_on(*sizes), training), counter)
        assert not counter.waits and counter.copies.total() == (6 if training else 2)
        inputs = [near(image) for image in found['inputs']]
    assert all(map(torch.equal, inputs, expected['inputs']))
    for one, own in zip(found['data_samples'], expected['data_samples'], strict=True):
        assert one.metainfo == own.metainfo and one.keys() == own.keys()
        for key in own.keys():
            data = one.get(key).data
            assert isinstance(data, Distant) == training and torch.equal(
                near(data), own.get(key).data
            )


CASCADE = dict(REFERRING, decode_head=dict(prompt_mode='cascade', dense='matched'))


@pytest.mark.parametrize(
    ('system', 'most'),
    [('shapes_depth', 0), ('shapes_refer', 0), (CASCADE, 1), ('shapes_cat_seg', 1)],
)
def test_steps_of_training(repository, system, most):
    """From the loader to the losses; CAT-Seg's asks whether all labels are classes, the cascade's
    which masks any patch sees."""
    if isinstance(system, str):
        folder = repository / 'mmseg_siglip/assets' / system
        model = System.from_pretrained(folder, device='cpu', precision='fp32').model
    else:
        torch.manual_seed(0)
        model = build(system)
    maps = 1 if system == 'shapes_cat_seg' else 2

    def step(images: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        batch = to_train_on(*[(48, 64)] * images)
        for sample in batch['data_samples']:
            sample.gt_sem_seg.data = sample.gt_sem_seg.data[:maps]
        with torch.enable_grad():
            return model.loss(**model.data_preprocessor(batch, True))

    model.train()
    expected = step(3)
    with distant() as counter:
        far_module(model)
        for number in (1, 3):
            found = count(lambda number=number: step(number), counter)
            assert counter.waits <= most, counter.blocking
    assert any(value.requires_grad for value in found.values())
    for name, value in expected.items():
        torch.testing.assert_close(near(found[name]), value.detach(), atol=1e-4, rtol=1e-4)
