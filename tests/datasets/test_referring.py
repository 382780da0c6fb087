import json

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_siglip.datasets import ReferringDataset, referring

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMasks'),
    dict(type='PackReferringInputs'),
]
SQUARE = [2, 2, 8, 2, 8, 6, 2, 6]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


@pytest.fixture
def folder(tmp_path):
    """Two images of different sizes, three objects, seven phrases."""
    (tmp_path / 'images').mkdir()
    for name, size in (('a.jpg', (20, 12)), ('b.jpg', (10, 30))):
        Image.new('RGB', size, 'white').save(tmp_path / 'images' / name)
    mask = np.zeros((12, 20), np.uint8)
    mask[:5] = 255
    Image.fromarray(mask).save(tmp_path / 'top.png')
    lines = [
        dict(image='a.jpg', mask='top.png', expressions=['the top', 'upper part', ' sky ']),
        dict(image='b.jpg', polygons=[SQUARE], expressions=['a square', 'the box']),
        dict(image='a.jpg', mask=None, expressions=['a giraffe']),
        dict(image='a.jpg', rle=dict(size=[12, 20], counts=[0, 24, 216]), expressions='left edge'),
    ]
    (tmp_path / 'refs.jsonl').write_text('\n\n'.join(map(json.dumps, lines)) + '\n')
    return tmp_path


def build(folder, **options):
    options = dict(ann_file='refs.jsonl', data_prefix=dict(img_path='images')) | options
    return ReferringDataset(data_root=str(folder), pipeline=PIPELINE, **options)


def test_all_phrases_of_an_image_in_a_test(folder):
    a, b = build(folder, test_mode=True)
    texts = [sample['data_samples'].text for sample in (a, b)]
    assert texts[0] == ['the top', 'upper part', 'sky', 'a giraffe', 'left edge']
    assert texts[1] == ['a square', 'the box']
    masks = a['data_samples'].gt_sem_seg.data
    assert masks.shape == (5, 12, 20) and str(masks.dtype) == 'torch.uint8'
    assert masks.sum((1, 2)).tolist() == [100, 100, 100, 0, 24]
    assert masks[4].sum(0).tolist() == [12, 12] + [0] * 18
    assert b['data_samples'].gt_sem_seg.data.sum((1, 2)).tolist() == [24, 24]
    assert a['inputs'].shape == (3, 12, 20) and str(a['inputs'].dtype) == 'torch.uint8'
    assert b['data_samples'].ori_shape == (30, 10)


@pytest.mark.parametrize('test_mode', [False, True])
def test_a_sample_for_each_phrase(folder, test_mode):
    samples = [one['data_samples'] for one in build(folder, test_mode=test_mode, apart=True)]
    together = ['the top', 'upper part', 'sky', 'a giraffe', 'left edge', 'a square', 'the box']
    assert [sample.text for sample in samples] == [[text] for text in together]
    assert [sample.first_phrase for sample in samples] == [0, 1, 2, 3, 4, 0, 1]
    areas = [int(sample.gt_sem_seg.data.sum()) for sample in samples]
    assert areas == [100, 100, 100, 0, 24, 24, 24]


def test_lines_end_at_line_feeds_alone(folder):
    phrase = 'one\u2028thing\x85or another'
    line = json.loads((folder / 'refs.jsonl').read_text().splitlines()[0])
    text = json.dumps(dict(line, expressions=[phrase]), ensure_ascii=False)
    (folder / 'refs.jsonl').write_text(f'{text}\r\n', encoding='utf-8', newline='')
    (sample,) = build(folder, test_mode=True)
    assert sample['data_samples'].text == [phrase]


def test_tests_do_not_depend_on_the_generator(folder):
    for options in (dict(), dict(phrases_per_image=2)):
        texts = []
        for seed in (0, 1):
            np.random.seed(seed)
            dataset = build(folder, test_mode=True, **options)
            texts.append([sample['data_samples'].text for sample in dataset])
        assert texts[0] == texts[1]
    assert texts[0] == [['the top', 'left edge'], ['a square', 'the box']]


def test_training_draws_by_the_generator(folder):
    dataset = build(folder)
    draws = []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        draws.append([dataset[0]['data_samples'].text for _ in range(40)])
    assert draws[0] == draws[1] != draws[2]
    assert all(len(texts) == 1 for texts in draws[0])
    seen = {text for texts in draws[0] for text in texts}
    assert seen == {'the top', 'upper part', 'sky', 'a giraffe', 'left edge'}


def test_several_phrases_come_with_their_own_masks(folder):
    areas = dict(zip(['the top', 'upper part', 'sky', 'a giraffe'], [100] * 3 + [0], strict=True))
    areas['left edge'] = 24
    dataset = build(folder, phrases_per_image=3)
    for _ in range(20):
        sample = dataset[0]['data_samples']
        assert len(set(sample.text)) == 3
        found = sample.gt_sem_seg.data.sum((1, 2)).tolist()
        assert found == [areas[text] for text in sample.text]
    assert len(build(folder, phrases_per_image=9)[1]['data_samples'].text) == 2


