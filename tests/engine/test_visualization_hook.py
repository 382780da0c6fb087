from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from mmseg_siglip.engine.visualization_hook import SegVisualizationHook, by_phrase, picture_of


@pytest.fixture
def draw(tmp_path):
    """Run the hook on one sample; returns the pictures it wrote."""
    SegLocalVisualizer.get_instance(
        f'hook_{tmp_path.name}', vis_backends=[dict(type='LocalVisBackend')], save_dir=str(tmp_path)
    ).dataset_meta = dict(classes=('a', 'b'), palette=[[255, 0, 0], [0, 0, 255]])

    def run(hook, batch_idx=0, mode='test'):
        labels = PixelData(data=torch.zeros(1, 20, 30, dtype=torch.long))
        metainfo = dict(img_path='shapes/7', ori_shape=(20, 30))
        sample = SegDataSample(pred_sem_seg=labels, gt_sem_seg=labels, metainfo=metainfo)
        batch = dict(inputs=[torch.full((3, 10, 15), 200, dtype=torch.uint8)])
        call = dict(val=hook.after_val_iter, test=hook.after_test_iter)[mode]
        call(SimpleNamespace(iter=0), batch_idx, batch, [sample])
        return sorted(Path(tmp_path).rglob('*.png'))

    return run


def test_sample_without_a_file_is_drawn(draw):
    (path,) = draw(SegVisualizationHook(draw=True, interval=1))
    assert path.name.startswith('test_7') and cv2.imread(str(path)).shape == (20, 60, 3)


@pytest.mark.parametrize(
    ('options', 'batch_idx', 'mode'),
    [
        (dict(draw=False), 0, 'test'),
        (dict(draw=True, interval=3), 1, 'val'),
        (dict(draw=True, interval=3), 0, 'test'),
    ],
)
def test_nothing_is_drawn(draw, options, batch_idx, mode):
    assert draw(SegVisualizationHook(**options), batch_idx, mode) == []


def test_file_is_shown_as_loaded_for_labels(tmp_path):
    """Orientation is not applied, as `LoadImageFromFile` does not where there are labels."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :15] = (250, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / 'x.png', exif=exif)
    image = picture_of(tmp_path / 'x.png', torch.zeros(3, 4, 4), (20, 30))
    assert np.array_equal(image, pixels)


def test_first_of_several_views():
    views = [torch.full((3, 4, 4), value, dtype=torch.uint8) for value in (10, 20)]
    image = picture_of(Path('none'), views, (8, 6))
    assert image.shape == (8, 6, 3) and (image == 10).all()


def test_every_phrase_has_a_picture_of_its_own():
    masks = torch.tensor([[[0, 1]], [[1, 1]]], dtype=torch.uint8)
    sample = SegDataSample(metainfo=dict(text=['the red/blue cup', 'it']))
    sample.pred_sem_seg = PixelData(data=masks)
    sample.gt_sem_seg = PixelData(data=1 - masks)
    (first, one), (second, other) = by_phrase(sample)
    assert (first, second) == ('_0_the redblue cup', '_1_it')
    assert torch.equal(one.pred_sem_seg.data, masks[:1])
    assert torch.equal(other.gt_sem_seg.data, 1 - masks[1:])
    sample.set_metainfo(dict(first_phrase=3))
    assert [name for name, _ in by_phrase(sample)] == ['_3_the redblue cup', '_4_it']
    plain = SegDataSample(pred_sem_seg=PixelData(data=masks))
    assert by_phrase(plain) == [('', plain)]


def test_what_has_no_maps_is_refused_before_the_run():
    runner = SimpleNamespace(model=torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match='expected a model that gives maps, found a Linear'):
        SegVisualizationHook(draw=True).before_run(runner)
    SegVisualizationHook(draw=False).before_run(runner)
