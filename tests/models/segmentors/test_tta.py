from __future__ import annotations

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_siglip.models.labelling import Labeller
from mmseg_siglip.models.postprocessors import RegionVote
from mmseg_siglip.models.segmentors import OpenVocabularyTTAModel


class Segmentor(nn.Module):
    """Answers each view with the next of the given probabilities (C, H, W)."""

    def __init__(self, answers, keep=False, **thresholds):
        super().__init__()
        self.answers = iter(answers)
        self.test_cfg = dict(return_logits=keep)
        self.labels_of = Labeller((0, 1), 1.0, **thresholds).of_probabilities

    def test_step(self, data):
        assert self.test_cfg['return_logits']
        for sample in data['data_samples']:
            probabilities = torch.tensor(next(self.answers))
            sample.seg_logits = PixelData(data=probabilities)
            sample.pred_sem_seg = PixelData(data=probabilities.argmax(0)[None])
        return data['data_samples']


def run(module, views, images=1):
    samples = [
        [SegDataSample(metainfo=dict(view=view)) for _ in range(images)] for view in range(views)
    ]
    data = dict(inputs=[[None] * images] * views, data_samples=samples)
    return OpenVocabularyTTAModel(module).test_step(data)


# two classes, one row of three pixels
FIRST = [[[0.9, 0.4, 0.2]], [[0.1, 0.6, 0.3]]]
SECOND = [[[0.3, 0.5, 0.2]], [[0.7, 0.4, 0.1]]]


def test_label_of_the_mean():
    (sample,) = run(Segmentor([FIRST, SECOND]), views=2)
    assert sample.pred_sem_seg.data.tolist() == [[[0, 1, 0]]]
    assert 'seg_logits' not in sample
    assert sample.metainfo['view'] == 0


def test_mean_is_kept_on_request():
    (sample,) = run(Segmentor([FIRST, SECOND], keep=True), views=2)
    expected = [[[0.6, 0.45, 0.2]], [[0.4, 0.5, 0.2]]]
    assert torch.allclose(sample.seg_logits.data, torch.tensor(expected))


def test_background_threshold():
    (sample,) = run(Segmentor([FIRST, SECOND], prob_thd=0.55, background_index=1), views=2)
    assert sample.pred_sem_seg.data.tolist() == [[[0, 1, 1]]]


@pytest.mark.parametrize('images', [1, 3])
def test_one_view_changes_nothing(images):
    samples = run(Segmentor([FIRST] * images), views=1, images=images)
    assert [sample.pred_sem_seg.data.tolist() for sample in samples] == [[[[0, 1, 1]]]] * images


def test_label_steps_are_refused():
    """They change labels alone, and those of a mean are made anew."""
    module = Segmentor([FIRST])
    module.label_steps = nn.ModuleList([RegionVote()])
    with pytest.raises(ValueError, match='expected no label_steps, found RegionVote; leave one'):
        OpenVocabularyTTAModel(module)
