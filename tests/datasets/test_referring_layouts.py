import json
import pickle

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_siglip.datasets import PhraseListDataset, RefCOCODataset

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMasks'),
    dict(type='PackReferringInputs'),
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


def disk(y, x, radius=4, size=(24, 32)):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return ((rows - y) ** 2 + (columns - x) ** 2 < radius**2).astype(np.uint8)


def rle(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask))
    return dict(size=list(mask.shape), counts=encoded['counts'].decode())


def ref(number, image, ann, split, *sentences):
    sentences = [dict(raw=text, sent=text.lower(), sent_id=0, tokens=[]) for text in sentences]
    fields = dict(ref_id=number, image_id=image, ann_id=ann, split=split, sentences=sentences)
    return dict(fields, file_name=f'COCO_train2014_{image:012d}_{number}.jpg', category_id=1)


@pytest.fixture
def refcoco(tmp_path):
    """The layout of the refer toolbox: two images, polygons, an RLE, RRSIS-D's list of one RLE."""
    images = tmp_path / 'images/mscoco/images/train2014'
    images.mkdir(parents=True)
    names = {7: 'COCO_train2014_000000000007.jpg', 3: 'COCO_train2014_000000000003.jpg'}
    for name in names.values():
        Image.new('RGB', (32, 24)).save(images / name)
    annotations = [
        dict(id=11, image_id=7, segmentation=[[2, 2, 12, 2, 12, 10, 2, 10]]),
        dict(id=12, image_id=7, segmentation=rle(disk(12, 20))),
        dict(id=13, image_id=3, segmentation=[rle(disk(5, 6))]),
    ]
    instances = dict(
        images=[dict(id=k, file_name=v, height=24, width=32) for k, v in names.items()],
        annotations=annotations,
    )
    folder = tmp_path / 'refcoco'
    folder.mkdir()
    (folder / 'instances.json').write_text(json.dumps(instances))
    refs = [
        ref(0, 7, 11, 'val', 'The box', 'Left one'),
        ref(1, 3, 13, 'val', 'A ball'),
        ref(2, 7, 12, 'val', 'Right ball'),
        ref(3, 7, 12, 'testA', 'ball'),
        ref(4, 7, [11, 12], 'grouped', 'both'),
        ref(5, 7, [-1], 'grouped', 'an elephant'),
    ]
    (folder / 'refs(unc).p').write_bytes(pickle.dumps(refs, protocol=2))
    (folder / 'refs(unc).json').write_text(json.dumps(refs))
    return tmp_path


def build(root, split='val', **options):
    options = dict(refs_file='refs(unc).p') | options
    return RefCOCODataset(
        data_root=str(root),
        ann_file='refcoco/instances.json',
        data_prefix=dict(img_path='images/mscoco/images/train2014'),
        split=split,
        pipeline=PIPELINE,
        test_mode=True,
        **options,
    )


@pytest.mark.parametrize('refs_file', ['refs(unc).p', 'refs(unc).json'])
def test_phrases_of_one_image_make_one_sample(refcoco, refs_file):
    first, second = (sample['data_samples'] for sample in build(refcoco, refs_file=refs_file))
    assert first.img_path.endswith('COCO_train2014_000000000007.jpg')
    assert first.text == ['The box', 'Left one', 'Right ball'] and second.text == ['A ball']
    masks = first.gt_sem_seg.data.numpy()
    assert (masks[0] == masks[1]).all() and masks[0].sum() == 80
    assert (masks[2] == disk(12, 20)).all()
    assert (second.gt_sem_seg.data[0].numpy() == disk(5, 6)).all()


def test_other_splits_and_the_cleaned_sentence(refcoco):
    (sample,) = build(refcoco, 'testA')
    assert sample['data_samples'].text == ['ball']
    assert build(refcoco, sentence='sent')[0]['data_samples'].text[0] == 'the box'


def test_several_instances_or_none(refcoco):
    (sample,) = build(refcoco, 'grouped')
    both, nothing = sample['data_samples'].gt_sem_seg.data.numpy()
    assert both.sum() == 80 + disk(12, 20).sum() and not nothing.any()


