from __future__ import annotations

import warnings

import mmseg.evaluation
import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_siglip.evaluation import IoUMetric
from mmseg_siglip.registry import METRICS


def sample(pred, label=None, **meta) -> SegDataSample:
    data = SegDataSample(metainfo=dict(img_path='x/photo.jpg', seg_map_path='x/photo.png', **meta))
    data.pred_sem_seg = PixelData(data=torch.as_tensor(pred)[None])
    if label is not None:
        data.gt_sem_seg = PixelData(data=torch.as_tensor(label)[None])
    return data


def score(metric, samples, classes):
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = dict(classes=[str(index) for index in range(classes)])
    evaluator.process(samples, None)
    return evaluator.evaluate(len(samples))


def test_name_wins_in_our_scope():
    assert METRICS.get('IoUMetric') is IoUMetric


@pytest.mark.parametrize('metrics', [['mIoU'], ['mIoU', 'mDice', 'mFscore']])
@pytest.mark.parametrize('nan_to_num', [None, 0])
def test_same_numbers_as_mmseg(metrics, nan_to_num):
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(5):
        label = rng.integers(0, 7, (20, 30))
        pred = np.where(rng.random(label.shape) < 0.5, label, rng.integers(0, 9, label.shape))
        label[rng.random(label.shape) < 0.1] = 255
        samples.append(sample(pred, label))
    arguments = dict(iou_metrics=metrics, nan_to_num=nan_to_num)
    ours = score(IoUMetric(**arguments), samples, 9)
    theirs = score(mmseg.evaluation.IoUMetric(**arguments), samples, 9)
    assert {name: ours[name] for name in theirs} == theirs
    assert 20 < ours['mIoU'] < 80


def test_numbers_by_hand():
    found = score(IoUMetric(), [sample([[0, 0, 1, 1]], [[0, 1, 1, 255]])], 2)
    assert found['mIoU'] == 50.0 and found['aAcc'] == 66.67 and found['mAcc'] == 75.0


def test_groups_by_hand():
    """IoU 1/2, 1/1, none and 0/1: class 2 is nowhere, so its group's mean leaves it out."""
    evaluator = Evaluator(IoUMetric())
    groups = dict(first=[0], rest=[1, 2, 3])
    evaluator.dataset_meta = dict(classes=list('abcd'), class_groups=groups)
    evaluator.process([sample([[0, 3, 1]], [[0, 0, 1]])], None)
    metrics = evaluator.evaluate(1)
    assert metrics['mIoU_first'] == 50 and metrics['mIoU_rest'] == 50
    assert metrics['mIoU'] == 50


def test_two_definitions_by_hand():
    """IoU 1, 1/2, none, and 0 for a class that is predicted once and labelled nowhere."""
    samples = [sample([[0, 1, 3]], [[0, 1, 1]])]
    zero = score(IoUMetric(), samples, 4)
    assert zero['mIoU'] == 50.0 and zero['mIoU_labelled'] == 75.0
    skip = score(IoUMetric(absent='skip'), samples, 4)
    assert skip['mIoU'] == 75.0 and skip['mIoU_mmseg'] == 50.0 and 'mIoU_labelled' not in skip
    with pytest.raises(ValueError, match="expected absent zero or skip, found 'one'"):
        IoUMetric(absent='one')


def test_the_log_names_the_definition(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmseg_siglip.evaluation.iou_metric.print_log', lambda text, _: lines.append(text)
    )
    score(IoUMetric(absent='skip'), [sample([[0, 1, 3]], [[0, 1, 1]])], 4)
    assert lines == [
        '1 of 4 classes are predicted but labelled nowhere; they are left out in mIoU = 75.00 '
        "(absent='skip') and counted as 0 in mIoU_mmseg = 50.00."
    ]


def test_groups_by_name():
    metric = IoUMetric(class_groups=dict(some=['2', '0']))
    assert score(metric, [sample([[0, 0, 2]], [[0, 1, 2]])], 3)['mIoU_some'] == 75.0
    with pytest.raises(ValueError, match="class_groups.some: the dataset has no class '7'"):
        score(IoUMetric(class_groups=dict(some=['7'])), [sample([[0]], [[0]])], 2)


def test_narrow_images_keep_their_shape():
    found = score(IoUMetric(), [sample([[1]], [[1]]), sample([[0], [1]], [[0], [1]])], 2)
    assert found['mIoU'] == 100.0


