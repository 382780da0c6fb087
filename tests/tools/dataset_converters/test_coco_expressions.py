import importlib.util
import json
import sys

import pytest
from mmengine.registry import init_default_scope

from mmseg_siglip.datasets import ReferringDataset


@pytest.fixture(scope='module')
def converter(repository):
    path = repository / 'tools/dataset_converters/coco_expressions.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


def box(number, category, x, y, w, h, crowd=0):
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    shape = dict(size=[100, 200], counts=[20000]) if crowd else [polygon]
    fields = dict(id=number, image_id=1, category_id=category, bbox=[x, y, w, h], area=w * h)
    return dict(fields, iscrowd=crowd, segmentation=shape)


def convert(converter, folder, annotations, *options):
    names = {1: 'cat', 2: 'cup', 3: 'crow'}
    content = dict(
        images=[dict(id=1, file_name='a.jpg', height=100, width=200)],
        categories=[dict(id=k, name=v) for k, v in names.items()],
        annotations=annotations,
    )
    (folder / 'instances.json').write_text(json.dumps(content))
    converter.main([str(folder / 'instances.json'), str(folder / 'out.jsonl'), *options])
    return [json.loads(line) for line in (folder / 'out.jsonl').read_text().splitlines()]


def test_every_template(converter, tmp_path):
    found = convert(
        converter,
        tmp_path,
        [box(1, 1, 10, 40, 20, 20), box(2, 1, 60, 42, 40, 40), box(3, 2, 150, 10, 30, 30)],
    )
    phrases = {tuple(entry['polygons'][0][:2]): set(entry['expressions']) for entry in found}
    assert phrases == {
        (10, 40): {
            'the leftmost cat',
            'the left cat',
            'the topmost cat',
            'the smallest cat',
        },
        (60, 42): {
            'the rightmost cat',
            'the right cat',
            'the bottommost cat',
            'the largest cat',
        },
        (150, 10): {'the cup'},
    }


def test_relations_of_two_that_stand_alone(converter, tmp_path):
    apart = convert(converter, tmp_path, [box(1, 1, 10, 40, 20, 20), box(3, 2, 150, 10, 30, 30)])
    assert [entry['expressions'] for entry in apart] == [
        ['the cat', 'the cat left of the cup'],
        ['the cup', 'the cup right of the cat'],
    ]
    over = convert(converter, tmp_path, [box(1, 1, 10, 40, 60, 20), box(3, 2, 50, 10, 30, 30)])
    assert [entry['expressions'] for entry in over] == [['the cat'], ['the cup']]


def test_what_is_unsure_is_left_out(converter, tmp_path):
    close = [box(1, 1, 10, 40, 20, 20), box(2, 1, 13, 42, 20, 20)]
    assert convert(converter, tmp_path, close) == []
    crowd = [box(1, 3, 10, 40, 20, 20), box(2, 3, 0, 0, 200, 100, crowd=1)]
    assert convert(converter, tmp_path, crowd) == []
    tiny = [box(1, 1, 10, 40, 20, 20), box(2, 1, 100, 49, 2, 2)]
    (entry,) = convert(converter, tmp_path, tiny)
    assert entry['expressions'] == ['the leftmost cat', 'the left cat', 'the largest cat']
    assert convert(converter, tmp_path, tiny, '--images', str(tmp_path)) == []


def test_bad_files_get_one_line(converter, tmp_path):
    for text in ('{}', '[', '[]'):
        (tmp_path / 'bad.json').write_text(text)
        with pytest.raises(SystemExit, match=r'error: .*bad.json'):
            converter.main([str(tmp_path / 'bad.json'), str(tmp_path / 'out.jsonl')])


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (dict(bbox=[1, 2, 3]), r'annotation 1: expected bbox as four numbers, found \[1, 2, 3\]'),
        (dict(bbox=[1, 2, 3, 'x']), 'annotation 1: expected bbox as four numbers'),
        (dict(area=None), 'annotation 1: expected area as a number'),
        (dict(area=10**400), 'annotation 1: expected area as a number'),
        (dict(image_id=[1]), r'annotations\[0\]: expected image_id to be a number or text'),
        (dict(category_id=77), 'annotation 1: there is no category 77'),
    ],
)
def test_damaged_entries_are_named(converter, tmp_path, changes, sentence):
    with pytest.raises(SystemExit, match=f'error: .*{sentence}'):
        convert(converter, tmp_path, [box(1, 1, 10, 40, 20, 20) | changes])


def test_the_dataset_reads_it(converter, tmp_path, real_data):
    init_default_scope('mmseg_siglip')
    images = real_data / 'coco-mini/images'
    instances = str(real_data / 'coco-mini/instances_train2017.json')
    converter.main([instances, str(tmp_path / 'out.jsonl'), '--images', str(images)])
    pipeline = ['LoadImageFromFile', 'LoadReferringMasks', 'PackReferringInputs']
    dataset = ReferringDataset(
        ann_file=str(tmp_path / 'out.jsonl'),
        data_prefix=dict(img_path=str(images)),
        pipeline=[dict(type=name) for name in pipeline],
        test_mode=True,
    )
    assert len(dataset) > 50
    for index in range(0, len(dataset), 10):
        sample = dataset[index]['data_samples']
        assert (sample.gt_sem_seg.data.flatten(1).sum(1) > 0).all()
        centre = {
            text: mask.nonzero()[:, 1].float().mean().item()
            for text, mask in zip(sample.text, sample.gt_sem_seg.data, strict=True)
        }
        for text in centre:
            if text.startswith('the left ') and text.replace('left', 'right') in centre:
                assert centre[text] < centre[text.replace('left', 'right')]
