import json

import pytest

from mmseg_siglip.io.manifest import (
    digest_of,
    manifest_of,
    read_manifest,
    refuse_other_settings,
    refuse_strange,
)


def test_there_and_back():
    settings = dict(words=['cat'], size=3)
    text = manifest_of(settings)
    assert read_manifest(text, 'm') == settings
    assert json.loads(text)['digest'] == digest_of(dict(size=3, words=['cat']))
    for bad in ('', '[]', '{}', '{"settings": 3}', b'\xff'):
        with pytest.raises(ValueError, match='^m is not the manifest of such a folder$'):
            read_manifest(bad, 'm')


def test_other_settings_are_named():
    refuse_other_settings('out', dict(a=1), dict(a=1))
    message = r'out was filled with other settings \(a 1, now 2; b None, now x, y\): choose'
    with pytest.raises(ValueError, match=message):
        refuse_other_settings('out', dict(a=1), dict(a=2, b=['x', 'y']))


def test_a_folder_of_something_else():
    refuse_strange('out', ['.lock'])
    with pytest.raises(
        ValueError, match=r'expected an empty folder or one with manifest\.json, found b'
    ):
        refuse_strange('out', ['c', 'b'])