def test_what_does_not_fit_is_named(refcoco):
    with pytest.raises(ValueError, match=r"expected split grouped, testA, val, found 'test'"):
        build(refcoco, 'test')
    with pytest.raises(ValueError, match='refs.google..p cannot be read'):
        build(refcoco, refs_file='refs(google).p')
    with pytest.raises(ValueError, match='reference 0: expected one or more phrases'):
        build(refcoco, sentence='tokens_joined')
    path = refcoco / 'refcoco' / 'refs(unc).json'
    for changes, sentence in (
        (dict(ann_id=99), 'reference 0: instance 99 is not in'),
        (dict(image_id=5), 'reference 0: image 5 is not in'),
        (dict(image_id=3), 'image 3 has instance 11, which is of image 7'),
    ):
        path.write_text(json.dumps([ref(0, 7, 11, 'val', 'x') | changes]))
        with pytest.raises(ValueError, match=sentence):
            build(refcoco, refs_file=path.name)
    (refcoco / 'refcoco/instances.json').write_text('[]')
    with pytest.raises(ValueError, match='expected images and annotations of COCO'):
        build(refcoco)


@pytest.mark.parametrize(
    ('folders', 'suffix', 'names', 'above'),
    [
        (('images', 'masks'), '.tif', ('12_0', '12_1'), 50),
        (('img_rgb', 'mask'), '', ('P0003.png', 'P0007.png'), 0),
    ],
    ids=['RefSegRS', 'RISBench'],
)
def test_lists_of_phrases(tmp_path, folders, suffix, names, above):
    for folder in folders:
        (tmp_path / folder).mkdir()
    for index, name in enumerate(names):
        Image.new('RGB', (32, 24)).save(tmp_path / folders[0] / f'{name}{suffix}')
        mask = Image.fromarray(disk(10, 8 + index) * (above + 1))
        mask.save(tmp_path / folders[1] / f'{name}{suffix}')
    text = f'{names[1]} the road along  the river\n{names[0]} a van\n\n{names[1]} road\n'
    (tmp_path / 'output_phrase_test.txt').write_text(text)
    dataset = PhraseListDataset(
        data_root=str(tmp_path),
        ann_file='output_phrase_test.txt',
        data_prefix=dict(img_path=folders[0], mask_path=folders[1]),
        suffix=suffix,
        mask_above=above,
        pipeline=PIPELINE,
        test_mode=True,
    )
    first, second = (sample['data_samples'] for sample in dataset)
    assert first.text == ['the road along  the river', 'road'] and second.text == ['a van']
    assert (first.gt_sem_seg.data.numpy() == disk(10, 9)).all()
    assert (second.gt_sem_seg.data.numpy() == disk(10, 8)).all()


def test_a_line_without_a_phrase(tmp_path):
    (tmp_path / 'a.txt').write_text('1 a van\n2\n')
    with pytest.raises(ValueError, match='a.txt, line 2: expected one or more phrases'):
        PhraseListDataset(
            data_root=str(tmp_path),
            ann_file='a.txt',
            data_prefix=dict(img_path='images', mask_path='masks'),
        )


def test_polygons_of_an_image_of_another_size(refcoco):
    """As where a data set was resized, and its annotation was not."""
    path = refcoco / 'images/mscoco/images/train2014/COCO_train2014_000000000007.jpg'
    options = dict(
        ann_file='refcoco/instances.json',
        data_prefix=dict(img_path='images/mscoco/images/train2014'),
        pipeline=PIPELINE,
        test_mode=True,
    )
    Image.new('RGB', (64, 48)).save(path)
    dataset = RefCOCODataset(
        data_root=str(refcoco), refs_file='refs(unc).p', split='val', **options
    )
    with pytest.raises(ValueError, match='7.jpg: expected an image of 24 x 32 .* found 48 x 64'):
        [dataset[i] for i in range(len(dataset))]
