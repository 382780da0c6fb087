"""What a process shows, and what its log file holds."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys

import pytest
from mmengine.logging import MMLogger

from mmseg_siglip.engine.screen import quieten

COMMANDS = """
import sys
from mmseg_siglip.cli.main import main
tiny, shapes, folder = sys.argv[1:]
options = ['--cfg-options', 'default_hooks.logger.interval=50']
assert main(['train', tiny, '--work-dir', f'{folder}/train', *options]) == 0
print('TESTED')
options = ['num_workers=0', 'persistent_workers=False', 'dataset.num_scenes=1']
options = [f'test_dataloader.{option}' for option in options]
options = ['model.templates=plain', *options]
assert main(['test', shapes, '--work-dir', f'{folder}/test', '--cfg-options', *options]) == 0
"""
FOR_THE_FILE = ('System environment:', 'Config:', 'Hooks will be executed', 'default_hooks')
UPSTREAM = ('The prefix is not set', '"FileClient"', '"HardDiskBackend"', 'is skipped since')


@pytest.mark.slow
def test_a_process_shows_what_happens_and_its_files_hold_all(repository, tiny_config, tmp_path):
    """A training and a test."""
    shapes = repository / 'configs/sclip/shapes.py'
    found = subprocess.run(
        [sys.executable, '-c', COMMANDS, str(tiny_config), str(shapes), str(tmp_path)],
        env=dict(os.environ, PYTHONPATH=str(repository)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    assert not re.search('transformers|Loading weights|draw is False', found.stderr)
    assert not [words for words in (*FOR_THE_FILE, *UPSTREAM) if words in found.stdout]
    train, test = found.stdout.split('TESTED')
    steps = re.findall(r'Iter\(train\) \[\s*(\d+)/8\].* eta: .* loss: [\d.]+', train)
    assert steps == ['1', '2', '4', '5']  # MMEngine logs the end of the data, the fourth, too
    assert re.search(r'Iter\(test\) .*mIoU: [\d.]+', test)
    assert len(found.stdout.splitlines()) < 60
    for name in ('train', 'test'):
        log = next((tmp_path / name).glob('*/*.log')).read_text()
        assert all(words in log for words in FOR_THE_FILE)


def test_warnings_and_searches_for_faults_are_shown(capsys):
    logger = MMLogger('screen', log_level='INFO')
    quieten(logger, 'WARNING')
    logger.warning('something is wrong')
    logger.info('something is right')
    logger.warning('Config:\nall of it')
    assert re.findall('something is .*|all of it', capsys.readouterr().out) == [
        'something is wrong'
    ]
    searching = MMLogger('search', log_level='DEBUG')
    quieten(searching)
    searching.log(logging.DEBUG, 'Config:\nall of it')
    assert 'all of it' in capsys.readouterr().out
