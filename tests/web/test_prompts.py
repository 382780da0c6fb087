import pytest

from mmseg_siglip.web.limits import Limits, Refusal
from mmseg_siglip.web.prompts import typed_prompt

LIMITS = Limits(words=3, letters=40)


@pytest.mark.parametrize(
    ('asks', 'given', 'prompt'),
    [
        ('words', ' sky , red circle,\n', ['sky', 'red circle']),
        ('words', 'sky\ngrass', ['sky', 'grass']),
        ('words', ['cat, kitten', 'dog'], ['cat, kitten', 'dog']),
        ('phrases', 'the cup, the red one; the plate', ['the cup, the red one', 'the plate']),
        ('phrases', ['the cup; that one'], ['the cup; that one']),
        ('question', ' What, and; where?\n', 'What, and; where?'),
        ('something new', ' a, b ', 'a, b'),
        (None, ' ', None),
    ],
)
def test_text_as_systems_take_it(asks, given, prompt):
    assert typed_prompt(asks, given, LIMITS) == prompt


@pytest.mark.parametrize(
    ('asks', 'given', 'reason'),
    [
        ('words', ' , ,', 'expected words beside the image, found nothing'),
        ('question', '', 'expected a question beside the image'),
        ('words', 'a,b,c,d', 'words: expected at most 3, found 4'),
        ('phrases', 'a;b;c;d', 'phrases: expected at most 3, found 4'),
        ('question', 'x' * 41, 'at most 40 characters, found 41'),
        (None, 'sky', 'expected an image alone'),
    ],
)
def test_too_little_and_too_much(asks, given, reason):
    with pytest.raises(Refusal, match=reason):
        typed_prompt(asks, given, LIMITS)


def test_words_are_never_a_file(tmp_path):
    file = tmp_path / 'words.txt'
    file.write_text('secret\n')
    assert typed_prompt('words', str(file), Limits()) == [str(file)]
