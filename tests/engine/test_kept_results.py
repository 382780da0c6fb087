import json
import threading

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator

from mmseg_siglip.engine.kept_results import (
    FOLDER,
    KeptEvaluator,
    KeptResults,
    from_json,
    over,
    to_json,
)
from mmseg_siglip.evaluation import DepthMetric, IoUMetric, RefSegMetric, iou_metric

SIZE = (1, 6, 8)
COUNT = 5


def iou_samples(random):
    labels = random.integers(0, 3, (2, *SIZE))
    data = [dict(data=torch.tensor(values)) for values in labels]
    return dict(pred_sem_seg=data[0], gt_sem_seg=data[1])


def depth_samples(random):
    depths = random.uniform(1, 9, (2, *SIZE)).astype(np.float32)
    data = [dict(data=torch.tensor(values)) for values in depths]
    return dict(pred_depth_map=data[0], gt_depth_map=data[1])


def referring_samples(random):
    masks = random.integers(0, 2, (2, 3, *SIZE[1:])).astype(np.uint8)
    data = [dict(data=torch.tensor(values)) for values in masks]
    return dict(pred_sem_seg=data[0], gt_sem_seg=data[1], text=list('abc'))


METRICS = {
    'iou': (lambda out: IoUMetric(output_dir=str(out)), iou_samples),
    'depth': (lambda out: DepthMetric(output_dir=str(out), align='lstsq'), depth_samples),
    'referring': (lambda out: RefSegMetric(output_dir=str(out)), referring_samples),
}


@pytest.fixture(params=METRICS)
def metric_and_samples(request, tmp_path):
    build, draw = METRICS[request.param]
    random = np.random.default_rng(0)
    samples = [dict(draw(random), img_path=f'{index}.jpg') for index in range(COUNT)]

    def evaluator(kept=None, indices=()):
        plain = Evaluator([build(tmp_path / 'out')])
        plain.dataset_meta = dict(classes=('a', 'b', 'c'))
        return plain if kept is None else KeptEvaluator(plain, kept, indices)

    return evaluator, samples


def opened(folder, settings='same', go_on=True):
    kept = KeptResults(folder, settings=lambda: dict(settings=settings), go_on=go_on)
    return kept, kept.open()


def test_scores_of_two_halves_are_those_of_the_whole(metric_and_samples, tmp_path):
    evaluator, samples = metric_and_samples
    whole = evaluator()
    whole.process(samples)
    expected = whole.evaluate(COUNT)

    kept, done = opened(tmp_path / 'out')
    assert done == set()
    first = evaluator(kept, [0, 3, 1])
    first.process([samples[0], samples[3]])
    first.process([samples[1]])
    kept.close()

    kept, done = opened(tmp_path / 'out')
    assert done == {0, 1, 3}
    second = evaluator(kept, [2, 4])
    second.process([samples[2], samples[4]])
    assert second.evaluate(COUNT) == expected
    kept.close()

    kept, done = opened(tmp_path / 'out')
    assert len(done) == COUNT and evaluator(kept).evaluate(COUNT) == expected
    kept.close()


def test_a_line_that_a_kill_cut_is_an_image_not_done(metric_and_samples, tmp_path):
    evaluator, samples = metric_and_samples
    kept, _ = opened(tmp_path / 'out')
    evaluator(kept, range(COUNT)).process(samples)
    kept.close()
    (journal,) = (tmp_path / 'out' / FOLDER).glob('journal/*')
    journal.write_bytes(journal.read_bytes()[:-1])
    kept, done = opened(tmp_path / 'out')
    assert done == {0, 1, 2, 3} and journal.read_bytes().endswith(b'\n')
    kept.close()


def test_other_settings_are_refused_and_a_fresh_start_is_not(tmp_path):
    kept, _ = opened(tmp_path)
    kept.add(0, [1.0])
    kept.close()
    with pytest.raises(ValueError, match='filled with other settings .settings same, now other'):
        opened(tmp_path, 'other')
    kept, done = opened(tmp_path, 'other', go_on=False)
    assert done == set() and list(kept.read()) == []
    kept.close()


@pytest.mark.parametrize(
    'value',
    [
        [torch.tensor([0.1, 2**24 + 1.0]), torch.tensor([[3]], dtype=torch.int64)],
        {'rmse': 0.1 + 0.2, 'tiny': 5e-324, 'none': None},
        [float('inf'), -0.0],
        np.array([[1, -(2**60)]]),
        np.float32([0.1]),
    ],
)
def test_values_come_back_to_the_last_bit(value):
    found = from_json(json.loads(json.dumps(to_json(value))))
    torch.testing.assert_close(found, value, rtol=0, atol=0)


def test_nan_comes_back():
    assert np.isnan(from_json(json.loads(json.dumps(to_json(dict(a=float('nan'))))))['a'])


def test_a_loader_over_some_images():
    loader = torch.utils.data.DataLoader(list('abcdef'), batch_size=2, collate_fn=''.join)
    assert list(over(loader, [5, 0, 3])) == ['fa', 'd'] and list(over(loader, [])) == []


def test_an_image_is_kept_once_its_file_is_written(tmp_path, monkeypatch):
    gate = threading.Event()
    write = iou_metric.write_image

    def write_late(image, path):
        gate.wait(10)
        if path.name == '1.png':
            raise OSError('disk full')
        write(image, path)

    monkeypatch.setattr(iou_metric, 'write_image', write_late)
    plain = Evaluator([IoUMetric(output_dir=str(tmp_path / 'out'))])
    plain.dataset_meta = dict(classes=('a', 'b', 'c'))
    samples = [
        dict(iou_samples(np.random.default_rng(0)), img_path=f'{index}.jpg') for index in range(2)
    ]
    kept, _ = opened(tmp_path / 'out')
    evaluator = KeptEvaluator(plain, kept, range(2))
    evaluator.process(samples[:1])
    journals = (tmp_path / 'out' / FOLDER).glob('journal/*')
    assert not any(path.read_bytes() for path in journals)
    gate.set()
    evaluator.process(samples[1:])
    with pytest.raises(OSError, match='disk full'):
        evaluator.evaluate(2)
    kept.close()
    kept, done = opened(tmp_path / 'out')
    assert done == {0}
    kept.close()
