import os
import subprocess
import sys

import pytest
import torch
from contracts.system import SystemContract
from tiny_depth_models import depth_anything, depth_anything_release

from mmseg_siglip.api import SYSTEMS

PROMPTS = dict(segment=['red star', 'ground'], refer='the ring', depth=None, ask='what?')
OPTIONS = dict(ask=dict(max_new_tokens=4))
NEEDS_TRAINING = ('refer',)


@pytest.fixture(scope='module')
def system(request, system_files):
    """The system of a task, of a small model that was trained here."""
    return SYSTEMS[request.param].from_config(
        *system_files[request.param], device='cpu', precision='fp32'
    )


@pytest.mark.parametrize('system', SYSTEMS, indirect=True)
def test_every_system_keeps_the_contract(system, tmp_path):
    task = system.task
    SystemContract(task, system, PROMPTS[task], **OPTIONS.get(task, {})).check(tmp_path)


def test_without_training(openai_file, tmp_path):
    system = SYSTEMS['segment'].from_pretrained(openai_file, templates='plain', precision='fp32')
    SystemContract('segment', system, PROMPTS['segment']).check(tmp_path)


def test_a_published_model_of_depth(tmp_path):
    torch.save(depth_anything_release(depth_anything()), tmp_path / 'depth_anything_v2_vits.pth')
    system = SYSTEMS['depth'].from_pretrained(
        tmp_path / 'depth_anything_v2_vits.pth', device='cpu', precision='fp32'
    )
    (tmp_path / 'out').mkdir()
    SystemContract('depth', system, None).check(tmp_path / 'out')


@pytest.mark.parametrize('system', ['refer'], indirect=True)
def test_several_phrases(system, tmp_path):
    SystemContract('refer', system, ['the ring', 'the red star']).check(tmp_path)


@pytest.mark.parametrize('task', NEEDS_TRAINING)
def test_weights_that_are_not_enough(task):
    with pytest.raises(ValueError, match=r'expected from_config\(config, checkpoint\).*tiny_sig'):
        SYSTEMS[task].from_pretrained('tiny_siglip_shapes')


@pytest.mark.parametrize('task', SYSTEMS)
@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (dict(device='cuda:7'), 'device cuda:7: no GPU is found'),
        (dict(device='gpu'), "device: expected a name such as cuda:0 or cpu, found 'gpu'"),
        (dict(precision='half'), "unknown precision 'half'; expected one of auto, fp32"),
    ],
)
def test_options_in_common(system_files, task, option, message):
    with pytest.raises(ValueError, match=message):
        SYSTEMS[task].from_config(*system_files[task], **option)


@pytest.mark.parametrize('task', SYSTEMS)
def test_weights_must_be_there(system_files, task, tmp_path):
    with pytest.raises(ValueError, match='checkpoint not found: there is no file .*none.pth'):
        SYSTEMS[task].from_config(system_files[task][0], tmp_path / 'none.pth')


def test_the_front_door_opens_quickly(repository):
    code = """
import sys
import mmseg_siglip.apis
from mmseg_siglip.api import SYSTEMS, System
print(list(SYSTEMS), [name for name in ('torch', 'numpy', 'mmengine') if name in sys.modules])
"""
    result = subprocess.run(
        [sys.executable, '-c', code],
        env=dict(os.environ, PYTHONPATH=str(repository)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.stdout == f'{list(PROMPTS)} []\n', result.stderr
