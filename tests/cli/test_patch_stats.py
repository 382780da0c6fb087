"""The export command: files, formats, going on, and refusals."""

from __future__ import annotations

import json
import os
import shutil
import tarfile

import numpy as np
import pytest
import torch
from commands import command
from PIL import Image
from safetensors import safe_open
from tiny_depth_models import depth_anything, depth_anything_release, photograph

from mmseg_siglip.api import DepthPredictor, create_depth_model
from mmseg_siglip.cli.jobs import patch_stats
from mmseg_siglip.patch_stats import PatchStatisticsFusion, patch_statistics

call = command('patch-stats')

ORIENTATION = 0x0112


def main(argv):
    return call([*argv, '--engine', 'loop'])


@pytest.fixture
def depths(tmp_path):
    rng = np.random.default_rng(0)
    for name in ('a', 'deep/b'):
        units = rng.integers(500, 9000, (12, 18)).astype(np.uint16)
        units[0, :3], units[5, 5] = 0, 65535
        path = tmp_path / 'depths' / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(units).save(path)
    return tmp_path / 'depths'


def expected(path, **options):
    units = np.asarray(Image.open(path)).astype(float)
    units[units == 65535] = 0
    return patch_statistics(torch.tensor(units / 1000)[None], **options).values[0].numpy()


def test_npz_of_every_file(depths, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main([str(depths), '--out', str(out), '--patch-size', '6', '--invalid', '65535']) == 0
    assert '2 files of statistics' in capsys.readouterr().out
    everything = []
    for name in ('a.png', 'deep/b.png'):
        with np.load(out / f'{name}.npz', allow_pickle=False) as file:
            np.testing.assert_array_equal(file['values'], expected(depths / name, patch_size=6))
            assert str(file['grid']) == '2,3' and str(file['unit']) == 'm'
            assert str(file['names']).startswith('mean,var,std') and str(file['space']) == 'depth'
            everything.append(file['values'])
    summary = json.loads((out / 'summary.json').read_text())
    values = np.concatenate(everything)
    np.testing.assert_allclose(summary['mean'], values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(summary['std'][0], values.std(0)[0], rtol=1e-5)
    fusion = PatchStatisticsFusion(9, 4, mean=summary['mean'], std=summary['std'])
    assert torch.isfinite(fusion(torch.zeros(1, 6, 4), torch.tensor(values[None, :6]))).all()


def test_safetensors_of_chosen_statistics_on_a_grid(depths, tmp_path):
    out = tmp_path / 'out'
    argv = ['--grid', '5', '4', '--space', 'log', '--stats', 'median', 'grad', '--invalid', '65535']
    assert main([str(depths), '--out', str(out), '--format', 'safetensors', *argv]) == 0
    with safe_open(out / 'a.png.safetensors', 'np') as file:
        want = expected(depths / 'a.png', grid=(5, 4), space='log', names=['median', 'grad'])
        np.testing.assert_array_equal(file.get_tensor('values'), want)
        assert file.metadata()['names'] == 'median,grad' and file.metadata()['grid'] == '5,4'
        assert file.metadata()['unit'] == 'log m'


def test_goes_on_and_refuses_other_settings(depths, tmp_path, capsys):
    argv = [str(depths), '--out', str(tmp_path / 'out'), '--invalid', '65535']
    assert main([*argv, '--patch-size', '6']) == 0
    kept, gone = tmp_path / 'out/a.png.npz', tmp_path / 'out/deep/b.png.npz'
    time, summary = kept.stat().st_mtime_ns, (tmp_path / 'out/summary.json').read_text()
    gone.unlink()
    assert main([*argv, '--patch-size', '6']) == 0
    assert gone.is_file() and kept.stat().st_mtime_ns == time
    assert (tmp_path / 'out/summary.json').read_text() == summary
    assert main([*argv, '--patch-size', '4']) == 1
    assert 'was filled with other settings (patch_size 6, now 4)' in capsys.readouterr().err


def test_other_files_or_weights_do_not_go_on(depths, tmp_path, capsys):
    """Files of the same names would be taken for done."""
    other, photos = tmp_path / 'other', tmp_path / 'photos'
    shutil.copytree(depths, other)
    argv = ['--out', str(tmp_path / 'out'), '--invalid', '65535', '--patch-size', '6']
    assert main([str(depths), *argv]) == 0
    assert main([str(other), *argv]) == 1
    assert 'was filled with other settings (images' in capsys.readouterr().err

    photos.mkdir()
    photograph((40, 56)).save(photos / 'p.png')
    file = tmp_path / 'depth_anything_v2_metric_hypersim_vits.pth'
    argv = [str(photos), '--out', str(tmp_path / 'predicted'), '--grid', '2', '3']
    for factor, status in ((1, 0), (1, 0), (2, 1)):
        state = depth_anything_release(depth_anything(max_depth=20))
        state['depth_head.scratch.output_conv2.2.bias'] = torch.full((1,), float(factor))
        torch.save(state, file)
        assert main([*argv, '--model', str(file)]) == status
    assert 'was filled with other settings (weights' in capsys.readouterr().err


def test_no_depth_at_all_has_no_mean(tmp_path, capsys):
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / 'a.png')
    argv = [str(tmp_path / 'a.png'), '--out', str(tmp_path / 'out'), '--patch-size', '2']
    assert main([*argv, '--invalid', '65535']) == 1
    assert 'expected depth in some patch, found none in any file' in capsys.readouterr().err
    assert not (tmp_path / 'out/summary.json').exists()


def test_depth_of_photographs_by_a_model(tmp_path, repository):
    """Of files and of members of a tar; turned upright as a camera says."""
    photos, config = tmp_path / 'photos', repository / 'configs/dpt/shapes_frozen.py'
    photos.mkdir()
    rng = np.random.default_rng(0)
    for name, orientation in (('p.jpg', 1), ('q.jpg', 6)):
        image = Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8))
        exif = image.getexif()
        exif[ORIENTATION] = orientation
        image.save(photos / name, exif=exif)
    with tarfile.open(tmp_path / 'shard.tar', 'w') as tar:
        tar.add(photos, '.')
    from mmengine.config import Config

    from mmseg_siglip.api.depth import load_depth_model, predict_depth
    from mmseg_siglip.models.segmentors import SigLIPDepthEstimator

    model = dict(Config.fromfile(config).model)
    model.pop('type')
    state = SigLIPDepthEstimator(**model).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'w.pth')
    model = load_depth_model(config, tmp_path / 'w.pth')
    argv = ['--config', str(config), '--checkpoint', str(tmp_path / 'w.pth'), '--grid', '2', '3']
    for source, folder in ((photos, '.'), (tmp_path / 'shard.tar', 'shard')):
        out = tmp_path / f'out of {source.name}'
        assert main([str(source), '--out', str(out), *argv]) == 0
        for name, size in (('p.jpg', (40, 56)), ('q.jpg', (56, 40))):
            depth = predict_depth(model, photos / name)
            assert depth.shape == size
            with np.load(out / folder / f'{name}.npz') as file:
                want = patch_statistics(torch.tensor(depth)[None], grid=(2, 3)).values[0]
                np.testing.assert_allclose(file['values'], want, rtol=1e-4)


