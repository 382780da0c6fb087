import io

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.io.image import decode_rgb
from mmseg_siglip.io.image_kinds import FORMATS
from mmseg_siglip.web.limits import Limits, Refusal
from mmseg_siglip.web.uploads import KINDS, PREVIEW, decode_upload, shown_name, take_upload

LIMITS = Limits(file_bytes=20_000, pixels=100 * 100)


def encoded(width: int, height: int, kind: str = 'PNG', **options) -> bytes:
    buffer = io.BytesIO()
    Image.new('RGB', (width, height), (10, 200, 30)).save(buffer, kind, **options)
    return buffer.getvalue()


def test_an_upload_is_decoded_upright():
    exif = Image.Exif()
    exif[274] = 6
    upload = take_upload(encoded(20, 10, 'JPEG', exif=exif), 'a.jpg', LIMITS)
    assert upload.size == (10, 20)
    rgb = decode_upload(upload.data, upload.name, LIMITS)
    assert rgb.shape == (20, 10, 3) and abs(rgb.mean((0, 1)) - [10, 200, 30]).max() < 3


def test_a_preview_is_small():
    limits = Limits()
    upload = take_upload(encoded(2000, 500), 'a.png', limits)
    with Image.open(io.BytesIO(upload.preview)) as preview:
        assert preview.format == 'JPEG' and preview.size == (PREVIEW, PREVIEW // 4)
    assert upload.num_bytes == len(upload.data) + len(upload.preview)


def test_too_many_pixels_are_refused_by_the_header(monkeypatch):
    data = encoded(200, 100)
    monkeypatch.setattr(Image.Image, 'load', lambda self: pytest.fail('decoded'))
    with pytest.raises(Refusal, match=r'a\.png has 200 x 100 pixels, more than'):
        take_upload(data, 'a.png', LIMITS)


@pytest.mark.skipif('AVIF' not in FORMATS, reason='this Pillow has no AVIF')
@pytest.mark.parametrize('brand', [b'avif', b'mif1'])
def test_no_avif_whose_header_may_lie(brand):
    """By any brand under which Pillow takes one."""
    data = encoded(30, 30, 'AVIF').replace(b'ftypavif', b'ftyp' + brand)
    assert decode_rgb(data, 'a.avif').shape == (30, 30, 3)
    with pytest.raises(Refusal, match=r'a\.avif is an AVIF image|cannot be decoded|is a HEIC'):
        decode_upload(data, 'a.avif', LIMITS)


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (b'', 'a.png is an empty file'),
        (b'hello', 'is not an image of a known kind'),
        (encoded(30, 30)[:60], 'cannot be decoded'),
        (bytes(20_001), 'has 0.0 MB, expected at most 0.02'),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(data, reason):
    with pytest.raises(Refusal, match=reason):
        take_upload(data, 'a.png', LIMITS)


@pytest.mark.parametrize(
    ('given', 'shown'),
    [
        ('photo.jpg', 'photo.jpg'),
        ('../../etc/a\n.png', 'a.png'),
        ('C:\\photos\\b.png', 'b.png'),
        ('x' * 500, 'x' * 60),
        (None, 'the image'),
        ('\x00', 'the image'),
    ],
)
def test_names_are_made_fit_for_errors(given, shown):
    assert shown_name(given) == shown


def test_nothing_is_decoded_but_by_our_decoder(monkeypatch):
    seen = []
    monkeypatch.setattr(
        'mmseg_siglip.web.uploads.decode_rgb',
        lambda data, name, **limits: seen.append(limits) or np.zeros((2, 2, 3), np.uint8),
    )
    decode_upload(b'x', 'a', LIMITS)
    assert seen == [dict(max_pixels=LIMITS.pixels, kinds=KINDS)]
