"""Every data set of images and label maps, in its benchmark's layout with a file out of line."""

from __future__ import annotations

import pickle
import shutil

import mmseg.datasets
import pytest
from layouts import LAYOUTS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_siglip import datasets
from mmseg_siglip.datasets import FolderDataset, grouped_folder
from mmseg_siglip.datasets.paired_files import PairedFiles
from mmseg_siglip.registry import DATASETS

OWN_LISTS = {'DSDLSegDataset', 'DecathlonDataset'}  # their annotations name every file


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


@pytest.fixture
def benchmark(repository, laid_out, tmp_path):
    def benchmark(name):
        root = shutil.copytree(laid_out(name), tmp_path / name)
        config = Config.fromfile(repository / f'configs/_base_/datasets/{name}.py')
        first, second, third = (
            LAYOUTS[name].image.format(stem=LAYOUTS[name].stem.format(index=index))
            for index in (1, 2, 3)
        )
        given = dict(config.test_dataloader.dataset, data_root=str(root), pipeline=[])
        return root, (lambda **more: DATASETS.build(dict(given, **more))), (first, second, third)

    return benchmark


@pytest.mark.parametrize('name', LAYOUTS)
def test_a_suffix_out_of_line_is_read(benchmark, name):
    root, build, (first, second, _) = benchmark(name)
    before = [build().get_data_info(index) for index in range(3)]
    (root / first).rename((root / first).with_suffix('.JPEG'))
    (root / second).rename((root / second).with_suffix('.Png'))
    after = [build().get_data_info(index) for index in range(3)]
    assert [i['seg_map_path'] for i in after] == [i['seg_map_path'] for i in before]
    assert [i['img_path'].rpartition('.')[2] for i in after[:2]] == ['JPEG', 'Png']
    rest = [{**i, 'img_path': ''} for i in after]
    assert rest == [{**i, 'img_path': ''} for i in before]


@pytest.mark.parametrize('name', LAYOUTS)
def test_a_missing_label_map_is_named(benchmark, name):
    root, build, _ = benchmark(name)
    stem = LAYOUTS[name].stem.format(index=2)
    (root / LAYOUTS[name].label.format(stem=stem)).unlink()
    with pytest.raises(ValueError, match=rf'1 of (the )?3 (images|label).*{stem}'):
        build()


@pytest.mark.parametrize('name', LAYOUTS)
def test_a_missing_image_is_named(benchmark, name, monkeypatch):
    root, build, (_, second, _) = benchmark(name)
    (root / second).unlink()
    stem = LAYOUTS[name].stem.format(index=2)
    if name == 'openearthmap':  # its lists name images of another release
        said = []
        monkeypatch.setattr(grouped_folder, 'print_log', lambda text, *_: said.append(text))
        assert len(build()) == 2
        assert f'1 of 3 names are of no image here and left out: {stem}' in said[0]
        return
    with pytest.raises(ValueError, match=rf'1 of (the )?3 (images|label).*{stem}'):
        build()


@pytest.mark.parametrize('name', LAYOUTS)
def test_an_image_that_is_a_link_to_nowhere_is_named(benchmark, name):
    root, build, (_, second, _) = benchmark(name)
    (root / second).unlink()
    (root / second).symlink_to(root / 'moved.jpg')
    with pytest.raises(ValueError, match=r'links lead nowhere: |images that it names are not ther'):
        build()


def test_a_folder_of_mixed_suffixes(tmp_path):
    for name in ('i/a.jpg', 'i/b.JPG', 'i/c.jpeg', 'i/d.png', *(f'm/{n}.png' for n in 'abcd')):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    given = dict(vocabulary=['x', 'y'], data_root=str(tmp_path), pipeline=[])
    folders = dict(img_path='i', seg_map_path='m')
    dataset = FolderDataset(data_prefix=folders, **given)
    names = [dataset.get_data_info(i)['img_path'].rpartition('/')[2] for i in range(len(dataset))]
    assert names == ['a.jpg', 'b.JPG', 'c.jpeg', 'd.png']
    (tmp_path / 'm/a.png').unlink()
    with pytest.raises(ValueError, match='1 of 4 images have no label or depth map: a.jpg'):
        FolderDataset(data_prefix=folders, **given)
    dataset = FolderDataset(data_prefix=dict(folders, seg_map_path=None), **given)
    assert len(dataset) == 4 and 'seg_map_path' not in dataset.get_data_info(0)
    with pytest.raises(ValueError, match='FolderDataset: indices: expected some of its 4 samples'):
        FolderDataset(data_prefix=dict(img_path='i'), indices=5, **given)
    with pytest.raises(ValueError, match='cannot be read: Is a directory'):
        FolderDataset(data_prefix=folders, ann_file='i', **given)


def test_remote_lists_are_read_as_they_are(tmp_path):
    (tmp_path / 'val.txt').write_bytes(b'\xef\xbb\xbfa.jpg\r\n\r\nb\r\n')
    dataset = FolderDataset(
        vocabulary=['x', 'y'],
        ann_file=str(tmp_path / 'val.txt'),
        data_prefix=dict(img_path='http://example.org/i', seg_map_path='http://example.org/m'),
    )
    paths = [dataset.get_data_info(i) for i in range(2)]
    assert [p['img_path'] for p in paths] == [f'http://example.org/i/{n}.jpg' for n in 'ab']
    assert [p['seg_map_path'] for p in paths] == [f'http://example.org/m/{n}.png' for n in 'ab']


def test_no_data_set_of_mmseg_is_left_to_its_own_listing():
    theirs = {
        name
        for name, kind in vars(mmseg.datasets).items()
        if isinstance(kind, type) and issubclass(kind, mmseg.datasets.BaseSegDataset)
    }
    ours = {name for name in theirs if issubclass(DATASETS.get(name), PairedFiles)}
    assert theirs - ours == OWN_LISTS
    assert pickle.loads(pickle.dumps(datasets.CityscapesDataset)) is datasets.CityscapesDataset
