"""What data sets write down: phrases, instances, references, lists, MATLAB's label maps."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import coco_expressions
import coco_object
import numpy as np
from fuzz.images import pixels, write_images
from fuzz.kind import Kind
from fuzz.mutate import Draw, damage_bytes, damage_folder, damage_text
from fuzz.structures import damage_json, damage_json_lines, damage_pickle_file
from mmengine.registry import DefaultScope
from pascal_context_459 import read_labels
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.io import savemat

from mmseg_siglip.datasets import (
    FolderDataset,
    GroupedFolderDataset,
    KITTIDepthDataset,
    PhraseListDataset,
    RefCOCODataset,
    ReferringDataset,
)
from mmseg_siglip.registry import SCOPE

HEIGHT, WIDTH = 24, 31
MASK = (pixels(HEIGHT, WIDTH, high=90) > 45).astype(np.uint8)
LOAD = dict(type='LoadImageFromFile')
PHRASES = [LOAD, dict(type='LoadReferringMasks'), dict(type='PackReferringInputs')]
LABELS = [LOAD, dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
DEPTH = [LOAD, dict(type='LoadDepthAnnotation')]


def read_dataset(path: Path, *, kind: type, **options: Any) -> None:
    """Every sample, as a test reads it."""
    with DefaultScope.overwrite_default_scope(SCOPE):
        dataset = kind(data_root=str(path), test_mode=True, **options)
        for index in range(len(dataset)):
            dataset[index]


def rle() -> dict:
    encoded = coco_mask.encode(np.asfortranarray(MASK))
    return dict(size=[HEIGHT, WIDTH], counts=encoded['counts'].decode())


def polygon() -> list:
    return [[2, 2, 12, 2, 12, 10.5, 2, 10]]


def write_images_and_masks(folder: Path) -> Path:
    root = folder / 'data'
    root.mkdir()
    write_images(root, kind='PNG')
    Image.fromarray(255 * MASK).save(root / 'mask.png')
    return root


def write_phrases(folder: Path, *, name: str) -> list[Path]:
    root = write_images_and_masks(folder)
    entries = [
        dict(image='0.png', mask='mask.png', expressions=['the red cup', 'a cup']),
        dict(image='1.png', polygons=polygon(), expressions=['le café']),
        dict(image='1.png', rle=rle(), expressions='one'),
        dict(image='2.png', mask=None, expressions=['nothing']),
    ]
    lines = ''.join(f'{json.dumps(entry)}\n' for entry in entries)
    (root / name).write_text(lines if name.endswith('jsonl') else json.dumps(entries))
    return [root]


def instances() -> dict:
    shapes = (polygon(), rle(), [rle()], dict(size=[HEIGHT, WIDTH], counts=[5, HEIGHT * WIDTH - 5]))
    annotations = [
        dict(id=number, image_id=number % 3, segmentation=shape, category_id=1 + number % 2)
        | dict(iscrowd=0, bbox=[2, 2, 10, 8], area=80.0)
        for number, shape in enumerate(shapes)
    ]
    images = [dict(id=i, file_name=f'{i}.png', height=HEIGHT, width=WIDTH) for i in range(3)]
    categories = [dict(id=1, name='cup'), dict(id=2, name='cat')]
    return dict(images=images, annotations=annotations, categories=categories)


def write_references(folder: Path, *, name: str) -> list[Path]:
    root = write_images_and_masks(folder)
    refs = [
        dict(ref_id=n, image_id=n % 3, ann_id=[n, -1] if n == 2 else n, split='val', file_name='x')
        | dict(sentences=[dict(raw=f'cup {n}', sent='cup', sent_id=n, tokens=['cup'])])
        for n in range(4)
    ]
    (root / 'instances.json').write_text(json.dumps(instances()))
    if name.endswith('.json'):
        (root / name).write_text(json.dumps(refs))
    else:
        (root / name).write_bytes(pickle.dumps(refs, protocol=2))
    return [root]


def references(name: str) -> Callable[[Path], None]:
    options = dict(kind=RefCOCODataset, ann_file='instances.json', refs_file=name, split='val')
    return partial(read_dataset, pipeline=PHRASES, **options)


def write_instances(folder: Path) -> list[Path]:
    (folder / 'instances.json').write_text(json.dumps(instances()))
    return [folder / 'instances.json']


def draw_objects(path: Path) -> None:
    _, maps = coco_object.label_maps(path)
    for _ in maps:
        pass


def make_expressions(path: Path) -> None:
    """The command, whose refusals are its last words."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco_expressions.main([str(path), str(path.with_suffix('.jsonl'))])
    except SystemExit as refusal:
        raise ValueError(str(refusal)) from None


