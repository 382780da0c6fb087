from __future__ import annotations

import importlib.util
import os
import signal

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mmseg_siglip.datasets import PascalContext459Dataset
from mmseg_siglip.datasets.transforms import LoadAnnotations, LoadImageFromFile


@pytest.fixture
def tool(repository):
    path = repository / 'tools/dataset_converters/pascal_context_459.py'
    spec = importlib.util.spec_from_file_location('pascal_context_459', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    for folder in ('trainval', 'JPEGImages', 'ImageSets/SegmentationContext'):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / 'ImageSets/SegmentationContext/val.txt').write_text('2008_000002\n')
    categories = np.array([[1, 2, 459], [300, 460, 1]], np.uint16)
    savemat(tmp_path / 'trainval/2008_000002.mat', dict(LabelMap=categories))
    Image.new('RGB', (3, 2)).save(tmp_path / 'JPEGImages/2008_000002.jpg')
    return tmp_path


def test_what_is_written_is_what_the_data_set_reads(tool, root, capsys):
    assert tool.main([str(root)]) == 0
    assert capsys.readouterr().out.startswith('1 label maps in ')
    dataset = PascalContext459Dataset(
        data_root=str(root),
        data_prefix=dict(img_path='JPEGImages', seg_map_path='annotations_detectron2/pc459_val'),
        ann_file='ImageSets/SegmentationContext/val.txt',
        pipeline=[LoadImageFromFile(), LoadAnnotations(ignore_index=65535)],
    )
    assert dataset[0]['gt_seg_map'].tolist() == [[0, 1, 458], [299, 65535, 0]]


@pytest.mark.parametrize(
    'content, message',
    [
        (dict(LabelMap=np.array([[0, 5]])), 'expected categories 1 to 460 .* found 0 to 5'),
        (dict(other=np.array([[1]])), 'holds no LabelMap'),
        (dict(LabelMap='text'), 'expected numbers of categories in LabelMap'),
        (dict(LabelMap=np.zeros((0, 3))), r'categories in LabelMap .* of shape \(0, 3\)'),
        (dict(LabelMap=np.array([[1, 2.5]])), 'whole numbers, found 1.0 to 2.5'),
        (dict(LabelMap=np.array([[1, np.nan]])), 'found nan to nan'),
        (dict(LabelMap=dict(a=1)), 'expected numbers of categories in LabelMap'),
        (b'not a file of MATLAB', 'cannot be read as a MATLAB file'),
        (None, '1 of 1 files are missing'),
    ],
)
def test_refusals(tool, root, capsys, content, message):
    path = root / 'trainval/2008_000002.mat'
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        savemat(path, content)
    assert tool.main([str(root)]) == 1
    with pytest.raises(ValueError, match=message):
        tool.convert(root)
    (root / 'ImageSets/SegmentationContext/val.txt').unlink()
    with pytest.raises(ValueError, match='has neither ImageSets'):
        tool.convert(root)


def test_a_reader_that_crashes_is_a_refusal(tool, root, monkeypatch, capsys):
    """scipy's does on some damaged files: SIGSEGV."""
    monkeypatch.setattr(tool, 'loadmat', lambda *_, **__: os.kill(os.getpid(), signal.SIGSEGV))
    assert tool.main([str(root)]) == 1
    assert '2008_000002.mat cannot be read as a MATLAB file: its reader crashed' in (
        capsys.readouterr().err
    )
