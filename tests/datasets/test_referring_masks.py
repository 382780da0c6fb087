import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_siglip.datasets import referring_masks
from mmseg_siglip.datasets.referring_masks import decode_source, decompress

SIZE = (5, 8)


def decode(source, size=SIZE, read=None):
    return decode_source(source, size, 'a.jpg', read=read)


def random_mask(seed, size=SIZE):
    return np.random.default_rng(seed).integers(0, 2, size).astype(np.uint8)


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_run_lengths_equal_pycocotools(seed, height, width, share):
    rng = np.random.default_rng(seed)
    mask = (rng.random((height, width)) < share).astype(np.uint8)
    compressed = coco_mask.encode(np.asfortranarray(mask))
    text = dict(compressed, counts=compressed['counts'].decode())
    plain = dict(size=[height, width], counts=decompress(compressed['counts']))
    for rle in (compressed, text, plain, [text]):
        assert (decode(dict(rle=rle), (height, width)) == mask).all()


def test_long_runs():
    mask = np.zeros((700, 900), np.uint8)
    mask[100:650, 100:800] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    assert (decode(dict(rle=rle), mask.shape) == mask).all()


def test_polygons_equal_pycocotools():
    square, corner = [1, 1, 5, 1, 5, 4, 1, 4], [5.5, 0, 8, 0, 8, 3]
    rle = coco_mask.merge(coco_mask.frPyObjects([square, corner], *SIZE))
    assert (decode(dict(polygons=[square, corner])) == coco_mask.decode(rle)).all()
    assert decode(dict(polygons=square)).tolist()[1] == [0, 1, 1, 1, 1, 0, 0, 0]


def test_files_arrays_unions_and_nothing(tmp_path):
    values = np.zeros((*SIZE, 3), np.uint8)
    values[0, 0, 2], values[1, 1, 0] = 200, 40
    for name, picture in (('rgb.png', values), ('grey.tif', values.max(2))):
        Image.fromarray(picture).save(tmp_path / name)
        source = dict(file=str(tmp_path / name))
        read = lambda path: open(path, 'rb').read()  # noqa: E731
        assert np.argwhere(decode(source, read=read)).tolist() == [[0, 0], [1, 1]]
        assert np.argwhere(decode(dict(source, above=50), read=read)).tolist() == [[0, 0]]
    a, b = random_mask(1) > 0, random_mask(2) > 0
    assert (decode(dict(parts=[a, b, None])) == (a | b)).all()
    nothing = decode(None)
    assert nothing.shape == SIZE and nothing.dtype == np.uint8 and not nothing.any()


@pytest.mark.parametrize(
    ('source', 'sentence'),
    [
        (dict(box=[1, 2, 3, 4]), r"expected a mask by file, .* found \['box'\]"),
        (dict(polygons=[[1, 2, 3, 4]]), 'polygons of three or more points'),
        (dict(polygons=[]), 'found none'),
        (dict(polygons=[[1, 2, 3, 4, 'x', 6]]), 'finite numbers'),
        (dict(rle=dict(size=[5, 9], counts=[45])), r'RLE of 5 x 8 .* found 5 x 9'),
        (dict(rle=dict(size=[5, 8], counts=[30])), 'add up to 40 pixels, found 30'),
        (dict(rle=dict(size=[5, 8], counts=[50, -10])), 'add up to 40 pixels, found 40'),
        (dict(rle=dict(size=[5, 8], counts='!!zz')), 'a.jpg: expected an RLE whose counts'),
        (dict(polygons=7), r'polygons of three or more points .* found .7'),
        (dict(polygons=[[0, 0, 4, 0, 4, 10**400]]), 'finite numbers'),
        (dict(polygons=[[0, 0, 4, 0, 4, None]]), 'finite numbers'),
        (dict(polygons=[[0, 0, 4, 0, 17, 4]]), r'within the image of 8 x 5 .*\[17.0, 4.0\]'),
        (dict(polygons=[[0, 0, 4, -6, 4, 4]]), r'within the image of 8 x 5 .*\[4.0, -6.0\]'),
        (dict(polygons=[[0, 0, 8, 5] * 200_000]), 'at most 2000000 pixels of outline, found 32'),
        (dict(rle=dict(size=[5, 8], counts=['a'])), "add up to 40 pixels, found \\['a'\\]"),
        (dict(rle=dict(size=[5, 8], counts=None)), 'add up to 40 pixels, found None'),
        (dict(rle=dict(size=[5, 8], counts='o' * 1_000_000)), 'add up to 40 pixels, found 0'),
        (dict(rle=dict(size=5, counts=[40])), 'RLE of 5 x 8 .* found 5'),
        (dict(rle=dict(size=['x', 8], counts=[40])), 'RLE of 5 x 8 .* found x x 8'),
        (dict(rle='abc'), 'expected an RLE with size and counts, found str'),
        (np.zeros((4, 8), bool), r'expected a mask of 5 x 8 .* found 4 x 8'),
        (
            dict(polygons=[[1, 1, 5, 1, 5, 4]], image_size=(10, 16)),
            r'a.jpg: expected an image of 10 x 16 \(height x width\), on which .* found 5 x 8',
        ),
        (dict(polygons=[[9, 1, 12, 1, 12, 4]]), r'reach into the image of 8 x 5 .*\[9, 1\] to'),
        (dict(polygons=[-3, -2, -1, -2, -1, 4]), r'reach into the image .* to \[-1, 4\]'),
        (
            dict(polygons=[[0.1, 0.1, 0.5, 0.1, 0.5, 1]]),
            'polygons in pixels, found no number above 1',
        ),
    ],
)
def test_what_is_wrong_gets_one_sentence(source, sentence):
    with pytest.raises(ValueError, match=sentence):
        decode(source)


