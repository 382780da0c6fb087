from __future__ import annotations

import json

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmseg_siglip.api.load import read_config
from mmseg_siglip.cli.main import main


@pytest.fixture
def data_configs(tmp_path, monkeypatch):
    """A YAML and a JSON file by which MMEngine would import a module, and what that would write."""
    bird = tmp_path / 'ran'
    (tmp_path / 'evil_module.py').write_text(f'open({str(bird)!r}, "w").close()\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    fields = dict(custom_imports=dict(imports=['evil_module'], allow_failed_imports=False))
    for name in ('evil.json', 'evil.yaml', 'evil.yml'):  # JSON is YAML
        (tmp_path / name).write_text(json.dumps(fields))
    return [tmp_path / name for name in ('evil.json', 'evil.yaml', 'evil.yml')], bird


def test_data_is_no_config(data_configs):
    paths, bird = data_configs
    for path in paths:
        with pytest.raises(
            ValueError, match=rf'{path.name} is a \{path.suffix} config, expected a .py'
        ):
            read_config(path)
    assert not bird.exists()
    Config.fromfile(paths[0])
    assert bird.exists(), 'it would not have been obeyed'


def test_no_command_obeys_data(data_configs, tmp_path, capsys):
    paths, bird = data_configs
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / 'a.png')
    image, out, config = (str(tmp_path / 'a.png'), str(tmp_path / 'out'), str(paths[1]))
    commands = [
        ['label', image, '--words', 'cat', '--out', out, '--config', config],
        ['segment', image, 'cat', '--out', out, '--config', config],
        ['refer', image, 'cat', '--out', out, '--config', config],
        ['depth', image, '--out', out, '--config', config],
        ['ask', 'model', image, 'what?', '--depth-config', config],
        ['train', config],
        ['test', config],
        ['trace', config],
        ['rank-templates', config, '--out', out],
        ['patch-stats', image, '--out', out, '--config', config, '--patch-size', '16'],
    ]
    for command in commands:
        assert main(command) == 1, command
        found = capsys.readouterr().err
        assert found == f'error: {config} is a .yaml config, expected a .py file.\n', command
    assert not bird.exists()


def test_configs_are_read_in_one_place(repository):
    places = {
        str(path.relative_to(repository))
        for part in ('mmseg_siglip', 'tools')
        for path in (repository / part).rglob('*.py')
        if 'fromfile' in path.read_text(encoding='utf-8')
    }
    assert places == {'mmseg_siglip/api/load.py'}


def test_what_is_no_program(tmp_path):
    path = tmp_path / 'config.py'
    with pytest.raises(ValueError, match=r'there is no file .*config\.py'):
        read_config(path)
    path.write_text('a = 1 +')
    with pytest.raises(ValueError, match=r'config\.py cannot be read: .*') as caught:
        read_config(path)
    assert '\n' not in str(caught.value)
    path.write_text('a = 1')
    with pytest.raises(ValueError, match=r"no file .*confg\.py; did you mean 'config\.py'\?"):
        read_config(tmp_path / 'confg.py')
    with pytest.raises(ValueError, match=rf'{tmp_path} is a folder, .* such as {path}$'):
        read_config(tmp_path)
    assert read_config(str(path)).a == 1
    assert read_config(found := read_config(path)) is found
