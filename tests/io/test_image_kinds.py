import io
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from mmseg_siglip.io import image_kinds
from mmseg_siglip.io.image import decode_image
from mmseg_siglip.io.image_kinds import FORMATS, HEAD, SUFFIXES, image_kind, is_image

HEIC = b'\0\0\0\x18ftypheic' + bytes(40)


def encode(kind, mode='RGB'):
    file = io.BytesIO()
    Image.new(mode, (8, 6), 3).save(file, kind)
    return file.getvalue()


def never():
    raise AssertionError('the file was read')


@pytest.mark.parametrize('kind', sorted({*FORMATS} - {'HEIF'}))
def test_every_kind_that_is_read_is_known_by_its_beginning(kind):
    data = encode(kind)
    assert image_kind(data[:HEAD]) == kind
    assert is_image('no_suffix', lambda: data[:HEAD])
    if kind != 'TIFF':
        assert is_image('x.jpg_large', lambda: data[:HEAD])
    assert decode_image(data, 'a').shape == (6, 8, 3)


def test_more_beginnings():
    for mode in ('1', 'L'):
        assert image_kind(encode('PPM', mode)) == 'PPM'
    assert image_kind(encode('TIFF').replace(b'II*\0', b'MM\0*', 1)) == 'TIFF'
    assert image_kind(b'\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf') == 'AVIF'
    assert image_kind(b'\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf') == 'HEIF'
    for text in (b'', b'BMW is a car', b'P5 is alive', b'II', b'notes', b'{"a": 1}', bytes(64)):
        assert image_kind(text) is None


def test_a_suffix_is_believed_without_a_look():
    for suffix in {*SUFFIXES} - {*image_kinds.HEIF_SUFFIXES}:
        assert is_image(f'a{suffix.upper()}', never)


def test_no_image():
    assert not is_image('notes.txt', lambda: b'a list')
    assert not is_image('noext', lambda: b'')


def test_images_that_are_not_read_are_refused_by_kind(monkeypatch):
    monkeypatch.setattr(image_kinds, 'FORMATS', ('JPEG', 'PNG', 'TIFF'))
    for name, head, reason in (
        ('a.heic', HEIC, '^is a HEIC photograph, which needs pillow-heif'),
        ('a.HIF', b'broken', '^is a HEIC photograph'),
        ('a', HEIC, '^is a HEIC photograph'),
        ('a.xyz', encode('AVIF')[:HEAD], '^is an AVIF image, which needs a Pillow with AVIF'),
        ('a.jxl', b'\xff\x0a' + bytes(9), '^is a JPEG XL image, expected one of JPEG, PNG, TIFF'),
        ('a.bin', b'\0\0\0\x0cjP  \r\n\x87\n', '^is a JPEG 2000 image, which needs'),
        ('a.psd', b'8BPS\0\1', '^is a Photoshop image'),
        ('a.cr3', b'\0\0\0\x18ftypcrx ', '^is a camera raw image'),
        ('a.nef', b'II*\0', '^is a TIFF by its first bytes, expected .tif, found .nef'),
    ):
        with pytest.raises(ValueError, match=reason):
            is_image(name, lambda head=head: head)
    assert is_image('a.heic', lambda: encode('JPEG')[:HEAD])  # renamed on its way


def test_heif_is_read_where_pillow_heif_is(monkeypatch):
    registered = []
    module = SimpleNamespace(register_heif_opener=lambda: registered.append(True))
    monkeypatch.setitem(sys.modules, 'pillow_heif', module)
    assert image_kinds._register_heif() and registered == [True]
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    assert not image_kinds._register_heif()
    monkeypatch.setattr(image_kinds, 'FORMATS', ('HEIF',))
    assert is_image('a.heic', lambda: HEIC)


def test_decoding_says_what_an_image_is(monkeypatch):
    with pytest.raises(ValueError, match='^a is a JPEG XL image, expected one of '):
        decode_image(b'\xff\x0a' + bytes(50), 'a')
    if 'HEIF' not in FORMATS:
        with pytest.raises(ValueError, match='^a is a HEIC photograph, which needs pillow-heif'):
            decode_image(HEIC, 'a')
