"""Ctrl-C and SIGTERM while real commands work, with workers that read their data."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_interrupted_commands_say_how_to_go_on_and_leave_nothing(tiny_config, tmp_path, repository):
    folder = tmp_path / 'runs'
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != 'RANK'}
    result = subprocess.run(
        [sys.executable, str(repository / 'tests/cli/interrupted.py'), tiny_config, folder],
        env=dict(environment, PYTHONPATH=str(repository)),
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    lines = dict(
        train=rf'interrupted: {folder}/train/iter_\d+\.pth is kept; the same command goes on from '
        'there with --resume',
        train_alone=rf'terminated: {folder}/alone/iter_\d+\.pth is kept; the same command goes on '
        'from there with --resume',
        test=f'interrupted: predictions so far are in {folder}/predictions, and no score; the same '
        'command begins anew',
        segment=f'interrupted: what is done is in {folder}/segmented; the same command begins anew',
        label=f'interrupted: what is labelled is in {folder}/labelled; the same command goes on '
        'from there',
        label_alone=f'terminated: what is labelled is in {folder}/alike; the same command goes on '
        'from there',
    )
    for name, (status, left) in json.loads(result.stdout.splitlines()[-1]).items():
        said = (folder / f'{name}.err').read_text()
        assert (status, left) == (143 if name.endswith('alone') else 130, []), f'{name}: {said}'
        assert re.fullmatch(lines[name], said.splitlines()[-1]), f'{name}: {said}'
        assert 'Traceback' not in said, f'{name}: {said}'
