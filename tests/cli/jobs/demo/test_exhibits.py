from __future__ import annotations

import numpy as np
import pytest

from mmseg_siglip.api import SYSTEMS
from mmseg_siglip.api.shipped import SHIPPED, build_shipped
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.demo.exhibits import (
    ENLARGED,
    EXHIBITS,
    SIZE,
    cases,
    draw_scene,
    for_people,
    questions_of,
)

BY_SOURCE = {exhibit.source: exhibit for exhibit in EXHIBITS}


def test_every_shipped_system_has_a_row():
    assert BY_SOURCE.keys() == SHIPPED.keys()
    assert {SHIPPED[source].task for source in BY_SOURCE} == {*SYSTEMS}


@pytest.mark.parametrize('exhibit', EXHIBITS, ids=BY_SOURCE)
def test_the_truth_is_told_as_answers_are(exhibit):
    system, scene = build_shipped(exhibit.source, device='cpu'), draw_scene(0)
    for case in cases(exhibit, system, scene):
        assert type(case.answer) is type(case.truth)
        assert np.array_equal(case.answer.image, scene.image)
        larger = for_people(case.truth)
        height, width = SIZE
        assert larger.image.shape == (ENLARGED * height, ENLARGED * width, 3)
        assert larger.plot().width >= ENLARGED * width


def test_true_labels_and_masks():
    scene = draw_scene(0)
    ((words, truth),) = questions_of(BY_SOURCE['shapes_cat_seg'], scene)
    assert truth.classes == tuple(words.split(', '))
    item = scene.objects[-1]
    named = truth.classes.index(f'{item.colour} {item.shape}')
    place = scene.instances == len(scene.objects)
    assert (truth.labels[place] == named).all()
    for text, found in questions_of(BY_SOURCE['shapes_refer'], scene):
        assert found.text == text and found.mask.any()
    ((_, depth),) = questions_of(BY_SOURCE['shapes_depth'], scene)
    assert np.array_equal(depth.depth, scene.depth)


def test_a_score_is_that_of_its_command(tmp_path, capsys):
    from mmseg_siglip.cli.main import main

    exhibit = BY_SOURCE['shapes_depth']
    scores = exhibit.measure(2, tmp_path / 'run')
    command = exhibit.command(2, str(config_folder()))
    assert main([*command, '--work-dir', str(tmp_path / 'again')]) == 0
    printed = capsys.readouterr().out
    for key, name in exhibit.scores.items():
        assert f'{key}: {scores[name]:.4f}' in printed
