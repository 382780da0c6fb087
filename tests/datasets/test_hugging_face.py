"""Tables are written and read by the library itself."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from mmseg_siglip.datasets import HuggingFaceDataset
from mmseg_siglip.registry import DATASETS, SCOPE

pytest.importorskip('datasets.config')  # tests/datasets alone can be imported as datasets
datasets = pytest.importorskip('datasets')

CLASSES = ['road', 'tree']
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]


def picture(seed, values=(0, 1, 255)):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(image), Image.fromarray(rng.choice(values, (6, 8)).astype(np.uint8))


def table(count=3, start=0, **names):
    pairs = [picture(start + index, **names) for index in range(count)]
    columns = dict(image=[image for image, _ in pairs], label=[label for _, label in pairs])
    columns['note'] = ['text'] * count
    return (
        datasets.Dataset.from_dict(columns)
        .cast_column('image', datasets.Image())
        .cast_column('label', datasets.Image())
    )


def build(source, pipeline=PIPELINE, **options):
    with DefaultScope.overwrite_default_scope(SCOPE):
        return DATASETS.build(
            dict(
                type='HuggingFaceDataset',
                **dict(source=str(source), vocabulary=CLASSES, pipeline=pipeline) | options,
            )
        )


@pytest.fixture
def saved(tmp_path):
    table().save_to_disk(str(tmp_path / 'saved'))
    return tmp_path / 'saved'


@pytest.fixture
def parquet(tmp_path):
    folder = tmp_path / 'parquet' / 'data'
    folder.mkdir(parents=True)
    for number, split in enumerate(('train', 'validation')):
        table(2, 10 * number).to_parquet(str(folder / f'{split}-00000-of-00001.parquet'))
    return folder.parent


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', tmp_path / 'cache')


def check(found, expected):
    """Samples are what the library itself decodes."""
    assert len(found) == len(expected)
    for sample, row in zip(found, expected, strict=True):
        assert np.array_equal(sample['img'][..., ::-1], np.asarray(row['image']))
        assert np.array_equal(sample['gt_seg_map'], np.asarray(row['label']))


def test_what_the_library_saved(saved):
    found = build(saved)
    check(found, datasets.load_from_disk(str(saved)))
    assert found.metainfo['classes'] == tuple(CLASSES)
    assert found[1]['img_path'].endswith('/000001')


def test_parquet_files_of_several_splits(parquet):
    with pytest.raises(ValueError, match='split: expected one of train, validation, found None'):
        build(parquet)
    expected = datasets.load_dataset('parquet', data_dir=str(parquet), split='validation')
    check(build(parquet, split='validation'), expected)


def test_a_part_is_held_out(tmp_path):
    table(10).save_to_disk(str(tmp_path / 'ten'))
    parts = [
        {sample['img_path'] for sample in build(tmp_path / 'ten', part=part, held_out=0.2)}
        for part in ('train', 'val')
    ]
    assert [len(part) for part in parts] == [8, 2] and not parts[0] & parts[1]


def test_names_by_id2label(saved, tmp_path):
    names = {'0': 'nothing', '1': 'tree', '255': 'sky'}
    found = build(saved, vocabulary=None, id2label=names)
    assert found.metainfo['classes'] == ('nothing', 'tree', 'sky')
    row = datasets.load_from_disk(str(saved))[0]
    (saved / 'id2label.json').write_text('{"0": "road", "1": "tree"}')
    assert build(saved, vocabulary=None).metainfo['classes'] == ('road', 'tree')
    assert np.array_equal(build(saved, vocabulary=None)[0]['gt_seg_map'], np.asarray(row['label']))


def test_zero_that_is_no_class(tmp_path):
    table(1, values=(0, 1, 2)).save_to_disk(str(tmp_path / 'saved'))
    names = {0: 'unlabeled', 1: 'road', 2: 'tree'}
    found = build(tmp_path / 'saved', vocabulary=None, id2label=names, reduce_zero_label=True)
    assert found.metainfo['classes'] == ('road', 'tree')
    labels = np.asarray(datasets.load_from_disk(str(tmp_path / 'saved'))[0]['label']).astype(int)
    expected = np.where(labels == 0, 255, labels - 1)
    assert np.array_equal(found[0]['gt_seg_map'], expected)


def test_void_values(tmp_path):
    table(1, values=(0, 1, 9)).save_to_disk(str(tmp_path / 'saved'))
    with pytest.raises(ValueError, match='saved/.*000000.label holds label 9'):
        build(tmp_path / 'saved')[0]
    assert set(np.unique(build(tmp_path / 'saved', void_values=[9])[0]['gt_seg_map'])) == {
        0,
        1,
        255,
    }


def test_images_alone(saved):
    sample = build(saved, pipeline=[dict(type='LoadImageFromFile')], label=None)[0]
    assert sample['img'].shape == (6, 8, 3) and 'seg_map_path' not in sample


def test_images_are_decoded_by_our_reader(tmp_path):
    file = io.BytesIO()
    frames = [picture(seed)[0] for seed in (0, 1)]
    frames[0].save(file, 'GIF', save_all=True, append_images=frames[1:])
    rows = dict(image=[dict(bytes=file.getvalue(), path=None)], label=[picture(0)[1]])
    features = datasets.Features(image=datasets.Image(), label=datasets.Image())
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / 'saved'))
    with pytest.raises(ValueError, match='saved/all/000000 has 2 frames or pages'):
        build(tmp_path / 'saved')[0]


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (dict(image='imag'), "expected columns among image, label, note, found 'imag'"),
        (dict(image='note'), 'expected images in the column note, found Value'),
        (dict(split='test'), 'split: expected one of all, found test'),
        (dict(revision='main'), 'revision and subset are of a Hub id'),
        (dict(vocabulary=None), 'expected the names of the classes, found none in the data set'),
        (dict(id2label={0: 'road'}), 'expected vocabulary or id2label, found both'),
        (dict(vocabulary=None, id2label={'a': 'road'}), 'id2label: expected whole numbers'),
    ],
)
def test_what_does_not_fit_is_one_sentence(saved, options, reason):
    with pytest.raises(ValueError, match=reason):
        build(saved, **options)


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(ValueError, match='expected a folder of save_to_disk, or Parquet files'):
        build(tmp_path)


def test_tables_that_do_not_fit_each_other_are_one_sentence(tmp_path):
    for name in ('one', 'two'):
        datasets.Dataset.from_dict({name: [1]}).to_parquet(tmp_path / f'{name}.parquet')
    with pytest.raises(ValueError, match=f'^{tmp_path} cannot be read as a data set: ') as caught:
        HuggingFaceDataset(source=tmp_path)
    assert '\n' not in str(caught.value)


def test_scripts_beside_a_table_do_not_run(parquet, tmp_path):
    script = f"open({str(tmp_path / 'ran')!r}, 'w')"
    for name in (parquet.name, 'dataset', 'loading'):
        (parquet / f'{name}.py').write_text(script)
    assert len(build(parquet, split='train')) == 2 and not (tmp_path / 'ran').exists()


def test_old_versions_and_none_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, '__version__', '3.6.0')
    with pytest.raises(ImportError, match='expected datasets 4 or later, .* found 3.6.0'):
        HuggingFaceDataset(source=tmp_path)
    monkeypatch.setitem(sys.modules, 'datasets', None)
    with pytest.raises(ImportError, match=r"pip install 'mmseg_siglip\[datasets\]'"):
        HuggingFaceDataset(source=tmp_path)


def test_the_configs_read_a_table(repository, parquet, tmp_path, monkeypatch):
    """As docs/own_data.md has it, for evaluation and in a config for training."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(repository / 'configs', 'configs')
    shutil.copytree(parquet, 'data/table')
    Path('data/table/classes.txt').write_text('\n'.join(CLASSES))
    training = Path('configs/cat_seg/own.py')
    training.write_text(training.read_text().replace('own.py', 'hugging_face.py'))
    scored = Config.fromfile('configs/sclip/hugging_face.py').test_dataloader.dataset
    trained = Config.fromfile(training).train_dataloader.dataset
    for given, split in ((scored, 'validation'), (trained, 'train')):
        with DefaultScope.overwrite_default_scope(SCOPE):
            found = DATASETS.build(dict(given, pipeline=PIPELINE))
        check(found, datasets.load_dataset('parquet', data_dir='data/table', split=split))
        assert found.metainfo['classes'] == tuple(CLASSES)
