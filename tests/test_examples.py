"""Each file of examples/ does what its page says, on the weights that ship along."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module

import cv2
import numpy as np
import pytest
import torch
from commands import command
from contracts.dense_method import DenseMethodContract
from contracts.encoder import EncoderContract
from PIL import Image
from tiny_encoders import known_words, write_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPImageProcessor

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.datasets.shapes_world.scene import CLASSES, generate, scene_seed
from mmseg_siglip.labelling.exports import EXPORTS
from mmseg_siglip.models.backbones import build_encoder
from mmseg_siglip.registry import DATASETS, DENSE_METHODS, MODELS, TRANSFORMS

NAMES = ('labelme_export', 'local_attention', 'metaclip2_encoder', 'polygon_dataset')
WORDS = 'circle, square, grass, water'
VISION = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)
METACLIP2 = dict(
    vision_config=VISION | dict(image_size=32, patch_size=8),
    text_config=VISION
    | dict(max_position_embeddings=64, vocab_size=len(known_words()) + 3)
    | dict(pad_token_id=0, eos_token_id=1, bos_token_id=2),
    projection_dim=24,
)


@pytest.fixture(scope='module', autouse=True)
def examples(repository):
    """The modules by name; what they register is gone afterwards."""
    before = dict(EXPORTS['segment'])
    sys.path.insert(0, str(repository / 'examples'))
    yield {name: import_module(name) for name in NAMES}
    sys.path.remove(str(repository / 'examples'))
    for registry in (DATASETS, DENSE_METHODS, MODELS, TRANSFORMS):
        theirs = [n for n, kind in registry.module_dict.items() if kind.__module__ in NAMES]
        for name in theirs:
            del registry.module_dict[name]
    EXPORTS['segment'] = before
    for name in NAMES:
        sys.modules.pop(name)


@pytest.fixture(scope='module')
def scenes():
    return [generate(scene_seed('test', index), size=(64, 96)) for index in range(3)]


def miou_of(work_dir):
    (scores,) = work_dir.glob('*/*.json')
    return json.loads(scores.read_text())['mIoU']


def test_every_file_is_here_and_in_a_page(repository):
    files = {path.stem for path in repository.glob('examples/*.py')}
    pages = ''.join(path.read_text() for path in repository.glob('docs/adding/*.md'))
    assert set(NAMES) <= files
    assert not [name for name in files if f'--8<-- "examples/{name}.py"' not in pages]


# A dense method


class TestLocalAttention(DenseMethodContract):
    cases = [(dict(type='local'), kind) for kind in ('clip', 'siglip', 'siglip head')]


def test_a_method_in_the_api(scenes):
    far, near, csa = (
        OpenVocabSegmenter.from_pretrained('tiny_siglip_shapes', method)(scenes[0].image, WORDS)
        for method in (dict(type='local', radius=99), dict(type='local', radius=1), 'csa')
    )
    assert (far.labels != near.labels).any() and (far.labels != csa.labels).any()


def test_a_method_by_a_config(repository, tmp_path):
    status = command('test')(
        [repository / 'examples/local_attention_shapes.py', '--work-dir', tmp_path]
        + ['--cfg-options', 'test_dataloader.dataset.num_scenes=4']
        + ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    )
    assert status == 0
    assert miou_of(tmp_path) > 45  # 55.4; chance is below 8


# An encoder


@pytest.fixture(scope='module')
def metaclip2(tmp_path_factory):
    folder = tmp_path_factory.mktemp('metaclip2')
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model('metaclip_2', **METACLIP2)).eval()
    for parameter in model.requires_grad_(False).parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ending = TemplateProcessing(single='$A </s>', special_tokens=[('</s>', 1)])
    tokenizer.backend_tokenizer.post_processor = ending
    tokenizer.save_pretrained(folder)
    size = dict(height=32, width=32)
    CLIPImageProcessor(size=dict(shortest_edge=32), crop_size=size).save_pretrained(folder)
    return str(folder)


class TestMetaCLIP2(EncoderContract):
    test_weights_alone_in_a_file = None
    """Its names are CLIP's: what it is stands in the folder's config alone."""

    @pytest.fixture(scope='class', autouse=True)
    def kind_of_the_example(self, request, examples):
        request.cls.kind = examples['metaclip2_encoder'].MetaCLIP2Backbone

    @pytest.fixture(scope='class')
    def source(self, metaclip2):
        return metaclip2


@torch.no_grad()
def test_an_encoder_equals_transformers(metaclip2):
    encoder, stock = build_encoder(metaclip2), AutoModel.from_pretrained(metaclip2)
    images, texts = torch.randn(2, 3, 32, 32), ['a cat', 'a large red star']
    batch = encoder.tokenizer(texts, padding='max_length', max_length=64, return_tensors='pt')
    expected = stock.get_text_features(**batch).pooler_output
    torch.testing.assert_close(encoder.encode_text(texts), expected)
    expected = stock.get_image_features(images).pooler_output
    torch.testing.assert_close(encoder.encode_image(images), expected)


def test_an_encoder_in_the_api(metaclip2, scenes):
    found = OpenVocabSegmenter.from_pretrained(metaclip2, 'naclip')(scenes[0].image, WORDS)
    assert found.labels.shape == (64, 96)


# A data set


def polygons_of(labels):
    """A polygon for each part of each class, the largest first."""
    found = []
    for index in np.unique(labels):
        mask = (labels == index).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        found += [(cv2.contourArea(c), CLASSES[index], c[:, 0].tolist()) for c in contours]
    found.sort(key=lambda entry: -entry[0])
    return [{'class': name, 'polygon': polygon} for _, name, polygon in found]


@pytest.fixture
def polygons(tmp_path, scenes, monkeypatch):
    folder = tmp_path / 'data/polygons'
    folder.mkdir(parents=True)
    images = []
    for index, scene in enumerate(scenes):
        Image.fromarray(scene.image).save(folder / f'{index}.png')
        images.append(dict(file=f'{index}.png', shapes=polygons_of(scene.classes)))
    content = dict(classes=list(CLASSES), images=images)
    (folder / 'polygons.json').write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_data_set_draws_what_was_outlined(polygons, scenes):
    pipeline = [dict(type=name) for name in ('LoadImageFromFile', 'DrawPolygons')]
    dataset = DATASETS.build(dict(type='PolygonDataset', data_root='data/polygons'))
    assert dataset.metainfo['classes'] == list(CLASSES)
    for index, scene in enumerate(scenes):
        results = dataset.get_data_info(index)
        for step in pipeline:
            results = TRANSFORMS.build(step)(results)
        assert (results['img'] == scene.image[..., ::-1]).all()
        assert (results['gt_seg_map'] == scene.classes).mean() > 0.9  # but for rings' holes


def test_a_class_that_the_data_set_does_not_list(polygons):
    content = json.loads((polygons / 'polygons.json').read_text())
    content['images'][1]['shapes'][0]['class'] = 'moon'
    (polygons / 'polygons.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"expected one of circle, .* in 1.png, found 'moon'"):
        DATASETS.build(dict(type='PolygonDataset', data_root='data/polygons'))


def test_a_data_set_by_a_config(polygons, repository, tmp_path):
    status = command('test')(
        [repository / 'examples/polygon_dataset_sclip.py', '--work-dir', tmp_path / 'work']
        + ['--cfg-options', 'test_dataloader.num_workers=0']
        + ['test_dataloader.persistent_workers=False']
    )
    assert status == 0
    assert miou_of(tmp_path / 'work') > 25


# A result exporter


def test_an_exporter(polygons, repository, tmp_path):
    """What Labelme would open holds the labels that PNGs hold."""
    label = [str(polygons), '--words', WORDS, '--encoder', 'tiny_siglip_shapes']
    label += ['--engine', 'loop', '--out']
    assert command('label')([*label, tmp_path / 'png']) == 0
    assert command('label')([*label, tmp_path / 'out', '--format', 'labelme']) == 0
    converter = repository / 'tools/dataset_converters/label_maps.py'
    subprocess.run(
        [sys.executable, converter, 'labelme', tmp_path / 'out/annotations', tmp_path / 'again'],
        check=True,
        cwd=repository,
    )
    names = (tmp_path / 'again/classes.txt').read_text().split()
    for index in range(3):
        expected = np.array(Image.open(tmp_path / f'png/labels/{index}.png.png'))
        labels = np.array(Image.open(tmp_path / f'again/masks/{index}.png'))
        assert (np.array(WORDS.split(', '))[expected] == np.array(names)[labels]).all()
