import pytest
import torch

from mmseg_siglip.models.labelling import Labels
from mmseg_siglip.models.postprocessors import RegionVote
from mmseg_siglip.models.postprocessors.context import Context


def context(regions):
    unused = dict.fromkeys(('pixels', 'features', 'text'), list)
    return Context(query_to_class=range(5), logit_scale=1.0, regions=lambda: [regions], **unused)


def naive(labels, regions, parity):
    out = labels.clone()
    names = regions.unique().tolist()
    for name in names:
        if name == (min(names) if parity else 0):
            continue
        inside = regions == name
        out[inside] = torch.mode(labels[inside]).values
    return out


@pytest.mark.parametrize('parity', [False, True])
@pytest.mark.parametrize('lowest', [0, 1])
def test_each_region_takes_its_most_frequent_class(parity, lowest):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (9, 11), generator=generator)
    regions = torch.randint(lowest, 30, (9, 11), generator=generator) * 1000
    step = RegionVote(parity=parity)
    found = step(Labels(labels, None, None), context(regions))
    assert torch.equal(found.labels, naive(labels, regions, parity))
    assert not torch.equal(found.labels, labels) and found.scores is None


def test_equals_take_the_first_class_and_scores_follow():
    labels = torch.tensor([[2, 1, 2, 1], [0, 2, 2, 2]])
    scores = torch.tensor([[0.1, 0.2, 0.3, 0.6], [0.5, 0.5, 0.5, 0.5]])
    regions = torch.tensor([[7, 7, 7, 7], [0, 0, 0, 0]])
    found = RegionVote()(Labels(labels, scores, None), context(regions))
    assert found.labels.tolist() == [[1, 1, 1, 1], [0, 2, 2, 2]]
    torch.testing.assert_close(found.scores[0], torch.tensor([0.4, 0.2, 0.4, 0.6]))
    assert torch.equal(found.scores[1], scores[1])


def test_masks_one_region_and_none():
    labels = torch.tensor([[2, 1, 1]])
    masks = torch.tensor([[[True, True, True]], [[True, False, False]]])
    found = RegionVote()(Labels(labels, None, None), context(masks))
    assert found.labels.tolist() == [[1, 1, 1]], 'the larger mask lies on top'
    for nothing in (masks[:0], torch.zeros(1, 3, dtype=torch.long)):
        found = RegionVote()(Labels(labels, None, None), context(nothing))
        assert torch.equal(found.labels, labels)
    one = torch.ones(1, 3, dtype=torch.long)
    for parity, wanted in ((False, [1, 1, 1]), (True, [2, 1, 1])):
        found = RegionVote(parity=parity)(Labels(labels, None, None), context(one))
        assert found.labels.tolist() == [wanted]
