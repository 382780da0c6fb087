import json

import numpy as np
import pytest
from commands import command
from PIL import Image

from mmseg_siglip.api import ReferringSegmenter

refer = command('refer')


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'photos' / 'more').mkdir(parents=True)
    for name in ('a.png', 'more/b.png'):
        pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'photos' / name)
    return tmp_path / 'photos'


@pytest.fixture
def options(refer_files, tmp_path):
    config, checkpoint = refer_files
    return ['--config', config, '--checkpoint', checkpoint, '--precision', 'fp32', '--out',
            tmp_path / 'out']  # fmt: skip


def written(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}


def test_one_phrase_over_a_folder(photos, options, refer_files, tmp_path, capsys):
    assert refer([photos, 'the ring', *options]) == 0
    assert f'2 of 2 images searched into {tmp_path / "out"}' in capsys.readouterr().out
    names = ('a.png', 'more/b.png')
    kinds = ('mask.png', 'picture.png', 'json')
    assert written(tmp_path / 'out') == {f'{name}.{kind}' for name in names for kind in kinds}
    expected = ReferringSegmenter(*refer_files)(photos / 'a.png', 'the ring')
    mask = np.array(Image.open(tmp_path / 'out' / 'a.png.mask.png'))
    assert np.array_equal(mask, 255 * expected.mask)
    said = json.loads((tmp_path / 'out' / 'a.png.json').read_text())
    assert said['text'] == 'the ring' and said['segments'] == expected.to_coco_rle()


def test_several_phrases(photos, options, tmp_path):
    assert refer([photos / 'a.png', 'the ring; a cup, left of it', *options]) == 0
    kinds = ('mask.png', 'picture.png', 'json')
    assert written(tmp_path / 'out') == {f'a.png.{i}.{kind}' for i in (1, 2) for kind in kinds}
    assert (
        json.loads((tmp_path / 'out' / 'a.png.2.json').read_text())['text'] == 'a cup, left of it'
    )


@pytest.mark.parametrize('phrases', ['', 'the ring; '])
def test_a_phrase_that_says_nothing(photos, options, capsys, phrases):
    assert refer([photos, phrases, *options]) == 1
    assert 'error: expected phrases such as "the red cup", found' in capsys.readouterr().err


def test_no_weights(photos, options, capsys):
    options[3] = 'none.pth'
    assert refer([photos, 'the ring', *options]) == 1
    assert capsys.readouterr().err == 'error: checkpoint not found: there is no file none.pth.\n'
