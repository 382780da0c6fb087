"""MMSegmentation's own doors to our models, as docs/mmseg_doors.md has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmseg.apis import MMSegInferencer, inference_model, init_model, show_result_pyplot
from PIL import Image

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.datasets.shapes_world.scene import generate

TRAINING_FREE = """
_base_ = 'mmseg_siglip::sclip/voc21.py'
model = dict(
    backbone=dict(_delete_=True, pretrained='tiny_siglip_shapes'),
    vocabulary='shapes',
    templates='plain',
    prob_thd=0,
    test_cfg=dict(mode='whole'),
)
"""
TRAINED = """
_base_ = 'mmseg_siglip::cat_seg/shapes.py'
test_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
model = dict(test_vocabulary='shapes')
"""


@pytest.fixture(scope='module')
def photograph(tmp_path_factory) -> Path:
    """Of the size to which the config would resize it."""
    path = tmp_path_factory.mktemp('photograph') / 'photo.png'
    Image.fromarray(generate(7).image).resize((352, 336)).save(path)
    return path


@pytest.fixture(scope='module')
def small(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('photograph') / 'small.png'
    Image.fromarray(generate(7).image).crop((40, 20, 104, 68)).save(path)
    return path


@pytest.fixture(scope='module')
def training_free(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('own') / 'training_free.py'
    path.write_text(TRAINING_FREE)
    return path


@pytest.fixture(scope='module')
def trained(tmp_path_factory, cat_seg_files) -> tuple[Path, Path]:
    """A config, and a checkpoint that knows the classes of its training."""
    folder = tmp_path_factory.mktemp('own')
    checkpoint = torch.load(cat_seg_files[1])
    seen = dict(classes=['sky', 'sea'], palette=[[0, 0, 0], [255, 255, 255]])
    checkpoint['meta'] = dict(dataset_meta=seen)
    torch.save(checkpoint, folder / 'iter_1.pth')
    (folder / 'trained.py').write_text(TRAINED)
    return folder / 'trained.py', folder / 'iter_1.pth'


def labels_of(config, checkpoint, words, photograph) -> np.ndarray:
    segmenter = OpenVocabSegmenter.from_config(config, checkpoint, device='cpu', precision='fp32')
    return segmenter(photograph, words).labels


def test_bases_and_get_config_find_our_configs(training_free, repository, tmp_path):
    config = Config.fromfile(training_free)
    assert (config.model.logit_scale, config.model.vocabulary) == (65, 'shapes')
    assert get_config('mmseg_siglip::sclip/voc21.py').filename == str(
        repository / 'configs/sclip/voc21.py'
    )
    (tmp_path / 'own.py').write_text("_base_ = 'mmseg_siglip::sclip/voc12.py'\n")
    with pytest.raises(FileNotFoundError, match='mmseg_siglip::sclip/voc12: there is no file'):
        Config.fromfile(tmp_path / 'own.py')


def test_training_free(training_free, photograph):
    ours = labels_of(training_free, None, 'shapes', photograph)
    model = init_model(training_free, device='cpu')
    found = inference_model(model, str(photograph)).pred_sem_seg.data[0].numpy()
    assert np.array_equal(found, ours) and len(np.unique(ours)) > 2
    pixels = np.array(Image.open(photograph))[..., ::-1]
    (first, second) = inference_model(model, [pixels, pixels])
    assert np.array_equal(first.pred_sem_seg.data[0].numpy(), ours)
    assert np.array_equal(second.pred_sem_seg.data[0].numpy(), ours)
    with pytest.warns(UserWarning, match='Checkpoint is not loaded'):  # MMSeg's, of any model
        inferencer = MMSegInferencer(str(training_free), device='cpu')
    assert np.array_equal(inferencer(str(photograph))['predictions'], ours)


def test_trained(trained, small, tmp_path):
    config, checkpoint = trained
    ours = labels_of(config, checkpoint, 'shapes', small)
    model = init_model(config, str(checkpoint), device='cpu')
    sample = inference_model(model, str(small))
    assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), ours) and len(np.unique(ours)) > 2
    inferencer = MMSegInferencer(str(config), str(checkpoint), device='cpu')
    found = inferencer(str(small), out_dir=str(tmp_path / 'out'))
    assert np.array_equal(found['predictions'], ours)
    assert len(list((tmp_path / 'out/vis').iterdir())) == 1
    written = np.array(Image.open(tmp_path / 'out/pred/00000000_pred.png'))
    assert np.array_equal(written, ours)


def test_classes_are_the_words_and_not_those_of_the_training(trained, small, tmp_path):
    config, checkpoint = trained
    model = init_model(config, str(checkpoint), device='cpu')
    assert model.dataset_meta['classes'] == list(model.vocabulary.names)
    assert len(model.dataset_meta['palette']) == 13
    model.set_vocabulary(['sky', 'grass'])
    assert model.dataset_meta['classes'] == ['sky', 'grass']
    sample = inference_model(model, str(small))
    picture = tmp_path / 'picture.png'
    show_result_pyplot(model, str(small), sample, show=False, out_file=str(picture))
    assert picture.is_file()


def test_weights_of_something_else_are_refused(training_free, trained, tmp_path):
    """MMEngine would name them in its log and go on with other weights."""
    torch.save(dict(state_dict=dict(other=torch.ones(1)), meta={}), tmp_path / 'other.pth')
    for config, kind in ((training_free, 'SCLIPSegmentor'), (trained[0], 'CATSegSegmentor')):
        with pytest.raises(ValueError, match=f'expected weights of a {kind}, found 1 tensors such'):
            init_model(config, str(tmp_path / 'other.pth'), device='cpu')
