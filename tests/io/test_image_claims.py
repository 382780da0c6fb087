"""Small files that ask for much: the memory is measured in processes of their own."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zlib

import pytest
from bad_images import (
    bmp,
    encode,
    gif,
    jpeg2000,
    png,
    resized_heif,
    scans,
    tiff,
    tiled,
    webp,
)
from PIL import Image

from mmseg_siglip.io.image import decode_depth, decode_image, decode_labels
from mmseg_siglip.io.image_kinds import FORMATS

MEASURE = """
import os, pickle, resource, sys

from mmseg_siglip.io.image import decode_image


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


for data, limit in pickle.load(sys.stdin.buffer):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        before = peak()
        try:
            decode_image(data, 'a', apply_exif=True, max_pixels=limit)
            said = 'decoded'
        except ValueError as error:
            said = str(error)
        print(peak() - before, said, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""


GREY = zlib.compress(bytes(1000))
JPEG = encode(Image.new('RGB', (16, 16)), 'JPEG')
HUGE = {
    'tiles': (tiled(8, GREY, 16000, 130000), 'a has tiles of 16000 x 130000 pixels for an image'),
    'LZW tiles': (tiled(5, b'\x80\0\x20\x40', 16000, 130000), 'a has tiles of'),
    'JPEG tiles': (tiled(7, JPEG, 16000, 40000), 'a has tiles of 16000 x 40000 pixels'),
    'strips': (tiff((16000, 1), 8, zlib.compress(bytes(16000)), at=0, bytes=40, rows=130000), ''),
    'WebP': (webp(16384, 16384), 'a has 16384 x 16384 pixels, more than max_pixels'),
    'WebP that Pillow takes': (webp(13000, 13000), 'a has 13000 x 13000 pixels'),
    'GIF': (gif((65535, 65535), (65535, 65535)), 'a is too large'),
    'PNG profile': (png(b'iCCP'), 'a cannot be decoded: Decompressed data too large'),
    'PNG text': (png(b'zTXt'), 'a cannot be decoded: Decompressed data too large'),
    'PNG': (png(b'', (10_000, 10_001)), 'a has 10000 x 10001 pixels, more than max_pixels'),
    'BMP': (bmp(100_000_000, 1), 'a has run-length rows of 100000000 pixels, expected at most'),
    'PPM': (b'P6 10000 10000 255\n' + bytes(100), 'a cannot be decoded: image file is trunc'),
    'JPEG 2000': (jpeg2000((9990, 9990), (9990, 9990)), 'a has tiles of 9990 x 9990 pixels in 3'),
    'JPEG 2000 tiles': (jpeg2000((9900, 9900), (1, 1)), 'a has 98010000 tiles, expected at most'),
    'JPEG 2000 box': (jpeg2000((20000, 20000), (64, 64), said=(64, 64)), 'a has 20000 x 20000'),
    'plain PPM': (b'P3 10000 10000 255\n' + b'1 ' * 100, 'a cannot be decoded: not enough'),
}
if 'HEIF' in FORMATS:
    HUGE['HEIF'] = (resized_heif('HEIF', 1500, 16), 'a cannot be decoded: Memory allocation')
    HUGE['HEIF that is small'] = (resized_heif('HEIF', 64, 9990), 'a cannot be decoded: Invalid')


SIDE = 2000


def ordinary():
    """Images of `SIDE` squared in every format, a few hundred bytes each."""
    colour, clear = Image.new('RGB', (SIDE, SIDE), 'red'), Image.new('RGBA', (SIDE, SIDE))
    return {
        'JPEG': encode(colour, 'JPEG', progressive=True, subsampling=0),
        'CMYK': encode(colour.convert('CMYK'), 'JPEG', progressive=True),
        'AVIF': encode(colour, 'AVIF', speed=10),
        'GIF': encode(colour.quantize(4), 'GIF'),
        'palette': encode(colour.quantize(4), 'PNG', transparency=0),
        'PNG': encode(clear, 'PNG', compress_level=1),
        'TIFF': encode(clear, 'TIFF', compression='tiff_lzw'),
        'grey': encode(Image.new('I;16', (SIDE, SIDE), 70), 'PNG', compress_level=1),
        'WebP': webp(SIDE, SIDE),
        'JPEG 2000': encode(colour, 'JPEG2000', tile_size=(512, 512), num_resolutions=2),
        **({'HEIF': encode(colour, 'HEIF')} if 'HEIF' in FORMATS else {}),
    }


@pytest.fixture(scope='module')
def measured(repository):
    """Name to (megabytes, what was said)."""
    cases = {name: (data, 100_000_000) for name, (data, _) in HUGE.items()}
    cases |= {f'ordinary {name}': (data, SIDE**2) for name, data in ordinary().items()}
    result = subprocess.run(
        [sys.executable, '-c', MEASURE],
        input=pickle.dumps(list(cases.values())),
        env=dict(os.environ, PYTHONPATH=str(repository)),
        capture_output=True,
        timeout=300,
        check=True,
    )
    lines = [line.split(' ', 1) for line in result.stdout.decode().splitlines()]
    found = [(int(megabytes), said) for megabytes, said in lines]
    return dict(zip(cases, found, strict=True))


@pytest.mark.parametrize('name', HUGE)
def test_a_small_file_takes_little_memory(measured, name):
    megabytes, said = measured[name]
    assert megabytes < 60 and said.startswith(HUGE[name][1]), (megabytes, said)


def test_no_image_takes_more_than_twenty_bytes_a_pixel(measured):
    found = {name: value for name, value in measured.items() if name.startswith('ordinary')}
    assert len(found) == 10 + ('HEIF' in FORMATS)
    for name, (megabytes, said) in found.items():
        assert said == 'decoded' and megabytes < 20 * SIDE**2 / 2**20 + 20, name


def test_labels_and_depth_are_judged_alike():
    for decode in (decode_labels, decode_depth):
        with pytest.raises(ValueError, match='a has tiles of'):
            decode(HUGE['tiles'][0], 'a')


def test_tiles_may_be_larger_than_a_small_image_and_as_large_as_a_large_one():
    image = Image.new('L', (16, 16), 9)
    data = tiled(8, zlib.compress(bytes([9]) * 4096**2), 4096, 4096)
    assert (decode_image(data, 'a') == 9).all()
    assert decode_image(encode(image, 'TIFF'), 'a').shape == (16, 16, 3)


def test_a_jpeg_of_many_scans_is_refused():
    assert decode_image(scans(50), 'a').shape == (64, 64, 3)
    with pytest.raises(ValueError, match='^a has [0-9]+ scans, expected at most 100$'):
        decode_image(scans(150), 'a')


def test_scans_behind_the_end_of_a_jpeg_do_not_count():
    """Telephones put a video there."""
    trailer = b'\xff\xda' * 150
    assert decode_image(scans(50) + trailer, 'a').shape == (64, 64, 3)
    for hidden in (b'\xff\x02\xff\xd8', b'\xff\xe1\0\4\xff\xd9', b'\xff\xff\0'):
        data = scans(150)
        start = data.index(b'\xff\xda')
        with pytest.raises(ValueError, match='^a has [0-9]+ scans, expected at most 100$'):
            decode_image(data[:start] + hidden + data[start:] + trailer, 'a')
    with pytest.raises(ValueError, match='scans, expected at most 100$'):
        decode_image(scans(50) + scans(150), 'a', frame=0)


def test_a_jpeg_2000_of_one_tile_takes_no_more_than_others():
    """OpenJPEG holds a whole tile in 32 bits a component."""
    whole = encode(Image.new('RGB', (400, 300)), 'JPEG2000', num_resolutions=2)
    with pytest.raises(ValueError, match='^a has tiles of 400 x 300 pixels in 3 components'):
        decode_image(whole, 'a', max_pixels=400 * 300)
    assert decode_image(whole, 'a', max_pixels=400 * 300 * 6 // 5).shape == (300, 400, 3)


def test_a_jpeg_2000_that_is_cut_short_is_not_read():
    for options in ({}, dict(no_jp2=True)):
        data = encode(Image.effect_noise((200, 200), 80).convert('RGB'), 'JPEG2000', **options)
        assert decode_image(data, 'a', max_pixels=10**6).shape == (200, 200, 3)
        with pytest.raises(ValueError, match='^a cannot be decoded'):
            decode_image(data[: len(data) * 2 // 3], 'a', max_pixels=10**6)


def test_a_jpeg_2000_is_judged_by_what_is_decoded():
    """Not by a smaller codestream that lies in a box before it."""
    large = encode(Image.new('RGB', (400, 300)), 'JPEG2000', num_resolutions=2)
    small = encode(Image.new('RGB', (8, 8)), 'JPEG2000', no_jp2=True, num_resolutions=1)
    at = large.find(b'jp2h') - 4
    box = (24 + len(small)).to_bytes(4, 'big') + b'uuid' + bytes(16) + small
    hidden = large[:at] + box + large[at:]
    assert decode_image(hidden, 'a', max_pixels=10**6).shape == (300, 400, 3)
    with pytest.raises(ValueError, match='^a has 400 x 300 pixels, more than'):
        decode_image(hidden, 'a', max_pixels=1000)
    with pytest.raises(ValueError, match='^a has tiles of 400 x 300 pixels'):
        decode_image(hidden, 'a', max_pixels=400 * 300)
