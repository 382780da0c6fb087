from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseg_siglip.text.vocabulary import Vocabulary, bundled_names, clean, same, split_words

SIZES = dict(
    voc20=(20, 32, None),
    voc21=(21, 58, 0),
    context59=(59, 59, None),
    context60=(60, 60, 0),
    coco_object=(81, 112, 0),
    coco_stuff=(171, 171, None),
    cityscapes=(19, 19, None),
    ade20k=(150, 150, None),
    ade847=(847, 1235, None),
    context459=(459, 459, None),
    voc20_sclip=(20, 30, None),
    voc21_sclip=(21, 56, 0),
    context59_sclip=(59, 59, None),
    context60_sclip=(60, 60, 0),
    coco_object_sclip=(81, 113, 0),
    coco_stuff_sclip=(171, 171, None),
    cityscapes_sclip=(19, 19, None),
    ade20k_sclip=(150, 150, None),
    coco_stuff_catseg=(171, 171, None),
    context59_catseg=(59, 59, None),
    voc20_catseg=(20, 20, None),
    voc20b_catseg=(21, 59, 20),
    shapes_pairs_trained=(37, 58, None),
    shapes_pairs_withheld=(16, 24, None),
)


def write(folder: Path, data: str | bytes) -> Path:
    path = folder / 'classes.txt'
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize('name', SIZES)
def test_bundled_size(name):
    vocabulary = Vocabulary.load(name)
    found = len(vocabulary), len(vocabulary.queries), vocabulary.background_index
    assert found == SIZES[name]


@pytest.mark.parametrize('name', bundled_names())
def test_bundled_has_no_duplicate_but_the_published_one(name):
    keys = [same(query) for query in Vocabulary.load(name).queries]
    repeated = {key for key in keys if keys.count(key) > 1}
    assert repeated == ({'bed'} if name == 'coco_object_sclip' else set())


def test_published_bed_tie_is_kept_and_corrected():
    published = Vocabulary.load('coco_object_sclip')
    owners = [
        c for c, q in zip(published.query_to_class, published.queries, strict=True) if q == 'bed'
    ]
    assert owners == [0, 60]
    corrected = Vocabulary.load('coco_object')
    owners = [
        c for c, q in zip(corrected.query_to_class, corrected.queries, strict=True) if q == 'bed'
    ]
    assert owners == [60]


@pytest.mark.parametrize('name', [name for name in SIZES if name.endswith('_sclip')])
def test_published_lists_are_those_of_sclip(name):
    folder = Path(os.environ.get('MMSEG_SIGLIP_DATA', '')) / 'class_names'
    stem = name.removesuffix('_sclip').replace('cityscapes', 'city_scapes')
    file = folder / f'cls_{stem}.txt'
    if not file.is_file():
        pytest.skip('the published lists are not here')
    expected = [
        tuple(word.strip() for word in line.split(', ')) for line in file.read_text().splitlines()
    ]
    assert list(Vocabulary.load(name).classes) == expected


@pytest.mark.parametrize(
    ('name', 'index', 'words'),
    [
        ('ade847', 114, ('bag',)),
        ('ade847', 191, ('traveling bag', 'travelling bag', 'grip', 'suitcase')),
        ('ade847', 252, ('handbag', 'pocketbook', 'purse')),
        ('ade847', 147, ('screen', 'crt screen')),
        ('ade847', 153, ('silver screen', 'projection screen')),
        ('context459', 2, ('air conditioner',)),
        ('coco_stuff', 9, ('traffic light',)),
        ('coco_stuff', 159, ('brick wall',)),
        ('ade20k', 44, ('chest of drawers',)),
        ('ade20k_sclip', 44, ('chestofdrawers',)),
        (
            'voc21_sclip',
            20,
            ('television monitor', 'tv monitor', 'monitor', 'television', 'screen'),
        ),
    ],
)
def test_bundled_words(name, index, words):
    assert Vocabulary.load(name).classes[index] == words


def test_query_to_class():
    vocabulary = Vocabulary.load(['a, b', 'c', 'd, e, f'])
    assert vocabulary.names == ('a', 'c', 'd')
    assert vocabulary.queries == ('a', 'b', 'c', 'd', 'e', 'f')
    assert vocabulary.query_to_class == (0, 0, 1, 2, 2, 2)
    assert vocabulary.background_index is None
    assert Vocabulary.load(vocabulary) is vocabulary


@pytest.mark.parametrize(
    ('name', 'words'), [('voc21', 26), ('coco_object', 25), ('voc20b_catseg', 39), ('context60', 1)]
)
def test_the_background_has_one_name_whatever_its_words(name, words):
    vocabulary = Vocabulary.load(name)
    place = vocabulary.background_index
    assert vocabulary.names[place] == 'background' and len(vocabulary.classes[place]) == words
    assert vocabulary.names.count('background') == 1
    assert name == 'context60' or 'background' not in vocabulary.queries
    assert vocabulary.query_to_class.count(place) == words