def write_phrase_list(folder: Path) -> list[Path]:
    root = write_images_and_masks(folder)
    (root / 'phrases.txt').write_text('0.png the cup\n1.png two words more\n', encoding='utf-8')
    for number in range(2):
        (root / f'{number}.png').write_bytes((root / 'mask.png').read_bytes())
    return [root]


def write_label_lists(folder: Path) -> list[Path]:
    root = folder / 'data'
    for group in ('images', 'labels', 'group/images', 'group/labels', 'depth'):
        (root / group).mkdir(parents=True)
    for number in range(3):
        labels = Image.fromarray((MASK + number).astype(np.uint8))
        for part in ('', 'group/'):
            write_images(root / f'{part}images', kind='PNG')
            labels.save(root / f'{part}labels/{number}.png')
        Image.fromarray(1 + MASK.astype(np.uint16)).save(root / f'depth/{number}.png')
    (root / 'val.txt').write_text('0\n1\n2\n')
    (root / 'names.txt').write_text('0.png\n1.png\n')
    (root / 'depth.txt').write_text('0.png 0.png 721.5\n1.png None 721.5\n2.png 2.png 721.5\n')
    return [root]


def write_matlab(folder: Path) -> list[Path]:
    categories = 1 + pixels(9, 7, high=459).astype(np.uint16)
    for name, packed in (('plain', False), ('packed', True)):
        savemat(folder / f'{name}.mat', dict(LabelMap=categories), do_compression=packed)
    return [folder / 'plain.mat', folder / 'packed.mat']


def one(name: str, way: Callable[[Path, Draw], str]) -> Callable[[Path, Draw], str]:
    return damage_folder([(name, way)])


KINDS = [
    Kind(
        'phrases (JSON lines)',
        1000,
        partial(write_phrases, name='val.jsonl'),
        one('val.jsonl', damage_json_lines),
        partial(read_dataset, kind=ReferringDataset, ann_file='val.jsonl', pipeline=PHRASES),
        batch=20,
    ),
    Kind(
        'phrases (JSON)',
        300,
        partial(write_phrases, name='val.json'),
        one('val.json', damage_json),
        partial(read_dataset, kind=ReferringDataset, ann_file='val.json', pipeline=PHRASES),
        batch=20,
    ),
    Kind(
        'phrases (list)',
        300,
        write_phrase_list,
        one('phrases.txt', damage_text),
        partial(
            read_dataset,
            kind=PhraseListDataset,
            ann_file='phrases.txt',
            data_prefix=dict(img_path='', mask_path=''),
            pipeline=PHRASES,
        ),
        batch=20,
    ),
    Kind(
        'references (pickle)',
        500,
        partial(write_references, name='refs.p'),
        one('refs.p', damage_pickle_file),
        references('refs.p'),
    ),
    Kind(
        'references (JSON)',
        300,
        partial(write_references, name='refs.json'),
        one('refs.json', damage_json),
        references('refs.json'),
        batch=20,
    ),
    Kind(
        'instances of references',
        500,
        partial(write_references, name='refs.p'),
        one('instances.json', damage_json),
        references('refs.p'),
        batch=20,
    ),
    Kind('instances to label maps', 500, write_instances, damage_json, draw_objects, batch=20),
    Kind('instances to phrases', 500, write_instances, damage_json, make_expressions, batch=20),
    Kind('MATLAB label map', 500, write_matlab, damage_bytes, read_labels, batch=20),
    Kind(
        'split list',
        300,
        write_label_lists,
        one('val.txt', damage_text),
        partial(
            read_dataset,
            kind=FolderDataset,
            vocabulary=['a', 'b', 'c', 'd'],
            ann_file='val.txt',
            img_suffix='.png',
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            pipeline=LABELS,
        ),
        batch=20,
    ),
    Kind(
        'list of names',
        300,
        write_label_lists,
        one('names.txt', damage_text),
        partial(
            read_dataset,
            kind=GroupedFolderDataset,
            vocabulary=['a', 'b', 'c', 'd'],
            ann_file='names.txt',
            image_folder='images',
            label_folder='labels',
            img_suffix='.png',
            pipeline=LABELS,
        ),
        batch=20,
    ),
    Kind(
        'list of depth maps',
        300,
        write_label_lists,
        one('depth.txt', damage_text),
        partial(
            read_dataset,
            kind=KITTIDepthDataset,
            ann_file='depth.txt',
            data_prefix=dict(img_path='images', depth_map_path='depth'),
            pipeline=DEPTH,
        ),
        batch=20,
    ),
]
