"""Figures of three pictures, as if they were the published ones."""

import json
from dataclasses import replace

import pytest
from commands import command

from mmseg_siglip.cli.jobs import reproduce as job
from mmseg_siglip.cli.jobs.published import published_rows
from mmseg_siglip.datasets.benchmarks import BENCHMARKS

main = command('reproduce')


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stand_in(monkeypatch):
    """A function that puts a figure, of any weights, and a split of three in a row's place."""

    def put(name, method, figure, weights=None):
        rows = published_rows()
        mine = next(row for row in rows if (row.name, row.method) == (name, method))
        mine = replace(mine, metrics=dict(mIoU=figure), source='stand-in', weights=weights)
        monkeypatch.setattr(job, 'published_rows', lambda: [mine])
        monkeypatch.setitem(BENCHMARKS, name, replace(BENCHMARKS[name], samples=3))

    return put


@pytest.mark.parametrize(('name', 'method'), [('voc21', 'csa'), ('coco_object', 'naclip')])
def test_the_figure_again(name, method, stand_in, laid_out, openai_file, capsys):
    argv = [name, '--method', method, '--root', laid_out(name), '--weights', openai_file]
    stand_in(name, method, -1)
    assert main([*argv, '--out', 'first.json']) == 1
    said = capsys.readouterr()
    assert said.err.endswith(f'error: {name}: differs\n')
    assert 'tolerance 0.3: differs' in said.out
    first = json.load(open('first.json'))
    assert first['verdict'] == 'differs' and first['published'] == dict(mIoU=-1)
    stand_in(name, method, first['measured']['mIoU'] + 0.2)
    assert main([*argv, '--out', 'second.json']) == 0
    second = json.load(open('second.json'))
    assert 'difference -0.20, tolerance 0.3: reproduced (3 samples' in capsys.readouterr().out
    assert second['verdict'] == 'reproduced' and second['measured'] == first['measured']
    assert second['model_index']['Config'] == f'configs/sclip/{name}.py'
    assert second['model_index']['Results'][0]['Metrics'] == first['measured']
    assert len(second['weights']['sha256']) == 64 == len(second['weights']['tensors'])
    assert second['versions'].keys() >= {'torch', 'mmsegmentation', 'python', 'mmseg_siglip'}
    stand_in(name, method, first['measured']['mIoU'] + 0.2)
    assert main([*argv, '--tolerance', 0.1]) == 1


def test_other_weights_and_a_part_are_not_comparable(stand_in, laid_out, openai_file, capsys):
    stand_in('voc20', 'csa', 3.0, ('ViT-B-16', 'openai'))
    BENCHMARKS['voc20'] = replace(BENCHMARKS['voc20'], samples=1449)  # put back by the fixture
    argv = ['voc20', '--root', laid_out('voc20'), '--weights', openai_file]
    assert main(argv) == 1
    assert 'has 3 samples in its evaluation split, expected 1449' in capsys.readouterr().err
    assert main([*argv, '--incomplete', '--tolerance', 100]) == 1
    said = f'not comparable: 3 of 1449 samples, {openai_file} is not ViT-B-16:openai'
    assert said in capsys.readouterr().err


def test_list(capsys):
    assert main(['--list']) == 0
    said = capsys.readouterr().out
    assert '| coco_stuff | csa | ViT-B-16:openai | mIoU 22.77 |' in said
    assert '| cat_seg/ade150 |  | clip_l14_336 | mIoU 37.9 |' in said


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['nowhere'], "no figure is published for 'nowhere'; expected one of cat_seg/ade150"),
        (['voc21', '--method', 'gem'], 'no figure of gem is published for voc21; expected one of'),
        (['cat_seg/ade150'], 'several encoders; give --encoder, of clip_b16_384, clip_l14_336'),
        (['cat_seg/ade150', '--encoder', 'x'], '--encoder x: cat_seg/ade150 is published for clip'),
        (['cat_seg/ade150', '--encoder', 'clip_l14_336'], 'has to be trained: give its CHECKPOINT'),
        (['cat_seg/ade150', '--method', 'csa'], 'is trained: --method is for training-free'),
        (['voc21', '--root', 'far'], 'far is not there'),
    ],
)
def test_bad_input_is_one_line(argv, message, capsys):
    assert main(argv) == 1
    said = capsys.readouterr().err
    assert message in said and said.count('\n') == 1


@pytest.mark.parametrize('argv', [[], ['voc21', '--list'], ['voc21', '--tolerance', '-1']])
def test_arguments_without_sense(argv):
    with pytest.raises(SystemExit, match='2'):
        main(argv)
