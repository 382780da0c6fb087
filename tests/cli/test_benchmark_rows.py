"""Rows of `mmseg-siglip benchmark`: kept, not measured again, failed alone."""

import csv
from pathlib import Path

import numpy as np
import pytest
from commands import command
from PIL import Image

from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs import benchmark
from mmseg_siglip.cli.jobs.benchmark_table import BLANK, Done
from mmseg_siglip.models.dense import DenseMethod
from mmseg_siglip.registry import DENSE_METHODS

main = command('benchmark')

SMALL = ['--slide-crop', '64', '--slide-stride', '64', '--num-samples', '2']
SMALL += ['--cfg-options', 'model.templates=plain', 'test_dataloader.num_workers=0']
SMALL += ['test_dataloader.persistent_workers=False']


class Squares(DenseMethod):
    def check(self, encoder):
        raise ValueError('expected a square, found a circle; use csa')


class Broken(DenseMethod):
    def forward(self, trunk):
        raise RuntimeError('a bug')


@pytest.fixture(autouse=True)
def data(laid_out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RANK', raising=False)
    target = tmp_path / 'data/VOCdevkit/VOC2012'
    target.parent.mkdir(parents=True)
    target.symlink_to(laid_out('voc21'))
    for name, kind in dict(squares=Squares, broken=Broken).items():
        monkeypatch.setitem(DENSE_METHODS.module_dict, name, kind)


@pytest.fixture
def measured(monkeypatch):
    """What is measured, by a test that takes no time; some methods may be interrupted."""
    seen = []

    def measure(cfg, method, args, published):
        seen.append(method)
        if method in measure.killed:
            raise KeyboardInterrupt
        encoder = cfg.model.backbone.pretrained
        row = dict(BLANK, dataset='voc21', attention=method, encoder=encoder, images=2)
        row |= dict(mIoU=len(method) * 1.0, images_per_second=1.0, seconds_per_image=1.0)
        return Done(row, np.ones((2, 2, 3)))

    measure.killed = set()
    monkeypatch.setattr(benchmark, 'measure', measure)
    return seen, measure.killed


def rows(path='table.csv'):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_one_table(openai_file, siglip_folder, capsys):
    """Two encoders, a method that refuses, one that breaks, and all the files."""
    argv = ['--datasets', 'voc21', '--encoders', openai_file, siglip_folder, *SMALL]
    argv += ['--methods', 'vanilla', 'squares', 'broken', 'naclip', '--baseline', 'vanilla']
    argv += ['--out', 'table.csv', '--markdown', 'table.md', '--plot', 'table.png']
    argv[:0] = ['--save-vis', 'vis']
    assert main(argv) == 1
    output = capsys.readouterr()
    assert 'error: 4 of 8 rows failed; voc21 squares' in output.err
    assert output.err.count('RuntimeError: a bug') == 2 and 'ValueError' not in output.err
    found = rows()
    names = ['vanilla', 'squares', 'broken', 'naclip'] * 2
    assert [row['attention'] for row in found] == names
    assert [Path(row['encoder']).name for row in found[::4]] == [
        Path(openai_file).name,
        Path(siglip_folder).name,
    ]
    assert found[1]['error'] == 'expected a square, found a circle; use csa'
    assert found[2]['error'] == 'a bug' and found[2]['mIoU'] == ''
    for row in (found[0], found[3], found[4], found[7]):
        low, score, high = (float(row[key]) for key in ('low', 'mIoU', 'high'))
        assert 0 <= low <= high <= 100 and 0 <= score <= 100
        assert 0 <= float(row['mBIoU']) <= 100 and 0 <= float(row['aAcc']) <= 100
        assert float(row['seconds_per_image']) > 0 and float(row['memory']) >= 0
        assert 0.5 < float(row['flops']) < 1.2 and row['supervised'] == 'no'
        difference = float(row['mIoU']) - float(found[names.index('vanilla')]['mIoU'])
        if row['encoder'] == found[0]['encoder']:
            assert float(row['difference']) == pytest.approx(difference, abs=0.01)
    assert float(found[4]['difference']) == 0
    assert Path('table.md').read_text().strip() in output.out
    assert Image.open('table.png').width > 300
    for name in (openai_file, siglip_folder):
        assert len(list(Path('vis', Path(name).stem).rglob('*.png'))) == 2 * 2


@pytest.mark.slow
def test_sam3_beside_dense_methods(openai_file, sam3_folder, capsys):
    """One row for itself, one that votes, with the encoders' rows."""
    for name in ('sam3', 'sam3_vote'):
        text = (config_folder() / f'_base_/methods/{name}.py').read_text()
        Path(f'{name}.py').write_text(text.replace('facebook/sam3', sam3_folder))
    argv = [openai_file, '--datasets', 'voc21', '--methods', 'csa', 'sam3.py', 'sam3_vote.py']
    assert main([*argv, '--out', 'table.csv', *SMALL]) == 0
    found = rows()
    assert [row['attention'] for row in found] == ['csa', 'sam3', 'sam3_vote']
    assert [row['encoder'] for row in found] == [openai_file, sam3_folder, openai_file]
    assert [bool(row['flops']) for row in found] == [True, False, True]
    assert [row['short_side'] for row in found] == ['336', '', '336']
    assert all(0 <= float(row['mIoU']) <= 100 for row in found)


def test_what_is_done_is_not_done_again(openai_file, measured, capsys):
    seen, killed = measured
    argv = [openai_file, '--datasets', 'voc21', '--methods', 'csa', 'naclip', 'vanilla', *SMALL]
    killed.add('naclip')
    assert main([*argv, '--out', 'table.csv']) == 130
    kept = 'rows that are done are in work_dirs/benchmark; the same command goes on from there'
    assert capsys.readouterr().err.splitlines()[-1] == f'interrupted: {kept}'
    assert seen == ['csa', 'naclip'] and [row['attention'] for row in rows()] == ['csa']
    killed.clear()
    assert main([*argv, '--out', 'table.csv']) == 0
    assert seen == ['csa', 'naclip', 'naclip', 'vanilla']
    assert [float(row['mIoU']) for row in rows()] == [3, 6, 7]
    assert main([*argv, '--logit-scale', '30']) == 0
    assert main([*argv, '--work-dir', 'elsewhere']) == 0
    assert len(seen) == 4 + 3 + 3


def test_other_weights_in_the_same_file_are_another_row(openai_file, measured):
    seen, _ = measured
    weights = Path('weights.pt')
    weights.write_bytes(Path(openai_file).read_bytes())
    argv = [str(weights), '--datasets', 'voc21', '--methods', 'csa', *SMALL]
    assert main(argv) == 0 and main(argv) == 0
    assert seen == ['csa']
    weights.write_bytes(weights.read_bytes() + b'\0')
    assert main(argv) == 0
    assert seen == ['csa', 'csa']


def test_an_encoder_without_a_config_of_its_kind_fails_alone(measured, capsys):
    argv = ['--datasets', 'voc21', 'context459', '--methods', 'csa', *SMALL]
    target = Path('data/VOCdevkit/VOC2010')
    target.symlink_to('VOC2012')
    (target / 'ImageSets/SegmentationContext').mkdir(exist_ok=True)
    (target / 'ImageSets/SegmentationContext/val.txt').touch()
    argv += ['--encoders', 'clip_b16_224', 'siglip2_b16_224', '--out', 'table.csv']
    assert main(argv) == 1
    found = rows()
    assert [bool(row['error']) for row in found] == [False, False, False, True]
    assert 'is for a CLIPBackbone' in found[-1]['error']
    assert found[-1]['encoder'] == 'siglip2_b16_224'


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--encoders', 'a', '--encoder', 'b'], '--encoders: expected neither'),
        (['--protocol', 'theirs'], 'expected one of own, common, found'),
        (['--plot', 'picture'], '--plot: expected a file such as'),
    ],
)
def test_usage(argv, message, capsys):
    with pytest.raises(SystemExit):
        main(['--datasets', 'voc21', *argv])
    assert message in capsys.readouterr().err


def test_typos_are_found_before_anything_runs(measured, capsys):
    for argv in (['--encoders', 'clip_b16_224', 'clip_b17'], ['--methods', 'csa', 'none.py']):
        assert main(['--datasets', 'voc21', *argv]) == 1
        assert argv[-1] in capsys.readouterr().err
    assert measured[0] == []
