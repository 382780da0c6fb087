import io
import struct

import cv2
import numpy as np
import pytest
from bad_images import part
from PIL import Image, TiffImagePlugin

from mmseg_siglip.io.grey_bits import MAX_SAMPLE_VALUE
from mmseg_siglip.io.image import decode_depth, decode_image, decode_labels, read_image

VALUES = np.array([[0, 16, 255, 2049, 4095]], np.uint16)
TWELVE = np.array([0, 1, 15, 128, 255])
SIXTEEN = np.array([0, 0, 0, 8, 15])


def png(values, bits=None):
    file = io.BytesIO()
    Image.fromarray(values).save(file, 'PNG')
    data = file.getvalue()
    if bits is None:
        return data
    return data[:33] + part(b'sBIT', bytes([bits])) + data[33:]


def tiff(values, largest=None):
    file = io.BytesIO()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if largest is not None:
        tags[MAX_SAMPLE_VALUE] = largest
    Image.fromarray(values).save(file, 'TIFF', tiffinfo=tags)
    return file.getvalue()


def tiff_of_twelve_bits(values):
    """Two values in three bytes, as cameras and microscopes write them."""
    row = ''.join(f'{value:012b}' for value in values[0])
    row = int(row.ljust(-(-len(row) // 8) * 8, '0'), 2).to_bytes(-(-len(row) // 8), 'big')
    tags = {256: values.shape[1], 257: 1, 258: 12, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1}
    tags[279] = len(row)
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4) + row


def grey(data):
    pixels = decode_image(data, 'a')
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


@pytest.mark.parametrize('data', [tiff_of_twelve_bits(VALUES), tiff(VALUES, 4095), png(VALUES, 12)])
def test_twelve_bits_are_not_black(data):
    assert grey(data) == TWELVE.tolist()
    assert decode_labels(data, 'a').tolist() == VALUES.tolist()
    assert decode_depth(data, 'a').tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    'data',
    [
        png(VALUES),
        tiff(VALUES),
        tiff(VALUES, 65535),
        tiff(VALUES, 4000),  # the largest that occurs, which says nothing of the range
        png(VALUES, 16),
    ],
)
def test_all_sixteen_bits_where_nothing_is_said(data):
    assert grey(data) == SIXTEEN.tolist()


def test_values_that_were_scaled_as_the_format_wants_it():
    scaled = (VALUES << 4) | (VALUES >> 8)
    assert grey(png(scaled, 12)) == TWELVE.tolist()
    dark = np.array([[0, 16, 4080]], np.uint16)  # could be scaled: all lower bits are empty
    assert grey(png(dark, 12)) == [0, 0, 15]


def test_a_claim_that_values_exceed_is_not_believed():
    values = np.array([[4095, 4096, 65535]], np.uint16)
    for data in (tiff(values, 4095), png(values, 12)):
        assert grey(data) == [15, 16, 255]


def test_colours_that_would_be_black_are_refused():
    """Pillow keeps the highest 8 of 16 bits of a colour."""
    values = np.full((4, 4, 3), 4095, np.uint16)
    data = cv2.imencode('.png', values)[1].tobytes()
    said = data[:33] + part(b'sBIT', bytes([12] * 3)) + data[33:]
    with pytest.raises(ValueError, match='^a has colours of 12 bits in 16, of which Pillow keeps'):
        decode_image(said, 'a')
    assert decode_image(data, 'a').max() == 15  # nothing is said
    scaled = cv2.imencode('.png', values << 4)[1].tobytes()
    said = scaled[:33] + part(b'sBIT', bytes([12] * 3)) + scaled[33:]
    assert decode_image(said, 'a').max() == 255


def test_an_opened_tiff_keeps_its_bits():
    image = Image.open(io.BytesIO(tiff_of_twelve_bits(VALUES)))
    assert read_image(image)[0, :, 0].tolist() == TWELVE.tolist()


def test_a_pgm_fills_its_own_range():
    """In pictures; class indices and depth are the numbers of the file."""
    twelve = b'P5 5 1 4095\n' + VALUES.astype('>u2').tobytes()
    assert grey(twelve) == TWELVE.tolist()
    assert decode_depth(twelve, 'a').tolist() == VALUES.tolist()
    assert decode_labels(b'P5 3 1 20\n\x00\x03\x14', 'a').tolist() == [[0, 3, 20]]
    assert decode_labels(b'P2 3 1 20\n0 3 20 ', 'a').tolist() == [[0, 3, 20]]
    assert decode_labels(b'P5 3 1 255\n\x00\x03\xff', 'a').tolist() == [[0, 3, 255]]
    assert decode_labels(b'P5 1 1 65535\n\x01\x02', 'a').tolist() == [[258]]
    assert decode_labels(b'P1 2 1\n1 0', 'a').tolist() == [[0, 1]]
