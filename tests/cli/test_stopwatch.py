"""The time between the first batch asked for and the last done."""

from __future__ import annotations

import time
from types import SimpleNamespace

from mmseg_siglip.cli.jobs.stopwatch import Stopwatch


def test_times_the_batches_and_nothing_before_or_after(capsys):
    embedded = []

    class Model:
        @property
        def text(self):
            time.sleep(0.2)
            embedded.append(1)

    runner = SimpleNamespace(model=Model(), test_dataloader=[1, 2])
    watch = Stopwatch('shapes')
    watch.before_test_epoch(runner)
    for _ in range(2):
        time.sleep(0.02)
        watch.after_test_iter(runner)
    time.sleep(0.2)
    watch.after_test_epoch(runner)
    assert embedded == [1]
    assert watch.end - watch.begin >= 0.04
    assert time.perf_counter() - watch.begin >= watch.end - watch.begin + 0.2
    assert 'shapes' in capsys.readouterr().err and watch.bar.n == 2
