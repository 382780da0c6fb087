"""A small part of `make kill-test`."""

from __future__ import annotations

import random
import sys
from collections import Counter

import pytest
from kills import JOBS, Job, killed_often


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'parts'), [('label', 90), ('label-coco', 90), ('test', 60), ('train', 9)]
)
def test_kills_lose_and_repeat_nothing(tmp_path, name, parts):
    found = killed_often(JOBS[name][0](tmp_path, parts), tmp_path, 2, random.Random(1))
    assert found.kills == 2 and found.good, found


CARELESS = """
import os, sys, time
from pathlib import Path

out = Path(sys.argv[1])
out.mkdir(exist_ok=True)
if os.fork() == 0:
    time.sleep(3)
    os._exit(0)
for number in range(6):
    (out / f'{number}').write_text(str(os.getpid()))
    time.sleep(0.3)
(out / '5').unlink()
"""


def test_what_is_lost_repeated_or_left_alive_is_counted(tmp_path, monkeypatch):
    """Of a program that begins anew each time, loses a file and leaves a child behind."""
    monkeypatch.setattr('kills.FAMILY_SECONDS', 0.5)
    monkeypatch.setattr('kills.START_SECONDS', 0.5)

    def done(out):
        return Counter(path.name for path in out.glob('*'))

    def marks(out):
        return {name: (out / name).read_text() for name in done(out)}

    def command(out, number):
        return [sys.executable, '-c', CARELESS, str(out)]

    job = Job(command, done, marks, marks, parts=6)
    found = killed_often(job, tmp_path, 2, random.Random(0))
    assert found.kills == 2 and not found.equal and not found.good
    assert found.lost >= 1 and found.twice >= 1 and found.alive >= 1
