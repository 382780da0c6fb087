"""A ranking of ShapesWorld's classes, and the step that uses it."""

import json

import pytest
from commands import command

from mmseg_siglip.registry import MODELS

main = command('rank-templates')

OPTIONS = ['--cfg-options', 'model.templates=imagenet8', 'test_dataloader.dataset.num_scenes=3']


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_class_that_was_found_is_ranked(repository, tmp_path, capsys):
    out = tmp_path / 'deep' / 'ranking.json'
    argv = [repository / 'configs/sclip/shapes.py', '--out', out, '--num-samples', 2, *OPTIONS]
    assert main(argv) == 0
    ranking = json.loads(out.read_text())
    found = [best for best in ranking.values() if best]
    said = capsys.readouterr().out
    assert said == f'{len(found)} of {len(ranking)} classes ranked by 2 images into {out}\n'
    assert found and all(set(best) <= set(range(8)) for best in found)
    MODELS.build(dict(type='TemplateExperts', ranking=str(out)))


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ('cat_seg/shapes.py', 'expected an SCLIPSegmentor, found CATSegSegmentor'),
        ('sclip/voc21.py', 'is not there; prepare the data'),
    ],
)
def test_bad_input_is_one_line(repository, capsys, config, message):
    assert main([repository / 'configs' / config, '--out', 'r.json']) == 1
    assert message in capsys.readouterr().err
