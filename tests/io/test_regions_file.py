import io
import zipfile

import numpy as np
import pytest

from mmseg_siglip.io.regions_file import decode_regions, encode_regions


def header(shape, descr='|b1'):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, dict(descr=descr, fortran_order=False, shape=shape))
    return file.getvalue()


def zipped(data, *names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, data)
    return file.getvalue()


def test_regions_come_back():
    labels = np.arange(12).reshape(3, 4)
    masks = np.arange(24).reshape(2, 3, 4) % 3 == 0
    assert (decode_regions(encode_regions(labels), 'a') == labels).all()
    assert (decode_regions(encode_regions(masks), 'a') == masks).all()


@pytest.mark.parametrize('shape', [(10**6, 10**6), (2**62, 8), (11, 10, 10)])
def test_what_an_array_claims_is_judged_before_it_is_made(shape):
    for data in (header(shape) + bytes(64), zipped(header(shape) + bytes(64), 'a.npy')):
        with pytest.raises(ValueError, match='^a cannot be read as regions: expected at most 1000'):
            decode_regions(data, 'a', max_pixels=100)
    wide = header((10, 10), '<i8') + bytes(800)
    assert decode_regions(wide, 'a', max_pixels=100).shape == (10, 10)


def test_damage_is_one_sentence():
    good = encode_regions(np.arange(12).reshape(3, 4))
    for place in range(0, len(good), 3):
        for part in (good[:place], good[:place] + b'\xff\0' + good[place + 2 :]):
            try:
                decode_regions(part, 'a')
            except ValueError as error:
                assert str(error).startswith('a') and '\n' not in str(error)
    with pytest.raises(ValueError, match='^a: expected one array of regions, found x, y$'):
        decode_regions(zipped(b'', 'x.npy', 'y.npy'), 'a')