@pytest.mark.parametrize('test_mode', [False, True])
def test_no_exception_is_swallowed(folder, test_mode):
    (folder / 'images' / 'b.jpg').write_bytes(b'not an image')
    dataset = build(folder, test_mode=test_mode)
    assert dataset[0]['inputs'].shape == (3, 12, 20)
    with pytest.raises(ValueError, match='b.jpg is not an image'):
        dataset[1]
    (folder / 'top.png').unlink()
    with pytest.raises(ValueError, match='1 of the 1 masks that it names are not there: .*top.png'):
        build(folder, test_mode=True)[0]


@pytest.mark.parametrize(
    ('line', 'sentence'),
    [
        ('{', r'refs.jsonl, line 1 is not JSON'),
        ('[]', 'line 1: expected an object with image, mask and expressions'),
        ('{"image": "a.jpg", "expressions": ["x"]}', 'one of mask, polygons and rle, found none'),
        ('{"image": "a.jpg", "mask": null, "rle": {}, "expressions": ["x"]}', 'found .*mask.*rle'),
        ('{"image": "a.jpg", "mask": [3], "expressions": ["x"]}', 'name of a mask file or null'),
        ('{"image": "a.jpg", "mask": null}', 'line 1: expected one or more phrases, found None'),
        ('{"image": "a.jpg", "mask": null, "expressions": ["x", " "]}', 'one or more phrases'),
        ('', 'refs.jsonl: found no phrase'),
    ],
)
def test_a_wrong_line_is_named(folder, line, sentence):
    (folder / 'refs.jsonl').write_text(line)
    with pytest.raises(ValueError, match=sentence):
        build(folder)


def test_wrong_options(folder):
    with pytest.raises(ValueError, match='phrases_per_image: expected 1 or more, found 0'):
        build(folder, phrases_per_image=0)
    with pytest.raises(ValueError, match='none.jsonl cannot be read'):
        build(folder, ann_file='none.jsonl')
    (folder / 'refs.json').write_text('{}')
    with pytest.raises(ValueError, match='refs.json: expected a list of objects'):
        build(folder, ann_file='refs.json')


def test_refcoco_mini(real_data):
    """Two photographs, four objects, fourteen phrases, whose masks are files."""
    dataset = ReferringDataset(
        data_root=str(real_data / 'refcoco-mini'),
        ann_file='refcoco_mini.json',
        pipeline=PIPELINE,
        test_mode=True,
    )
    samples = [sample['data_samples'] for sample in dataset]
    assert [len(sample.text) for sample in samples] == [8, 6]
    for sample in samples:
        areas = sample.gt_sem_seg.data.float().mean((1, 2))
        assert sample.gt_sem_seg.shape == sample.ori_shape
        assert len(areas.unique()) == 2 and 0.001 < areas.min() and areas.max() < 0.6


def test_fields_that_are_not_used_are_told(folder, monkeypatch):
    said = []
    monkeypatch.setattr(referring, 'print_log', lambda text, _: said.append(text))
    build(folder)
    assert not said
    line = dict(image='a.jpg', mask=None, expressions=['x'], split='val', id=3)
    (folder / 'refs.jsonl').write_text(json.dumps(line))
    build(folder)
    assert said[0].endswith('refs.jsonl: nothing is made of the fields id, split')


def test_an_image_of_another_size_than_its_annotation(folder):
    def load(size):
        line = dict(image='a.jpg', polygons=[SQUARE], expressions='a square', image_size=size)
        (folder / 'refs.jsonl').write_text(json.dumps(line))
        return build(folder, test_mode=True)[0]

    assert load([12, 20])['data_samples'].text == ['a square']
    with pytest.raises(ValueError, match='a.jpg: expected an image of 24 x 40 .* found 12 x 20'):
        load([24, 40])
    for wrong in ([12], '12x20', [12.0, 20.0], None):
        with pytest.raises(ValueError, match=r'line 1: expected image_size as \[height, width\]'):
            load(wrong)


def test_what_stands_there_twice_or_means_several_things_is_told(folder, monkeypatch):
    said = []
    monkeypatch.setattr(referring, 'print_log', lambda text, *_: said.append(text))
    build(folder).full_init()
    assert not said
    line = dict(image='a.jpg', polygons=[SQUARE], expressions=['a square', 'the box'])
    other = dict(image='a.jpg', mask='top.png', expressions=['the box'])
    text = '\n'.join(map(json.dumps, (line, line, other)))
    (folder / 'refs.jsonl').write_text(text)
    (sample,) = build(folder, test_mode=True)
    assert sample['data_samples'].text == ['a square', 'the box'] * 2 + ['the box']
    twice, unclear = said
    assert "2 phrases stand there more than once, which count as often: 'a square' of a.j" in twice
    assert "1 phrases stand for several targets of one image: 'the box' of a.jpg" in unclear


def test_indices_count_phrases_where_each_is_a_sample(folder):
    assert len(build(folder, test_mode=True, apart=True, indices=[6])) == 1
    with pytest.raises(ValueError, match='indices: expected some of its 7 samples, found 8'):
        build(folder, test_mode=True, apart=True, indices=8)
