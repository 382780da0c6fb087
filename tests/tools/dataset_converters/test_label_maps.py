"""Annotations of other tools become the layout for own data, checked by other readers of them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from label_maps import READERS, main
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmseg_siglip.datasets import FolderDataset
from mmseg_siglip.datasets.transforms import LoadAnnotations
from mmseg_siglip.text.vocabulary import Vocabulary

HEIGHT, WIDTH = 40, 60
BLOB = [5, 5, 40, 8, 50, 30, 12, 35]
TRIANGLE = [20, 2, 58, 20, 25, 38]


@pytest.fixture
def convert(tmp_path, capsys):
    def convert(kind, source):
        """What was printed on stderr, or the error, and label maps by name."""
        out, said = tmp_path / 'own', ''
        try:
            main([kind, str(source), str(out)])
        except SystemExit as stop:
            said = str(stop.code)
        said = capsys.readouterr().err + said
        files = out.rglob('*.png')
        maps = {str(f.relative_to(out / 'masks')): np.array(Image.open(f)) for f in files}
        return said, maps

    return convert


def write(data, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(encoded, counts=encoded['counts'].decode())


def pil_mask(ring, size=(HEIGHT, WIDTH)):
    image = Image.new('L', size[::-1])
    points = np.array(ring, float).reshape(-1, 2)
    ImageDraw.Draw(image).polygon([tuple(point) for point in points.tolist()], fill=1)
    return np.array(image).astype(bool)


def equal_inside(found, expected):
    """But for the outlines, on which rasterisers do not agree."""
    padded = np.pad(expected.astype(int), 1, mode='edge')
    shifts = [padded[y : y + HEIGHT, x : x + WIDTH] for y in range(3) for x in range(3)]
    flat = np.ptp(np.stack(shifts), axis=0) == 0
    assert flat.mean() > 0.6 and len(np.unique(found)) == len(np.unique(expected))
    assert (found[flat] == expected[flat]).all()


def instances(**first):
    region = np.zeros((HEIGHT, WIDTH), bool)
    region[30:, 40:] = True
    annotations = [
        dict(id=4, image_id=2, category_id=7, segmentation=[BLOB], iscrowd=0) | first,
        dict(id=5, image_id=2, category_id=3, segmentation=[TRIANGLE, [1, 1, 9, 1, 9, 9]]),
        dict(id=6, image_id=2, category_id=7, segmentation=rle(region), iscrowd=1),
    ]
    images = [
        dict(id=9, file_name='b/bare.jpg', height=HEIGHT, width=WIDTH),
        dict(id=2, file_name='a.jpg', height=HEIGHT, width=WIDTH),
    ]
    categories = [dict(id=7, name='dog'), dict(id=3, name='cat')]
    return dict(images=images, annotations=annotations, categories=categories)


def test_coco(convert, tmp_path):
    said, maps = convert('coco', source := write(instances(), tmp_path / 'instances.json'))
    assert not said and set(maps) == {'a.png', 'b/bare.png'}
    assert (tmp_path / 'own/classes.txt').read_text() == 'cat\ndog\n'
    coco = COCO(str(source))
    expected = np.full((HEIGHT, WIDTH), 255)
    for annotation in coco.loadAnns(coco.getAnnIds(2)):
        name = coco.cats[annotation['category_id']]['name']
        index = 255 if annotation.get('iscrowd') else ['cat', 'dog'].index(name)
        expected[coco.annToMask(annotation) == 1] = index
    assert (maps['a.png'] == expected).all() and set(np.unique(expected)) == {0, 1, 255}
    assert (maps['b/bare.png'] == 255).all()


def test_what_is_drawn_is_own_data(convert, tmp_path):
    _, maps = convert('coco', write(instances(), tmp_path / 'instances.json'))
    (tmp_path / 'own/images/b').mkdir(parents=True)
    for name in ('a.jpg', 'b/bare.png'):
        Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / 'own/images' / name)
    dataset = FolderDataset(
        vocabulary=str(tmp_path / 'own/classes.txt'),
        data_root=str(tmp_path / 'own'),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
    )
    assert dataset.metainfo['classes'] == ('cat', 'dog') and len(dataset) == 2
    assert (LoadAnnotations().transform(dataset[0])['gt_seg_map'] == maps['a.png']).all()


def panoptic(tmp_path, *, segments=None):
    numbers = np.zeros((HEIGHT, WIDTH), np.int64)
    numbers[:20, :30], numbers[20:, :30], numbers[:, 50:] = 300, 70000, 5
    colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1)
    folder = tmp_path / 'panoptic_val'
    folder.mkdir()
    Image.fromarray(colours.astype(np.uint8)).save(folder / 'a.png')
    found = [
        dict(id=300, category_id=7, iscrowd=0),
        dict(id=70000, category_id=3, iscrowd=0),
        dict(id=5, category_id=3, iscrowd=1),
    ]
    annotation = dict(image_id=2, file_name='a.png', segments_info=segments or found)
    data = dict(instances(), annotations=[annotation])
    return numbers, write(data, tmp_path / 'panoptic_val.json')


def test_panoptic(convert, tmp_path):
    numbers, source = panoptic(tmp_path)
    said, maps = convert('panoptic', source)
    assert not said and list(maps) == ['a.png']
    for number, index in ((300, 1), (70000, 0), (5, 255), (0, 255)):
        assert (maps['a.png'][numbers == number] == index).all()
    assert Vocabulary.load(tmp_path / 'own/classes.txt').names == ('cat', 'dog')


def shape(label, points, kind='polygon'):
    return dict(label=label, points=np.array(points).reshape(-1, 2).tolist(), shape_type=kind)


def annotated(*shapes):
    return dict(shapes=shapes, imageHeight=HEIGHT, imageWidth=WIDTH, imagePath='a.jpg')


def test_labelme(convert, tmp_path):
    shapes = [shape('tree', BLOB), shape('car', TRIANGLE), shape('sky', [1, 2, 14, 9], 'rectangle')]
    write(annotated(*shapes, shape('tree', [50, 33, 54, 33], 'circle')), tmp_path / 'in/b/a.json')
    write(annotated(), tmp_path / 'in/bare.json')
    said, maps = convert('labelme', tmp_path / 'in')
    assert not said and set(maps) == {'b/a.png', 'bare.png'} and (maps['bare.png'] == 255).all()
    names = (tmp_path / 'own/classes.txt').read_text().split()
    assert names == ['car', 'sky', 'tree']
    expected = np.full((HEIGHT, WIDTH), 255)
    expected[pil_mask(BLOB)] = 2
    expected[pil_mask(TRIANGLE)] = 0
    expected[2:9, 1:14] = 1
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    expected[np.hypot(rows + 0.5 - 33, columns + 0.5 - 50) < 4] = 2
    equal_inside(maps['b/a.png'], expected)


def yolo(tmp_path, text, names='[cat, dog]'):
    root = tmp_path / 'yolo'
    for folder in ('images/train', 'labels/train'):
        (root / folder).mkdir(parents=True)
    for name in ('a.JPG', 'bare.png'):
        Image.new('RGB', (WIDTH, HEIGHT)).save(root / 'images/train' / name)
    (root / 'labels/train/a.txt').write_text(text)
    (root / 'data.yaml').write_text(f'names: {names}\n')
    return root


def yolo_line(index, ring):
    parts = np.array(ring).reshape(-1, 2) / (WIDTH, HEIGHT)
    return ' '.join([str(index), *map(str, parts.ravel())])


@pytest.mark.parametrize('names', ['[cat, dog]', '{1: dog, 0: cat}'])
def test_yolo(convert, tmp_path, names):
    text = f'{yolo_line(1, BLOB)}\n\n{yolo_line(0, TRIANGLE)}\n'
    said, maps = convert('yolo', yolo(tmp_path, text, names))
    assert not said and set(maps) == {'train/a.png', 'train/bare.png'}
    expected = np.full((HEIGHT, WIDTH), 255)
    expected[pil_mask(BLOB)], expected[pil_mask(TRIANGLE)] = 1, 0
    equal_inside(maps['train/a.png'], expected)
    assert (maps['train/bare.png'] == 255).all()
    assert (tmp_path / 'own/classes.txt').read_text() == 'cat\ndog\n'


@pytest.mark.parametrize(
    ('data', 'sentence'),
    [
        (instances(image_id=1), 'annotation 4: there is no image 1'),
        (instances(category_id=1), 'annotation 4: there is no category 1'),
        (dict(instances(), images=[]), 'there is no image 2'),
        (dict(instances(), images=[], annotations=[]), 'expected annotations, found none'),
        (
            dict(instances(), categories=[dict(id=3, name='a, b'), dict(id=7, name='c')]),
            "without commas or # before them, found 'a, b'",
        ),
        (
            dict(instances(), images=[dict(id=2, file_name='../a.jpg', height=1, width=1)]),
            r'expected the name of a file below a folder, found \.\./a\.jpg',
        ),
    ],
)
def test_a_source_that_is_not_what_it_should_be(convert, tmp_path, data, sentence):
    said, maps = convert('coco', write(data, tmp_path / 'instances.json'))
    assert re.search(sentence, said) and not maps


def test_a_damaged_annotation_is_named_and_stops_no_other(convert, tmp_path):
    said, maps = convert('coco', write(instances(segmentation=[]), tmp_path / 'instances.json'))
    assert 'annotation 4: expected polygons of three or more points' in said
    assert said.endswith('error: 1 label maps could not be drawn') and set(maps) == {'b/bare.png'}


def test_a_segment_that_is_not_listed_is_named(convert, tmp_path):
    _, source = panoptic(tmp_path, segments=[dict(id=300, category_id=7)])
    said, maps = convert('panoptic', source)
    assert f'{tmp_path}/panoptic_val/a.png: no segment of panoptic_val.json has the id 5' in said
    assert not maps


@pytest.mark.parametrize(
    ('shape', 'sentence'),
    [
        (shape('x', [1, 1, 2, 2], 'line'), 'expected a polygon, or a rectangle .* found line of 2'),
        (dict(label='x', points=[[1]]), 'expected points x, y'),
        (dict(label=3, points=[]), 'expected a label and points'),
        (shape('x', [1, 1, 900, 2, 3, 3]), 'expected polygons within the image'),
    ],
)
def test_shapes_that_are_no_regions(convert, tmp_path, shape, sentence):
    write(annotated(shape), tmp_path / 'in/bad.json')
    (tmp_path / 'in/cut.json').write_text('{"shapes"')
    write(annotated(dict(label='y', points=[[1, 1], [9, 1], [9, 9]])), tmp_path / 'in/good.json')
    said, maps = convert('labelme', tmp_path / 'in')
    assert re.search(rf'bad\.json: (.*shapes\[0\]: )?.*{sentence}', said), said
    assert 'cut.json: is not JSON' in said and set(maps) == {'good.png'}


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('0 0.1 0.1 0.2 0.2', r'a\.txt, line 1: expected a polygon .* found a box'),
        ('2 0.1 0.1 0.2 0.2 0.3 0.1', r'line 1: expected a class of 0 to 1, found 2'),
        ('\n0 0.1 x', r"line 2: expected numbers, found '0 0\.1 x'"),
        ('0 0.1 0.1 0.2 0.2 0.3 0.1 0.5', 'found 7 numbers'),
        ('0 10 10 20 20 30 10', 'expected polygons within the image'),
    ],
)
def test_lines_that_are_no_polygons(convert, tmp_path, text, sentence):
    said, maps = convert('yolo', yolo(tmp_path, text))
    assert re.search(sentence, said), said
    assert set(maps) == {'train/bare.png'}


def test_a_text_file_of_other_bytes_is_named(convert, tmp_path):
    root = yolo(tmp_path, '')
    (file,) = [path for path in (root / 'labels').rglob('*.txt') if path.name == 'a.txt']
    file.write_bytes(b'\xff\xfe')
    assert f'{file}: expected UTF-8 text' in convert('yolo', root)[0]


@pytest.mark.parametrize(
    ('field', 'value'),
    [('image_id', [1]), ('file_name', 5), ('segments_info', {}), ('id', [5]), ('category_id', {})],
)
def test_panoptic_fields_of_other_kinds(convert, tmp_path, field, value):
    _, source = panoptic(tmp_path)
    data = json.loads(source.read_text())
    annotation = data['annotations'][0]
    (annotation if field in annotation else annotation['segments_info'][0])[field] = value
    source.write_text(json.dumps(data))
    said, maps = convert('panoptic', source)
    assert re.search(r'panoptic_val\.json: annotations\[0\]: expected image_id', said), said
    assert not maps


def test_a_text_file_without_an_image(convert, tmp_path):
    root = yolo(tmp_path, '')
    (root / 'labels/train/c.txt').touch()
    assert 'found none for train/c.txt' in convert('yolo', root)[0]


def test_the_page_on_own_data_has_all(repository):
    page = (repository / 'docs/own_data.md').read_text()
    assert re.findall(r'label_maps\.py (\w+)', page) == list(READERS)
