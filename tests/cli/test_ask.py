"""The command line: answers on standard output, one line and exit code 1 where it fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from commands import command, parse
from PIL import Image
from tiny_depth_models import depth_anything, depth_anything_release

from mmseg_siglip.api import DepthPredictor
from mmseg_siglip.cli.ask import depth_reader
from mmseg_siglip.io.image_folder import find_images
from mmseg_siglip.vlm import VisionChat, load_pretrained_model


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / f'{i}.png')
    return folder


def call(*argv):
    return command('ask')([*argv, '--precision', 'fp32'])


def test_one_picture(llava_folder, photos, capsys):
    assert call(llava_folder, photos / '0.png', 'how many stars?', '--max-new-tokens', 6) == 0
    expected = VisionChat.from_pretrained(llava_folder, precision='fp32')(
        photos / '0.png', 'how many stars?', max_new_tokens=6
    )
    assert capsys.readouterr().out.strip() == expected


def test_many_pictures_one_of_them_broken(llava_folder, photos, capsys):
    (photos / '1.png').write_bytes(b'no picture')
    code = call(llava_folder, photos, 'what?', '--max-new-tokens', 4, '--batch-size', 2)
    printed = capsys.readouterr()
    chat = VisionChat.from_pretrained(llava_folder, precision='fp32')
    lines = [
        f'{photos / name}\t{" ".join(chat(photos / name, "what?", max_new_tokens=4).split())}'
        for name in ('0.png', '2.png')
    ]
    assert code == 1 and printed.out.rstrip('\n').split('\n') == [
        line.rstrip('\n') for line in lines
    ]
    assert 'error: 1 images could not be read' in printed.err and '1.png' in printed.err
    assert f'answers cut at --max-new-tokens 4: 2, first that to {photos}/0.png\n' in printed.err
    assert printed.err.count('\n') == 2


def test_language_model_and_tower_at_another_size(siglip_folder, llm_folder, photos, capsys):
    options = ('--vision', siglip_folder, '--image-size', 48, 32, '--max-new-tokens', 2)
    assert call(llm_folder, photos / '0.png', 'what?', *options) == 0


def test_depth_maps(llava_folder, photos, tmp_path, capsys):
    vlm = load_pretrained_model(llava_folder)
    vlm.model.add_depth_fusion(dict(names=('mean',)))
    vlm.save_pretrained(tmp_path / 'model')
    maps = tmp_path / 'maps'
    maps.mkdir()
    for i in range(3):
        Image.fromarray(np.full((30, 40), 2000 + i, np.uint16)).save(maps / f'{i}.png')
    common = (tmp_path / 'model', photos, 'what?', '--max-new-tokens', 2)
    assert call(*common, '--depth', maps) == 0
    assert capsys.readouterr().out.count('\t') == 3
    assert call(*common) == 1
    assert 'expected a map for each image' in capsys.readouterr().err
    assert call(*common, '--depth', maps / '0.png') == 1
    assert '--depth: expected a folder for 3 images' in capsys.readouterr().err
    (maps / '2.png').unlink()
    assert call(*common, '--depth', maps) == 1
    printed = capsys.readouterr()
    assert '2.png: no such depth map' in printed.err and printed.out.count('\t') == 2


def test_depth_of_a_published_model(llava_folder, photos, tmp_path, capsys, monkeypatch):
    vlm = load_pretrained_model(llava_folder)
    vlm.model.add_depth_fusion(dict(names=('mean',)))
    vlm.save_pretrained(tmp_path / 'model')
    for name, max_depth in (('v2', None), ('v2_metric_hypersim', 20)):
        state = depth_anything_release(depth_anything(max_depth=max_depth))
        torch.save(state, tmp_path / f'depth_anything_{name}_vits.pth')
    metric = tmp_path / 'depth_anything_v2_metric_hypersim_vits.pth'
    common = (tmp_path / 'model', photos / '0.png', 'what?', '--max-new-tokens', 2)
    asked = []
    ask_one = VisionChat.torch
    monkeypatch.setattr(
        VisionChat,
        'torch',
        lambda self, *a, **k: (asked.append(k['depths']), ask_one(self, *a, **k))[1],
    )
    assert call(*common, '--depth-model', metric) == 0
    expected = DepthPredictor.from_pretrained(metric)(photos / '0.png').depth
    np.testing.assert_array_equal(asked[0][0], expected)
    capsys.readouterr()
    assert call(*common, '--depth-model', tmp_path / 'depth_anything_v2_vits.pth') == 1
    assert 'expected a model of metric depth, found a relative one' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call(*common, '--depth-model', metric, '--depth', photos)
    assert '--depth and --depth-model exclude each other' in capsys.readouterr().err


@pytest.fixture
def nested(tmp_path):
    """A function that writes ``photos/a/1.jpg`` and ``photos/b/1.png``, and maps of given names."""

    def write(*maps):
        for name in ('a/1.jpg', 'b/1.png'):
            (tmp_path / 'photos' / name).parent.mkdir(parents=True)
            Image.new('RGB', (8, 8)).save(tmp_path / 'photos' / name)
        for metres, name in enumerate(maps, start=1):
            (tmp_path / 'maps' / name).parent.mkdir(parents=True, exist_ok=True)
            units = np.full((8, 8), 1000 * metres, np.uint16)
            Image.fromarray(units).save(tmp_path / 'maps' / name)
        return tmp_path

    return write


def found_depth(folder, *inputs):
    """Metres of each image's map."""
    inputs = inputs or ('photos',)
    argv = ['model', *(folder / name for name in inputs), 'what?', '--depth', folder / 'maps']
    args = parse('ask', argv)
    read = depth_reader(args)
    return [read(image).max() for path in args.images for image in find_images(path).images]


