import base64

import pytest

from mmseg_siglip.web.limits import Limits, Refusal
from mmseg_siglip.web.task_images import read_task_image

LIMITS = Limits(file_bytes=100)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / 'media'
    (folder / 'upload').mkdir(parents=True)
    (folder / 'upload' / 'a b.png').write_bytes(b'pixels')
    (folder / 'large.png').write_bytes(bytes(101))
    (tmp_path / 'secret').write_bytes(b'secret')
    (folder / 'link.png').symlink_to(tmp_path / 'secret')
    return folder


def test_images_inside_the_request(folder):
    address = 'data:image/png;base64,' + base64.b64encode(b'pixels').decode()
    assert read_task_image(address, None, LIMITS) == (b'pixels', 'the image')


@pytest.mark.parametrize(
    'address',
    ['/data/local-files/?d=upload/a%20b.png', '/data/upload/upload/a%20b.png'],
)
def test_images_below_the_folder(folder, address):
    assert read_task_image(address, folder, LIMITS) == (b'pixels', 'a b.png')
    with pytest.raises(Refusal, match='reads no folder; its owner names one'):
        read_task_image(address, None, LIMITS)


@pytest.mark.parametrize(
    'path',
    ['../secret', 'link.png', '/etc/passwd', 'upload', '', '.', 'x.png', 'a%00b', '%2e%2e/secret'],
)
def test_nothing_elsewhere_is_read(folder, path):
    for address in (f'/data/local-files/?d={path}', f'/data/upload/{path}'):
        with pytest.raises(Refusal, match='no such image|nothing is fetched'):
            read_task_image(address, folder, LIMITS)


@pytest.mark.parametrize(
    'address',
    [
        'http://169.254.169.254/latest',
        'https://example.com/a.png',
        '//example.com/data/upload/a.png',
        'file:///etc/passwd',
        's3://bucket/a.png',
        '/etc/passwd',
        None,
        {},
        'data:image/png,abc',
        'data:image/png;base64,###',
    ],
)
def test_nothing_is_fetched(folder, address):
    with pytest.raises(Refusal, match='expected'):
        read_task_image(address, folder, LIMITS)


def test_a_large_file_is_not_read(folder):
    with pytest.raises(Refusal, match=r'large\.png: expected at most 0\.0001 MB'):
        read_task_image('/data/upload/large.png', folder, LIMITS)
