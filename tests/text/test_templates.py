import pytest

from mmseg_siglip.text.templates import TEMPLATES, get_templates


def test_sizes_and_slots():
    assert {name: len(set(templates)) for name, templates in TEMPLATES.items()} == {
        'imagenet80': 80,
        'imagenet8': 8,
        'single': 1,
        'plain': 1,
        'cat_seg': 1,
    }
    assert all(t.count('{}') == 1 for templates in TEMPLATES.values() for t in templates)


def test_known_sentences():
    assert 'itap of a {}.' in TEMPLATES['imagenet8']
    assert 'a bad photo of a {}.' in TEMPLATES['imagenet80']


def test_own_list():
    assert get_templates(['satellite view of {}']) == ('satellite view of {}',)


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('imagenet', "unknown templates 'imagenet'"),
        ([], 'found an empty list'),
        (['a photo'], "template 'a photo': expected {} exactly once"),
        (['{} and {}'], 'exactly once'),
    ],
)
def test_refusals(source, message):
    with pytest.raises(ValueError, match=message):
        get_templates(source)
