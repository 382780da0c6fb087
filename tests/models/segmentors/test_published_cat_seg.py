"""A published file, converted to a folder that is all that a segmenter needs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cat_seg_oracle import PlainAggregator, published_state
from mmengine.config import Config
from PIL import Image
from tiny_encoders import CLIP_CONFIG

from mmseg_siglip.api import OpenVocabSegmenter
from mmseg_siglip.cli.main import main
from mmseg_siglip.models.segmentors.published_cat_seg import VIEWS

WORDS = ['cat', 'dog', 'grass']


@pytest.fixture(scope='module')
def files(tiny_clip, tmp_path_factory):
    """A small file as published, and the folder that the converter makes of it."""
    folder = tmp_path_factory.mktemp('cat_seg')
    torch.manual_seed(0)
    plain = PlainAggregator(CLIP_CONFIG['embed_dim']).requires_grad_(False)
    for parameter in plain.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    width = CLIP_CONFIG['vision_cfg']['width']
    ups = torch.nn.ConvTranspose2d(width, 256, 2, 2), torch.nn.ConvTranspose2d(width, 128, 4, 4)
    published, converted = folder / 'model_base.pth', folder / 'cat_seg_b16'
    state = published_state(plain, ups, tiny_clip)
    torch.save(dict(model=state, iteration=79999), published)
    assert main(['convert', 'cat-seg', str(published), str(converted)]) == 0
    return published, converted


@pytest.fixture(scope='module')
def photo():
    rows, columns = np.mgrid[:40, :60]
    return np.stack([4 * columns, 6 * rows, 2 * (rows + columns)], -1).astype(np.uint8)


@pytest.fixture(scope='module')
def config(repository, tmp_path_factory):
    """The shipped config, on the small CLIP."""
    config = Config.fromfile(repository / 'configs/cat_seg/ade150.py')
    config.model.backbone = dict(type='CLIPBackbone', arch=CLIP_CONFIG, position_offset=0.0)
    config.model.encoder_size, config.model.finetune = (192, 192), 'none'
    path = tmp_path_factory.mktemp('config') / 'config.py'
    config.dump(path)
    return path


def test_equals_the_shipped_config(files, photo, config, tmp_path):
    published, folder = files
    found = OpenVocabSegmenter.from_pretrained(folder, precision='fp32')
    assert found.short_side == 640
    views = Config.fromfile(config).model.test_cfg
    assert {name: views[name] for name in VIEWS} == VIEWS
    command = ['convert', 'cat-seg', str(published), str(tmp_path / 'out.pth')]
    assert main([*command, '--config', str(config)]) == 0
    other = OpenVocabSegmenter.from_config(config, tmp_path / 'out.pth', precision='fp32')
    ours, theirs = (segmenter(photo, WORDS) for segmenter in (found, other))
    assert np.array_equal(ours.labels, theirs.labels)
    assert np.array_equal(ours.scores, theirs.scores)
    assert len(np.unique(ours.labels)) > 1


def test_the_command(files, photo, tmp_path, capsys):
    _, folder = files
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    command = ['segment', str(tmp_path / 'photo.png'), 'cat, dog', '--encoder', str(folder)]
    command += ['--out', str(tmp_path / 'out')]
    assert main(command) == 0, capsys.readouterr().err
    assert list((tmp_path / 'out').iterdir())
    assert main([*command, '--method', 'naclip', '--templates', 'plain']) == 1
    assert '--method, --templates: expected nothing of the kind' in capsys.readouterr().err


def test_an_unconverted_file_is_told_what_to_do(files, config):
    published, _ = files
    advice = 'it is a published CAT-Seg, which `mmseg-siglip convert cat-seg` converts'
    with pytest.raises(ValueError, match=f'model_base.pth.*{advice}'):
        OpenVocabSegmenter.from_pretrained(published)
    with pytest.raises(ValueError, match=f'model_base.pth.*{advice}'):
        OpenVocabSegmenter.from_config(config, published)


def test_refusals(files, tmp_path, capsys):
    published, folder = files
    with pytest.raises(ValueError, match='expected neither method nor other options'):
        OpenVocabSegmenter.from_pretrained(folder, 'naclip')
    state = torch.load(published)['model']
    del state['upsample1.bias']
    torch.save(dict(model=state), tmp_path / 'model.pth')
    assert main(['convert', 'cat-seg', str(tmp_path / 'model.pth'), str(tmp_path / 'out')]) == 1
    assert '1 (first decode_head.upsample1.bias) missing' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
