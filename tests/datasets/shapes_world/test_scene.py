import hashlib
import subprocess
import sys

import numpy as np
import pytest

from mmseg_siglip.datasets.shapes_world.geometry import signed_distance
from mmseg_siglip.datasets.shapes_world.scene import (
    CLASSES,
    COLOURS,
    HELD_OUT_PAIRS,
    LEAST_VISIBLE,
    PAIR_CLASSES,
    PAIRS,
    SHAPES,
    SPLITS,
    STUFF,
    generate,
    scene_seed,
)

SEEDS = range(30)


@pytest.fixture(scope='module')
def scenes():
    return [generate(seed, size=(96, 128), held_out=True) for seed in SEEDS]


def covers(scene, item) -> np.ndarray:
    """Point-in-shape test at every pixel's centre, from the object's own description."""
    rows, columns = np.mgrid[: scene.classes.shape[0], : scene.classes.shape[1]] + 0.5
    return (
        signed_distance(
            item.shape,
            columns.astype(np.float32),
            rows.astype(np.float32),
            centre=item.centre,
            radius=item.radius,
            rotation=item.rotation,
        )
        < 0
    )


def test_the_world_has_8_shapes_6_colours_5_grounds():
    assert (len(SHAPES), len(COLOURS), len(STUFF)) == (8, 6, 5)
    assert len(CLASSES) == 13 and len(PAIR_CLASSES) == 53
    assert PAIR_CLASSES[7] == 'green square' and PAIR_CLASSES[-1] == 'wood'


def test_held_out_pairs_are_one_colour_of_each_shape_and_all_colours_occur():
    assert len(set(HELD_OUT_PAIRS)) == 8
    assert {shape for _, shape in HELD_OUT_PAIRS} == set(SHAPES)
    assert {colour for colour, _ in HELD_OUT_PAIRS} == set(COLOURS)


def test_splits_share_no_seed_and_never_reach_over_their_end():
    seeds = [set(range(r.start, r.stop)) for r in SPLITS.values()]
    assert len(set.union(*seeds)) == sum(map(len, seeds))
    with pytest.raises(ValueError, match="'val' has scenes 0 to 99999, got 100000"):
        scene_seed('val', 100_000)
    with pytest.raises(ValueError, match='split must be one of'):
        scene_seed('dev', 0)


def test_a_seed_gives_the_same_scene_in_another_process():
    code = (
        'import hashlib\n'
        'from mmseg_siglip.datasets.shapes_world.scene import generate\n'
        'scene = generate(17)\n'
        'print(hashlib.sha256(scene.image.tobytes() + scene.pairs.tobytes()\n'
        '      + scene.depth.tobytes()).hexdigest())'
    )
    there = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    scene = generate(17)
    here = hashlib.sha256(scene.image.tobytes() + scene.pairs.tobytes() + scene.depth.tobytes())
    assert there.stdout.strip() == here.hexdigest()
    assert not np.array_equal(scene.image, generate(18).image)


def test_one_seed_is_one_scene_at_any_resolution():
    small, large = generate(3, size=(64, 96)), generate(3, size=(128, 192))
    assert [(o.colour, o.shape) for o in small.objects] == [
        (o.colour, o.shape) for o in large.objects
    ]
    for a, b in zip(small.objects, large.objects, strict=True):
        assert np.allclose(np.multiply(a.centre, 2), b.centre) and b.radius == 2 * a.radius
    assert (small.classes == large.classes[1::2, 1::2]).mean() > 0.97


def test_every_label_follows_from_the_objects(scenes):
    """Independent repaint: each pixel belongs to the nearest object that covers its centre."""
    for scene in scenes:
        nearest = np.full(scene.classes.shape, np.inf)
        owner = np.zeros(scene.classes.shape, int)
        for number, item in enumerate(scene.objects, start=1):
            wins = covers(scene, item) & (item.depth < nearest)
            nearest[wins], owner[wins] = item.depth, number
        np.testing.assert_array_equal(scene.instances, owner)
        for number, item in enumerate(scene.objects, start=1):
            mine = scene.instances == number
            assert mine.sum() == item.area
            assert set(np.unique(scene.classes[mine])) == {SHAPES.index(item.shape)}
            assert set(np.unique(scene.pairs[mine])) == {PAIRS.index((item.colour, item.shape))}
            np.testing.assert_allclose(scene.depth[mine], item.depth, rtol=1e-6)
            assert item.area >= LEAST_VISIBLE * covers(scene, item).sum()