@pytest.mark.parametrize('value', [2, 254, -1])
def test_label_outside_the_vocabulary(value):
    with pytest.raises(ValueError, match=f'x/photo.png holds label {value}; the 2 classes go from'):
        score(IoUMetric(), [sample([[0, 1]], [[0, value]])], 2)


@pytest.mark.parametrize('value', [2, -1])
def test_prediction_outside_the_vocabulary(value):
    message = f'the prediction for x/photo.jpg holds label {value}; the 2 classes'
    with pytest.raises(ValueError, match=message):
        score(IoUMetric(), [sample([[0, value]], [[0, 1]])], 2)


def test_vocabulary_of_another_size():
    with pytest.raises(ValueError, match="model's vocabulary has 3 classes, the dataset 2"):
        score(IoUMetric(), [sample([[0]], [[0]], num_classes=3)], 2)
    assert score(IoUMetric(), [sample([[0]], [[0]], num_classes=2)], 2)['aAcc'] == 100.0


def test_predictions_of_another_vocabulary_are_saved_but_not_scored(tmp_path):
    metric = IoUMetric(format_only=True, output_dir=str(tmp_path))
    metric.dataset_meta = dict(classes=[''] * 2)
    metric.process({}, [sample([[0, 299]], num_classes=300, reduce_zero_label=True).to_dict()])
    metric.writers.finish()
    assert np.asarray(Image.open(tmp_path / 'photo.png')).tolist() == [[0, 299]]


def test_ignore_index_must_be_no_class():
    with pytest.raises(ValueError, match='ignore_index=255 is one of the 256 classes'):
        score(IoUMetric(), [sample([[0]], [[0]])], 256)
    wide = [sample([[300, 5]], [[300, 65535]])]
    assert score(IoUMetric(ignore_index=65535), wide, 847)['aAcc'] == 100.0


def test_all_ignored_warns_and_does_not_count():
    void, good = sample([[0, 1]], [[255, 255]]), sample([[0, 1]], [[0, 1]])
    with pytest.warns(UserWarning, match='every pixel of x/photo.png is ignored'):
        assert score(IoUMetric(), [void, good], 2)['mIoU'] == 100.0
    with pytest.warns(UserWarning, match='all pixels of all 1 images are ignored'):
        assert np.isnan(score(IoUMetric(), [void], 2)['mIoU'])
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        score(IoUMetric(), [good], 2)


@pytest.mark.parametrize(
    ('classes', 'ignore_index', 'reduce_zero_label', 'expected'),
    [
        (255, 255, False, [0, 254]),
        (255, 255, True, [1, 255]),
        (256, 65535, False, [0, 255]),
        (847, 65535, True, [1, 847]),
    ],
)
def test_saved_predictions_do_not_wrap(
    tmp_path, classes, ignore_index, reduce_zero_label, expected
):
    metric = IoUMetric(ignore_index=ignore_index, format_only=True, output_dir=str(tmp_path))
    pred = [[0, classes - 1]]
    metric.dataset_meta = dict(classes=[''] * classes)
    metric.process({}, [sample(pred, reduce_zero_label=reduce_zero_label).to_dict()])
    assert metric.results == []
    metric.writers.finish()
    assert np.asarray(Image.open(tmp_path / 'photo.png')).tolist() == [expected]


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('key', ['pred_sem_seg', 'seg_logits'])
def test_a_prediction_that_is_no_number_is_refused(key, value):
    """Labels that are NaN, and labels of MMSegmentation's that go by NaN."""
    given = sample(np.zeros((2, 2), int), np.zeros((2, 2), int))
    data = torch.zeros(1 if key == 'pred_sem_seg' else 3, 2, 2)
    given.set_data({key: PixelData(data=data.clone())})
    assert score(IoUMetric(), [given], 2)['mIoU'] == 100
    data[0, 1, 1] = value
    given.set_data({key: PixelData(data=data)})
    sentence = 'x/photo.jpg: expected a prediction of finite numbers, found NaN or infinity'
    with pytest.raises(ValueError, match=sentence):
        score(IoUMetric(), [given], 2)


def test_an_image_of_more_pixels_than_float32_counts():
    label = torch.zeros(1, 2**24 + 3, dtype=torch.uint8)
    areas = IoUMetric.intersect_and_union(label, label, 2, 255)
    assert [area[0].item() for area in areas] == [2**24 + 3] * 4
