import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.cli.jobs.benchmark_table import BLANK, NO_COUNTS, Done, compared, plot, table
from mmseg_siglip.evaluation.bootstrap import confidence_interval, resampled_miou


def done(method, *, hits=None, encoder='clip', **changes):
    """A row of four images of one class, `hits` of ten pixels right in each."""
    row = dict(BLANK, dataset='voc21', attention=method, encoder=encoder, images=4)
    row |= dict(images_per_second=2.0, seconds_per_image=0.5, supervised='no')
    if hits is None:
        return Done(row | dict(error='a | b') | changes, NO_COUNTS)
    counts = np.array([[[hit], [10]] for hit in hits])
    low, high = confidence_interval(resampled_miou(counts))
    mean = float(10 * np.mean(hits))
    return Done(row | dict(mIoU=mean, low=low, high=high) | changes, counts)


def test_differences_are_to_the_row_of_the_same_encoder():
    rows = [
        done('csa', hits=[1, 2, 3, 4]),
        done('naclip', hits=[2, 3, 4, 5]),
        done('naclip', hits=[9, 9, 9, 9], encoder='siglip'),
        done('csa', hits=[9, 8, 9, 8], encoder='siglip'),
        done('bad'),
    ]
    found = compared(rows, 'csa')
    assert [row['difference'] for row in found] == [0, 10, 5, 0, None]
    assert found[1]['difference_low'] == pytest.approx(10) == found[1]['difference_high']
    assert found[2]['difference_low'] < 5 < found[2]['difference_high']
    found = compared(rows, 'csa@clip')
    assert [row['difference'] for row in found] == [0, 10, 65, 60, None]
    assert [row['difference'] for row in compared(rows, None)] == [None] * 5


def test_no_difference_between_other_images():
    rows = [done('csa', hits=[1, 2, 3, 4]), done('naclip', hits=[2, 3, 4])]
    assert [row['difference'] for row in compared(rows, 'csa')] == [0, None]


def test_columns_are_there_where_a_row_has_something():
    plain = table([done('csa', hits=[1, 2, 3, 4], mBIoU=7.5).row])
    header, _, line = plain.splitlines()[:3]
    assert '| 95 % |' in header and 'boundary IoU' in header
    assert 'failed' not in header and 'difference' not in header
    assert '| voc21 | csa | clip | 4 | 25.00 |' in line and '| 7.50 |' in line
    both = table([done('csa', hits=[1, 2, 3, 4]).row, done('bad').row])
    assert both.splitlines()[3].endswith(r'| a \| b |')
    assert both.splitlines()[3].startswith('| voc21 | bad | clip | 4 | — | — |')
    rows = compared([done('csa', hits=[1, 2, 3, 4]), done('naclip', hits=[2, 3, 4, 5])], 'csa')
    assert '| +10.00 (+10.00 to +10.00) |' in table(rows) and 'mIoU to csa' in table(rows)


def test_picture(tmp_path):
    rows = [done('csa', hits=[1, 2, 3, 4]), done('bad'), done('x', hits=[1] * 4, supervised='yes')]
    plot([row.row for row in rows], tmp_path / 'deep/a.png')
    assert min(Image.open(tmp_path / 'deep/a.png').size) > 300
    plot([done('bad').row], tmp_path / 'none.pdf')
    assert (tmp_path / 'none.pdf').read_bytes().startswith(b'%PDF')
