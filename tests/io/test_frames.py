"""Files of several pictures: what is read, and what is refused with their number."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from bad_images import encode, gif
from PIL import Image

from mmseg_siglip.api.results import Answer
from mmseg_siglip.datasets.transforms import LoadImageFromFile
from mmseg_siglip.io import image, image_kinds
from mmseg_siglip.io.frames import MOST_COUNTED, choose_frame, count_frames
from mmseg_siglip.io.image import decode_depth, decode_image, decode_labels, decode_rgb, read_image
from mmseg_siglip.io.image_kinds import FORMATS
from mmseg_siglip.io.image_source import ImageEntry
from mmseg_siglip.labelling.labeller import SystemLabeller
from mmseg_siglip.labelling.rows import label_members
from mmseg_siglip.web.limits import Limits
from mmseg_siglip.web.uploads import take_upload

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
PICTURES = [Image.new('RGB', (16, 12), colour) for colour in COLOURS]
WAYS = {
    'GIF': {},
    'PNG': {},
    'WEBP': dict(lossless=True),
    'TIFF': {},
    'AVIF': dict(quality=100, speed=10),
}


def several(form, pictures=PICTURES, **options):
    return encode(
        pictures[0], form, save_all=True, append_images=pictures[1:], **WAYS.get(form, {}) | options
    )


@pytest.mark.parametrize('form', WAYS)
def test_several_pictures_are_refused_with_their_number(form):
    data = several(form)
    for decode in (decode_image, decode_rgb, decode_labels, decode_depth):
        with pytest.raises(ValueError, match='^a has 3 frames or pages, expected one picture: '):
            decode(data, 'a')
    assert decode_image(several(form, PICTURES[:1]), 'a').shape == (12, 16, 3)


@pytest.mark.parametrize('form', WAYS)
def test_a_frame_is_read_by_its_number(form, tmp_path):
    file = tmp_path / 'a'
    file.write_bytes(several(form))
    for number, colour in enumerate(COLOURS):
        pixels = read_image(file, frame=number).astype(int)
        assert pixels.shape == (12, 16, 3) and np.abs(pixels - colour).max() <= 4
    with pytest.raises(ValueError, match=f'^{file}: frame: expected 0 to 2, found 3$'):
        read_image(file, frame=3)


def test_a_frame_of_one_picture(tmp_path):
    file = tmp_path / 'a.png'
    PICTURES[0].save(file)
    assert (read_image(file, frame=0) == COLOURS[0]).all()
    with pytest.raises(ValueError, match='frame: expected 0 to 0, found 1'):
        read_image(file, frame=1)


def test_what_is_no_file_has_no_frame():
    with pytest.raises(ValueError, match='frame: expected a file beside it, found a ndarray'):
        read_image(np.zeros((4, 4, 3), np.uint8), frame=0)


def test_an_image_of_pillow_counts_as_it_was_sought(tmp_path):
    with Image.open(io.BytesIO(several('GIF'))) as opened:
        with pytest.raises(ValueError, match='^the image has 3 frames'):
            read_image(opened)
        opened.seek(2)
        assert (read_image(opened) == COLOURS[2]).all()
        opened.seek(0)
        assert (read_image(opened.copy()) == COLOURS[0]).all()


def test_a_tiff_of_pillow_is_refused_each_time():
    with Image.open(io.BytesIO(several('TIFF'))) as opened:
        for _ in range(2):
            with pytest.raises(ValueError, match='^the image has 3 frames'):
                read_image(opened)
        opened.seek(2)
        assert (read_image(opened) == COLOURS[2]).all()


def test_the_photograph_of_an_mpo_counts():
    """Phones put a preview or the other eye behind it."""
    data = several('MPO', quality=95)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == 'MPO' and count_frames(opened) == 3
    assert np.abs(decode_rgb(data, 'a').astype(int) - COLOURS[0]).max() <= 4
    assert np.abs(decode_rgb(data, 'a', frame=1).astype(int) - COLOURS[1]).max() <= 4


@pytest.mark.skipif('HEIF' not in FORMATS, reason='pillow-heif is not installed')
def test_the_primary_picture_of_a_heif_counts():
    data = several('HEIF', quality=95, primary_index=1)
    assert np.abs(decode_rgb(data, 'a').astype(int) - COLOURS[1]).max() <= 8
    assert np.abs(decode_rgb(data, 'a', frame=2).astype(int) - COLOURS[2]).max() <= 8


def pages(*kinds, size=(4, 4)):
    """A TIFF of grey pages, whose values are their number, of these NewSubfileTypes."""
    data = bytearray(b'II*\0' + struct.pack('<I', 8))
    for number, kind in enumerate(kinds, 1):
        fields = {254: kind, 256: size[0], 257: size[1], 258: 8, 259: 1, 262: 1, 277: 1}
        start = len(data) + 2 + 12 * 10 + 4
        fields |= {273: start, 278: size[1], 279: size[0] * size[1]}
        data += struct.pack('<H', 10)
        data += b''.join(struct.pack('<HHII', t, 4, 1, fields[t]) for t in sorted(fields))
        after = start + size[0] * size[1]
        data += struct.pack('<I', after if number < len(kinds) else 0)
        data += bytes([number]) * (size[0] * size[1])
    return bytes(data)


@pytest.mark.parametrize(
    ('kinds', 'value'), [((0, 1, 1), 1), ((1, 0), 2), ((0, 4), 1), ((1,), 1), ((0,), 1)]
)
def test_smaller_copies_and_masks_beside_the_picture_of_a_tiff_do_not_count(kinds, value):
    """Cloud-optimised GeoTIFFs hold them."""
    assert (decode_labels(pages(*kinds), 'a') == value).all()


def test_pages_of_a_tiff_are_counted_without_smaller_copies():
    data = pages(0, 1, 0, 1)
    with pytest.raises(ValueError, match='^a has 2 frames or pages'):
        decode_labels(data, 'a')
    assert (decode_image(data, 'a', frame=1) == 3).all()
    with pytest.raises(ValueError, match='frame: expected 0 to 1, found 2'):
        decode_image(data, 'a', frame=2)


def test_what_follows_a_tiff_by_a_wrong_offset_is_no_page():
    data = bytearray(pages(0))
    at = 8 + 2 + 12 * 10
    data[at : at + 4] = struct.pack('<I', 10**6)
    assert (decode_labels(bytes(data), 'a') == 1).all()


def test_each_page_is_judged_by_its_own_size():
    small, large = Image.new('L', (4, 4)), Image.new('L', (50, 50))
    data = several('TIFF', [small, large])
    with pytest.raises(ValueError, match='^a has 50 x 50 pixels, more than max_pixels=100$'):
        decode_image(data, 'a', frame=1, max_pixels=100)


def test_many_frames_are_not_counted_to_the_end():
    one = gif((2, 2), (2, 2))
    start = one.index(b'!\xf9')
    data = one[:start] + one[start:-1] * 100_000 + b';'
    with pytest.raises(ValueError, match=f'^a has more than {MOST_COUNTED} frames'):
        decode_image(data, 'a')
    with pytest.raises(ValueError, match='frame: expected fewer, found 50'):
        choose_frame(Counted(), 'a', 50)


class Counted:
    """An opened image of more frames than are counted, of which none can be had."""

    format, n_frames = 'WEBP', 10**9

    def seek(self, frame):
        raise EOFError


def test_an_animation_of_one_frame_is_a_picture():
    for form in ('GIF', 'WEBP', 'PNG'):
        assert decode_image(several(form, PICTURES[:1]), 'a').shape == (12, 16, 3)


def by_the_api(path):
    read_image(path)


class Echo:
    """A system that is never asked."""

    gives = Answer

    def check_prompt(self, prompt):
        return prompt


def by_label(path):
    entries = [ImageEntry(path.name, str(path))]
    (row,) = label_members(
        entries, SystemLabeller(Echo(), None, settings={}), batch_size=1, threads=1
    )
    raise ValueError(f'{row["path"]}: {row["failure"]}')


def by_a_visitor(path):
    take_upload(path.read_bytes(), str(path), Limits())


def by_a_data_set(path):
    LoadImageFromFile().transform(dict(img_path=str(path)))


WAYS_IN = (by_the_api, by_label, by_a_visitor, by_a_data_set)


@pytest.mark.parametrize('way', WAYS_IN)
def test_every_way_in_refuses_by_the_same_sentence(way, tmp_path, monkeypatch):
    path = tmp_path / 'a.gif'
    path.write_bytes(several('GIF'))
    with pytest.raises(ValueError, match=f'^{path}:? has 3 frames or pages, expected one picture'):
        way(path)
    formats = tuple(kind for kind in FORMATS if kind != 'HEIF')
    for module in (image, image_kinds):
        monkeypatch.setattr(module, 'FORMATS', formats)
    path.write_bytes(b'\0\0\0\x18ftypheic' + bytes(40))
    with pytest.raises(ValueError, match=f'^{path}:? is a HEIC photograph, .*the extra heif'):
        way(path)
