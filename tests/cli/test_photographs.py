import json
from pathlib import Path

import pytest
from PIL import Image

from mmseg_siglip.cli.photographs import keep, outcomes, output_places


@pytest.fixture
def folders(tmp_path):
    for name in ('one/a.png', 'one/deep/b.png', 'two/a.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4)).save(path)
    return tmp_path


def test_places_are_those_below_the_folder(folders):
    one = folders / 'one'
    assert output_places([one]) == {
        one / 'a.png': Path('a.png'),
        one / 'deep/b.png': Path('deep/b.png'),
    }
    assert output_places([one / 'deep/b.png']) == {one / 'deep/b.png': Path('b.png')}
    assert len(output_places([one, one / 'a.png'])) == 2


def test_two_images_of_one_place_are_refused(folders):
    with pytest.raises(ValueError, match=r'one/a.png and .*two/a.png have one name: a.png'):
        output_places([folders / 'one', folders / 'two'])


class System:
    """Refuses a whole batch for one image of it, as a system does."""

    def __init__(self):
        self.asked = []

    def __call__(self, paths, prompt):
        self.asked.append(list(paths))
        for path in paths:
            if 'bad' in path:
                raise ValueError(f'{path} is bad')
        return [f'{prompt} {path}' for path in paths]


def test_what_fails_for_one_is_tried_alone():
    system = System()
    found = dict(outcomes(system, ['a', 'bad', 'c'], 'hello', lambda paths: {}))
    assert system.asked == [['a', 'bad', 'c'], ['a'], ['bad'], ['c']]
    assert (found['a'], found['c'], str(found['bad'])) == ('hello a', 'hello c', 'bad is bad')
    system = System()
    assert len(dict(outcomes(system, ['a', 'c'], 'hello', lambda paths: {}))) == 2
    assert system.asked == [['a', 'c']]


class Result:
    suffix = 'txt'

    def __init__(self, text):
        self.text = text

    def plot(self):
        return Image.new('RGB', (2, 2))

    def to_dict(self):
        return dict(text=self.text)


@pytest.mark.parametrize(
    ('found', 'names'),
    [
        (Result('é'), ['a.png']),
        ([Result('é')], ['a.png.1']),
        ([Result('é'), Result('b')], ['a.png.1', 'a.png.2']),
    ],
)
def test_data_picture_and_json_lie_side_by_side(tmp_path, found, names):
    keep(found, tmp_path / 'deep/a.png', lambda result, path: path.write_text(result.text))
    written = sorted(path.name for path in (tmp_path / 'deep').iterdir())
    assert written == sorted(f'{n}.{end}' for n in names for end in ('json', 'picture.png', 'txt'))
    assert json.loads((tmp_path / f'deep/{names[0]}.json').read_text('utf-8')) == dict(text='é')
