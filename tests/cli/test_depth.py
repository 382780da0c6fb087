import json

import numpy as np
import pytest
import torch
from commands import command
from mmengine.runner.checkpoint import save_checkpoint
from PIL import Image
from tiny_depth_models import (
    depth_anything,
    depth_anything_release,
    save,
    tips,
    tips_processor,
)

from mmseg_siglip.api import DepthPredictor
from mmseg_siglip.io.image import decode_depth
from mmseg_siglip.models.segmentors import SigLIPDepthEstimator

depth = command('depth')


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'photos').mkdir()
    for name in ('a.png', 'b.png', 'c.png'):
        pixels = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'photos' / name)
    return tmp_path / 'photos'


@pytest.fixture
def options(depth_files, tmp_path):
    config, checkpoint = depth_files
    return ['--config', config, '--checkpoint', checkpoint, '--precision', 'fp32', '--out',
            tmp_path / 'out']  # fmt: skip


@pytest.fixture(scope='module')
def predictor(depth_files):
    return DepthPredictor.from_config(*depth_files, precision='fp32')


def test_maps_in_millimetres(photos, options, predictor, tmp_path):
    assert depth([photos / 'a.png', photos / 'b.png', *options]) == 0
    expected = predictor(photos / 'b.png').depth.clip(min=1e-3)  # 0 would be unknown
    data = (tmp_path / 'out' / 'b.png.depth.png').read_bytes()
    np.testing.assert_allclose(decode_depth(data, 'b') / 1000, expected, atol=5.1e-4)
    assert Image.open(tmp_path / 'out' / 'b.png.picture.png').width >= 56
    assert json.loads((tmp_path / 'out' / 'b.png.json').read_text())['unit'] == 'metre'


def test_maps_as_they_are(photos, options, predictor, tmp_path):
    assert depth([photos / 'a.png', *options, '--format', 'npy']) == 0
    found = np.load(tmp_path / 'out' / 'a.png.depth.npy')
    np.testing.assert_allclose(found, predictor(photos / 'a.png').depth, rtol=1e-5)


def test_one_bad_file_does_not_end_the_run(photos, options, tmp_path, capsys):
    """Neither one that is no image nor one that is too small for the model."""
    (photos / 'b.png').write_bytes(b'not an image')
    Image.new('RGB', (40, 4)).save(photos / 'a.png')
    assert depth([photos, *options]) == 1
    printed = capsys.readouterr()
    assert '1 of 3 images measured' in printed.out
    (line,) = printed.err.strip().splitlines()[-1:]
    assert line.startswith('error: 2 images could not be read: ')
    assert f'{photos / "a.png"}: ' in line and f'{photos / "b.png"}: is not an image' in line
    assert (tmp_path / 'out' / 'c.png.depth.png').is_file()


def test_a_scale_at_which_depth_does_not_fit(photos, options, capsys):
    assert depth([photos, *options, '--depth-scale', '1e6']) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith('error: 3 images could not be read: ')
    assert 'expected at most 0.065535 m at a depth scale of 1e+06' in line


def test_two_photographs_of_one_name(photos, options, tmp_path, capsys):
    (tmp_path / 'more').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'more' / 'a.png')
    assert depth([photos, tmp_path / 'more', *options]) == 1
    assert 'more/a.png have one name: a.png' in capsys.readouterr().err
    assert depth([photos / 'a.png', photos / 'a.png', *options]) == 0


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp('published')
    for name, max_depth in (('v2', None), ('v2_metric_hypersim', 20)):
        state = depth_anything_release(depth_anything(max_depth=max_depth))
        torch.save(state, folder / f'depth_anything_{name}_vits.pth')
    return folder


def test_a_published_model(photos, published, tmp_path):
    file = published / 'depth_anything_v2_metric_hypersim_vits.pth'
    options = ['--model', file, '--precision', 'fp32', '--out', tmp_path / 'out']
    assert depth([photos / 'a.png', *options]) == 0
    expected = DepthPredictor.from_pretrained(file, precision='fp32')(photos / 'a.png')
    data = (tmp_path / 'out' / 'a.png.depth.png').read_bytes()
    np.testing.assert_allclose(decode_depth(data, 'a') / 1000, expected.depth, atol=5.1e-4)
    said = json.loads((tmp_path / 'out' / 'a.png.json').read_text())
    assert said['unit'] == 'metre' and said['relative'] is False


def test_a_published_model_of_relative_depth(photos, published, tmp_path):
    options = ['--model', published / 'depth_anything_v2_vits.pth', '--out', tmp_path / 'out']
    assert depth([photos / 'a.png', *options]) == 0
    said = json.loads((tmp_path / 'out' / 'a.png.json').read_text())
    assert said['unit'] == 'inverse' and said['relative'] is True
    file = tmp_path / 'out' / 'a.png.depth.png'
    spread = np.array(Image.open(file))
    assert spread.min() == 0 and spread.max() == 65535  # no unit: all that 16 bits hold
    with pytest.raises(ValueError, match='found relative depth, which has no unit'):
        decode_depth(file.read_bytes(), 'a')


