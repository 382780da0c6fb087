import pytest
import torch

from mmseg_siglip.models.dense.clusters import NOISE, dbscan, neighbour_graph


def slow_dbscan(points, reach, least):
    """Point after point, as scikit-learn goes: a cluster is walked through from its first core."""
    count = len(points)
    near = [
        [j for j in range(count) if (points[i] - points[j]).norm() <= reach] for i in range(count)
    ]
    labels, cluster = [NOISE] * count, 0
    for start in range(count):
        if labels[start] != NOISE or len(near[start]) < least:
            continue
        stack = [start]
        while stack:
            point = stack.pop()
            if labels[point] == NOISE:
                labels[point] = cluster
                if len(near[point]) >= least:
                    stack.extend(near[point])
        cluster += 1
    return labels


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize(('reach', 'least'), [(0.12, 3), (0.2, 5), (0.3, 2), (0.05, 1)])
def test_equals_the_walk(seed, reach, least):
    points = torch.rand(60, 2, generator=torch.Generator().manual_seed(seed)).double()
    found = dbscan(neighbour_graph(points, reach), least).tolist()
    assert found == slow_dbscan(points, reach, least)


def test_a_border_point_goes_to_the_first_cluster_and_the_far_one_to_none():
    points = torch.tensor([0.0, 0.1, 0.2, 1.2, 2.2, 2.3, 2.4, 9.0])[:, None]
    assert dbscan(neighbour_graph(points, 1.01), 4).tolist() == [0, 0, 0, 0, 1, 1, 1, NOISE]


def test_neighbours_are_near_or_the_point_itself_whatever_the_chunk(monkeypatch):
    points = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)) * 1e4
    near = neighbour_graph(points, 2e4)
    assert torch.equal(near, torch.cdist(points.double(), points.double()) <= 2e4)
    monkeypatch.setattr('mmseg_siglip.models.dense.clusters.CHUNK_BYTES', 1)
    assert torch.equal(neighbour_graph(points, 2e4), near)
    assert neighbour_graph(points, 0.0).equal(torch.eye(20, dtype=torch.bool))
