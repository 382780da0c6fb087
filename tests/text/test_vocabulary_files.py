"""Whatever classes there are, a file holds them: written and read, they are the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_siglip.text.vocabulary import BACKGROUND, DUPLICATES, Vocabulary, clean, same

ENDS = ('\n', '\r\n', '\r')
NOTHING = ('', '   ', '# a comment', '#')
WORDS = st.text(
    st.characters(exclude_categories=['Cs', 'Cc'], exclude_characters=',;|'),
    min_size=1,
    max_size=12,
).filter(
    lambda word: (
        not word.strip().startswith(('#', '[', '\ufeff'))
        and any(mark.isprintable() and not mark.isspace() for mark in clean(word))
    )
)
CLASSES = st.lists(st.lists(WORDS, min_size=1, max_size=4), min_size=1, max_size=20)


@st.composite
def files(draw):
    """The text of a file, its classes and its background."""
    classes = draw(CLASSES)
    background = draw(st.none() | st.integers(0, len(classes) - 1))
    keys = [same(word) for words in classes for word in words]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    lines = [f'{DUPLICATES} {", ".join(twice)}'] if twice else []
    for index, words in enumerate(classes):
        mark = f'{BACKGROUND} ' if index == background else ''
        lines += draw(st.lists(st.sampled_from(NOTHING), max_size=1))
        lines.append(mark + draw(st.sampled_from((', ', ',', ' , '))).join(words))
    end = draw(st.sampled_from(ENDS))
    text = (
        draw(st.sampled_from(('', '\ufeff'))) + end.join(lines) + draw(st.sampled_from(('', end)))
    )
    return text, classes, background, twice


@settings(max_examples=150)
@given(file=files())
def test_what_is_written_is_read(file, tmp_path_factory):
    text, classes, background, _ = file
    path = tmp_path_factory.getbasetemp() / 'any.txt'
    path.write_bytes(text.encode())
    found = Vocabulary.load(path)
    assert found.classes == tuple(tuple(map(clean, words)) for words in classes)
    assert found.background_index == background
    assert found.queries == tuple(word for words in found.classes for word in words)
    assert all(
        query in found.classes[index]
        for query, index in zip(found.queries, found.query_to_class, strict=True)
    )


@settings(max_examples=50)
@given(CLASSES, st.data())
def test_a_word_that_is_there_twice_is_named(classes, data):
    words = [word for names in classes for word in names]
    if len({same(word) for word in words}) < len(words):
        return
    word = data.draw(st.sampled_from(words))
    again = data.draw(st.sampled_from((word, f'  {word} ', word.upper())))
    if same(again) != same(word):
        return
    try:
        Vocabulary.load([*map(', '.join, classes), again])
    except ValueError as error:
        assert clean(again) in str(error) and 'is there already, at class' in str(error)
    else:
        raise AssertionError(f'{again!r} twice was taken')
