import os
import subprocess
import sys

import mmseg.models
import pytest
from mmengine import registry as mmengine_registry
from mmengine.registry import DefaultScope, Registry

from mmseg_siglip import registry
from mmseg_siglip.registry import DATASETS, METRICS, MODELS, TRANSFORMS, VISUALIZERS

OURS = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}
OWN = ('DENSE_METHODS', 'DEPTH_MODELS', 'GUIDES')


def test_scope_and_parents():
    assert {child.scope for child in OURS.values()} == {'mmseg_siglip'}
    parents = [child.parent for name, child in OURS.items() if name not in OWN]
    assert {parent.scope for parent in parents} == {'mmseg'}


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
        (DATASETS, 'MultiImageMixDataset'),
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


UPSTREAM = """
import sys
import mmseg_siglip
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmseg.apis import init_model
cfg = Config.fromfile(sys.argv[1])
cfg.work_dir = sys.argv[2]
runner = Runner.from_cfg(cfg)
print(*{type(hook).__module__ for hook in runner.hooks if 'siglip' in type(hook).__module__})
print(type(init_model(sys.argv[1], device='cpu').data_preprocessor).__module__)
with MODELS.switch_scope_and_registry('mmseg_siglip') as registry:
    names = 'SCLIPSegmentor', 'LlavaTrainer', 'SigLIPVisionTower', 'DPTHead', 'SILogDepthLoss'
    print(*(registry.get(name).__module__.split('.')[1] for name in names))
"""


def test_upstream_builds_ours_after_importing_the_package_alone(repository, tiny_config, tmp_path):
    result = subprocess.run(
        [sys.executable, '-c', UPSTREAM, str(tiny_config), str(tmp_path / 'run')],
        env=dict(os.environ, PYTHONPATH=str(repository)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    hooks, preprocessor, modules = result.stdout.splitlines()[-3:]
    assert 'mmseg_siglip.engine.checkpoint_hook' in hooks
    assert preprocessor.startswith('mmseg.')
    assert modules == 'models vlm vlm models models'
