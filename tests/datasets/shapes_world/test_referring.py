import re

import pytest

from mmseg_siglip.datasets.shapes_world.referring import referring_expressions
from mmseg_siglip.datasets.shapes_world.scene import COLOURS, SHAPES, generate

SEEDS = range(40)
GRAMMAR = re.compile(
    r'the (?:(?P<extreme>\w+most|largest|smallest|nearest|farthest) )?(?P<noun>.+?)'
    r'(?: (?P<relation>left of|right of|above|below) the (?P<other>.+))?'
)
ORDER = {
    'leftmost': lambda o: o.centre[0],
    'rightmost': lambda o: -o.centre[0],
    'topmost': lambda o: o.centre[1],
    'bottommost': lambda o: -o.centre[1],
    'largest': lambda o: -o.radius,
    'smallest': lambda o: o.radius,
    'nearest': lambda o: o.depth,
    'farthest': lambda o: -o.depth,
}
HOLDS = {
    'left of': lambda a, b: a.centre[0] < b.centre[0],
    'right of': lambda a, b: a.centre[0] > b.centre[0],
    'above': lambda a, b: a.centre[1] < b.centre[1],
    'below': lambda a, b: a.centre[1] > b.centre[1],
}


def of_noun(objects, noun: str) -> list:
    """Objects that every word of a noun fits."""
    words = [word for word in noun.split() if word != 'shape']
    assert all(word in COLOURS or word in SHAPES for word in words), noun
    return [o for o in objects if all(word in (o.colour, o.shape) for word in words)]


def meant(objects, text: str) -> list:
    """What a phrase means, read from its words alone, with no margin of doubt."""
    parts = GRAMMAR.fullmatch(text).groupdict()
    group = of_noun(objects, parts['noun'])
    if parts['extreme']:
        return sorted(group, key=ORDER[parts['extreme']])[:1]
    if parts['relation']:
        (other,) = of_noun(objects, parts['other'])
        return [o for o in group if HOLDS[parts['relation']](o, other)]
    return group


@pytest.mark.parametrize('seed', SEEDS)
def test_every_phrase_means_its_target_alone(seed):
    scene = generate(seed, size=(64, 96), held_out=True)
    for expression in referring_expressions(scene):
        found = meant(scene.objects, expression.text)
        assert len(found) == 1 and found[0] is scene.objects[expression.target], expression


@pytest.mark.parametrize('seed', SEEDS)
def test_phrases_are_different_and_reach_every_object_that_has_a_name_of_its_own(seed):
    scene = generate(seed, size=(64, 96))
    expressions = referring_expressions(scene)
    texts = [expression.text for expression in expressions]
    assert len(set(texts)) == len(texts)
    targets = {expression.target for expression in expressions}
    for index, item in enumerate(scene.objects):
        twins = [o for o in scene.objects if o.pair == item.pair]
        assert index in targets or len(twins) > 1


def test_all_forms_occur():
    texts = [e.text for s in SEEDS for e in referring_expressions(generate(s, size=(64, 96)))]
    found = [GRAMMAR.fullmatch(text).groupdict() for text in texts]
    assert {f['extreme'] for f in found} == {None, *ORDER}
    assert {f['relation'] for f in found} == {None, *HOLDS}
    assert any(f['noun'] in SHAPES and f['relation'] is None for f in found)


def test_twins_are_told_apart_by_where_they_are():
    """Two objects of one colour and shape have no plain name, only others that place them."""
    cases = 0
    for seed in range(300):
        scene = generate(seed, size=(64, 96))
        pairs = [item.pair for item in scene.objects]
        for index, item in enumerate(scene.objects):
            if pairs.count(item.pair) < 2:
                continue
            texts = {e.text for e in referring_expressions(scene) if e.target == index}
            assert f'the {item.colour} {item.shape}' not in texts
            cases += bool(texts)
    assert cases > 10


def test_mask_is_the_visible_part():
    scene = generate(2, size=(64, 96))
    for expression in referring_expressions(scene):
        mask = expression.mask(scene)
        assert mask.sum() == scene.objects[expression.target].area
