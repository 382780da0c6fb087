import pytest
from toy_labeller import BROKEN, KILLS, Recipe

from mmseg_siglip.io.failures import Failure
from mmseg_siglip.labelling.one_by_one import label_alone
from mmseg_siglip.labelling.shards import Encoded


class Gone:
    name, place = 'gone.png', 'p/gone.png'

    def read(self):
        raise ValueError('No such file or directory')


def test_an_image_that_ends_its_process_costs_itself():
    members = [
        Encoded(f'{value}.png', f'p/{value}.png', bytes([value])) for value in (1, KILLS, BROKEN, 2)
    ]
    told = []
    members = [Failure('p/x', 'is no image'), Gone(), *members]
    rows = list(label_alone(members, Recipe(), told=told.append))
    assert [row.get('mean') for row in rows] == [None, None, 1.0, None, None, 2.0]
    assert [row.get('failure') for row in rows] == [
        'is no image',
        'No such file or directory',
        None,
        'ended the process that labelled it: signal 9 (Killed)',
        'cannot be decoded',
        None,
    ]
    assert sum(told) == 5 and rows[3]['name'] == f'{KILLS}.png'


@pytest.mark.parametrize(
    ('recipe', 'reason'),
    [(Recipe(dies=True), 'exit status 7'), (Recipe(refuse='no weights'), 'no weights')],
)
def test_a_process_that_never_starts(recipe, reason):
    message = f'a process that labels ended before it had an image: {reason}'
    with pytest.raises(ValueError, match=message):
        list(label_alone([Encoded('a.png', 'a.png', b'1')], recipe))
