import ast

import pytest
import torch

from mmseg_siglip import device as devices
from mmseg_siglip.device import at_once, find_device, made_on, to_host, upload


@pytest.fixture
def gpus(monkeypatch):
    return lambda count: monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)


@pytest.mark.parametrize(
    ('count', 'device', 'found'),
    [
        (0, None, 'cpu'),
        (2, None, 'cuda'),
        (2, 'cpu', 'cpu'),
        (2, 'cuda', 'cuda'),
        (2, 'cuda:1', 'cuda:1'),
        (0, torch.device('cpu'), 'cpu'),
    ],
)
def test_found(gpus, count, device, found):
    gpus(count)
    assert find_device(device) == torch.device(found)


@pytest.mark.parametrize(
    ('count', 'device', 'message'),
    [
        (0, 'cuda', 'device cuda: no GPU is found'),
        (0, 'cuda:1', 'device cuda:1: no GPU is found'),
        (2, 'cuda:2', 'device cuda:2: expected cuda:0 to cuda:1'),
        (0, 'gpu', "device: expected a name such as cuda:0 or cpu, found 'gpu'"),
    ],
)
def test_refused(gpus, count, device, message):
    gpus(count)
    with pytest.raises(ValueError, match=message):
        find_device(device)


def test_the_way_there_and_back():
    """On a CPU both are nothing; what a GPU waits for is in test_host_blocking.py."""
    x, y = torch.arange(3), torch.ones(2)
    assert upload(x, torch.device('cpu')) is x
    found = to_host([x, y])
    assert found[0] is x and found[1] is y and to_host([]) == []
    with made_on(x):
        assert torch.empty(0).device.type == 'cpu'


def test_how_many_at_once(monkeypatch):
    assert at_once(30, torch.device('cpu'), 100) == 3
    assert at_once(300, torch.device('cpu'), 100) == at_once(0, torch.device('cpu'), 1) == 1
    monkeypatch.setattr(devices, 'device_memory', lambda device: {'cuda': 64 * 900}[device.type])
    assert at_once(30, torch.device('cuda'), 100) == 30
    assert at_once(30, torch.device('cuda'), 1200) == 40


def test_parts_of_what_is_large_are_by_the_device(repository):
    """`CHUNK_BYTES` are a CPU's: they go to `at_once`, except where only a CPU comes."""
    found = []
    for path in (repository / 'mmseg_siglip').rglob('*.py'):
        tree = ast.parse(path.read_text())
        asked = {
            id(argument)
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and getattr(call.func, 'id', '') == 'at_once'
            for argument in call.args
        }
        found += [
            path.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Name)
            and node.id == 'CHUNK_BYTES'
            and isinstance(node.ctx, ast.Load)
            and id(node) not in asked
        ]
    assert found == ['block.py']
