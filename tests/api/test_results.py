import json
import pickle

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.api.results import Answer, DepthMap, NormalMap
from mmseg_siglip.io.image import decode_depth

DEPTH = np.array([[0.5, 2.0], [np.nan, 60.1234]], np.float32)
IMAGE = np.zeros((2, 2, 3), np.uint8)


@pytest.mark.parametrize(('options', 'scale'), [(dict(), 1000), (dict(scale=256), 256)])
def test_metres_come_back_from_a_png(tmp_path, options, scale):
    DepthMap(DEPTH, 'metre', IMAGE).save(tmp_path / 'd.png', **options)
    metres = decode_depth((tmp_path / 'd.png').read_bytes(), 'd.png') / scale
    np.testing.assert_allclose(metres, np.nan_to_num(DEPTH), atol=0.51 / scale)
    assert metres[1, 0] == 0


def test_depth_that_a_png_cannot_hold_is_refused(tmp_path):
    far = DepthMap(np.full((2, 2), 80.0, np.float32), 'metre', IMAGE)
    with pytest.raises(ValueError, match=r'at most 65.535 m at a depth scale of 1000, found 80 m'):
        far.save(tmp_path / 'd.png')
    far.save(tmp_path / 'd.png', scale=256)
    with pytest.raises(ValueError, match=r'd.jpg: expected a name in .png or .npy'):
        far.save(tmp_path / 'd.jpg')


def test_depth_as_it_is(tmp_path):
    DepthMap(DEPTH, 'metre', IMAGE).save(tmp_path / 'd.npy')
    np.testing.assert_array_equal(np.load(tmp_path / 'd.npy'), DEPTH)


def test_inverse_depth_is_spread(tmp_path):
    DepthMap(np.array([[-1.0, 0.0], [1.0, 3.0]], np.float32), 'inverse', IMAGE).save(
        tmp_path / 'd.png'
    )
    saved = np.array(Image.open(tmp_path / 'd.png'))
    assert saved.tolist() == [[0, 16384], [32768, 65535]]


@pytest.mark.parametrize(('unit', 'near'), [('metre', 0), ('inverse', 1)])
def test_what_is_near_is_bright(unit, near):
    depth = np.array([[1.0, 4.0]], np.float32)
    pixels = np.array(DepthMap(depth, unit, IMAGE[:1]).plot())[0].sum(1)
    assert pixels[near] > pixels[1 - near] > 0


def test_depth_in_other_colours():
    depth = np.array([[1.0, 4.0]], np.float32)
    pixels = np.array(DepthMap(depth, 'inverse', IMAGE[:1]).plot(palette='gray'))[0]
    assert pixels[:2].tolist() == [[25, 25, 25], [255, 255, 255]]
    with pytest.raises(ValueError, match="a colormap of matplotlib, found 'virdis'; .* 'viridis'"):
        DepthMap(depth, 'inverse', IMAGE[:1]).plot(palette='virdis')


def test_a_depth_map_in_words():
    assert DepthMap(DEPTH, 'metre', IMAGE).to_dict() == dict(
        size=[2, 2], unit='metre', relative=False, limits=[0.5, pytest.approx(60.1234)]
    )
    unknown = DepthMap(np.full((2, 2), np.nan, np.float32), 'metre', IMAGE)
    assert json.dumps(unknown.to_dict()) == (
        '{"size": [2, 2], "unit": "metre", "relative": false, "limits": null}'
    )
    assert (np.array(unknown.plot())[:2, :2] == 0).all()


def test_normals_as_colours(tmp_path):
    normals = np.zeros((2, 2, 3), np.float32)
    normals[0, 0, 2], normals[0, 1, 0], normals[1, 0, 1], normals[1, 1, 0] = 1, 1, 1, -1
    result = NormalMap(normals, IMAGE)
    result.save(tmp_path / 'n.png')
    written = np.array(Image.open(tmp_path / 'n.png'))
    expected = [[[128, 128, 255], [255, 128, 128]], [[128, 255, 128], [0, 128, 128]]]
    np.testing.assert_array_equal(written, expected)
    np.testing.assert_array_equal(np.array(result.plot())[:2, :2], expected)
    result.save(tmp_path / 'n.npy')
    np.testing.assert_array_equal(np.load(tmp_path / 'n.npy'), normals)
    assert result.to_dict() == dict(size=[2, 2], mean=[0.0, 0.25, 0.25])
    with pytest.raises(ValueError, match=r'n.jpg: expected a name in .png or .npy'):
        result.save(tmp_path / 'n.jpg')


def test_metres_below_0_are_no_depth(tmp_path):
    """Bicubic enlarging can give some."""
    DepthMap(np.array([[-0.002, 1.5]], np.float32), 'metre', IMAGE[:1]).save(tmp_path / 'd.png')
    assert np.array(Image.open(tmp_path / 'd.png')).tolist() == [[0, 1500]]


def test_the_nearest_depth_is_not_unknown(tmp_path):
    DepthMap(np.array([[0.0001, 0.0]], np.float32), 'metre', IMAGE[:1]).save(tmp_path / 'd.png')
    assert np.array(Image.open(tmp_path / 'd.png')).tolist() == [[1, 0]]


def test_an_answer_is_a_string_that_knows_its_question(tmp_path):
    answer = Answer('a cup', 'what is it?', IMAGE)
    assert answer == 'a cup' and answer.upper() == 'A CUP'
    assert answer.to_dict() == dict(question='what is it?', answer='a cup', complete=True)
    answer.save(tmp_path / 'a.txt')
    assert (tmp_path / 'a.txt').read_text() == 'a cup\n'
    again = pickle.loads(pickle.dumps(Answer('a cup', 'what is it?', IMAGE, complete=False)))
    assert again == answer and not again.complete and again.question == answer.question
    assert np.array_equal(again.image, IMAGE)
