from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmseg_siglip.io.image import decode_depth, decode_image, decode_labels, read_image

RGB = np.random.default_rng(0).integers(0, 256, (11, 17, 3), dtype=np.uint8)


def encode(pixels, format='PNG', mode=None, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, format, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be width x height and holds almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return (
        b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', zlib.compress(bytes(64))) + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('format', ['PNG', 'BMP', 'TIFF', 'PPM'])
def test_lossless_colour(format):
    assert np.array_equal(decode_image(encode(RGB, format), 'a'), RGB[..., ::-1])


@pytest.mark.parametrize('quality', [30, 95])
def test_jpeg_equals_opencv(quality):
    smooth = cv2.resize(RGB, (170, 110), interpolation=cv2.INTER_CUBIC)
    data = encode(smooth, 'JPEG', quality=quality)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decode_image(data, 'a'), expected)


def test_grey_palette_and_one_bit():
    grey = RGB[..., 0]
    assert np.array_equal(decode_image(encode(grey), 'a'), np.repeat(grey[..., None], 3, 2))
    palette = Image.fromarray(RGB).quantize(16)
    expected = np.asarray(palette.convert('RGB'))[..., ::-1]
    assert np.array_equal(decode_image(encode(palette), 'a'), expected)
    bits = decode_image(encode(Image.fromarray(grey).convert('1')), 'a')
    assert set(np.unique(bits)) == {0, 255}


@pytest.mark.parametrize('format', ['PNG', 'TIFF', 'PPM'])
def test_sixteen_bit_is_scaled_not_clipped(format):
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    expected = np.array([[0, 0, 1, 128, 255]], np.uint8)
    pixels = decode_image(encode(values, format), 'a')
    assert np.array_equal(pixels, np.repeat(expected[..., None], 3, 2))


def test_cmyk():
    data = encode(Image.new('RGB', (32, 32), (200, 40, 40)), 'JPEG', mode='CMYK', quality=100)
    assert np.abs(decode_image(data, 'a').astype(int) - (40, 40, 200)).max() <= 4


def test_transparency_lies_on_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = 0, 255, 128
    assert decode_image(encode(rgba), 'a')[0, :, 0].tolist() == [255, 0, 127]
    palette = Image.new('P', (2, 2), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert (decode_image(encode(palette, transparency=0), 'a') == 255).all()
    grey_alpha = Image.new('LA', (2, 2), (7, 0))
    assert (decode_image(encode(grey_alpha), 'a') == 255).all()


def test_exif_turns_only_on_request():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(RGB, 'PNG', exif=exif)
    assert decode_image(data, 'a').shape == (11, 17, 3)
    upright = decode_image(data, 'a', apply_exif=True)
    assert np.array_equal(upright, np.rot90(RGB[..., ::-1], -1))


def test_bomb_is_refused_before_decoding():
    with pytest.raises(ValueError, match='a.png is too large: .*400000000 pixels'):
        decode_image(png_header(20_000, 20_000), 'a.png')
    with pytest.raises(ValueError, match='a.png has 11000 x 10000 pixels, more than max_pixels'):
        decode_image(png_header(11_000, 10_000), 'a.png')
    with pytest.raises(ValueError, match='more than max_pixels=100'):
        decode_image(encode(RGB), 'a.png', max_pixels=100)
    with pytest.raises(ValueError, match='more than max_pixels=100'):
        decode_labels(encode(RGB[..., 0]), 'a.png', max_pixels=100)


@pytest.mark.parametrize('decode', [decode_image, decode_labels])
def test_broken_bytes(decode):
    good = encode(cv2.resize(RGB[..., 0], (200, 200)))
    with pytest.raises(ValueError, match='a.png is an empty file'):
        decode(b'', 'a.png')
    with pytest.raises(ValueError, match='a.png is not an image of a known kind'):
        decode(b'a text', 'a.png')
    with pytest.raises(ValueError, match='a.png cannot be decoded: '):
        decode(good[: len(good) // 2], 'a.png')


def test_truncated_jpeg():
    data = encode(cv2.resize(RGB, (200, 200)), 'JPEG')
    with pytest.raises(ValueError, match='a.jpg cannot be decoded: image file is truncated'):
        decode_image(data[: len(data) // 2], 'a.jpg')


def test_postscript_is_not_opened():
    with pytest.raises(ValueError, match='not an image of a known kind'):
        decode_image(encode(RGB, 'EPS'), 'a.png')


def test_float_image_is_refused():
    with pytest.raises(ValueError, match='32-bit grey values'):
        decode_image(encode(RGB[..., 0].astype(np.float32), 'TIFF'), 'a.tif')


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_labels_are_exact(dtype):
    values = np.array([[0, 1, 254, 255, np.iinfo(dtype).max]], dtype)
    for format in ('PNG', 'TIFF'):
        labels = decode_labels(encode(values, format), 'a')
        assert labels.dtype == np.int32
        assert labels.tolist() == values.tolist()


def test_labels_of_palette_and_one_bit():
    palette = Image.fromarray(np.array([[0, 3, 20, 255]], np.uint8), mode='P')
    palette.putpalette(list(range(256)) * 3)
    assert decode_labels(encode(palette), 'a').tolist() == [[0, 3, 20, 255]]
    bits = Image.fromarray(np.array([[True, False]]))
    assert decode_labels(encode(bits), 'a').tolist() == [[1, 0]]


def test_colour_label_map_is_refused():
    with pytest.raises(
        ValueError, match='a.png is a label map with mode RGB; expected one channel'
    ):
        decode_labels(encode(RGB), 'a.png')


CORPUS = [
    encode(RGB),
    encode(RGB, 'JPEG'),
    encode(RGB, 'GIF'),
    encode(RGB, 'BMP'),
    encode(RGB, 'TIFF', compression='tiff_lzw'),
    encode(RGB, 'WEBP'),
    encode(RGB, 'PPM'),
    encode(RGB, 'JPEG2000'),
    encode(RGB, 'GIF', save_all=True, append_images=[Image.fromarray(RGB[::-1])]),
    encode(RGB, 'TIFF', save_all=True, append_images=[Image.fromarray(RGB[::-1])]),
    encode(RGB[..., 0].astype(np.uint16)),
    encode(RGB, mode='RGBA'),
    encode(RGB, 'JPEG', mode='CMYK'),
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(CORPUS),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    st.integers(0, 10**6),
)
def test_mutated_bytes_raise_nothing_but_value_error(data, changes, cut):
    mutated = bytearray(data)
    for place, value in changes:
        mutated[place % len(mutated)] = value
    mutated = bytes(mutated[: cut % (len(mutated) + 1)] or mutated)
    for decode in (decode_image, decode_labels):
        try:
            decode(mutated, 'a', apply_exif=True, max_pixels=10**6) if decode is decode_image else (
                decode(mutated, 'a', max_pixels=10**6)
            )
        except ValueError as error:
            assert str(error).startswith('a ')


@pytest.mark.parametrize(('dtype', 'suffix'), [(np.uint16, 'png'), (np.float32, 'tiff')])
def test_depth_values_are_kept(dtype, suffix):
    depth = np.array([[0, 1, 65535], [7, 300, 12345]], dtype)
    file = io.BytesIO()
    Image.fromarray(depth).save(file, suffix)
    decoded = decode_depth(file.getvalue(), 'd')
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, depth)


def test_eight_bit_depth_is_refused():
    file = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(file, 'png')
    with pytest.raises(ValueError, match='d: expected a depth map .* 16-bit .* found mode L'):
        decode_depth(file.getvalue(), 'd')


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(ValueError, match='is a folder: expected an image file, or a list of them'):
        read_image(tmp_path)
