import json

import numpy as np
import pytest
import torch
from labelled import fill

from mmseg_siglip.labelling.exports.statistics import npz, safetensors
from mmseg_siglip.patch_stats.export import FORMATS
from mmseg_siglip.patch_stats.statistics import patch_statistics

IMAGE = np.zeros((4, 6, 3), np.uint8)


class Summed:
    """A row of ``mmseg-siglip patch-stats``."""

    columns, image = dict(statistics='binary'), IMAGE

    def __init__(self, depth):
        found = patch_statistics(torch.tensor(depth)[None], patch_size=2, names=('mean', 'max'))
        self.values, self.data = found.values[0].numpy(), FORMATS['npz'][0](found)

    def to_row(self):
        return dict(statistics=self.data)


SETTINGS = dict(task='patch-stats', stats=['mean', 'max'], space='depth', format='npz')


def test_a_file_each_and_the_mean_over_all(tmp_path):
    rng = np.random.default_rng(0)
    found = {name: Summed(rng.uniform(1, 5, (4, 6))) for name in ('a.png', 'b/c.png')}
    tables = fill(tmp_path, found, **SETTINGS)
    assert npz(tables, tmp_path) == []
    for name, each in found.items():
        assert (tmp_path / f'{name}.npz').read_bytes() == each.data
    with pytest.raises(ValueError, match='expected npz, as it was summed up, found safetensors'):
        safetensors(tables, tmp_path)
    summary = json.loads((tmp_path / 'summary.json').read_text())
    values = np.concatenate([each.values for each in found.values()])
    assert summary['files'] == 2 and summary['unit'] == 'm' and summary['names'] == ['mean', 'max']
    np.testing.assert_allclose(summary['mean'], values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(summary['std'], values.std(0), rtol=1e-5)


def test_no_depth_anywhere_has_no_mean(tmp_path):
    tables = fill(tmp_path, {'a.png': Summed(np.zeros((4, 6)))}, **SETTINGS)
    with pytest.raises(ValueError, match='expected depth in some patch, found none in any file'):
        npz(tables, tmp_path)
    assert not (tmp_path / 'summary.json').exists()
