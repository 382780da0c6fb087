import random
import subprocess
import sys

import numpy as np
import pytest

from mmseg_siglip.text.class_colours import (
    FEW,
    MANY,
    NATURAL,
    OTHERS,
    class_colours,
    lab_of,
    rgb_of,
)
from mmseg_siglip.text.vocabulary import Vocabulary

WORDS = [f'{a} {b}' for a in 'abcdefghijklmnopqrst' for b in Vocabulary.load('context459').names]


def lab_by_hand(colours):
    """CIE 1976 L*a*b* of sRGB under D65."""
    values = np.asarray(colours, float) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175]]
    matrix += [[0.0193339, 0.119192, 0.9503041]]
    x = linear @ np.array(matrix).T / [0.95047, 1, 1.08883]
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def smallest_distance(colours):
    lab = lab_by_hand(colours)
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1)
    return distances[~np.eye(len(lab), dtype=bool)].min()


def test_known_values_of_lab():
    colours = [(255, 255, 255), (255, 0, 0), (0, 0, 255), (0, 0, 0)]
    known = [[100, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86], [0, 0, 0]]
    np.testing.assert_allclose(lab_by_hand(colours), known, atol=0.02)
    np.testing.assert_allclose(lab_of(colours), known, atol=0.3)


def test_the_palette_is_far_apart():
    colours = [rgb_of(digits) for digits in (*NATURAL, *OTHERS)]
    assert smallest_distance(colours) >= 20
    words = [word for words in NATURAL.values() for word in words.split()]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    ('name', 'least'),
    [('voc21', 20), ('cityscapes', 20), ('context59', 8), ('ade20k', 8), ('coco_stuff', 8)],
)
def test_classes_of_data_sets_are_told_apart(name, least):
    assert smallest_distance(class_colours(Vocabulary.load(name).names)) >= least


@pytest.mark.parametrize(
    ('count', 'least'), [(21, 20), (FEW, 20), (FEW + 1, 8), (150, 8), (171, 8), (MANY, 8)]
)
def test_any_words_are_told_apart(count, least):
    for seed in range(3):
        words = random.Random(seed).sample(WORDS, count)
        assert smallest_distance(class_colours(words)) >= least


def test_a_thousand_differ():
    assert len(np.unique(class_colours(WORDS[:1000]), axis=0)) == 1000


def test_a_name_keeps_its_colour():
    """In any order and, but for clashes, in any list."""
    words = random.Random(0).sample(WORDS, 21)
    colours = dict(zip(words, map(tuple, class_colours(words)), strict=True))
    again = words[::-1]
    assert [colours[word] for word in again] == list(map(tuple, class_colours(again)))
    kept = [tuple(class_colours([word])[0]) == colours[word] for word in words]
    assert sum(kept) >= 16
    more = dict(zip(WORDS[:150], map(tuple, class_colours(WORDS[:150])), strict=True))
    less = dict(zip(WORDS[:20], map(tuple, class_colours(WORDS[:20])), strict=True))
    assert sum(more[word] == colour for word, colour in less.items()) >= 4


def test_names_are_the_same_in_any_case_and_twice():
    cat, twin, dog, again = class_colours(['Cat', 'cat ', 'dog', 'CAT'])
    assert (cat == twin).all() and (cat == again).all() and (cat != dog).any()
    assert class_colours([]).shape == (0, 3)


def test_natural_colours():
    names = ['background', 'sky', 'grass', 'palm tree', 'road', 'red star', 'lawn']
    black, sky, grass, tree, road, star, lawn = class_colours(names).astype(int)
    assert black.tolist() == [0, 0, 0]
    assert sky.argmax() == 2 and grass.argmax() == 1 and tree.argmax() == 1 and star.argmax() == 0
    assert np.ptp(road) < 10
    assert tuple(grass) == tuple(class_colours(['lawn'])[0]) == rgb_of('5faf2d') != tuple(lawn)


def test_the_word_itself_has_first_claim():
    for names in (['palm tree', 'tree'], ['tree', 'palm tree'], ['tree house', 'tree']):
        colours = dict(zip(names, map(tuple, class_colours(names)), strict=True))
        assert colours['tree'] == rgb_of('145f28')


def test_other_processes_choose_the_same():
    code = (
        'from mmseg_siglip.text.class_colours import class_colours\n'
        'print(class_colours(["cat", "dog", "cow", "a", "b"]).tolist())'
    )
    said = {
        subprocess.run(
            [sys.executable, '-c', code],
            env={'PYTHONHASHSEED': seed, 'PYTHONPATH': ':'.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ('1', '2')
    }
    assert said == {str(class_colours(['cat', 'dog', 'cow', 'a', 'b']).tolist())}
