"""What is wrong with an input is said by every metric that compares label maps."""

from __future__ import annotations

import warnings

import pytest
import torch
from host_blocking import DEVICE, distant

from mmseg_siglip.evaluation import BoundaryIoUMetric, DepthMetric, IoUMetric, RefSegMetric
from mmseg_siglip.evaluation.label_maps import check_order, fetched
from mmseg_siglip.text.vocabulary import Vocabulary

METRICS = (IoUMetric, BoundaryIoUMetric)
VOC = ('background', *Vocabulary.load('voc20').names)


def evaluate(kind, maps, names, **options):
    metric = kind(**options)
    metric.dataset_meta = dict(classes=names)
    for prediction, truth in maps:
        pairs = dict(pred_sem_seg=prediction, gt_sem_seg=truth)
        metric.process(
            {}, [{key: dict(data=data) for key, data in pairs.items()} | dict(img_path='a.jpg')]
        )
    return metric.compute_metrics(metric.results)


def halves(left, right):
    return torch.tensor([left] * 4 + [right] * 4).expand(1, 8, 8).contiguous()


@pytest.mark.parametrize('kind', METRICS)
@pytest.mark.parametrize(
    ('names', 'values', 'said'),
    [
        (
            ('background', 'crack'),
            [(0, 255)],
            r'crack: .* 50\.0 % .* value 255; .*0, 255\]',
        ),
        (('cell', 'rest'), [(255, 1), (1, 1)], r'cell: .* 25\.0 % .* in 1 of 2 .*=\[255, 1\]'),
        (('a', 'b', 'c'), [(0, 1), (255, 1)], r'c: labelled in no image.*=\[0, 1, 255\]'),
        (('a', 'b', 'c', 'd'), [(0, 255)], 'b, c, d: labelled in no image'),
        (('a', 'b'), [(0, 0)], None),
        (('a', 'b'), [(0, 1), (255, 1)], None),
        (('a', 'b', 'c', 'd'), [(0, 1), (255, 1)], None),
        (('a',), [(0, 255)], None),
    ],
)
def test_a_class_under_the_ignored_value_is_suspected(kind, names, values, said):
    """Masks of 0 and 255 make a perfect prediction of nothing."""
    maps = [(halves(0, 0), halves(*pair)) for pair in values]
    if said is not None:
        with pytest.warns(UserWarning, match=said):
            evaluate(kind, maps, names)
        return
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        evaluate(kind, maps, names)


@pytest.mark.parametrize('odd', [0, 255, 256, -1, 2**40])
@pytest.mark.parametrize('dtype', [torch.int64, torch.float64])
def test_no_format_changes_a_label(odd, dtype):
    """However many the model says that there are."""
    values = [torch.tensor([[[0, 3, value]]]).to(dtype) for value in (1, odd)]
    with distant() as counter:
        given = [dict(pred_sem_seg=dict(data=value.to(DEVICE))) for value in values]
        counter.clear()
        found = fetched(given, pred_sem_seg=4)
        again = dtype == torch.int64 and not 0 <= odd < 256
        assert counter.waits == 1 + again, counter.blocking
    for one, value in zip(found, values, strict=True):
        data = one['pred_sem_seg']['data']
        assert data.dtype == dtype and torch.equal(data, value)


@pytest.mark.parametrize('kind', METRICS)
@pytest.mark.parametrize(
    ('prediction', 'truth', 'sentence'),
    [
        (halves(0, 2), halves(0, 1), 'the prediction for a.jpg holds label 2; the 2 classes go'),
        (halves(0, 1), halves(0, 65535), 'a.jpg holds label 65535; .* void_values .* ignore_index'),
        (halves(0, 1)[:, 1:], halves(0, 1), r'a.jpg: expected .* size \(8, 8\), found \(7, 8\)'),
    ],
)
def test_labels_that_are_no_classes(kind, prediction, truth, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluate(kind, [(prediction, truth)], ('a', 'b'))


@pytest.mark.parametrize(
    ('kind', 'key', 'loader'),
    [
        (IoUMetric, 'gt_sem_seg', 'LoadAnnotations'),
        (BoundaryIoUMetric, 'gt_sem_seg', 'LoadAnnotations'),
        (RefSegMetric, 'gt_sem_seg', 'LoadReferringMasks'),
        (DepthMetric, 'gt_depth_map', 'LoadDepthAnnotation'),
    ],
)
def test_a_truth_that_was_not_loaded_is_missed(kind, key, loader):
    metric = kind()
    metric.dataset_meta = dict(classes=('a', 'b'))
    maps = dict(pred_sem_seg=dict(data=halves(0, 1)), pred_depth_map=dict(data=torch.ones(1, 8, 8)))
    sentence = rf'^a.jpg has nothing to be scored against \({key}\): add {loader} to the pipeline'
    with pytest.raises(ValueError, match=sentence):
        metric.process({}, [dict(maps, img_path='a.jpg')])


def test_a_background_elsewhere_is_noticed():
    """VOC's classes with the background first, and last."""
    check_order(Vocabulary.load('voc21'), VOC)
    check_order(Vocabulary.load('voc20b_catseg'), (*VOC[1:], VOC[0]))
    sentence = "class 0 of .* is 'background', which is class 20 of .* class 0 is 'aeroplane'"
    with pytest.raises(ValueError, match=sentence):
        check_order(Vocabulary.load('voc21'), (*VOC[1:], VOC[0]))


@pytest.mark.parametrize('kind', METRICS)
@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['cat', 'dog', 'sky'], None),
        (['a feline', 'hound', 'the sky'], None),
        (['cat', 'sky, dog', 'clouds'], None),
        (['dog', 'cat', 'sky'], "class 0 of .* is 'dog', which is class 1 of .* class 0 is 'cat'"),
        (
            ['tree', 'Sky', 'road'],
            "class 1 of .* is 'Sky', which is class 2 of",
        ),
        (['cat', 'dog', '[background] wall'], None),
        (['[background] sky', 'dog', 'cat'], "class 2 of .* is 'cat', which is class 0 of"),
    ],
)
def test_classes_in_another_order_are_noticed(kind, words, sentence):
    metric = kind()
    metric.dataset_meta = dict(classes=('cat', 'dog', 'sky'))
    maps = dict.fromkeys(('pred_sem_seg', 'gt_sem_seg'), dict(data=halves(0, 1)))
    given = [dict(maps, vocabulary=Vocabulary.load(words))]
    if sentence is None:
        metric.process({}, given)
        return
    with pytest.raises(ValueError, match=sentence):
        metric.process({}, given)
