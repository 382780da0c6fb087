"""The page on own data sets is obeyed to the letter, on ShapesWorld laid out as it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import numpy as np
import pytest
from commands import command
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from mmseg_siglip.datasets.shapes_world.scene import CLASSES, generate, scene_seed
from mmseg_siglip.registry import DATASETS
from mmseg_siglip.text.vocabulary import Vocabulary

OWN = 'configs/_base_/datasets/own.py'
NAMES = ('park.jpg', 'street.JPG', 'night/road.png', 'b/c/d.jpeg', 'e.jpg')
DOCUMENT = 'docs/own_data.md'


@pytest.fixture(scope='module')
def page(repository):
    return (repository / DOCUMENT).read_text()


def blocks(text, kind):
    return re.findall(rf'^```{kind}\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)


def sections(page):
    """The headings of what is different, with their snippets."""
    return dict(re.findall(r'^### ([^\n]*)\n.*?^```python\n(.*?)^```$', page, re.DOTALL | re.M))


def save(picture, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = Image.registered_extensions()[path.suffix.lower()]
    Image.fromarray(picture).save(path, kind)


@pytest.fixture(scope='module')
def scenes():
    return [generate(scene_seed('train', index), size=(32, 48)) for index in range(len(NAMES))]


@pytest.fixture
def checkout(repository, tmp_path, monkeypatch):
    """A folder with the configs, in which commands run."""
    shutil.copytree(repository / 'configs', tmp_path / 'configs')
    monkeypatch.chdir(tmp_path)
    init_default_scope('mmseg_siglip')
    return tmp_path


def lay_out(root, scenes, *, image='images/{}', mask='masks/{}.png', draw=None, names=NAMES):
    """Images, and as their masks the scenes' classes modulo 3, drawn by `draw`."""
    truths = {}
    for name, scene in zip(names, scenes, strict=True):
        stem, kind = name.rsplit('.', 1)
        truths[stem] = scene.classes % 3
        save(scene.image, root / f'{image.format(stem)}.{kind}')
        save(truths[stem] if draw is None else draw(truths[stem]), root / mask.format(stem))
    (root / 'classes.txt').write_text('road, street\nbuilding\ntree\n')
    return truths


def edit(snippet):
    """Put lines below `dataset` of the config for own data."""
    with open(OWN) as file:
        text = file.read()
    head, middle, tail = text.partition('train_set = ')
    with open(OWN, 'w') as file:
        file.write(head + snippet + middle + tail)


def loaded(image_root):
    """Masks by their images' names, without what sets these apart, and the names of each part."""
    config = Config.fromfile('configs/cat_seg/own.py')
    assert Vocabulary.load(config.model.vocabulary).names == ('road', 'building', 'tree')
    parts, labels = [], {}
    for given in (config.train_dataloader.dataset, config.test_dataloader.dataset):
        loading = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
        dataset = DATASETS.build(dict(given, pipeline=loading))
        assert dataset.metainfo['classes'] == ('road', 'building', 'tree')
        parts.append(set())
        for sample in dataset:
            name = re.sub(r'(_rgb)?\.\w+$', '', sample['img_path'].split(image_root)[1])
            labels[name] = sample['gt_seg_map']
            parts[-1].add(name)
    return labels, parts


def test_the_layout_is_what_is_drawn_here(page, repository):
    layout = blocks(page, 'text')[0]
    assert {'classes.txt', 'images/', 'masks/', *NAMES[:3]} <= set(layout.split())
    first = blocks(page, 'python')[0]
    assert first in (repository / OWN).read_text()


def test_as_laid_out(checkout, scenes):
    truths = lay_out(checkout / 'data/own', scenes)
    labels, (train, val) = loaded('data/own/images/')
    assert len(train) == 4 and len(val) == 1 and train | val == set(truths)
    assert all(np.array_equal(labels[name], truths[name]) for name in truths)


def values(truth):
    return np.array([7, 11, 21], np.uint8)[truth]


def colours(truth):
    return np.array([(128, 64, 128), (70, 70, 70), (107, 142, 35)], np.uint8)[truth]


def split_in_folders(root):
    for place in ('images', 'masks'):
        for name in NAMES:
            stem = name.rpartition('.')[0]
            part = 'val' if stem in ('park', 'e') else 'train'
            (path,) = (root / place).glob(f'{stem}.*')
            target = root / part / place / path.relative_to(root / place)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)


def split_in_lists(root):
    (root / 'train.txt').write_text('street.JPG\nnight/road\nb/c/d.jpeg\n')
    (root / 'val.txt').write_text('park\ne.jpg\n')


LAYOUTS = {
    'Masks with other values': dict(draw=values),
    'Masks in colours': dict(draw=colours),
    'Other names': dict(image='images/{}_rgb', mask='masks/{}_label.tif'),
    'All in one folder': dict(image='{}', mask='{}_mask.png'),
    'Folders for training and validation': dict(split=split_in_folders),
    'Lists for training and validation': dict(split=split_in_lists),
    'Classes in the config': dict(),
}


@pytest.mark.parametrize('heading', LAYOUTS)
def test_what_is_different(page, checkout, scenes, heading):
    root, given = checkout / 'data/own', dict(LAYOUTS[heading])
    split = given.pop('split', None)
    truths = lay_out(root, scenes, **given)
    if heading == 'Classes in the config':
        (root / 'classes.txt').unlink()
    if split:
        split(root)
    edit(sections(page)[heading])
    prefix = 'data/own/' if heading == 'All in one folder' else '/images/'
    labels, (train, val) = loaded(prefix)
    assert train | val == set(truths) and not train & val
    assert val == {'park', 'e'} if split else len(val) == 1
    assert all(np.array_equal(labels[name], truths[name]) for name in truths)


