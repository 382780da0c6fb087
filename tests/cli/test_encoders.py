"""``--encoder``: names, files, and what it does to a config and to a command."""

from __future__ import annotations

import argparse
import json
import shutil

import pytest
from commands import command
from mmengine.config import Config

from mmseg_siglip import configs
from mmseg_siglip.cli.common import add_config
from mmseg_siglip.cli.jobs.config import load_config
from mmseg_siglip.cli.jobs.encoders import apply_encoder, find_encoder_config


def load(*argv):
    parser = argparse.ArgumentParser()
    add_config(parser)
    return load_config(parser.parse_args([str(arg) for arg in argv]))


def test_a_name_or_a_file(repository, tmp_path):
    folder = repository / 'configs/_base_/encoders'
    assert find_encoder_config('clip_l14_336') == folder / 'clip_l14_336.py'
    shutil.copy(folder / 'clip_l14_336.py', tmp_path / 'mine.py')
    assert find_encoder_config(str(tmp_path / 'mine.py')) == tmp_path / 'mine.py'


@pytest.mark.parametrize('name', ['clip', '', 'clip_l14_336.py', '../encoders', 'configs'])
def test_an_unknown_name_lists_the_known(name):
    with pytest.raises(ValueError) as caught:
        find_encoder_config(name)
    known = 'one of clip_b16_224, clip_b16_384, clip_l14_336, siglip2_b16_224'
    assert f'--encoder: expected a .py file, or {known}' in str(caught.value)
    assert str(caught.value).endswith(f'; found {name!r}')


def test_of_an_installed_package(repository, tmp_path, monkeypatch):
    inside = tmp_path / 'mmseg_siglip/.mim/configs'
    shutil.copytree(repository / 'configs', inside)
    monkeypatch.setattr(configs, 'PACKAGE', tmp_path / 'mmseg_siglip')
    config = Config.fromfile(inside / 'dpt/nyu_lora.py')
    apply_encoder(config, 'siglip_b16_512')
    assert config.model.backbone.pretrained == 'google/siglip-base-patch16-512'
    assert find_encoder_config('clip_b16_224').is_relative_to(inside)


def test_options_come_after_the_encoder(repository):
    path = repository / 'configs/cat_seg/ade150.py'
    option = ['--cfg-options', 'model.encoder_size=(448,448)', 'model.backbone.with_cp=True']
    config = load(path, '--encoder', 'siglip2_so400m16_512', *option)
    source = 'google/siglip2-so400m-patch16-512'
    assert config.model.backbone == dict(type='SigLIPBackbone', pretrained=source, with_cp=True)
    assert config.model.encoder_size == (448, 448)
    assert config.work_dir == 'work_dirs/ade150_siglip2_so400m16_512'
    assert load(path, '--encoder', 'clip_l14_336', '--work-dir', 'here').work_dir == 'here'


def test_folders_carry_the_name(tmp_path, repository):
    path = tmp_path / 'mine.py'
    base = str(repository / 'configs/dpt/nyu_finetune.py')
    path.write_text(f'_base_ = {base!r}\nload_from = "elsewhere/first.pth"\nwork_dir = "runs/a"\n')
    config = load(path, '--encoder', 'siglip2_l16_512')
    assert config.work_dir == 'runs/a_siglip2_l16_512'
    assert config.load_from == 'elsewhere/first.pth'


@pytest.mark.parametrize(
    ('config', 'found'),
    [
        ('vlm/shapes.py', 'LlavaTrainer'),
        ('sam/tiny_shapes.py', 'SAMPretrainer'),
        ('_base_/default_runtime.py', 'None'),
    ],
)
def test_a_model_on_no_encoder_is_refused(repository, config, found):
    with pytest.raises(ValueError, match=f'as its backbone, found {found} of .*{config}'):
        load(repository / 'configs' / config, '--encoder', 'siglip2_b16_384')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('encoder = (', r'mine\.py cannot be read: '),
        ("backbone = 'ViT-B/16'", r'mine\.py: expected encoder=dict\(type=\.\.\., \.\.\.\), found'),
        ("encoder = 'ViT-B/16'", r'mine\.py: expected encoder=dict\(type=\.\.\., \.\.\.\), found'),
    ],
)
def test_a_file_of_something_else_is_refused(repository, tmp_path, text, message):
    (tmp_path / 'mine.py').write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load(repository / 'configs/sclip/voc20.py', '--encoder', tmp_path / 'mine.py')
    assert '\n' not in str(caught.value)


def write_encoder(folder, source):
    path = folder / 'mine.py'
    path.write_text(f"encoder = dict(type='SigLIPBackbone', pretrained={str(source)!r})\n")
    return str(path)


def test_evaluates_on_an_encoder_of_ones_own(repository, tmp_path, siglip_folder, laid_out):
    argv = [str(repository / 'configs/sclip/voc20_siglip2.py'), '--work-dir', str(tmp_path)]
    argv += ['--encoder', write_encoder(tmp_path, siglip_folder), '--cfg-options']
    argv += [f'test_dataloader.dataset.data_root={laid_out("voc20")}']
    argv += ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    argv += ['model.templates=single', 'model.test_cfg.crop_size=(64,64)']
    argv += ['model.test_cfg.stride=(64,64)']
    assert command('test')(argv) == 0
    (results,) = tmp_path.glob('*/*.json')
    assert 0 <= json.loads(results.read_text())['mIoU'] <= 100
    kept = Config.fromfile(tmp_path / 'voc20_siglip2.py')  # what other commands can take
    assert kept.model.backbone.pretrained == siglip_folder


def test_trains_on_an_encoder_of_ones_own(repository, tmp_path, siglip_folder):
    argv = [str(repository / 'configs/dpt/shapes_frozen.py'), '--work-dir', str(tmp_path / 'run')]
    argv += ['--encoder', write_encoder(tmp_path, siglip_folder), '--cfg-options']
    argv += ['train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=1']
    for split in ('train', 'val'):
        argv += [f'{split}_dataloader.num_workers=0', f'{split}_dataloader.dataset.num_scenes=1']
        argv += [f'{split}_dataloader.persistent_workers=False']
        argv += [f'{split}_dataloader.dataset.size=(32,48)']
    assert command('train')(argv) == 0
    assert (tmp_path / 'run/iter_1.pth').is_file()


@pytest.mark.parametrize('name', ['test', 'train', 'trace'])
def test_each_command_takes_it(repository, capsys, name):
    config = str(repository / 'configs/cat_seg/coco_stuff.py')
    assert command(name)([config, '--encoder', 'siglip2']) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: --encoder: expected a .py file, or one of clip_b16_224, ')
