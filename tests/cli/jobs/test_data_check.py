"""Benchmarks in their own layouts, whole and broken."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.cli.jobs.data_check import check_split
from mmseg_siglip.cli.jobs.published import published_rows
from mmseg_siglip.datasets.benchmarks import BENCHMARKS

NINE = [row for row in published_rows() if row.method == 'csa']


def placed(name, root):
    row = next(row for row in NINE if row.name == name)
    cfg = row.config()
    cfg.test_dataloader.dataset.data_root = str(root)
    return cfg, replace(BENCHMARKS[name], samples=3)


@pytest.fixture
def voc(laid_out, tmp_path):
    return Path(shutil.copytree(laid_out('voc21'), tmp_path / 'voc'))


@pytest.mark.parametrize('name', [row.name for row in NINE])
def test_whole(name, laid_out):
    assert check_split(*placed(name, laid_out(name))) == 3


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match=r'far.* is not there; .*layout: .*coco_stuff164k\.py'):
        check_split(*placed('coco_stuff', tmp_path / 'far'))


def test_a_part(voc):
    cfg, benchmark = placed('voc21', voc)
    benchmark = replace(benchmark, samples=1449)
    with pytest.raises(ValueError, match='has 3 samples in its evaluation split, expected 1449'):
        check_split(cfg, benchmark)
    assert check_split(cfg, benchmark, incomplete=True) == 3
    with pytest.raises(ValueError, match='expected 2'):  # more than there are is no part
        check_split(cfg, replace(benchmark, samples=2), incomplete=True)


@pytest.mark.parametrize('folder', ['JPEGImages', 'SegmentationClass'])
def test_a_file_is_missing(voc, folder):
    gone = sorted((voc / folder).iterdir())[1]
    gone.unlink()
    with pytest.raises(ValueError, match=gone.name):
        check_split(*placed('voc21', voc))


def test_a_value_that_is_no_class(voc):
    path = sorted((voc / 'SegmentationClass').iterdir())[0]
    labels = np.array(Image.open(path))
    Image.fromarray(np.where(labels == 255, 255, 77).astype(np.uint8)).save(path)
    with pytest.raises(ValueError, match=rf'{path.name} holds label 77, expected classes 0 to 20'):
        check_split(*placed('voc21', voc))


def test_nothing_labelled(voc):
    for path in (voc / 'SegmentationClass').iterdir():
        size = Image.open(path).size
        Image.new('L', size, 255).save(path)
    with pytest.raises(ValueError, match='no pixel of 3 label maps has a class'):
        check_split(*placed('voc21', voc))