def test_maps_lie_in_the_same_subfolders_or_in_none(nested):
    folder = nested('a/1.png', 'b/1.png')
    assert found_depth(folder) == [1, 2]
    assert found_depth(folder, 'photos/b/1.png', 'photos') == [2, 1, 2]
    (folder / 'maps/b/1.png').rename(folder / 'maps/1.png')
    assert found_depth(folder) == [1, 2]
    (folder / 'maps/1.png').unlink()
    with pytest.raises(ValueError, match='maps/b/1.png: no such depth map'):
        found_depth(folder)


@pytest.mark.parametrize('inputs', [('photos',), ('photos/a/1.jpg', 'photos/b/1.png')])
def test_a_map_is_of_one_image(nested, inputs):
    folder = nested('1.png')
    sentence = 'maps/1.png: expected the depth map of one image, found .*a/1.jpg and .*b/1.png'
    with pytest.raises(ValueError, match=sentence):
        found_depth(folder, *inputs)
    assert found_depth(folder, 'photos/a') == [1]


def test_mistakes(llava_folder, llm_folder, photos, capsys):
    for argv, message in (
        ((llm_folder, photos, 'what?'), 'found a language model without vision'),
        ((llava_folder, photos / 'no.png', 'what?'), 'no such image or folder'),
        (('./nowhere', photos, 'what?'), 'no such file or folder'),
        ((llava_folder, photos, 'what?', '--image-size', 33), 'multiples of the patch of 8'),
        ((llava_folder, photos, 'what?', '--encoder-type', 'clip'), "found 'clip'"),
    ):
        assert call(*argv) == 1
        printed = capsys.readouterr().err
        assert message in printed and printed.count('\n') == 1 and printed.startswith('error: ')
    for argv in (
        (llava_folder, photos, 'what?', '--image-size', 1, 2, 3),
        (llava_folder, photos, 'what?', '--projector', 'x'),
        (llava_folder, photos, 'what?', '--batch-size', 0),
        (llava_folder, 'what?'),
    ):
        with pytest.raises(SystemExit) as stopped:
            call(*argv)
        assert stopped.value.code == 2
