import importlib

import pytest
import torch

from mmseg_siglip.models.backbones import CLIPBackbone

SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)


@pytest.fixture
def family(repository, monkeypatch):
    """The script with small guides on a machine of known rates."""
    monkeypatch.syspath_prepend(str(repository / 'benchmarks'))
    module = importlib.import_module('family')
    for guide in (module.GUIDE, module.FINE_GUIDE):
        for key, value in SMALL.items():
            monkeypatch.setitem(guide['config'], key, value)
    rates = module.Rates(1e9, 1e9, 1e9)
    monkeypatch.setattr(module.Rates, 'of_this_machine', lambda: rates)
    return module


@pytest.mark.filterwarnings('ignore:Sparse')
def test_every_row_is_measured(family, openai_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(family, 'CLIPBackbone', lambda arch: CLIPBackbone(openai_file))
    costs = family.costs
    monkeypatch.setattr(
        family, 'costs', lambda encoder, **options: costs(encoder, size=(48, 64), **options)
    )
    monkeypatch.setattr(family, 'GRIDS', ((7, 9),))
    family.main(['--repeat', '1', '--out', str(tmp_path)])
    text = capsys.readouterr().out
    assert all(f'| {name} |' in text for name in family.METHODS)
    assert len((tmp_path / 'family.csv').read_text().splitlines()) == len(family.METHODS) + 1
    assert len((tmp_path / 'family_parts.csv').read_text().splitlines()) == 4 + 1


@pytest.mark.filterwarnings('ignore:Sparse')
def test_wasteful_parts_come_to_the_same(family):
    torch.manual_seed(0)
    rows = family.waste(1, grids=[(7, 9), (6, 6)])
    assert [row['patches'] for row in rows] == ['7 x 9'] * 4 + ['6 x 6'] * 4
    assert all(row['largest difference'] < 1e-5 for row in rows)
    assert all(row['times faster'] > 0 for row in rows)


def test_memory(family, openai_file):
    (row,) = family.memory(dict(type='CLIPBackbone', pretrained=openai_file), size=(352, 448))
    assert 0 < row['GB'] < 3 and row['pixels'] == '352 x 448'
