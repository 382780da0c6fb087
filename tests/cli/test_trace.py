"""Every stage of the trace, in order, with the shapes that the architecture prescribes."""

from __future__ import annotations

import re

import pytest
from commands import command

main = command('trace')

OPTIONS = ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def traced(capsys, repository, *extra):
    config = str(repository / 'configs/cat_seg/shapes.py')
    assert main([config, *extra]) == 0
    lines = [re.split(r'  +', line) for line in capsys.readouterr().out.splitlines()]
    return [(stage, value, rest[0] if rest else '') for stage, value, *rest in lines]


def shape(value):
    return tuple(int(n) for n in re.match(r'\(([\d, ]*)\)', value)[1].split(',') if n.strip())


def test_stages_and_shapes(capsys, repository):
    lines = traced(capsys, repository)
    found = {stage: value for stage, value, _ in lines}
    wanted = {
        'PackSegInputs': (1, 64, 64),
        'preprocessed': (1, 3, 64, 64),
        'to the encoder': (1, 3, 64, 64),
        'tokens': (1, 64, 128),
        'grid': (1, 128, 8, 8),
        'tap after block 1': (1, 128, 8, 8),
        'tap after block 3': (1, 128, 8, 8),
        'dense features': (1, 128, 8, 8),
        'text features': (37, 1, 128),
        'cost volume': (1, 37, 1, 8, 8),
        'embedding of the costs': (37, 64, 8, 8),
        'layer 1, over space': (1, 37, 8, 8, 64),
        'layer 2, over classes': (1, 37, 8, 8, 64),
        'guidance 1, upsampled': (1, 64, 16, 16),
        'guidance 2, upsampled': (1, 32, 32, 32),
        'logits': (1, 37, 32, 32),
        'mask': (1, 64, 64),
        'labels': (1, 128, 192),
    }
    assert {stage: shape(found[stage]) for stage in wanted} == wanted
    assert shape(found['decoder step 2'])[1:] == (16, 32, 32)
    order = [stage for stage, *_ in lines]
    assert order[0] == 'sample' and order[-1] == 'labels'
    assert [order.index(stage) for stage in wanted] == sorted(map(order.index, wanted))
    assert 'uint8' in lines[1][1] and 'int64' in found['mask'] and float(found['loss']) > 0
    assert found['preprocessed'].split()[-2:] != ['[0,', '255]']


def test_images_are_normalised_once(capsys, repository):
    """Bytes in, mean 0.5 and deviation 0.5 of 0..1 out: nothing beyond [-1, 1], and not flat."""
    (value,) = [value for stage, value, _ in traced(capsys, repository) if stage == 'preprocessed']
    low, high = map(float, re.search(r'\[(.*), (.*)\]', value).groups())
    assert -1 <= low < -0.3 and 0.3 < high <= 1


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['sclip/shapes.py'], 'follows a CATSegSegmentor, found SCLIPSegmentor'),
        (['cat_seg/shapes.py', '--index', '20000'], '--index: expected 0 to 19999, found 20000'),
        (['cat_seg/shapes.py', '--split', 'val'], 'shapes.py has no data to follow'),
        (['cat_seg/coco_stuff.py'], 'is not there; prepare the data of COCOStuffDataset'),
    ],
)
def test_bad_input_is_one_line(capsys, repository, arguments, message):
    config, *extra = arguments
    assert main([str(repository / 'configs' / config), *extra]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('error: ') and message in error
