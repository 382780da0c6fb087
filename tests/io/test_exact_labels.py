"""Files that do not hold the labels that were drawn."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.io.exact_labels import is_jpeg, refuse_inexact

LABELS = np.array([[0, 1, 2, 3]] * 4, np.uint8)


def saved(kind, image=None):
    file = io.BytesIO()
    (image or Image.fromarray(LABELS)).save(file, kind)
    return file.getvalue()


def grey_png(bits):
    """Labels 0 to 3 in a PNG of few bits, which Pillow does not write."""

    def chunk(name, data):
        ends = (struct.pack('>I', number) for number in (len(data), zlib.crc32(name + data)))
        return next(ends) + name + data + next(ends)

    row = b'\0' + (bytes([0b00011011]) if bits == 2 else b'\x01\x23')
    header = struct.pack('>IIBBBBB', 4, 4, bits, 0, 0, 0, 0)
    parts = chunk(b'IHDR', header), chunk(b'IDAT', zlib.compress(row * 4)), chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


@pytest.mark.parametrize(('bits', 'read'), [(2, 85), (4, 17)])
def test_grey_of_few_bits(bits, read):
    data = grey_png(bits)
    assert np.asarray(Image.open(io.BytesIO(data)))[0].tolist() == [n * read for n in range(4)]
    sentence = f'a.png has {bits} bits a pixel, so that label 1 may be read as {read}: expected 8'
    with pytest.raises(ValueError, match=sentence):
        refuse_inexact(data, 'a.png')


def test_jpeg():
    with pytest.raises(ValueError, match='a.png is a JPEG, whose compression changes labels'):
        refuse_inexact(saved('JPEG'), 'a.png')
    assert is_jpeg(saved('JPEG')) and not is_jpeg(saved('PNG'))


def test_what_is_exact():
    palette = Image.fromarray(LABELS)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    one_bit = Image.fromarray(LABELS > 1)
    for data in (saved('PNG'), saved('TIFF'), saved('PNG', palette), saved('PNG', one_bit), b''):
        refuse_inexact(data, 'a.png')
