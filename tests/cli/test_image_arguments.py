from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from mmseg_siglip.cli.image_arguments import images_of, output_places, refuse_among


@pytest.fixture
def folders(tmp_path):
    for name in ('one/a.png', 'one/deep/b.png', 'two/a.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4)).save(path)
    return tmp_path


def places_of(*arguments):
    return output_places(images_of(arguments))


def test_places_are_those_below_the_folder(folders):
    one = folders / 'one'
    assert places_of(one) == {
        one / 'a.png': Path('a.png'),
        one / 'deep/b.png': Path('deep/b.png'),
    }
    assert places_of(one / 'deep/b.png') == {one / 'deep/b.png': Path('b.png')}
    assert len(places_of(one, one / 'a.png')) == 2


def test_two_images_of_one_place_are_refused(folders):
    with pytest.raises(ValueError, match=r'one/a.png and .*two/a.png have one name: a.png'):
        places_of(folders / 'one', folders / 'two')


def test_a_pattern_is_its_matches_below_the_folder_that_it_begins_with(folders, monkeypatch):
    monkeypatch.chdir(folders)
    (folders / 'one/notes.txt').write_text('text')
    assert places_of('one/*.png') == {Path('one/a.png'): Path('a.png')}
    deep = places_of('one/**/*.png')
    assert deep == {Path('one/a.png'): Path('a.png'), Path('one/deep/b.png'): Path('deep/b.png')}
    assert places_of('one/*') == {Path('one/a.png'): Path('a.png')}
    assert images_of(['one/*'])[Path('one')].others == (Path('one/notes.txt'),)
    assert set(places_of('*/a.png')) == {Path('one/a.png'), Path('two/a.png')}
    assert set(places_of('one/*.png', 'one/deep/?.png', 'one')) == set(deep)
    assert set(places_of('on[e]')) == set(deep)
    assert places_of(folders / '*/[a].png')


def test_a_pattern_without_a_match(folders):
    with pytest.raises(ValueError, match=r'one/\*\.jpg: expected files of such names, found none'):
        images_of([folders / 'one/*.jpg'])


def test_a_file_may_be_called_like_a_pattern(folders):
    file = folders / 'one/[a].png'
    (folders / 'one/a.png').rename(file)
    assert places_of(file) == {file: Path('[a].png')}


def test_the_output_must_not_lie_where_the_pattern_looks(folders):
    for argument in (folders / '**/*.png', folders / 'on?', folders / 'one'):
        with pytest.raises(ValueError, match='lies in the images'):
            refuse_among(folders / 'one/out', [argument])
    refuse_among(folders / 'one/out', [folders / 'one/*.png', 'https://x/one.png'])


def test_the_output_must_not_lie_where_the_pattern_would_match_it(folders, monkeypatch):
    monkeypatch.chdir(folders)
    for pattern, out in (('one/*', 'one'), ('one/*.png', 'one'), ('*/*.png', '.')):
        with pytest.raises(ValueError, match='lies where .* looks for images: choose'):
            refuse_among(Path(out), [pattern])
    for pattern, out in (('one/a*', 'one/out'), ('one/[a].png', 'one'), ('one/*.png', 'two')):
        refuse_among(Path(out), [pattern])


def test_addresses_are_kept_as_they_are():
    first, second = 'https://x/a/photo%20one.jpg', 'HTTP://x/photo.jpg?size=2'
    places = places_of(first, second)
    assert places[first] == Path('photo_one.jpg')
    assert places[second].suffix == '.jpg' and places[second].stem.startswith('photo-')
    with pytest.raises(ValueError, match='https://y/photo%20one.jpg have one name: photo_one.jpg'):
        places_of(first, 'https://y/photo%20one.jpg')


def test_a_file_that_is_no_longer_there(folders):
    os.remove(folders / 'two/a.png')
    with pytest.raises(ValueError, match='no such image or folder'):
        images_of([folders / 'two/a.png'])