def test_a_published_model(tmp_path):
    file = tmp_path / 'depth_anything_v2_metric_hypersim_vits.pth'
    torch.save(depth_anything_release(depth_anything(max_depth=20)), file)
    photograph((40, 56)).save(tmp_path / 'p.png')
    out = tmp_path / 'out'
    argv = [str(tmp_path / 'p.png'), '--out', str(out), '--grid', '2', '3', '--model', str(file)]
    assert main(argv) == 0
    depth = DepthPredictor.from_pretrained(file)(tmp_path / 'p.png').depth
    want = patch_statistics(torch.tensor(depth)[None], grid=(2, 3)).values[0]
    with np.load(out / 'p.png.npz') as found:
        np.testing.assert_allclose(found['values'], want, rtol=1e-4)
    with pytest.raises(SystemExit):
        main([*argv, '--config', 'c.py'])


def test_a_broken_photograph_in_a_tar_is_named(tmp_path, capsys, monkeypatch):
    predictor = DepthPredictor(create_depth_model('tiny_siglip_shapes'))
    monkeypatch.setattr(patch_stats, 'metric_predictor', lambda *_, **__: predictor)
    (tmp_path / 'p.jpg').write_bytes(b'no picture')
    with tarfile.open(tmp_path / 'shard.tar', 'w') as tar:
        tar.add(tmp_path / 'p.jpg', 'p.jpg')
    argv = ['--out', str(tmp_path / 'out'), '--grid', '2', '3', '--model', 'x']
    assert main([str(tmp_path / 'shard.tar'), *argv]) == 1
    assert 'shard.tar: p.jpg: is not an image of a known kind' in capsys.readouterr().err


def test_bad_input_is_one_line(depths, tmp_path, capsys):
    out = ['--out', str(tmp_path / 'out')]
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(depths / 'z.png')
    assert main([str(depths), *out, '--patch-size', '6']) == 1
    assert 'z.png: expected a depth map of one channel' in capsys.readouterr().err
    assert main([str(tmp_path / 'none'), *out, '--patch-size', '6']) == 1
    assert 'no such folder' in capsys.readouterr().err
    for wrong in (['--patch-size', '6', '--grid', '2', '2'], ['--patch-size', '6', '--stats', 'x']):
        with pytest.raises(SystemExit):
            main([str(depths), *out, *wrong])


def test_a_file_that_cannot_be_used_does_not_end_the_run(depths, tmp_path, capsys):
    out = tmp_path / 'out'
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(depths / 'z.png')
    os.mkfifo(depths / 'pipe.png')
    (depths / 'readme.txt').write_text('text')
    argv = [str(depths), '--out', str(out), '--patch-size', '6', '--invalid', '65535']
    assert main(argv) == 1
    printed = capsys.readouterr()
    assert '2 files of statistics' in printed.out and 'passed over' in printed.out
    assert f'2 files could not be read, see {out}/failures.jsonl; the first is' in printed.err
    rows = [json.loads(line) for line in (out / 'failures.jsonl').read_text().splitlines()]
    assert [row['reason'] for row in rows] == [
        'is a named pipe, expected a regular file',
        'expected a depth map of one channel with 16-bit or float values, found mode L',
    ]
    assert json.loads((out / 'summary.json').read_text())['files'] == 2
    (depths / 'pipe.png').unlink()
    (depths / 'z.png').unlink()
    assert main(argv) == 0 and not (out / 'failures.jsonl').exists()
