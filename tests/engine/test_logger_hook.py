"""Which iterations of a training are logged, by MMEngine's own Runner and log."""

from __future__ import annotations

import re

import pytest
from mmengine.config import Config

from mmseg_siglip.engine import Runner


@pytest.mark.parametrize(
    ('interval', 'logged'),
    [(50, [1, 2, 4, 5]), (4, [1, 2, 4, 8]), (1, [1, 2, 3, 4, 5, 6, 7, 8])],
)
def test_the_first_iterations_and_each_interval(tiny_config, tmp_path, interval, logged):
    """The fourth ends the data, which MMEngine logs, too."""
    cfg = Config.fromfile(tiny_config)
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'run'), f'every_{interval}'
    cfg.default_hooks.logger.interval = interval
    Runner.from_cfg(cfg).train()
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert [int(step) for step in re.findall(r'Iter\(train\) \[\s*(\d+)/8\]', log)] == logged
    assert all(re.findall(r'Iter\(train\) .* eta: .* loss: [\d.]+', log))
