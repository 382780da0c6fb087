from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from mmseg_siglip.datasets import COCOObjectDataset


@pytest.fixture(scope='module')
def tool(repository):
    path = repository / 'tools/dataset_converters/coco_object.py'
    spec = importlib.util.spec_from_file_location('coco_object_converter', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def instances(annotations, categories=(1, 13, 90)):
    return dict(
        images=[dict(id=7, file_name='x/000000000007.jpg', height=8, width=10)],
        categories=[dict(id=index, name=str(index)) for index in categories],
        annotations=[
            dict(id=index, image_id=7, iscrowd=0, area=1, bbox=[0, 0, 1, 1]) | annotation
            for index, annotation in enumerate(annotations, 1)
        ],
    )


def crowd(height, width):
    region = np.zeros((height, width), np.uint8, order='F')
    region[:, :2] = 1
    counts = rle.encode(region)['counts'].decode()
    return dict(category_id=1, iscrowd=1, segmentation=dict(size=[height, width], counts=counts))


def refusal(tool, source, out) -> str:
    with pytest.raises(SystemExit) as stop:
        tool.main([str(source), str(out)])
    return stop.value.code


def test_category_ids_are_the_classes_of_the_dataset(tool, real_data):
    file = real_data / 'coco-mini/instances_train2017.json'
    names = {item['id']: item['name'] for item in json.loads(file.read_text())['categories']}
    classes = [names[category] for category in tool.CATEGORY_IDS]
    assert ('background', *classes) == COCOObjectDataset.METAINFO['classes']


def test_eighty_categories(tool):
    assert len(tool.CATEGORY_IDS) == 80
    assert tool.CLASS_OF[1] == 1 and tool.CLASS_OF[13] == 12 and tool.CLASS_OF[90] == 80


def test_instances(tool, tmp_path, capsys):
    """Later instances lie over earlier ones, crowds are background."""
    file = tmp_path / 'instances.json'
    annotations = [
        dict(category_id=1, segmentation=square(2, 2, 4)),
        dict(category_id=90, segmentation=square(4, 4, 4)),
        crowd(8, 10),
    ]
    file.write_text(json.dumps(instances(annotations)))
    tool.main([str(file), str(tmp_path / 'out')])
    assert capsys.readouterr().out == f'1 label maps in {tmp_path / "out"}\n'
    labels = np.asarray(Image.open(tmp_path / 'out/000000000007_instanceTrainIds.png'))
    expected = np.zeros((8, 10), int)
    expected[2:6, 2:6] = 1
    expected[4:8, 4:8] = 80
    assert np.array_equal(labels, expected)


def test_stuff(tool, tmp_path):
    values = np.array([[0, 12, 89, 91, 181, 255]], np.uint8)
    Image.fromarray(values).save(tmp_path / '000000000007.png')
    Image.fromarray(values).save(tmp_path / '000000000007_labelTrainIds.png')
    tool.main([str(tmp_path), str(tmp_path / 'out')])
    (file,) = (tmp_path / 'out').iterdir()
    assert file.name == '000000000007_instanceTrainIds.png'
    assert np.asarray(Image.open(file)).tolist() == [[1, 12, 80, 0, 0, 0]]


@pytest.mark.parametrize('value', [11, 90, 182, 254, 300])
def test_value_that_is_no_category(tool, tmp_path, value):
    Image.fromarray(np.array([[value]], np.uint16)).save(tmp_path / 'a.png')
    said = refusal(tool, tmp_path, tmp_path / 'out')
    assert said == f'error: {tmp_path}/a.png holds {value}, which is no category of COCO-Stuff'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'is neither a folder of PNGs nor a file instances_*.json'),
        ('{', 'instances.json is not JSON: '),
        ('[]', 'found no images and no annotations and no categories'),
        ('{"images": []}', 'of COCO, found no annotations and no categories'),
        (
            json.dumps(instances([dict(category_id=12, segmentation=square(0, 0, 2))], [12])),
            "annotation 1 has category 12, which is none of COCO's 80 things",
        ),
        (
            json.dumps(instances([dict(category_id=1, segmentation=[[0, 0, 1e8, 0, 9, 9]])])),
            'annotation 1: expected polygons within the image of 10 x 8',
        ),
        (json.dumps(instances([dict(category_id=1)])), 'it lacks segmentation'),
    ],
)
def test_bad_source(tool, tmp_path, content, message):
    file = tmp_path / 'instances.json'
    if content is not None:
        file.write_text(content)
    said = refusal(tool, file, tmp_path / 'out')
    assert message in said and '\n' not in said


def test_real_instances_agree_with_the_panoptic_masks(tool, real_data):
    """Both were drawn by COCO's annotators; they differ at rims and where instances overlap."""
    file = real_data / 'coco-mini/instances_train2017.json'
    _, maps = tool.label_maps(file)
    same, both = 0, 0
    for name, labels in maps:
        mask = real_data / f'coco-mini/masks/{name}.png'
        if mask.is_file():
            category = np.asarray(Image.open(mask))
            panoptic = np.vectorize(lambda value: tool.CLASS_OF.get(value, 0))(category)
            known = (labels > 0) & (panoptic > 0)
            same, both = same + (labels == panoptic)[known].sum(), both + known.sum()
    assert same / both > 0.97
