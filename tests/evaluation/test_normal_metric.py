"""Angles against numpy over all pixels at once; what is missing is named."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from mmseg_siglip.evaluation import NormalMetric


def maps(seed, size=(13, 17), spread=0.4):
    generator = torch.Generator().manual_seed(seed)
    truth = normalize(torch.randn(3, *size, generator=generator), dim=0)
    noise = spread * (1 + seed) * torch.randn(3, *size, generator=generator)
    truth[:, :2] = 0
    return normalize(truth + noise, dim=0), truth


def sample(prediction, truth, name='a.jpg'):
    return dict(
        pred_normal_map=dict(data=prediction), gt_normal_map=dict(data=truth), img_path=name
    )


def evaluate(pairs):
    degrees = []
    for prediction, truth in pairs:
        prediction, truth = (x.double().numpy().reshape(3, -1).T for x in (prediction, truth))
        known = np.linalg.norm(truth, axis=1) > 0
        cosine = (prediction[known] * truth[known]).sum(1)
        degrees.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    degrees = np.concatenate(degrees)
    return dict(
        mean=degrees.mean(),
        median=np.median(degrees),
        rmse=np.sqrt((degrees**2).mean()),
        **{
            'within_11.25': (degrees < 11.25).mean(),
            'within_22.5': (degrees < 22.5).mean(),
            'within_30': (degrees < 30).mean(),
        },
    )


@pytest.mark.parametrize('unknown', [0.0, float('nan'), float('inf')])
def test_how_much_truth_there_is(unknown, monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmseg_siglip.evaluation.normal_metric.print_log', lambda *given: said.append(given)
    )
    prediction, truth = maps(0, (10, 10))
    truth[:, :6] = unknown
    metric = NormalMetric()
    metric.process({}, [sample(prediction, truth)])
    found = metric.compute_metrics(metric.results)
    assert found['mean'] == pytest.approx(evaluate([(prediction[:, 6:], truth[:, 6:])])['mean'])
    line = 'true normals at 40.00% of the pixels of 1 images'
    assert said == [(line, 'current', logging.WARNING)]


def test_equals_numpy_over_all_pixels():
    pairs = [maps(seed, size) for seed, size in enumerate([(13, 17), (40, 31), (5, 5)])]
    metric = NormalMetric()
    for pair in pairs:
        metric.process({}, [sample(*pair)])
    found, expected = metric.compute_metrics(metric.results), evaluate(pairs)
    assert list(found) == list(expected) and 0 < found['within_11.25'] < found['within_30'] < 1
    for name, value in expected.items():
        tolerance = dict(abs=0.02) if name == 'median' else dict(rel=1e-6, abs=1e-6)
        assert found[name] == pytest.approx(value, **tolerance), name


def test_hand_values():
    truth = torch.tensor([0.0, 0, 1]).view(3, 1, 1).expand(3, 1, 4).clone()
    turned = [np.radians(x) for x in (0, 10, 40, 180)]
    prediction = torch.tensor(
        [[[np.sin(x) for x in turned]], [[0.0] * 4], [[np.cos(x) for x in turned]]]
    )
    metric = NormalMetric()
    metric.process({}, [sample(prediction.float(), truth)])
    found = metric.compute_metrics(metric.results)
    assert found['mean'] == pytest.approx(57.5, abs=1e-3)
    assert found['median'] == pytest.approx(25, abs=0.02)
    assert (found['within_11.25'], found['within_30']) == (0.5, 0.5)
    assert found['rmse'] == pytest.approx(np.sqrt((100 + 1600 + 32400) / 4), abs=1e-3)


def test_memory_of_an_image_is_bounded():
    metric = NormalMetric()
    metric.process({}, [sample(*maps(0, (480, 640)))])
    assert len(pickle.dumps(metric.results)) < 50_000


def test_images_without_truth_are_counted():
    pair = maps(0)
    metric, alone = NormalMetric(), NormalMetric()
    empty = torch.zeros_like(pair[1])
    metric.process({}, [sample(*pair), sample(pair[0], empty, 'b.jpg')])
    alone.process({}, [sample(*pair)])
    expected = alone.compute_metrics(alone.results) | dict(without_truth=1)
    assert metric.compute_metrics(metric.results) == expected
    with pytest.raises(ValueError, match='image with true normals, found 1 without, first b.jpg'):
        metric.compute_metrics(metric.results[1:])


def test_files_are_pictures(tmp_path):
    prediction, truth = maps(0)
    metric = NormalMetric(output_dir=str(tmp_path / 'out'), format_only=True)
    metric.process({}, [sample(prediction, truth)])
    assert metric.evaluate(1) == {}
    written = np.asarray(Image.open(tmp_path / 'out' / 'a.normals.png'))
    np.testing.assert_allclose(written / 127.5 - 1, prediction.permute(1, 2, 0), atol=0.005)


def test_bad_samples_get_one_sentence():
    prediction, truth = maps(0)
    with pytest.raises(ValueError, match=r'a.jpg: .* truth \(3, 13, 17\), found \(3, 5, 17\)'):
        NormalMetric().process({}, [sample(prediction[:, :5], truth)])
    with pytest.raises(ValueError, match='a.jpg: expected predicted normals, found NaN'):
        NormalMetric().process({}, [sample(prediction * float('nan'), truth)])
    with pytest.raises(ValueError, match='a.jpg: expected gt_normal_map, found none'):
        NormalMetric().process({}, [sample(prediction, truth) | dict(gt_normal_map=None)])
