import pytest
import torch

from mmseg_siglip.models.windows.grid import Windows, check_test_cfg


def test_crops_lie_where_the_windows_do_row_by_row():
    image = torch.arange(3 * 5 * 7).view(3, 5, 7)
    crops = list(Windows([0, 2], [0, 3, 4], (3, 3)).crops(image))
    corners = [(y, x) for y in (0, 2) for x in (0, 3, 4)]
    assert len(crops) == 6
    for crop, (y, x) in zip(crops, corners, strict=True):
        assert torch.equal(crop, image[:, y : y + 3, x : x + 3])


def test_what_is_left_out_is_filled_in():
    assert check_test_cfg({}, (33, 48)) == dict(
        mode='slide', crop_size=(33, 48), stride=(16, 24), window_batch=16, return_logits=False
    )
    given = dict(mode='whole', crop_size=8, stride=(2, 8), window_batch=1, return_logits=True)
    assert check_test_cfg(given, (33, 48)) == dict(given, crop_size=(8, 8))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(crop=3), r"test_cfg: unknown \['crop'\]; expected mode, crop_size"),
        (dict(mode='tile'), "test_cfg.mode: expected 'slide' or 'whole', found 'tile'"),
        (dict(stride=0), 'expected 1 <= stride <= crop_size, found stride'),
        (dict(crop_size=8, stride=(8, 9)), 'expected 1 <= stride <= crop_size, found stride'),
        (dict(window_batch=0), 'test_cfg.window_batch: expected 1 or more, found 0'),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        check_test_cfg(options, (32, 32))
