"""The metric over samples: masks, clamps, memory, files, refusals."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_siglip.evaluation import DepthMetric
from mmseg_siglip.evaluation.depth_scores import SCORES, depth_scores
from mmseg_siglip.io.image_names import name_images


def sample(prediction, truth, **meta):
    return dict(
        pred_depth_map=dict(data=prediction[None]),
        gt_depth_map=dict(data=truth[None]),
        img_path='folder/a.jpg',
        **meta,
    )


def maps(seed=0, size=(12, 10)):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(size, generator=generator) * 8 + 1
    return truth * (0.7 + torch.rand(size, generator=generator)), truth


def test_mean_over_images_of_valid_pixels_only():
    metric, expected = DepthMetric(), []
    for seed in range(3):
        prediction, truth = maps(seed)
        truth[:2], truth[2, :3], truth[3] = 0, float('nan'), 11
        metric.process({}, [sample(prediction, truth)])
        keep = (truth > 0) & (truth <= 10)
        expected.append(depth_scores(prediction[keep].clamp(1e-3, 10), truth[keep]))
    got = metric.compute_metrics(metric.results)
    assert tuple(got) == SCORES
    for name in SCORES:
        assert got[name] == pytest.approx(np.mean([scores[name] for scores in expected]))


def test_depth_out_of_range_spoils_nothing():
    prediction, truth = maps()
    prediction[0, :3] = torch.tensor([0.0, 1e30, -1])
    metric = DepthMetric()
    metric.process({}, [sample(prediction, truth)])
    assert all(np.isfinite(value) for value in metric.compute_metrics(metric.results).values())


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('align', ['none', 'median', 'lstsq'])
def test_a_pixel_that_is_no_number_is_refused(tmp_path, align, value):
    prediction, truth = maps()
    prediction[0, 0] = value
    truth[0, 0] = 0  # even where nothing is scored
    sentence = 'x.jpg: expected a prediction of finite numbers, found NaN or infinity'
    with pytest.raises(ValueError, match=sentence):
        DepthMetric(align=align).score(prediction, truth, name='x.jpg')
    metric = DepthMetric(align=align, format_only=True, output_dir=str(tmp_path / 'out'))
    with pytest.raises(ValueError, match='found NaN or infinity'):
        metric.process({}, [sample(prediction, truth)])
    assert not list((tmp_path / 'out').iterdir())


def test_a_median_that_no_factor_moves_is_refused():
    prediction, truth = maps()
    with pytest.raises(ValueError, match=r"x.jpg: align='median': .* above 0, found 0"):
        DepthMetric(align='median').score(0 * prediction, truth, name='x.jpg')


def test_only_scores_stay_in_memory():
    metric = DepthMetric()
    metric.process({}, [sample(*maps(size=(480, 640)))])
    assert len(pickle.dumps(metric.results)) < 1000


def test_names_may_be_a_list_or_a_tuple():
    for names in (['abs_rel', 'delta1'], ('abs_rel', 'delta1')):
        metric = DepthMetric(depth_metrics=names)
        metric.process({}, [sample(*maps())])
        assert list(metric.compute_metrics(metric.results)) == ['abs_rel', 'delta1']


def test_relative_models_are_aligned():
    _, truth = maps()
    inverse = 5 / truth + 1
    metric = DepthMetric(align='lstsq')
    metric.process({}, [sample(inverse, truth, depth_kind='inverse')])
    assert metric.compute_metrics(metric.results)['abs_rel'] < 1e-5
    with pytest.raises(ValueError, match="expected 'median' or 'lstsq'"):
        DepthMetric().process({}, [sample(inverse, truth, depth_kind='inverse')])


def test_no_file_is_written_over(tmp_path):
    metric = DepthMetric(output_dir=str(tmp_path), format_only=True)
    samples = [sample(*maps()) | dict(img_path=f'{drive}/0000000069.png') for drive in 'xy']
    with pytest.raises(ValueError, match='x/0000000069.png and y/0000000069.png would both be'):
        metric.process({}, samples)
    metric.image_names = name_images(each['img_path'] for each in samples).__getitem__
    metric.process({}, samples)
    metric.writers.finish()
    assert {'x_0000000069.png', 'y_0000000069.png'} < {file.name for file in tmp_path.iterdir()}


def test_files_hold_millimetres(tmp_path):
    prediction, truth = maps()
    prediction[0, 0] = 1000
    metric = DepthMetric(output_dir=str(tmp_path / 'out'), format_only=True)
    metric.process({}, [sample(prediction, truth)])
    assert metric.evaluate(1) == {}
    written = np.asarray(Image.open(tmp_path / 'out' / 'a.png'))
    assert written.dtype == np.uint16 and written[0, 0] == 65535
    expected = np.round(prediction.numpy() * 1000)
    np.testing.assert_allclose(written[1:], expected[1:], atol=1)


def test_a_range_that_16_bits_do_not_hold_is_refused(tmp_path):
    """Otherwise all that is farther than 65.535 m would be written as that."""
    options = dict(max_depth_eval=80.0, depth_scale_factor=1000.0)
    DepthMetric(**options)  # which writes nothing
    sentence = r'16 bits hold, at most 65535 / 80.0 m = 819.19 units a metre, found 1000.0'
    with pytest.raises(ValueError, match=sentence):
        DepthMetric(**options, output_dir=str(tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()
    DepthMetric(max_depth_eval=65.535, output_dir=str(tmp_path / 'out'))


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(depth_metrics=['mae']), 'depth_metrics: expected some of delta1, .* found mae'),
        (dict(depth_metrics=[]), 'found none'),
        (dict(crop_type='nyu_crop'), "one of nyu, garg, eigen, found 'nyu_crop'"),
        (dict(align='mean'), "align: expected one of none, median, lstsq, found 'mean'"),
        (dict(min_depth_eval=0), 'found 0 and 10'),
        (dict(depth_scale_factor=-1), 'depth_scale_factor: expected a positive number, found -1'),
        (dict(depth_scale_factor=float('inf')), 'depth_scale_factor: .* found inf'),
        (dict(max_depth_eval=float('inf')), 'found 0.001 and inf'),
    ],
)
def test_bad_options_get_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        DepthMetric(**options)


@pytest.mark.parametrize(('align', 'pixels'), [('median', 1), ('lstsq', 1), ('lstsq', 2)])
def test_so_few_pixels_that_any_prediction_fits_are_no_truth(align, pixels):
    prediction, truth = maps()
    few = torch.zeros_like(truth)
    few[0, :pixels] = truth[0, :pixels]
    metric = DepthMetric(align=align)
    with pytest.raises(
        ValueError, match=f'{pixels + 1 if align == "median" else 3} pixels or more'
    ):
        metric.score(prediction, few, name='a.jpg')
    metric.process({}, [sample(prediction, few), sample(prediction, truth)])
    got = metric.compute_metrics(metric.results)
    assert got['without_truth'] == 1 and got['abs_rel'] > 0.01


def test_files_say_what_they_cannot_hold(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmseg_siglip.evaluation.depth_metric.print_log', lambda text, *_: said.append(text)
    )
    metric = DepthMetric(output_dir=str(tmp_path), format_only=True)
    prediction, truth = maps()
    prediction[0, :3] = torch.tensor([100, 1e-4, 0])
    metric.process({}, [sample(prediction, truth)])
    assert said == [
        'folder/a.jpg: 1 predicted pixels are beyond the 65.535 m that its file holds and are '
        'written as that'
    ]
    metric.writers.finish()
    written = np.asarray(Image.open(tmp_path / 'a.png'))
    assert written[0, :3].tolist() == [65535, 1, 1]  # 0 would mean unknown


def test_bad_samples_get_one_sentence():
    prediction, truth = maps()
    with pytest.raises(ValueError, match=r'a.jpg: .* size \(12, 10\), found \(6, 10\)'):
        DepthMetric().process({}, [sample(prediction[:6], truth)])


@pytest.mark.parametrize('crop', [None, 'garg'])
def test_images_without_truth_are_counted_and_named(crop, monkeypatch):
    """Above the garg crop there may be some, which is not looked at."""
    said = []
    monkeypatch.setattr(
        'mmseg_siglip.evaluation.missing_truth.print_log', lambda text, *_: said.append(text)
    )
    prediction, truth = maps()
    empty = torch.zeros_like(truth)
    if crop:
        empty[0] = 1
    metric, alone = DepthMetric(crop_type=crop), DepthMetric(crop_type=crop)
    samples = [sample(prediction, depth) for depth in (empty, truth, empty)]
    samples[0]['img_path'], samples[2]['img_path'] = 'x/b.jpg', 'x/c.jpg'
    metric.process({}, samples)
    alone.process({}, [sample(prediction, truth)])
    got = metric.compute_metrics(metric.results)
    assert got == alone.compute_metrics(alone.results) | dict(without_truth=2)
    (line,) = said
    where = ' in the garg crop' if crop else ''
    assert line == (
        f'2 of 3 images have no true depth between 0.001 and 10.0 m{where} and are not counted: '
        'x/b.jpg, x/c.jpg'
    )


def test_no_image_has_truth():
    prediction, truth = maps()
    metric = DepthMetric()
    metric.process({}, [sample(prediction, torch.zeros_like(truth))])
    with pytest.raises(
        ValueError, match=r'between 0.001 and 10.0 m, found 1 without, .* fo.*a.jpg'
    ):
        metric.compute_metrics(metric.results)
    with pytest.raises(ValueError, match='a.jpg: expected true depth between .* found no such pi'):
        metric.score(prediction, torch.zeros_like(truth), name='a.jpg')


def test_relative_depth_is_not_written_as_millimetres(tmp_path):
    _, truth = maps()
    metric = DepthMetric(align='lstsq', output_dir=str(tmp_path))
    metric.process({}, [sample(truth, truth)])
    with pytest.raises(ValueError, match='output_dir: expected a model of metric depth'):
        metric.process({}, [sample(1 / truth, truth, depth_kind='inverse')])