def test_sources_survive_json():
    rle = coco_mask.encode(np.asfortranarray(random_mask(3)))
    rle['counts'] = rle['counts'].decode()
    assert (decode(json.loads(json.dumps(dict(rle=rle)))) == random_mask(3)).all()


def test_polygons_may_end_a_little_outside():
    outside = [-3, -2, 12, -2, 12, 9, -3, 9]
    assert decode(dict(polygons=[outside])).all()


def test_a_target_without_a_pixel_is_told_of():
    with pytest.warns(UserWarning, match='polygons that cover no pixel count as a phrase that'):
        assert not decode(dict(polygons=[[3.1, 3.1, 3.2, 3.1, 3.2, 3.2]])).any()


def test_a_point_far_away_takes_neither_memory_nor_time():
    """pycocotools ends the process at 1e8, and does not end at 1e9: not one for this one to try."""
    code = """
import resource
from mmseg_siglip.datasets.referring_masks import decode_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for far in (1e8, 1e9, -1e9, 2**62):
    try:
        decode_source(dict(polygons=[[0, 0, far, 0, 5, 5]]), (30, 40), 'a.jpg', read=None)
    except ValueError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000)
"""
    found = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=600
    )
    assert found.returncode == 0, found.stderr
    *refused, flat = found.stdout.splitlines()
    sentence = 'a.jpg: expected polygons within the image of 40 x 30 (width x height), found the'
    assert len(refused) == 4 and all(line.startswith(sentence) for line in refused)
    assert flat == 'True'


def test_a_jpeg_is_no_mask_unless_its_traces_are_cut_off(tmp_path):
    path = tmp_path / 'a.jpg'
    half = np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((8, 8), np.uint8))
    Image.fromarray(half).save(path, quality=75)
    source = dict(file=str(path))
    with pytest.raises(ValueError, match='a.jpg is a JPEG, .* PNG or TIFF, or mask_above=127'):
        decode(source, half.shape, lambda name: path.read_bytes())
    mask = decode(dict(source, above=127), half.shape, lambda name: path.read_bytes())
    assert (mask == half // 255).all()


def test_what_may_be_ignored_is_no_target(tmp_path):
    path = tmp_path / 'a.png'

    def saved(values):
        Image.fromarray(np.resize(np.uint8(values), SIZE)).save(path)
        return dict(file=str(path))

    def read(name):
        return path.read_bytes()

    with pytest.raises(ValueError, match='a.png: expected one value above 0, .* found 1 and 255'):
        decode(saved([0, 1, 255]), read=read)
    for values in ([0, 255], [0, 1], [0, 1, 128, 255]):
        assert decode(saved(values), read=read).tolist() == (np.resize(values, SIZE) > 0).tolist()


SQUARE = np.pad(np.full((2, 3), 255, np.uint8), ((1, 2), (2, 3)))  # of SIZE


def of_picture(tmp_path, picture, **options):
    picture.save(tmp_path / 'm.png')
    source = dict(file=str(tmp_path / 'm.png'), **options)
    return decode(source, read=lambda path: Path(path).read_bytes())


@pytest.mark.parametrize('mode', ['RGBA', 'LA'])
def test_transparent_pixels_are_no_target(tmp_path, mode):
    """A cut-out on nothing: on white, all of it would be one."""
    picture = Image.fromarray(SQUARE).convert(mode)
    assert (of_picture(tmp_path, picture) == SQUARE // 255).all()
    picture.putalpha(Image.fromarray(SQUARE))
    with pytest.raises(ValueError, match='m.png has transparent pixels, which are read as white'):
        of_picture(tmp_path, picture)


def test_a_palette_that_contradicts_its_colours(tmp_path):
    def of_palette(indices, *colours):
        picture = Image.fromarray(indices).convert('P')
        picture.putpalette([value for colour in colours for value in colour])
        return of_picture(tmp_path, picture)

    black, white, red = (0, 0, 0), (255, 255, 255), (220, 20, 60)
    target = SQUARE // 255
    for colours in ((black, white), (black, red), (black, black)):
        assert (of_palette(target, *colours) == target).all()
    with pytest.raises(ValueError, match='m.png has a palette whose first colour is not its dark'):
        of_palette(1 - target, white, black)


@pytest.mark.parametrize('picture', [SQUARE // 255, SQUARE > 0, SQUARE // 255 * 50])
def test_a_mask_of_another_scale_is_not_empty(tmp_path, picture):
    with pytest.raises(ValueError, match=r'm.png: expected a target of values above mask_above=50'):
        of_picture(tmp_path, Image.fromarray(picture), above=50)
    assert not of_picture(tmp_path, Image.fromarray(0 * SQUARE), above=50).any()
    assert (of_picture(tmp_path, Image.fromarray(SQUARE), above=50) == SQUARE // 255).all()


def test_several_values_of_a_target_are_told_of_once(tmp_path, monkeypatch):
    monkeypatch.setattr(referring_masks, 'WARNED', [])
    ids = SQUARE.copy()
    ids[0, :2], ids[4, 3] = 1, 2
    with pytest.warns(UserWarning, match='m.png, and maybe others, has 3 values above 0, from 1'):
        assert (of_picture(tmp_path, Image.fromarray(ids)) == (ids > 0)).all()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        of_picture(tmp_path, Image.fromarray(SQUARE))
        of_picture(tmp_path, Image.fromarray(ids), above=2)
        of_picture(tmp_path, Image.fromarray(ids))