def test_ground_is_two_kinds_behind_everything(scenes):
    for scene in scenes:
        ground = scene.instances == 0
        kinds = {CLASSES[k] for k in np.unique(scene.classes[ground])}
        assert kinds == set(scene.stuff) and len(set(scene.stuff)) == 2
        np.testing.assert_array_equal(
            scene.pairs[ground].astype(int) - len(PAIRS),
            scene.classes[ground].astype(int) - len(SHAPES),
        )
        assert scene.depth[ground].min() > max(item.depth for item in scene.objects)
        column = scene.depth[:, 0][ground[:, 0]]
        assert (np.diff(column) < 0).all()


def test_occlusion_follows_depth(scenes):
    """Where two shapes overlap, the pixel shows the nearer one; such pixels exist."""
    overlaps = 0
    for scene in scenes:
        for i, far in enumerate(scene.objects):
            for near in scene.objects[i + 1 :]:
                assert near.depth <= far.depth
                both = covers(scene, far) & covers(scene, near)
                overlaps += both.sum()
                assert not (scene.instances[both] == i + 1).any()
    assert overlaps > 200


def test_colours_are_what_they_are_called(scenes):
    """The mean colour of an object is nearest to its own colour's, by hue direction."""
    names, values = list(COLOURS), np.array(list(COLOURS.values()))
    directions = values / np.linalg.norm(values, axis=1, keepdims=True)
    hits = []
    for scene in scenes:
        for number, item in enumerate(scene.objects, start=1):
            mean = scene.image[scene.instances == number].mean(0)
            hits.append(names[(directions @ mean).argmax()] == item.colour)
    assert np.mean(hits) > 0.95


def test_held_out_pairs_appear_only_when_asked_for():
    shown = {(o.colour, o.shape) for s in range(150) for o in generate(s, size=(32, 48)).objects}
    assert not shown & set(HELD_OUT_PAIRS)
    assert len(shown) == 40
    asked = [generate(s, size=(32, 48), held_out=True) for s in range(60)]
    assert {(o.colour, o.shape) for s in asked for o in s.objects} & set(HELD_OUT_PAIRS)


def test_edges_are_smooth(scenes):
    """Anti-aliasing: pixels on an edge mix the colours on its sides."""
    scene = generate(1, size=(256, 256))
    item = scene.objects[-1]
    rows, columns = np.mgrid[:256, :256].astype(np.float32) + 0.5
    distance = signed_distance(
        item.shape, columns, rows, centre=item.centre, radius=item.radius, rotation=item.rotation
    )
    inside, outside, edge = (
        scene.image[mask].astype(float).mean(0)
        for mask in (
            (distance < -1) & (distance > -2.5),
            (distance > 1) & (distance < 2.5),
            np.abs(distance) < 0.25,
        )
    )
    mix = (edge - outside) @ (inside - outside) / ((inside - outside) ** 2).sum()
    assert 0.3 < mix < 0.7


@pytest.mark.parametrize('size', [(16, 16), (17, 40), (96, 33)])
def test_any_size_from_16_up(size):
    scene = generate(5, size=size)
    assert scene.image.shape == (*size, 3) and scene.image.dtype == np.uint8
    assert scene.depth.shape == size and scene.depth.dtype == np.float32


def test_refusals_say_what_was_found():
    with pytest.raises(ValueError, match=r'at least 16 pixels on a side, got \(8, 64\)'):
        generate(0, size=(8, 64))
    with pytest.raises(ValueError, match='0 or above, got -1'):
        generate(-1)
