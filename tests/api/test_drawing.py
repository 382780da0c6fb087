import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.api.drawing import (
    ROW,
    add_bar,
    add_legend,
    add_text,
    borders,
    inmost,
    legend_over,
)

PICTURE = Image.new('RGB', (120, 10), (9, 9, 9))


@pytest.mark.parametrize(
    'draw',
    [
        lambda picture: add_legend(picture, [('cat', (255, 0, 0))]),
        lambda picture: add_bar(picture, np.zeros((4, 3), np.uint8), 'near', 'far'),
        lambda picture: add_text(picture, ['why?', 'because']),
    ],
    ids=['legend', 'bar', 'text'],
)
def test_the_picture_stays_and_something_stands_below_it(draw):
    found = np.array(draw(PICTURE))
    assert (found[:10, :120] == 9).all()
    below = found[10:]
    assert len(below) and (below == 255).any() and (below < 128).any()


def test_a_legend_shows_colours_and_goes_on_in_the_next_row():
    colours = [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    one = np.array(add_legend(PICTURE, [('cat', colours[0])]))
    assert (one == colours[0]).all(-1).sum() >= 14 * 14
    names = ['a long name', 'another long name', 'a third']
    three = np.array(add_legend(PICTURE, list(zip(names, colours, strict=True))))
    assert len(three) == len(one) + 2 * ROW
    first = [int((three == colour).all(-1).any(1).argmax()) for colour in colours]
    assert [b - a for a, b in zip(first, first[1:], strict=False)] == [ROW, ROW]


def test_a_bar_runs_from_its_first_colour_to_its_last():
    colours = np.array([[250, 0, 0], [0, 0, 250]], np.uint8)
    found = np.array(add_bar(PICTURE, colours, '0 m', '9 m'))
    assert (found[15, 0] == colours[0]).all() and (found[15, -1] == colours[1]).all()


def test_text_is_broken_into_lines_and_gets_room():
    narrow = Image.new('RGB', (4, 4))
    short, long = add_text(narrow, ['yes']), add_text(narrow, ['because of it ' * 20])
    assert long.height > short.height and long.width == short.width > narrow.width
    assert add_text(narrow, ['yes', '', 'no']).height == short.height + 2 * ROW


def test_borders_by_hand():
    labels = np.array([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    expected = [[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert borders(labels).astype(int).tolist() == expected
    assert not borders(np.ones((1, 1), int)).any()


def test_the_inmost_pixel_is_away_from_the_edge_of_the_picture():
    mask = np.zeros((9, 20), bool)
    mask[:, :9] = True
    mask[4] = True
    assert inmost(mask) == (4, 4)


def test_a_legend_over_a_picture_takes_whole_rows_of_at_most_a_third():
    entries = [(f'class number {index}', (10 * index, 0, 0)) for index in range(20)]
    picture = np.full((180, 320, 3), 7, np.uint8)
    assert not legend_over(picture, entries) and (picture == 7).all()
    assert legend_over(picture, entries[:1]) and (picture[: 180 - 26] == 7).all()
    assert (picture[180 - 26] == 255).all()
    assert legend_over(picture, entries, cut=True)
    assert (picture[: 180 - 48] == 7).all() and (picture[180 - 48] == 255).all()
    small = np.full((48, 64, 3), 7, np.uint8)
    assert not legend_over(small, entries[:1], cut=True) and (small == 7).all()
