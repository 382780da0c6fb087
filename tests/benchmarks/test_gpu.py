"""Every line of the benchmark runs in small, on a CPU; without a GPU it makes no figures."""

import importlib

import pytest
import torch


@pytest.fixture
def gpu(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / 'benchmarks'))
    return importlib.import_module('gpu')


@pytest.mark.filterwarnings('ignore')
def test_every_part_in_small(gpu, tmp_path, capsys):
    page = tmp_path / 'gpu.md'
    assert gpu.main(['--device', 'cpu', '--small', '--out', str(page)]) == 0, (
        capsys.readouterr().err
    )
    text = page.read_text()
    assert 'a CPU, in small: no figures' in text and 'failed' not in text
    assert all(f'\n## {part}\n' in text for part in gpu.PARTS)
    for line in (
        'labelling, an image',
        'labelling, JPEG to PNG',
        'csa, an image',
        'trident, an image',
        'corrclip, an image',
        'PAMR of 4 words',
        'CAT-Seg',
        'DPT',
    ):
        assert f'| {line}' in text, line
    assert 'nan' not in text
    assert '| referring' in text and '| tower' in text and '% of pixels equal' in text


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ([], 'expected a GPU, found none; --device cpu --small runs every line in small'),
        (['--device', 'cpu'], 'expected --small with --device cpu'),
    ],
)
def test_refusals(gpu, arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit, match='2'):
        gpu.main([*arguments, '--out', str(tmp_path / 'page.md')])
    assert sentence in capsys.readouterr().err and not any(tmp_path.iterdir())


def test_one_part_does_not_cost_the_others(gpu, tmp_path, monkeypatch, capsys):
    def fail(scale, clock):
        yield gpu.row('first', 1.0, 2.0)
        raise ValueError('no memory')

    monkeypatch.setattr(gpu, 'PARTS', dict(broken=fail, whole=lambda *_: [gpu.row('x', 1.0, 3.0)]))
    monkeypatch.setattr('sys.argv', ['gpu.py'])
    page = tmp_path / 'gpu.md'
    assert gpu.main(['--device', 'cpu', '--small', '--out', str(page)]) == 1
    text = page.read_text()
    assert '| first | 2 |' in text and 'no memory' in text and '| x | 3 |' in text
