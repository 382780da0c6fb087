"""One rule for the place of all that is cached."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from mmseg_siglip.io.cache import VARIABLE, cache_folder


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv('HOME', '/home/someone')
    for name in (VARIABLE, 'XDG_CACHE_HOME'):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ('ours', 'everyones', 'expected'),
    [
        (None, None, '/home/someone/.cache/mmseg_siglip'),
        ('', '', '/home/someone/.cache/mmseg_siglip'),
        (None, '/big', '/big/mmseg_siglip'),
        (None, '~/big', '/home/someone/big/mmseg_siglip'),
        ('/mine', '/big', '/mine'),
        ('~/mine', None, '/home/someone/mine'),
    ],
)
def test_each_kind_has_a_folder_of_its_own(monkeypatch, ours, everyones, expected):
    for name, value in ((VARIABLE, ours), ('XDG_CACHE_HOME', everyones)):
        if value is not None:
            monkeypatch.setenv(name, value)
    for kind in ('text_bank', 'downloads'):
        assert cache_folder(kind) == Path(expected, kind)


def test_without_a_home_the_process_has_a_folder_that_is_its_alone(monkeypatch, capsys):
    def unknown(number):
        raise KeyError(number)

    MMLogger.get_instance('cache')
    monkeypatch.delenv('HOME')
    monkeypatch.setattr(pwd, 'getpwuid', unknown)
    with pytest.raises(RuntimeError):
        Path.home()
    folder = cache_folder('downloads')
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert cache_folder('text_bank').parent == folder.parent
    assert f'unless {VARIABLE} is set' in ''.join(capsys.readouterr())
    monkeypatch.setenv(VARIABLE, '/mine')
    assert cache_folder('downloads') == Path('/mine/downloads')
