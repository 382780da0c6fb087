import pytest
import torch

from mmseg_siglip.models.windows.grid import Windows
from mmseg_siglip.models.windows.stream import by_image, in_batches, stream

SIZES = [(4, 7), (9, 3), (9, 3), (2, 2)]
CONFIG = dict(mode='slide', crop_size=(4, 3), stride=(2, 2))


@pytest.fixture
def images():
    return [torch.full((3, *size), float(i)) for i, size in enumerate(SIZES)]


def plans(images):
    return [Windows.of(tuple(image.shape[-2:]), CONFIG) for image in images]


def test_batches_hold_neighbours_of_one_kind():
    words = 'aaabbcaa'
    assert [''.join(part) for part in in_batches(words, 2, key=str)] == [
        'aa', 'a', 'bb', 'c', 'aa',
    ]  # fmt: skip
    assert [''.join(part) for part in in_batches(words, 9, key=str)] == ['aaa', 'bb', 'c', 'aa']


@pytest.mark.parametrize('batch', [1, 2, 3, 100])
@pytest.mark.parametrize('scope', ['window', 'image'])
def test_every_window_comes_once_and_in_turn(images, scope, batch):
    windows = plans(images)
    seen = []
    for crops, views in stream(images, windows, batch=batch, scope=scope):
        assert len(crops) == len(views)
        if scope == 'window':
            assert len(crops) <= batch
        else:
            assert {view.image for view in views} == {views[0].image}
            assert len(views) == len(windows[views[0].image])
        for crop, view in zip(crops, views, strict=True):
            top, left, height, width = view.box
            image = images[view.image]
            assert torch.equal(crop, image[:, top : top + height, left : left + width])
            assert view.prepared is None
            seen.append((view.image, view.box))
    assert seen == [(i, box) for i, own in enumerate(windows) for box in own.boxes]


def test_windows_of_several_images_share_batches(images):
    (sizes,) = [[len(crops) for crops, _ in stream(images, plans(images), batch=100)]]
    assert sizes == [11, 1]  # 3 and twice 4 of 4 x 3, and one of 2 x 2


@pytest.mark.parametrize('scope', ['window', 'image'])
def test_an_image_is_prepared_once_and_when_it_is_due(images, scope):
    done = []

    def prepare(image):
        done.append(int(image[0, 0, 0]))
        return image.sum()

    for _, views in stream(images, plans(images), batch=2, scope=scope, prepare=prepare):
        assert done == sorted(set(done)) and done[-1] <= views[-1].image + 1
        for view in views:
            assert view.prepared == images[view.image].sum()
    assert done == [0, 1, 2, 3]


@pytest.mark.parametrize('batch', [1, 2, 5, 100])
def test_results_return_to_their_images(images, batch):
    windows = plans(images)
    results = (
        torch.tensor([[view.image, *view.box[:2]] for view in views])
        for _, views in stream(images, windows, batch=batch)
    )
    for i, (own, found) in enumerate(zip(windows, by_image(results, windows), strict=True)):
        assert found.tolist() == [[[i, y, x] for x in own.columns] for y in own.rows]


def test_results_that_are_no_tensors_return_too(images):
    windows = plans(images)
    results = (
        [(view.image, *view.box[:2]) for view in views]
        for _, views in stream(images, windows, batch=2)
    )
    for i, (own, found) in enumerate(zip(windows, by_image(results, windows), strict=True)):
        assert [*map(list, found)] == [[(i, y, x) for x in own.columns] for y in own.rows]


@pytest.mark.parametrize(('more', 'message'), [(1, '1 results belong to no'), (-1, 'have 0 resul')])
def test_no_result_is_left_over_and_none_is_missing(images, more, message):
    windows = plans(images)
    count = sum(map(len, windows)) + more
    with pytest.raises(AssertionError, match=message):
        list(by_image(iter(torch.zeros(count, 1).split(5)), windows))
