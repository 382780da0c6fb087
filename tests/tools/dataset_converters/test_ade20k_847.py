from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.datasets import ADE20K847Dataset
from mmseg_siglip.datasets.transforms import LoadAnnotations, LoadImageFromFile


@pytest.fixture
def tool(repository):
    path = repository / 'tools/dataset_converters/ade20k_847.py'
    spec = importlib.util.spec_from_file_location('ade20k_847', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(root, stem, numbers, place='urban/street'):
    folder = root / 'images/ADE/validation' / place
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.asarray(numbers)
    red, green = numbers // 256 * 10, numbers % 256
    blue = np.arange(numbers.size).reshape(numbers.shape) % 256  # instances
    picture = np.stack([red, green, blue], axis=-1).astype(np.uint8)
    Image.fromarray(picture).save(folder / f'{stem}_seg.png')
    Image.new('RGB', numbers.shape[::-1], 'gray').save(folder / f'{stem}.jpg')
    return folder


def dataset(root):
    return ADE20K847Dataset(
        data_root=str(root),
        data_prefix=dict(
            img_path='images_detectron2/validation',
            seg_map_path='annotations_detectron2/validation',
        ),
        pipeline=[LoadImageFromFile(), LoadAnnotations(ignore_index=65535)],
    )


def test_what_is_written_is_what_the_data_set_reads(tool, tmp_path, capsys):
    """Wall 2978, sky 2420 and adding machine 3148 count; nothing and class 1 do not."""
    write(tmp_path, 'ADE_val_00000001', [[2978, 2420, 3148], [0, 1, 312]])
    write(tmp_path, 'ADE_val_00000002', [[165, 165]], place='home/bedroom')
    assert tool.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith('2 label maps in ')
    first, second = dataset(tmp_path)
    assert first['gt_seg_map'].tolist() == [[0, 2, 846], [65535, 65535, 1]]
    assert second['gt_seg_map'].tolist() == [[7, 7]]
    names = ADE20K847Dataset.METAINFO['classes']
    assert [names[i] for i in (0, 2, 846, 1, 7)] == [
        'wall',
        'sky',
        'adding machine',
        'building',
        'bed',
    ]


def test_large_pictures_shrink_with_their_labels(tool, tmp_path):
    numbers = np.full((600, 900), 2978)
    numbers[:, 450:] = 2420
    write(tmp_path, 'ADE_val_00000001', numbers)
    assert tool.convert(tmp_path, 'validation') == 1
    (sample,) = dataset(tmp_path)
    labels = sample['gt_seg_map']
    assert sample['img'].shape == (512, 768, 3) and labels.shape == (512, 768)
    assert (labels[:, :384] == 0).all() and (labels[:, 384:] == 2).all()


def test_refusals(tool, tmp_path, capsys):
    with pytest.raises(ValueError, match='validation holds no .*_seg.png'):
        tool.convert(tmp_path, 'validation')
    folder = write(tmp_path, 'ADE_val_00000001', [[2978, 0]])
    Image.new('RGB', (5, 1)).save(folder / 'ADE_val_00000001.jpg')
    with pytest.raises(ValueError, match=r'is \(1, 5\), its segmentation \(1, 2\)'):
        tool.convert(tmp_path, 'validation')
    (folder / 'ADE_val_00000001.jpg').unlink()
    assert tool.main([str(tmp_path)]) == 1
    assert 'ADE_val_00000001.jpg is missing' in capsys.readouterr().err
    Image.new('RGB', (2, 1)).save(folder / 'ADE_val_00000001.jpg')
    Image.new('RGB', (2, 1), (17, 0, 0)).save(folder / 'ADE_val_00000001_seg.png')
    with pytest.raises(ValueError, match='expected multiples of 10 in red, found 17'):
        tool.convert(tmp_path, 'validation')