def test_no_other_class_has_its_name(tmp_path):
    assert Vocabulary.load(['[background] sky, background', 'cat']).names == ('background', 'cat')
    assert Vocabulary.load(['background', 'cat']).names == ('background', 'cat')
    with pytest.raises(ValueError, match="the list: class 1 is 'Background', the name of class 0"):
        Vocabulary.load(['[background] sky', 'Background, wall'])
    with pytest.raises(ValueError, match="classes.txt: class 0 is 'background', the name of class"):
        Vocabulary.load(write(tmp_path, 'background\n[background] sky'))


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize('bom', [b'', b'\xef\xbb\xbf'])
def test_line_ends_and_byte_order_mark(tmp_path, end, bom):
    text = end.join(
        ['# names', '[background] sky, wall ', '', ' traffic\t light', 'naïve , Ünit', '']
    )
    vocabulary = Vocabulary.load(write(tmp_path, bom + text.encode()))
    assert vocabulary.classes == (('sky', 'wall'), ('traffic light',), ('naïve', 'Ünit'))
    assert vocabulary.background_index == 0


@pytest.mark.parametrize('text', ['', '\n\r\n  \n', '# only a comment\n', b'\xef\xbb\xbf'])
def test_empty_file(tmp_path, text):
    with pytest.raises(ValueError, match=r'the vocabulary is empty: .*classes\.txt'):
        Vocabulary.load(write(tmp_path, text))


