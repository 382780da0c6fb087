"""A published model where MMSeg expects an estimator: predicting, evaluating, not training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from commands import command
from mmseg.structures import SegDataSample
from tiny_depth_models import (
    by_transformers,
    depth_anything,
    depth_anything_processor,
    photograph,
    save,
)

from mmseg_siglip.api import DepthPredictor, load_depth_model
from mmseg_siglip.models.segmentors import PublishedDepthEstimator


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Relative and metric."""
    root = tmp_path_factory.mktemp('models')
    models = dict(relative=depth_anything(), metric=depth_anything(max_depth=20))
    for name, model in models.items():
        save(model, depth_anything_processor(), root / name)
    return root, models


@pytest.fixture(scope='module')
def estimator(folders):
    return PublishedDepthEstimator(dict(pretrained=str(folders[0] / 'relative'))).eval()


def test_from_a_loader_as_from_a_photograph(estimator, folders):
    """MMSeg loads blue first; a sample says which size is wanted, and what is mirrored."""
    photos = [photograph((40, 56)), photograph((40, 56), seed=1), photograph((33, 50))]
    inputs = [torch.from_numpy(np.array(p)[..., ::-1].copy()).permute(2, 0, 1) for p in photos]
    samples = [SegDataSample(metainfo=dict(ori_shape=p.size[::-1])) for p in photos]
    samples[2].set_metainfo(dict(flip=True, flip_direction='horizontal'))
    found = estimator.test_step(dict(inputs=inputs, data_samples=samples))
    for i, (sample, photo) in enumerate(zip(found, photos, strict=True)):
        expected = by_transformers(folders[1]['relative'], depth_anything_processor(), photo)
        expected = expected.flip(-1) if i == 2 else expected
        torch.testing.assert_close(sample.pred_depth_map.data[0], expected, rtol=1e-4, atol=1e-5)
        assert sample.depth_kind == 'inverse'


def test_floats_and_bytes_mean_the_same(estimator):
    image = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    assert torch.equal(
        estimator.predict_depth([image])[0], estimator.predict_depth([image / 255])[0]
    )


def test_half_precision_is_close(folders):
    exact, half = (
        DepthPredictor.from_pretrained(folders[0] / 'metric', device='cpu', precision=precision)
        for precision in ('fp32', 'bf16')
    )
    image = photograph((40, 56))
    expected, found = exact(image).depth, half(image).depth
    assert found.dtype == np.float32 and not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, rtol=0.05)


def test_training_is_refused(estimator):
    with pytest.raises(ValueError, match='expected to predict; what trains is a DPTHead'):
        estimator.loss(torch.zeros(1, 3, 28, 28), [])


@pytest.fixture
def config(repository):
    return repository / 'configs/published_depth/shapes.py'


def test_evaluation(config, folders, tmp_path, capsys):
    few = ['test_dataloader.dataset.num_scenes=3', 'test_dataloader.dataset.size=(40,56)']
    workers = ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    common = ['--work-dir', tmp_path, '--cfg-options', *few, *workers]
    assert command('test')([config, folders[0] / 'metric', *common]) == 0
    assert command('test')([config, folders[0] / 'relative', *common]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "expected 'median' or 'lstsq' for a model of relative depth, found 'none'" in line
    assert command('test')([config, *common]) == 1
    assert 'expected the file, folder or Hub id of a depth model' in capsys.readouterr().err
    aligned = [*common, 'test_evaluator.align=lstsq']
    assert command('test')([config, folders[0] / 'relative', *aligned]) == 0


def test_a_config_without_training(config, folders):
    model = load_depth_model(config, folders[0] / 'metric', device='cpu')
    assert isinstance(model, PublishedDepthEstimator) and model.predicts == 'depth'
