"""Pixels of clusters, pixel by pixel; `test_cliptrase.py` has them in a method."""

import pytest
import torch
from torch.nn.functional import interpolate

from mmseg_siglip.models.dense.cluster_pixels import cluster_map, median_filter, shares_of


def test_shares_equal_the_loops():
    """A cluster without pixels has no shares."""
    labels, place = torch.tensor([[0, 2, 2], [1, 2, 0]]), torch.tensor([[0, 0, 0], [2, 2, 2]])
    expected = torch.zeros(3, 3)
    for cluster, label in zip(place.flatten().tolist(), labels.flatten().tolist(), strict=True):
        expected[cluster, label] += 1 / 3
    torch.testing.assert_close(shares_of(labels, place, 3, 3), expected)


@pytest.mark.parametrize('size', [(9, 5), (8, 12), (4, 1)])
def test_median_equals_the_loops(size):
    plane = torch.rand(size, generator=torch.Generator().manual_seed(0))

    def mirror(place, side):
        while not 0 <= place < side:
            place = -1 - place if place < 0 else 2 * side - 1 - place
        return place

    for y in range(size[0]):
        for x in range(size[1]):
            values = sorted(
                plane[mirror(y + dy, size[0]), mirror(x + dx, size[1])].item()
                for dy in range(-3, 4)
                for dx in range(-3, 4)
            )
            assert median_filter(plane)[y, x].item() == values[24]


def test_every_pixel_joins_the_cluster_that_correlates_most_there():
    generator = torch.Generator().manual_seed(3)
    points, clusters = (
        torch.rand(15, 15, generator=generator),
        torch.tensor([0, 1, 2] * 4 + [-1] * 3),
    )
    planes = []
    for cluster in range(3):
        mean = points[clusters == cluster].mean(0).view(1, 1, 3, 5)
        finer = median_filter(interpolate(mean, scale_factor=4, mode='bilinear')[0, 0])
        planes.append(interpolate(finer[None, None], size=(24, 40), mode='bilinear')[0, 0])
    found = cluster_map(points, clusters, (3, 5), (24, 40))
    assert torch.equal(found, torch.stack(planes).argmax(0))
    assert found.unique().tolist() == [0, 1, 2]
