import mmseg.models
import pytest
from mmengine import registry as mmengine_registry
from mmengine.registry import DefaultScope, Registry

from mmseg_siglip import registry
from mmseg_siglip.registry import DATASETS, METRICS, MODELS, TRANSFORMS, VISUALIZERS

OURS = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}


def test_scope_and_parents():
    assert {child.scope for child in OURS.values()} == {'mmseg_siglip'}
    assert {child.parent.scope for child in OURS.values()} == {'mmseg'}


@pytest.mark.parametrize(
    ('child', 'name'),
    [
        (MODELS, 'SCLIPSegmentor'),
        (MODELS, 'SigLIPBackbone'),
        (DATASETS, 'COCOObjectDataset'),
        (TRANSFORMS, 'LoadAnnotations'),
        (METRICS, 'IoUMetric'),
    ],
)
def test_our_names_come_first(child, name):
    assert child.get(name).__module__.startswith('mmseg_siglip.')


@pytest.mark.parametrize(
    ('child', 'name'),
    [
        (MODELS, 'EncoderDecoder'),
        (VISUALIZERS, 'SegLocalVisualizer'),
        (DATASETS, 'CityscapesDataset'),
    ],
)
def test_others_fall_through_to_mmseg(child, name):
    assert child.get(name).__module__.startswith('mmseg.')


def test_mmsegs_own_stays_reachable():
    assert METRICS.get('mmseg.IoUMetric') is mmseg.evaluation.IoUMetric
    assert METRICS.get('mmseg.IoUMetric') is not METRICS.get('IoUMetric')


def test_mmengine_builds_ours_in_our_scope():
    with DefaultScope.overwrite_default_scope('mmseg_siglip'):
        module = mmengine_registry.MODELS.build(dict(type='PAMRPostProcessor', num_iter=1))
    assert type(module).__module__ == 'mmseg_siglip.models.postprocessors.pamr'
