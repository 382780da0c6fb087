import re

import numpy as np
import pytest

from mmseg_siglip.datasets.shapes_world.captions import (
    ALWAYS,
    MAX_CLAIMS,
    NUM_FACTS,
    RELATIONS,
    SYNONYMS,
    Captioner,
    Observation,
    colour_fact,
    fits,
    observe,
    on_fact,
    padded,
    pair_fact,
    relation_fact,
    shape_fact,
    stuff_fact,
)
from mmseg_siglip.datasets.shapes_world.scene import (
    COLOURS,
    HELD_OUT_PAIRS,
    PAIR_CLASSES,
    PAIRS,
    SHAPES,
    STUFF,
    generate,
)

NAMES = {name: word for word, names in SYNONYMS.items() for name in (*names, word)}


def test_fact_indices_are_all_different_and_in_range():
    pairs = range(len(PAIRS))
    facts = [ALWAYS]
    facts += [shape_fact(s) for s in SHAPES] + [colour_fact(c) for c in COLOURS]
    facts += [pair_fact(p) for p in pairs] + [stuff_fact(s) for s in STUFF]
    facts += [on_fact(p, s) for p in pairs for s in STUFF]
    facts += [relation_fact(r, a, b) for r in RELATIONS for a in pairs for b in pairs]
    assert sorted(facts) == list(range(NUM_FACTS))


@pytest.mark.parametrize('seed', range(20))
def test_facts_of_a_whole_scene_are_those_of_its_objects(seed):
    scene = generate(seed, size=(96, 144))
    facts = observe(scene, ground=(0, 0.1))
    assert not (facts.certain & ~facts.possible).any()
    for shape in SHAPES:
        assert facts.possible[shape_fact(shape)] == any(o.shape == shape for o in scene.objects)
    for index, (colour, shape) in enumerate(PAIRS):
        there = any((o.colour, o.shape) == (colour, shape) for o in scene.objects)
        assert facts.possible[pair_fact(index)] == there
    assert {s for s in STUFF if facts.possible[stuff_fact(s)]} == set(scene.stuff)


def test_a_window_names_only_what_it_shows():
    """Every window position: pixels decide, counted here one class at a time."""
    scene = generate(4, size=(96, 144))
    for top in range(0, 64, 16):
        for left in range(0, 112, 16):
            facts = observe(scene, (top, left, 32, 32), ground=(0.05, 0.2))
            view = scene.pairs[top : top + 32, left : left + 32]
            for index in range(len(PAIRS)):
                assert facts.possible[pair_fact(index)] == (view == index).any()
                if facts.certain[pair_fact(index)]:
                    assert (view == index).sum() >= 0.01 * 32 * 32
            for number, stuff in enumerate(STUFF):
                count = (view == len(PAIRS) + number).sum()
                assert facts.certain[stuff_fact(stuff)] == (count >= 0.2 * 32 * 32)
                assert facts.possible[stuff_fact(stuff)] == (count >= 0.05 * 32 * 32)


def test_a_part_of_an_object_shows_its_colour_but_not_surely_its_shape():
    scene = generate(0, size=(128, 192))
    item = max(scene.objects, key=lambda o: o.area)
    number = scene.objects.index(item) + 1
    ys, xs = np.nonzero(scene.instances == number)
    y, x = ys[len(ys) // 2], xs[len(xs) // 2]
    facts = observe(scene, (y - 2, x - 2, 4, 4))
    assert facts.certain[colour_fact(item.colour)]
    assert not facts.certain[shape_fact(item.shape)] and facts.possible[shape_fact(item.shape)]


def test_opposite_relations_agree():
    for seed in range(15):
        facts = observe(generate(seed, size=(64, 96)))
        for first, second in (('left of', 'right of'), ('above', 'below')):
            for a in range(len(PAIRS)):
                for b in range(len(PAIRS)):
                    assert (
                        facts.certain[relation_fact(first, a, b)]
                        == facts.certain[relation_fact(second, b, a)]
                    )


def mentioned(text: str) -> tuple[set[str], set[str]]:
    """Classes and coloured shapes that a sentence names, found by plain search."""
    for name in sorted(NAMES, key=len, reverse=True):
        text = re.sub(rf'\b{name}\b', NAMES[name], text)
    return tuple(
        {name for name in names if re.search(rf'\b{name}\b', text)}
        for names in ((*SHAPES, *STUFF), PAIR_CLASSES)
    )


def test_captions_are_true_and_claim_what_they_say():
    captioner, rng = Captioner(), np.random.default_rng(0)
    kinds = set()
    for seed in range(25):
        scene = generate(seed, size=(64, 96))
        facts = observe(scene)
        shapes = {o.shape for o in scene.objects}
        pairs = {f'{o.colour} {o.shape}' for o in scene.objects}
        for _ in range(40):
            caption = captioner(facts, rng)
            assert facts.certain[list(caption.claims)].all() and len(caption.claims) <= MAX_CLAIMS
            classes, coloured = mentioned(caption.text)
            assert classes <= shapes | set(scene.stuff), caption
            assert coloured <= pairs | set(scene.stuff), caption
            kinds.update(r for r in RELATIONS if f' {r} ' in caption.text)
            kinds.update(w for w in (' and ', ' on ', 'photo') if w in caption.text)
    assert kinds == {*RELATIONS, ' and ', ' on ', 'photo'}


def test_no_training_caption_names_a_held_out_pair():
    captioner, rng = Captioner(), np.random.default_rng(1)
    held_out = {f'{colour} {shape}' for colour, shape in HELD_OUT_PAIRS}
    for seed in range(60):
        facts = observe(generate(seed, size=(48, 72)))
        for _ in range(20):
            assert not mentioned(captioner(facts, rng).text)[1] & held_out


def test_bare_words_and_templates_both_occur():
    rng = np.random.default_rng(0)
    facts = observe(generate(0, size=(64, 96)))
    plain = {Captioner(templates=0, synonyms=0)(facts, rng).text for _ in range(200)}
    dressed = {Captioner(templates=1, synonyms=0)(facts, rng).text for _ in range(200)}
    assert plain & set(SHAPES) and any(text.startswith('itap of') for text in dressed)


def test_fits_is_set_inclusion():
    rng = np.random.default_rng(0)
    facts = rng.random((7, 20)) < 0.5
    facts[:, ALWAYS] = True
    claims = [tuple(rng.choice(20, rng.integers(1, 4), replace=False)) for _ in range(9)]
    result = fits(np.array([padded(c) for c in claims]), facts)
    for i in range(7):
        for j, claim in enumerate(claims):
            assert result[i, j] == (set(claim) <= set(np.flatnonzero(facts[i])))


def test_an_empty_observation_has_no_caption():
    nothing = np.zeros(NUM_FACTS, bool)
    with pytest.raises(ValueError, match='observation is empty'):
        Captioner()(Observation(nothing, nothing), np.random.default_rng(0))
