"""The scores against a naive count and against numbers worked out by hand."""

import json
import logging
import multiprocessing
import pickle
import socket

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_siglip.evaluation import RefSegMetric
from mmseg_siglip.evaluation.referring_metric import count_pixels

NAMES = ['oIoU', 'mIoU', 'Pr@0.5', 'Pr@0.6', 'Pr@0.7', 'Pr@0.8', 'Pr@0.9']


def sample(prediction, truth, text=None):
    text = text or [f'phrase {i}' for i in range(len(truth))]
    data = dict(pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=truth))
    return dict(data, img_path='folder/a.jpg', text=text)


def score(samples, **options):
    metric = RefSegMetric(**options)
    for each in samples:
        metric.process({}, [each])
    return metric.compute_metrics(metric.results)


def row(*counts, length=20):
    """Masks (P, 1, length) of ones at the first `counts` pixels."""
    return torch.stack([(torch.arange(length) < n).byte()[None] for n in counts])


def random_samples(count=5, seed=0, ignored=0.1, empty=True):
    """Images of different sizes with different numbers of phrases."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        shape = rng.integers(1, 5), rng.integers(3, 9), rng.integers(3, 9)
        truth = (rng.random(shape) < 0.5).astype(np.uint8)
        prediction = np.where(rng.random(shape) < 0.7, truth, 1 - truth)
        truth[rng.random(shape) < ignored] = 255
        if empty and rng.random() < 0.5:
            truth[0] = 0
            prediction[0] = rng.random() < 0.5
        samples.append(sample(torch.from_numpy(prediction), torch.from_numpy(truth)))
    return samples


def naive(samples, strict, no_target):
    """Pixel by pixel, phrase by phrase."""
    intersections, unions, ious, hits = 0, 0, [], {x: [] for x in (0.5, 0.6, 0.7, 0.8, 0.9)}
    right = {True: [], False: []}
    for each in samples:
        masks = (each[key]['data'].numpy() for key in ('pred_sem_seg', 'gt_sem_seg'))
        for prediction, truth in zip(*masks, strict=True):
            both = either = target = predicted = 0
            for p, t in zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True):
                if t != 255:
                    both, either = both + (p and t), either + (p or t)
                    target, predicted = target + t, predicted + p
            right[target > 0].append((predicted > 0) == (target > 0))
            if target == 0 and no_target == 'skip':
                continue
            iou = both / either if either else 1.0
            intersections, unions = intersections + both, unions + either
            ious.append(iou)
            if target:
                for x, hit in hits.items():
                    hit.append(iou > x if strict else iou >= x)
    scores = dict(oIoU=100 * intersections / unions, mIoU=100 * sum(ious) / len(ious))
    scores |= {f'Pr@{x}': 100 * sum(hit) / len(hit) for x, hit in hits.items()}
    if right[False]:
        scores['N-acc'] = 100 * sum(right[False]) / len(right[False])
        scores['T-acc'] = 100 * sum(right[True]) / len(right[True])
    return scores


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('strict', [False, True])
@pytest.mark.parametrize('no_target', ['count', 'skip'])
def test_equals_the_naive_count(seed, strict, no_target):
    samples = random_samples(seed=seed)
    found = score(samples, strict=strict, no_target=no_target)
    assert found == pytest.approx(naive(samples, strict, no_target))


def test_by_hand():
    """IoUs 9/10, 4/8 and 0/5: 13 of 23 pixels, mean 7/15."""
    first = sample(row(9, 8), row(10, 4))
    second = sample(row(0), row(5))
    scores = score([first, second])
    assert scores == pytest.approx(
        dict(zip(NAMES, [1300 / 23, 140 / 3, 200 / 3, *[100 / 3] * 4], strict=True))
    )
    assert list(scores) == NAMES
    strict = score([first, second], strict=True)
    assert strict['Pr@0.5'] == pytest.approx(100 / 3) and strict['Pr@0.9'] == 0


def test_a_target_that_resizing_loses_is_still_one_to_find():
    truth = torch.zeros(2, 1000, 1000, dtype=torch.uint8)
    truth[0, 2, 2], truth[1, :500] = 1, 1
    prediction = truth.clone()
    prediction[0] = 0
    for rule in ('count', 'skip'):
        scores = score([sample(prediction, truth)], side=480, no_target=rule)
        assert scores['mIoU'] == scores['Pr@0.9'] == 50 and scores['oIoU'] == 100
        assert 'N-acc' not in scores


@pytest.mark.parametrize('tenths', [5, 6, 7, 8, 9])
def test_an_iou_of_exactly_the_threshold(tenths):
    exact = [sample(row(tenths), row(10))]
    assert score(exact)[f'Pr@0.{tenths}'] == 100
    assert score(exact, strict=True)[f'Pr@0.{tenths}'] == 0


def test_phrases_that_fit_nothing():
    """One with an empty prediction (right), one with 3 pixels, and a real target found by half."""
    samples = [sample(row(0, 3), row(0, 0)), sample(row(2), row(4))]
    counted = score(samples)
    assert counted['oIoU'] == pytest.approx(100 * 2 / 7)
    assert counted['mIoU'] == pytest.approx(100 * (1 + 0 + 0.5) / 3)
    assert counted['Pr@0.5'] == 100 and counted['N-acc'] == 50 and counted['T-acc'] == 100
    skipped = score(samples, no_target='skip')
    assert skipped['oIoU'] == skipped['mIoU'] == 50 and skipped['N-acc'] == 50


def test_never_nan():
    nothing = [sample(row(0), row(0))]
    assert score(nothing) == dict(oIoU=100.0, mIoU=100.0) | {'N-acc': 100.0}
    with pytest.raises(ValueError, match="a phrase with a target for no_target='skip', found none"):
        score(nothing, no_target='skip')
    assert all(np.isfinite(v) for v in score(nothing + [sample(row(0), row(3))]).values())


def test_ignored_pixels_count_nowhere():
    truth = row(10)
    truth[..., 5:15] = 255
    assert score([sample(row(20), truth)])['oIoU'] == 50


def test_sums_pass_32_bits():
    size = (2**16, 2**16)
    counts = np.array([[2**31, 2**32, 2**32, 2**32]] * 4, np.int64)
    metric = RefSegMetric()
    assert np.prod(size) == 2**32
    assert metric.compute_metrics([counts])['oIoU'] == 50.0
    assert count_pixels(row(3), row(5), name='a').dtype == np.int64


def test_the_480_pixel_protocol():
    """A square of 6 in 24 pixels becomes 120 in 480, one of 10 in 960 becomes 5."""
    small = torch.zeros(1, 24, 24, dtype=torch.uint8)
    small[:, 6:12, 6:12] = 1
    counts = count_pixels(small, small.roll(1, 2), name='a', side=480)
    assert counts.tolist() == [[120 * 100, 120 * 140, 120 * 120, 36]]
    large = torch.zeros(1, 960, 960, dtype=torch.uint8)
    large[:, 100:110, 100:110] = 1
    moved = large.roll(1, 2)
    assert score([sample(large, moved)])['mIoU'] == pytest.approx(100 * 90 / 110)
    assert score([sample(large, moved)], side=480)['mIoU'] in (100, pytest.approx(100 * 20 / 30))
    pillow = [np.asarray(Image.fromarray(m[0].numpy()).resize((480, 480), 0)) for m in (large,)]
    assert count_pixels(large, large, name='a', side=480)[0, 2] == pillow[0].sum() == 25


def test_the_protocol_is_in_the_log(caplog):
    from mmengine.logging import MMLogger

    logger = MMLogger.get_instance('referring', logger_name='referring')
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        score([sample(row(2, 0), row(4, 0))], side=480, strict=True)
        score([sample(row(2), row(4))], no_target='skip')
    first, second = (record.message for record in caplog.records if record.levelname == 'INFO')
    assert first.startswith('2 phrases of 1 samples, 1 of which fit nothing; masks at 480 x 480')
    assert 'Pr@X asks for IoU > X' in first and 'count as IoU 1 or 0' in first
    assert 'at the original size' in second and '>= X' in second and 'left out' in second


def test_only_counts_stay_in_memory():
    metric = RefSegMetric()
    masks = torch.zeros(3, 480, 640, dtype=torch.uint8)
    metric.process({}, [sample(masks, masks)])
    assert len(pickle.dumps(metric.results)) < 1000


def test_no_file_is_written_over(tmp_path):
    metric = RefSegMetric(output_dir=str(tmp_path), format_only=True)
    samples = [sample(row(3), row(0), text=['cup']) | dict(img_path=f'{at}/a.jpg') for at in 'xy']
    with pytest.raises(ValueError, match='x/a.jpg and y/a.jpg would both be saved as a'):
        metric.process({}, samples)


def test_files(tmp_path):
    metric = RefSegMetric(output_dir=str(tmp_path / 'out'), format_only=True)
    metric.process({}, [sample(row(3, 5), row(0, 0), text=['a cup', 'é'])])
    assert metric.evaluate(1) == {}
    names = json.loads((tmp_path / 'out/a.json').read_text())
    assert names == {'a_0.png': 'a cup', 'a_1.png': 'é'}
    written = np.asarray(Image.open(tmp_path / 'out/a_1.png'))
    assert (written == row(5)[0].numpy() * 255).all()


def test_samples_of_one_image_have_files_of_their_own(tmp_path):
    metric = RefSegMetric(output_dir=str(tmp_path), format_only=True)
    samples = [sample(row(n), row(0), text=[text]) for n, text in ((3, 'a cup'), (5, 'é'))]
    metric.process({}, [dict(one, first_phrase=i) for i, one in enumerate(samples)])
    metric.writers.finish()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {'a_0.png', 'a_1.png', 'a_0.json', 'a_1.json'}
    assert json.loads((tmp_path / 'a_1.json').read_text()) == {'a_1.png': 'é'}
    written = np.asarray(Image.open(tmp_path / 'a_1.png'))
    assert (written == row(5)[0].numpy() * 255).all()


@pytest.mark.parametrize(
    ('prediction', 'truth', 'sentence'),
    [
        (row(1), row(1, 2), r'a.jpg: expected masks of the truth \(2, 1, 20\) .* found \(1, 1, 20'),
        (row(1)[..., :9], row(1), r'found \(1, 1, 9\)'),
        (row(1) * 2, row(1), 'expected a prediction of 0 and 1, found 2'),
        (row(1), row(1) * 7, 'expected a truth of 0, 1 and 255, found 7'),
        (row(1), torch.full_like(row(1), 255), 'expected pixels that count for every phrase'),
    ],
)
def test_bad_samples_get_one_sentence(prediction, truth, sentence):
    with pytest.raises(ValueError, match=sentence):
        RefSegMetric().process({}, [sample(prediction, truth)])


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(no_target='zero'), "expected no_target count or skip, found 'zero'"),
        (dict(side=0), 'expected a side of 1 or more pixels, found 0'),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        RefSegMetric(**options)


def shared(rank, port, queue):
    torch.distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2
    )
    metric, samples = RefSegMetric(), random_samples(count=5)
    padded = samples + samples[:1]  # as a sampler fills the last process up
    for each in padded[rank::2]:
        metric.process({}, [each])
    scores = metric.evaluate(len(samples))
    queue.put((rank, scores))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_scores_of_one():
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context('fork')
    queue = context.SimpleQueue()
    processes = [context.Process(target=shared, args=(rank, port, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(queue.get() for _ in processes)
    for process in processes:
        process.join()
    assert found[0] == found[1] == score(random_samples(count=5))


@pytest.mark.parametrize('key', ['pred_sem_seg', 'seg_logits'])
def test_a_prediction_that_is_no_number_is_refused(key):
    given = sample(row(3), row(3))
    bad = dict(data=torch.full((1, 1, 20), float('nan')))
    with pytest.raises(ValueError, match='a.jpg: expected a prediction of finite numbers'):
        RefSegMetric().process({}, [given | {key: bad}])


def test_a_target_lost_by_resizing_and_not_found_is_no_success():
    truth = torch.zeros(1, 1000, 1000, dtype=torch.uint8)
    truth[0, 0, 1] = 1
    scores = score([sample(torch.zeros_like(truth), truth)], side=3)
    assert scores['oIoU'] == scores['mIoU'] == scores['Pr@0.5'] == 0
