"""A system goes to the Hub and comes back, by huggingface_hub's own client."""

from __future__ import annotations

import os
import subprocess
import sys

import yaml
from fake_hub import COMMIT, FakeHub

THERE = """
import sys
import numpy as np
from huggingface_hub import constants
from mmseg_siglip.api import SYSTEMS
from mmseg_siglip.api.model_card import CardFacts, Measured
from mmseg_siglip.api.system import System

config, checkpoint = sys.argv[1:]
photo = np.full((40, 56, 3), 99, np.uint8)
system = SYSTEMS['depth'].from_config(config, checkpoint, device='cpu', precision='fp32')
facts = CardFacts(
    licence='apache-2.0',
    data=['ShapesWorld'],
    results=[Measured('ShapesWorld test', dict(abs_rel=0.123), 'tools/test.py CONFIG')],
)
print(system.push_to_hub('someone/depth', token='hf_x', facts=facts))
for options in ({}, dict(revision='REVISION')):
    back = System.from_pretrained('someone/depth', device='cpu', precision='fp32', **options)
    assert np.array_equal(back(photo).depth, system(photo).depth)
    print(back.description['type'])
constants.ENDPOINT = 'http://127.0.0.1:9'
try:
    system.push_to_hub('someone/depth', token='hf_x')
except OSError as error:
    print(error)
"""


def test_there_and_back(depth_files, tmp_path):
    with FakeHub() as hub:
        hub.files['someone/depth'] = {'weights/of_before.pth': b''}
        environment = os.environ | dict(
            HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path), HF_HUB_OFFLINE='0'
        )
        code = THERE.replace('REVISION', COMMIT)
        ran = subprocess.run(
            [sys.executable, '-c', code, *map(str, depth_files)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert ran.returncode == 0, ran.stderr
    *_, address, first, second, refusal = ran.stdout.splitlines()
    assert refusal.startswith('someone/depth: the Hub cannot be reached (')
    assert address == f'{hub.endpoint}/someone/depth/commit/{COMMIT}'
    assert first == second == 'SigLIPDepthEstimator'
    files = hub.files['someone/depth']
    assert files.keys() == {'config.json', 'model.safetensors', 'README.md'}
    head, text = files['README.md'].decode().split('---\n', 2)[1:]
    head = yaml.safe_load(head)
    assert head['license'] == 'apache-2.0'
    assert head['pipeline_tag'] == 'depth-estimation'
    (result,) = head['model-index'][0]['results']
    assert result['metrics'][0]['value'] == 0.123
    assert "from_pretrained('someone/depth')" in text
    assert '| ShapesWorld test | abs_rel | 0.123 | `tools/test.py CONFIG` |' in text
