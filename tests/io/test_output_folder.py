import json
import subprocess
import sys

import pytest

from mmseg_siglip.io.manifest import MANIFEST, digest_of
from mmseg_siglip.io.output_folder import OutputFolder

SETTINGS = dict(words=['cat', 'dog, puppy'], method='sclip', sides=(3, 4))
HOLD = """
import sys
from pathlib import Path
from mmseg_siglip.io.output_folder import OutputFolder
folder = OutputFolder(Path(sys.argv[1]))
folder.share()
print('locked', flush=True)
sys.stdin.read()
"""


def claim(path, **changes):
    folder = OutputFolder(path)
    try:
        folder.claim(SETTINGS | changes)
    finally:
        folder.close()


def test_the_same_settings_may_come_again(tmp_path):
    claim(tmp_path / 'a' / 'out')
    claim(tmp_path / 'a' / 'out')
    manifest = json.loads((tmp_path / 'a' / 'out' / MANIFEST).read_text())
    assert manifest['digest'] == digest_of(manifest['settings']) == digest_of(SETTINGS)


def test_other_settings_are_refused_and_named(tmp_path):
    claim(tmp_path)
    with pytest.raises(ValueError) as error:
        claim(tmp_path, words=['cat', 'wolf'])
    assert 'words cat, dog, puppy, now cat, wolf' in str(error.value)
    assert 'method' not in str(error.value)
    with pytest.raises(ValueError, match='method sclip, now naclip; colour None, now red'):
        claim(tmp_path, method='naclip', colour='red')
    claim(tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / 'thesis.tex').write_text('')
    with pytest.raises(ValueError, match='expected an empty folder or one with .*thesis.tex'):
        claim(tmp_path)
    (tmp_path / MANIFEST).write_text('[]')
    with pytest.raises(ValueError, match='is not the manifest'):
        claim(tmp_path)


def test_a_process_that_outlives_its_run_keeps_the_next_one_out(tmp_path):
    claim(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, '-c', HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == 'locked\n'
        with pytest.raises(ValueError, match='another run is at work in this folder'):
            claim(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    claim(tmp_path)