def test_options_of_a_published_model(photos, published, tmp_path, capsys):
    renamed = tmp_path / 'mine.pth'
    renamed.write_bytes((published / 'depth_anything_v2_metric_hypersim_vits.pth').read_bytes())
    common = [photos / 'a.png', '--model', renamed, '--out', tmp_path / 'out', '--format', 'npy']
    assert depth(common) == 1
    assert 'no tensor tells which Depth Anything this is' in capsys.readouterr().err
    release = 'depth_anything_v2_metric_vkitti_vits'
    assert depth([*common, '--release', release, '--max-depth', 40]) == 0
    assert 0 < np.load(tmp_path / 'out' / 'a.png.depth.npy').max() < 40


def test_normals(photos, published, tmp_path, capsys):
    folder = save(tips(), tips_processor(), tmp_path / 'model')
    options = ['--model', folder, '--precision', 'fp32', '--out', tmp_path / 'out', '--normals']
    assert depth([photos, *options]) == 0
    expected = DepthPredictor.from_pretrained(folder, precision='fp32')
    for name in ('a.png', 'b.png'):
        found = np.array(Image.open(tmp_path / 'out' / f'{name}.normals.png'))
        normals = expected(photos / name, normals=True).normals.normals
        np.testing.assert_allclose(found / 127.5 - 1, normals, atol=0.005)
        assert Image.open(tmp_path / 'out' / f'{name}.normals.picture.png').height > 40
    assert depth([photos / 'a.png', *options, '--format', 'npy']) == 0
    assert np.load(tmp_path / 'out' / 'a.png.normals.npy').shape == (40, 56, 3)
    capsys.readouterr()
    alone = ['--model', published / 'depth_anything_v2_vits.pth', '--out', tmp_path / 'o']
    assert depth([photos, *alone, '--normals']) == 1
    assert 'expected a model that predicts normals' in capsys.readouterr().err


@pytest.fixture(scope='module')
def trained(siglip_folder, tmp_path_factory):
    """A config of depth with normals, and what MMEngine saves of its model."""
    folder = tmp_path_factory.mktemp('trained')
    head = dict(channels=8, post_process_channels=[4, 4, 6, 8])
    model = dict(
        type='SigLIPDepthEstimator',
        backbone=dict(pretrained=str(siglip_folder)),
        decode_head=head,
        normal_head=head,
    )
    config = folder / 'normals.py'
    config.write_text(f"default_scope = 'mmseg_siglip'\nmodel = {model!r}\n")
    torch.manual_seed(0)
    state = SigLIPDepthEstimator(**{k: v for k, v in model.items() if k != 'type'}).state_dict()
    save_checkpoint(dict(meta={}, state_dict=state), str(folder / 'iter_1.pth'))
    return config, folder / 'iter_1.pth'


def test_normals_of_a_model_trained_here(photos, trained, tmp_path):
    config, checkpoint = trained
    options = ['--config', config, '--checkpoint', checkpoint, '--precision', 'fp32']
    assert depth([photos, *options, '--out', tmp_path / 'out', '--normals']) == 0
    expected = DepthPredictor.from_config(*trained, precision='fp32')
    for name in ('a.png', 'c.png'):
        result = expected(photos / name, normals=True)
        found = np.array(Image.open(tmp_path / 'out' / f'{name}.normals.png'))
        np.testing.assert_allclose(found / 127.5 - 1, result.normals.normals, atol=0.005)
        assert Image.open(tmp_path / 'out' / f'{name}.normals.picture.png').height > 40
        data = (tmp_path / 'out' / f'{name}.depth.png').read_bytes()
        np.testing.assert_allclose(decode_depth(data, name) / 1000, result.depth, atol=5.1e-4)
    assert depth([photos / 'a.png', *options, '--out', tmp_path / 'depth']) == 0
    assert not [*(tmp_path / 'depth').glob('*normals*')]


def test_a_model_trained_here_in_the_place_of_a_published_one(photos, trained, tmp_path, capsys):
    assert depth([photos, '--model', trained[1], '--out', tmp_path / 'out']) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith('error')]
    assert 'iter_1.pth is of a model that MMEngine trained' in line
    assert 'expected --config CONFIG --checkpoint FILE' in line


def test_weights_of_depth_alone_are_refused_in_few_words(photos, trained, depth_files, capsys):
    config, _ = trained
    assert depth([photos, '--config', config, '--checkpoint', depth_files[1]]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'does not fit' in line and 'normal_head.' in line and len(line) < 600


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([], 'expected one of --model and --config'),
        (['--model', 'm', '--config', 'c'], 'expected one of --model and --config'),
        (['--model', 'm', '--checkpoint', 'c'], '--checkpoint needs --config'),
        (['--config', 'c', '--max-depth', 20], '--max-depth needs --model'),
    ],
)
def test_arguments_that_contradict(photos, argv, message, capsys):
    with pytest.raises(SystemExit):
        depth([photos, *argv])
    assert message in capsys.readouterr().err