def test_empty_list():
    with pytest.raises(ValueError, match='the vocabulary is empty: the list'):
        Vocabulary.load([])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('cat\ndog\ncat\n', r"line 3: 'cat' is there already, at .*line 1"),
        ('cat\n# x\nDog, CAT\n', r"line 3: 'CAT' is there already, at .*line 1"),
        ('cat, cat\n', "line 1: 'cat' is there already"),
        ('straße\nSTRASSE\n', "line 2: 'STRASSE' is there already"),
        ('caf\u00e9\ncafe\u0301\n', 'line 2: .* is there already'),
        ('traffic light\ntraffic  light\n', 'line 2: .* is there already'),
        ('cat,\n', "line 1: empty name in 'cat,'"),
        ('cat\n,dog\n', "line 2: empty name in ',dog'"),
        ('cat\n\u200b\n', 'line 2: empty name'),
        ('[background]\ncat\n', 'line 1: empty name'),
        ('[background] a\n[background] b\n', 'line 2: a second background'),
        ('#! shuffle: yes\ncat\n', "line 1: unknown directive '#! shuffle: yes'"),
        ('cat; kitten\n', "line 1: ';' in 'cat; kitten', synonyms are separated by commas"),
    ],
)
def test_bad_file(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.load(write(tmp_path, text))


def test_only_declared_words_may_repeat(tmp_path):
    text = '#! duplicates: bed\nsky, bed\nbed\ncat\n'
    assert Vocabulary.load(write(tmp_path, text)).queries == ('sky', 'bed', 'bed', 'cat')
    with pytest.raises(ValueError, match="line 5: 'cat' is there already"):
        Vocabulary.load(write(tmp_path, text + 'cat\n'))


def test_bad_list():
    with pytest.raises(ValueError, match="class 1: 'a' is there already, at class 0"):
        Vocabulary.load(['a', 'a'])
    with pytest.raises(ValueError, match='class 1: empty name'):
        Vocabulary.load(['a', ' '])
    with pytest.raises(ValueError, match='class 0 is 3, expected a string'):
        Vocabulary.load([3])


def test_bad_source(tmp_path):
    with pytest.raises(ValueError, match="no vocabulary 'voc22'.*bundled .*voc21"):
        Vocabulary.load('voc22')
    with pytest.raises(ValueError, match='is not UTF-8 text'):
        Vocabulary.load(write(tmp_path, 'naïve'.encode('latin-1')))


WORDS = st.text(min_size=1, max_size=12).filter(
    lambda word: (
        not set(word) & set(',;|')
        and not word.strip().startswith(('#', '['))
        and any(mark.isprintable() and not mark.isspace() for mark in clean(word))
    )
)


@given(st.lists(st.lists(WORDS, min_size=1, max_size=4), min_size=1, max_size=30), st.data())
def test_any_unicode_names(classes, data):
    keys = [same(word) for words in classes for word in words]
    background = data.draw(st.none() | st.integers(0, len(classes) - 1))
    items = [', '.join(words) for words in classes]
    if background is not None:
        items[background] = f'[background] {items[background]}'
    if len(set(keys)) < len(keys):
        with pytest.raises(ValueError, match='is there already'):
            Vocabulary.load(items)
        return
    vocabulary = Vocabulary.load(items)
    assert [same(query) for query in vocabulary.queries] == keys
    assert [len(words) for words in vocabulary.classes] == [len(words) for words in classes]
    assert vocabulary.background_index == background
    assert Vocabulary.load([', '.join(words) for words in vocabulary.classes]).classes == (
        vocabulary.classes
    )


def test_ten_thousand_classes():
    names = [f'thing {index}' for index in range(10_000)]
    assert Vocabulary.load(names).names == tuple(names)


def test_what_a_text_means(tmp_path):
    assert split_words('cat,  traffic light ') == ['cat', 'traffic light']
    assert split_words('cat') == ['cat']
    assert split_words('voc21') == 'voc21'
    with pytest.raises(ValueError, match=r"no vocabulary 'lists/clases\.TXT': it is neither"):
        Vocabulary.of_words('lists/clases.TXT')
    (tmp_path / 'mine.txt').write_text('cat, kitten')
    assert split_words(str(tmp_path / 'mine.txt')) == str(tmp_path / 'mine.txt')
    for source in (tmp_path / 'mine.txt', str(tmp_path / 'mine.txt'), 'cat|kitten'):
        assert Vocabulary.of_words(source).classes == (('cat', 'kitten'),)
    assert Vocabulary.of_words('voc21') == Vocabulary.load('voc21')
    with pytest.raises(ValueError, match="class 1: empty name in ' '|class 1: empty name in ''"):
        Vocabulary.of_words('cat, ')


@pytest.mark.parametrize('text', ['voc22', 'VOC21', 'ade_20k', 'coco_stuffs', 'context_59'])
def test_a_vocabulary_misspelt_is_no_word(text):
    with pytest.raises(ValueError, match=f"no vocabulary '{text}'; did you mean '[a-z_0-9]+'"):
        Vocabulary.of_words(text)
    assert Vocabulary.of_words([text]).names == (text,)


@pytest.mark.parametrize('text', ['shape', 'boeing 747', 'f16', 'stop_sign', '東京', 'vdd station'])
def test_words_that_are_like_no_vocabulary(text):
    assert Vocabulary.of_words(text).classes == ((text,),)


def test_synonyms_in_a_text_and_in_a_list(tmp_path):
    expected = (('car', 'automobile'), ('dog',))
    assert Vocabulary.of_words(' car | automobile, dog').classes == expected
    assert Vocabulary.load(['car|automobile', 'dog']).classes == expected
    assert Vocabulary.load(['car, automobile', 'dog']).classes == expected
    assert Vocabulary.load(write(tmp_path, 'car|automobile\ndog')).classes == expected
    marked = Vocabulary.of_words('[background] sky|wall, dog')
    assert marked.classes == (('sky', 'wall'), ('dog',)) and marked.background_index == 0
    with pytest.raises(ValueError, match="class 0: empty name in 'car||bus'".replace('|', '[|]')):
        Vocabulary.of_words('car||bus')


@pytest.mark.parametrize('source', [5, None, b'cat', {'cat': 'dog'}, {'cat'}, 0.5])
def test_what_are_no_words(source):
    with pytest.raises(
        ValueError, match=r"words: expected a list such as .*, found (5|None|b'|{|0)"
    ):
        Vocabulary.of_words(source)


@pytest.mark.parametrize(
    ('background', 'words'),
    [
        (True, ('background',)),
        ('sky', ('sky',)),
        ('sky, wall|tree', ('sky', 'wall', 'tree')),
        (['sky', 'wall, tree'], ('sky', 'wall', 'tree')),
    ],
)
def test_a_background_is_put_first(background, words):
    found = Vocabulary.of_words('cat|kitten, dog', background=background)
    assert found.classes == (words, ('cat', 'kitten'), ('dog',))
    assert found.background_index == 0 and found.names == ('background', 'cat', 'dog')


@pytest.mark.parametrize('background', [None, False])
def test_without_a_background(background):
    assert Vocabulary.of_words('cat', background=background) == Vocabulary.load(['cat'])


@pytest.mark.parametrize(
    ('words', 'background', 'message'),
    [
        ('voc21', 'sky', 'background: expected none, as class 0 of the words is marked'),
        ('cat, [background] sky', True, 'background: expected none, as class 1 of the words'),
        ('cat, kitten', 'Kitten', "background: expected other words .*, found 'kitten' in both"),
        ('cat, background', 'sky', "background: expected other words .*'background' in both"),
        ('cat', 'sky,', "the background: empty name in 'sky,'"),
        ('cat', '', "the background: empty name in ''"),
        ('cat', [], 'the vocabulary is empty'),
        ('cat', 5, 'expected a list such as .*, found 5'),
    ],
)
def test_a_background_that_cannot_be(words, background, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.of_words(words, background=background)
