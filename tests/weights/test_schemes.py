from __future__ import annotations

import functools
import http.server
import threading

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, load_checkpoint
from mmseg.apis import MMSegInferencer

from mmseg_siglip.engine import Runner


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.fixture
def bird(tmp_path):
    """A file that must not come into being."""
    path = tmp_path / 'bird'
    yield path
    assert not path.exists()


@pytest.fixture
def address(tmp_path):
    """The address of a server of ``tmp_path / 'served'``."""
    (tmp_path / 'served').mkdir()
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / 'served')
    )
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def test_every_scheme_of_mmengine_is_replaced():
    loaders = CheckpointLoader._schemes
    assert {'', 'http://', 'pavi://', 'open-mmlab://', 'mmcls://', 'hf://'} <= set(loaders)
    for prefix, loader in loaders.items():
        assert loader.__module__ == 'mmseg_siglip.weights.schemes', prefix


def test_local_files_that_would_run_code_are_refused(tmp_path, bird):
    torch.save({'state_dict': {}, 'x': Canary(bird)}, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match=r'evil\.pth is refused.*io\.open'):
        load_checkpoint(torch.nn.Linear(1, 1), str(tmp_path / 'evil.pth'))


def test_remote_files_that_would_run_code_are_refused(tmp_path, bird, address):
    torch.save({'state_dict': {}, 'x': Canary(bird)}, tmp_path / 'served' / 'evil.pth')
    with pytest.raises(ValueError, match=r'is refused.*io\.open'):
        load_checkpoint(torch.nn.Linear(1, 1), f'{address}/evil.pth')


def test_remote_files_are_read(tmp_path, address):
    source, target = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    torch.save(source.state_dict(), tmp_path / 'served' / 'w.pth')
    load_checkpoint(target, f'{address}/w.pth')
    assert torch.equal(source.weight, target.weight)


@pytest.mark.parametrize(
    'name', ['pavi://a/b', 's3://bucket/a.pth', 'petrel://a', 'cluster:s3://b/a.pth', 'ftp://h/a']
)
def test_schemes_that_cannot_be_served_are_refused(name):
    with pytest.raises(ValueError, match='cannot be fetched: .* download the file'):
        load_checkpoint(torch.nn.Linear(1, 1), name)


@pytest.mark.parametrize('name', ['torchvision://no', 'open-mmlab://no', 'mmcls://no'])
def test_unknown_zoo_names_are_refused(name):
    with pytest.raises(ValueError, match="has no model named 'no'"):
        load_checkpoint(torch.nn.Linear(1, 1), name)


def test_mmcls_means_the_backbone(tmp_path, monkeypatch, address):
    state = {'backbone.weight': torch.ones(1, 1), 'head.weight': torch.zeros(1)}
    torch.save(dict(state_dict=state), tmp_path / 'served' / 'net.pth')
    monkeypatch.setattr(
        'mmseg_siglip.weights.fetch.get_mmcls_models', lambda: {'net': f'{address}/net.pth'}
    )
    found = CheckpointLoader.load_checkpoint('mmcls://net', logger='silent')
    assert list(found['state_dict']) == ['weight']


def attack(bird):
    return f"open({str(bird)!r}, 'w')\nmodel = dict()\n"


@pytest.mark.parametrize('place', ['meta.cfg', 'message_hub.runtime_info.cfg'])
def test_an_inferencer_runs_no_config_from_a_checkpoint(tmp_path, bird, place):
    checkpoint = dict(state_dict={}, meta={}, message_hub=dict(runtime_info={}))
    if place == 'meta.cfg':
        checkpoint['meta']['cfg'] = attack(bird)
    else:
        checkpoint['message_hub']['runtime_info']['cfg'] = attack(bird)
    torch.save(checkpoint, tmp_path / 'evil.pth')
    with pytest.raises(ValueError, match='Cannot find the config in the checkpoint'):
        MMSegInferencer(model=None, weights=str(tmp_path / 'evil.pth'), device='cpu')


def test_resuming_runs_no_config_from_a_checkpoint(tiny_config, tmp_path, bird):
    cfg = Config.fromfile(tiny_config)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.train_cfg.max_iters = 2
    Runner.from_cfg(cfg).train()
    path = tmp_path / 'run' / 'iter_2.pth'
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['meta']['config'] = attack(bird)
    torch.save(checkpoint, tmp_path / 'evil.pth')
    cfg.merge_from_dict({'resume': True, 'load_from': str(tmp_path / 'evil.pth')})
    cfg.train_cfg.max_iters = 3
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 3


def test_the_canaries_sing_where_nothing_protects(tmp_path):
    """Without our loaders each of these files does run: the tests above can fail."""
    from mmengine.config import Config

    torch.save({'x': Canary(tmp_path / 'pickle')}, tmp_path / 'evil.pth')
    torch.load(tmp_path / 'evil.pth', weights_only=False)
    Config.fromstring(attack(tmp_path / 'config'), file_format='.py')
    assert (tmp_path / 'pickle').exists()
    assert (tmp_path / 'config').exists()


@pytest.mark.parametrize('name', ['state_dict', 'ema_state_dict', None])
def test_weights_that_are_not_finite_are_refused(tmp_path, name):
    weights = dict(weight=torch.tensor([[float('nan')]]), bias=torch.ones(1))
    torch.save({name: weights, 'meta': {}} if name else weights, tmp_path / 'iter_1.pth')
    with pytest.raises(ValueError, match=r'iter_1\.pth: expected finite weights, .* in weight'):
        load_checkpoint(torch.nn.Linear(1, 1), str(tmp_path / 'iter_1.pth'))
