"""The encoder that ships with the package, in stock transformers and on scenes it never saw."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate, normalize
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

import mmseg_siglip
from mmseg_siglip.datasets.shapes_world.scene import CLASSES, SHAPES, generate, scene_seed
from mmseg_siglip.models.backbones.siglip import SigLIPBackbone

FOLDER = Path(mmseg_siglip.__file__).parent / 'assets' / 'tiny_siglip_shapes'
PROMPTS = [f'a photo of a {name}.' for name in CLASSES]


@pytest.fixture(scope='module')
def scenes():
    return [generate(scene_seed('test', index), held_out=True) for index in range(8)]


@pytest.fixture(scope='module')
def backbone():
    return SigLIPBackbone(pretrained='tiny_siglip_shapes')


def pixels(scenes) -> torch.Tensor:
    images = np.stack([scene.image for scene in scenes])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_is_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 6 * 2**20


def test_stock_transformers_and_the_backbone_give_the_same(backbone, scenes):
    stock = AutoModel.from_pretrained(FOLDER, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    processor = AutoImageProcessor.from_pretrained(FOLDER)
    images = [scene.image[:, 32:160] for scene in scenes[:2]]
    inputs = processor(images, return_tensors='pt')['pixel_values']
    assert inputs.shape == (2, 3, 64, 64)
    texts = tokenizer(PROMPTS, padding='max_length', return_tensors='pt')
    assert texts.input_ids.shape == (13, 24)
    with torch.no_grad():
        ours = backbone.encode_image(inputs), backbone.encode_text(PROMPTS)
        theirs = stock.get_image_features(inputs), stock.get_text_features(texts.input_ids)
    for mine, output in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, output.pooler_output, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('text', ['zebra crossing', 'Ärger 日本', '🙂', ''])
def test_any_words_can_be_asked_for(backbone, text):
    with torch.no_grad():
        assert torch.isfinite(backbone.encode_text([text])).all()


def test_names_what_whole_pictures_show(backbone, scenes):
    with torch.no_grad():
        texts = normalize(backbone.encode_text(PROMPTS), dim=-1)
        found = (normalize(backbone.encode_image(pixels(scenes)), dim=-1) @ texts.T).argmax(1)
    hits = [
        bool((scene.classes == int(index)).any())
        for scene, index in zip(scenes, found, strict=True)
    ]
    assert np.mean(hits) >= 0.85


def test_segments_scenes_it_never_saw(backbone, scenes):
    """Far above what the most frequent class everywhere would score (under 3 mIoU)."""
    with torch.no_grad():
        texts = normalize(backbone.encode_text(PROMPTS), dim=-1)
        dense = normalize(backbone.dense(pixels(scenes), attention='csa'), dim=1)
        cosines = torch.einsum('bdhw,qd->bqhw', dense, texts)
        found = interpolate(cosines, scenes[0].classes.shape, mode='bilinear').argmax(1).numpy()
    truth = np.stack([scene.classes for scene in scenes])
    iou = np.array(
        [
            ((found == k) & (truth == k)).sum() / ((found == k) | (truth == k)).sum()
            for k in range(len(CLASSES))
        ]
    )
    assert iou.mean() > 0.3
    assert iou[len(SHAPES) :].mean() > 0.8