def test_every_difference_is_tried(page):
    assert list(sections(page)) == list(LAYOUTS)


def rows(page):
    """The errors of the table, as patterns."""
    found = re.findall(r'^\| `(.*?)` \|', page, re.MULTILINE)
    return [re.escape(row).replace(r'\.\.\.', '.*') for row in found]


def remove(*names):
    return lambda root: [(root / name).unlink() for name in names]


def rgb_mask(root):
    save(np.zeros((32, 48, 3), np.uint8), root / 'masks/park.png')


def jpeg_mask(root):
    Image.new('L', (48, 32)).save(root / 'masks/park.png', 'JPEG')


def small_mask(root):
    save(np.zeros((8, 8), np.uint8), root / 'masks/park.png')


def more_values(root):
    save(np.full((32, 48), 9, np.uint8), root / 'masks/park.png')


def second(root):
    shutil.copy(root / 'images/park.jpg', root / 'images/park.jpeg')


ERRORS = [
    (dict(img_suffix='_rgb.png'), None),
    (dict(seg_map_suffix='_rgb.png'), None),
    ({}, remove('masks/park.png')),
    ({}, remove('images/park.jpg')),
    ({}, second),
    ({}, more_values),
    (dict(label_colours=[(9, 9, 9), (0, 0, 1), (0, 0, 3)]), rgb_mask),
    ({}, rgb_mask),
    ({}, jpeg_mask),
    ({}, small_mask),
    (dict(label_values=[1, 2]), None),
    (dict(part='val', held_out=0.01), None),
    (dict(vocabulary='data/own/words.txt'), None),
]


def complaint(dataset):
    with pytest.raises(ValueError) as caught:
        list(DATASETS.build(dataset))
    return str(caught.value)


def test_every_error_of_the_table_is_one_that_comes(page, checkout, scenes, monkeypatch):
    wanted, seen = rows(page), set()
    loading = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    for number, (settings, spoil) in enumerate(ERRORS):
        root = checkout / str(number) / 'data/own'
        lay_out(root, scenes)
        if spoil:
            spoil(root)
        monkeypatch.chdir(checkout / str(number))
        given = Config.fromfile(checkout / OWN).dataset
        said = complaint({**given, **settings, 'pipeline': loading})
        matching = [row for row in wanted if re.search(row, said)]
        assert matching, said
        seen.update(matching)
    save((scenes[0].depth * 1000).astype(np.uint16), checkout / 'data/own/depth/park.png')
    save(scenes[0].image, checkout / 'data/own/images/park.jpg')
    monkeypatch.chdir(checkout)
    depth = Config.fromfile('configs/_base_/datasets/own_depth.py')
    depth = dict(depth.dataset, depth_scale=1.0, pipeline=depth.test_pipeline)
    said = complaint(depth)
    seen.update(row for row in wanted if re.search(row, said))
    assert seen == set(wanted)


ALONE = ('num_workers=0', 'persistent_workers=False')


@pytest.mark.slow
def test_the_commands(page, checkout):
    """With the shipped encoder in the place of CLIP and SigLIP 2, and two iterations."""
    root = checkout / 'data/own'
    for index in range(10):
        scene = generate(scene_seed('train', index))
        save(scene.image, root / f'images/{index}.{("jpg", "JPG", "png")[index % 3]}')
        save(scene.classes, root / f'masks/{index}.png')
        save((scene.depth * 1000).round().astype(np.uint16), root / f'depth/{index}.png')
    save(scene.image, checkout / 'photo.jpg')
    (root / 'classes.txt').write_text('\n'.join(CLASSES))
    encoders = checkout / 'configs/_base_/encoders'
    for name in ('clip_b16_224', 'clip_b16_384', 'siglip2_b16_512'):
        shutil.copy(encoders / 'tiny_siglip_shapes.py', encoders / f'{name}.py')
    depth = checkout / 'configs/_base_/datasets/own_depth.py'
    depth.write_text(depth.read_text().replace('(640, 480)', '(96, 64)'))
    for name in ('cat_seg/own', 'dpt/own_frozen', 'dpt/own_finetune'):
        path = checkout / f'configs/{name}.py'
        text = re.sub(r'\b200\b', '1', path.read_text())
        path.write_text(re.sub(r'(?<!\d)(10000|4000)\b', '2', text))
    page = page.partition('## What you have')[0]
    lines = [line for block in blocks(page, 'sh') for line in block.splitlines()]
    lines = [re.sub(r'iter_\d+', 'iter_2', line) for line in lines]
    assert len(lines) == 7
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[0] == 'mmseg-siglip':
            assert command(words[1])(words[2:]) == 0
            continue
        assert words[0] == 'python'
        name = re.fullmatch(r'tools/(train|test)\.py', words[1])[1]
        parts = ('train', 'val') if name == 'train' else ('test',)
        small = [f'{part}_dataloader.{option}' for part in parts for option in ALONE]
        if name == 'train':
            small += ['train_dataloader.batch_size=1', 'train_cfg.val_interval=2']
        if 'dpt' not in line:
            small += ['model.templates=single']
        assert command(name)([*words[2:], '--cfg-options', *small]) == 0, line
    assert len(list((checkout / 'painted').rglob('*.png'))) == 2
    assert list((checkout / 'segmented').glob('photo*'))
    texts = [path.read_text() for path in checkout.glob('work_dirs/own*/*/*.json')]
    scores = [json.loads(text.splitlines()[-1]) for text in texts]
    assert max(found.get('mIoU', 0) for found in scores) > 20  # of the encoder as it is
    assert any('depth/abs_rel' in found for found in scores)
