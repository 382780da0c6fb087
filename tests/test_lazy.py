import sys

import pytest

from mmseg_siglip.lazy import LazyMapping, lazy, resolve


@pytest.fixture
def late(tmp_path, monkeypatch):
    """A module that nothing has imported yet."""
    (tmp_path / 'late_module.py').write_text('VALUE = 3\nOTHER = 4\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield 'late_module'
    sys.modules.pop('late_module', None)


def test_a_place_is_a_module_and_a_name(late):
    assert resolve(f'{late}:VALUE') == 3
    with pytest.raises(AttributeError, match='NOTHING'):
        resolve(f'{late}:NOTHING')


def test_a_mapping_imports_what_is_looked_up(late):
    mapping = LazyMapping({'a': f'{late}:VALUE', 'b': f'{late}:OTHER'})
    assert list(mapping) == ['a', 'b'] and len(mapping) == 2 and 'a' in mapping
    assert 'c' not in mapping and late not in sys.modules
    assert mapping['b'] == 4 and late in sys.modules
    with pytest.raises(KeyError):
        mapping['c']


def test_a_module_imports_what_is_asked_for(late):
    find, names, exported = lazy('front', {late: ('VALUE', 'OTHER')})
    assert names() == exported == ['OTHER', 'VALUE'] and late not in sys.modules
    assert find('VALUE') == 3
    with pytest.raises(AttributeError, match="module 'front' has no attribute 'nothing'"):
        find('nothing')
