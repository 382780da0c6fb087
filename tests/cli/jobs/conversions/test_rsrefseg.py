"""The converter, on files as each framework writes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rsrefseg2_oracle import small_rsrefseg2
from rsrefseg_oracle import small_rsrefseg, write_encoder
from tiny_sams import SAM2_CONFIG, SAM_CONFIG
from torch.nn.functional import interpolate

from mmseg_siglip.api import ReferringSegmenter
from mmseg_siglip.cli.main import main

TEXT = 'the red star in the grass'


def convert(*arguments: object) -> int:
    return main(['convert', 'rsrefseg', *map(str, arguments)])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp('siglip'))


def write_config(path, base, folder, sam):
    small = dict(rank=4, alpha=4)
    model = dict(
        backbone=dict(pretrained=folder),
        sam=dict(checkpoint=None, config=sam),
        encoder=dict(finetune=small),
        sam_finetune=small,
        precision='fp32',
    )
    path.write_text(f'_base_ = {str(base)!r}\nmodel = {model!r}\n')
    return path


@pytest.fixture(scope='module')
def config(tmp_path_factory, repository, folder):
    path = tmp_path_factory.mktemp('config') / 'config.py'
    return write_config(path, repository / 'configs/refer_sam/rsrefseg_b.py', folder, SAM_CONFIG)


@pytest.fixture(scope='module')
def published(folder):
    return small_rsrefseg(folder)


@torch.no_grad()
def test_a_file_of_rsrefseg2(repository, folder, tmp_path, capsys):
    published = small_rsrefseg2(folder)
    base = repository / 'configs/refer_sam/rsrefseg2.py'
    config = write_config(tmp_path / 'config.py', base, folder, SAM2_CONFIG)
    source, out = tmp_path / 'rrsisd.pth', tmp_path / 'converted.pth'
    torch.save(dict(state_dict=published.published_state()), source)
    assert convert(str(source), str(out), '--config', str(config)) == 0
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    wanted = interpolate(published(picture, [TEXT]), size=64, mode='bilinear')[0, 0]
    found = ReferringSegmenter.from_config(config, out, device='cpu', precision='fp32')(rgb, TEXT)
    sure = wanted.abs() > 1e-4
    assert np.array_equal(found.mask[sure], wanted[sure] > 0) and 0 < found.mask.mean() < 1


def as_mmengine(state):
    meta = dict(epoch=85, iter=1000, experiment_name='RSRefSeg-b')
    return dict(meta=meta, state_dict=state, message_hub=dict(log_scalars={}, runtime_info={}))


def as_deepspeed(state):
    shapes = [{name: value.shape for name, value in state.items()}]
    half = {name: v.half() if v.is_floating_point() else v for name, v in state.items()}
    return dict(module=half, param_shapes=shapes, ds_config=dict(fp16=dict(enabled=True)))


def as_lightning(state):
    named = {f'model.{name}': value for name, value in state.items()}
    return {'epoch': 85, 'pytorch-lightning_version': '2.4.0', 'state_dict': named}


@pytest.mark.parametrize('form', [as_mmengine, as_deepspeed, as_lightning])
def test_masks_of_a_file(published, config, tmp_path, capsys, form):
    source, out = tmp_path / 'epoch_85.pth', tmp_path / 'converted.pth'
    file = source
    if form is as_deepspeed:
        source.mkdir()
        file = source / 'mp_rank_00_model_states.pt'
    torch.save(form(published.state_dict()), file)
    assert convert(str(source), str(out), '--config', str(config)) == 0
    assert capsys.readouterr().out == f'{len(torch.load(out)["state_dict"])} tensors in {out}\n'
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    wanted = interpolate(published(picture, [TEXT]), size=64, mode='bilinear')[0, 0]
    sure = wanted.abs() > (1e-2 if form is as_deepspeed else 1e-4)
    found = ReferringSegmenter.from_config(config, out, device='cpu', precision='fp32')(rgb, TEXT)
    assert np.array_equal(found.mask[sure], wanted[sure] > 0)
    assert sure.float().mean() > 0.8 and 0.1 < found.mask.mean() < 0.9


def test_a_folder_without_weights_is_one_sentence(tmp_path, capsys):
    assert convert(str(tmp_path), str(tmp_path / 'out.pth')) == 1
    file = tmp_path / 'mp_rank_00_model_states.pt'
    assert capsys.readouterr().err == f'error: checkpoint not found: there is no file {file}.\n'


@pytest.mark.parametrize('change', ['other', 'missing'])
def test_what_does_not_fit_is_one_sentence(published, config, tmp_path, capsys, change):
    state = dict(published.state_dict())
    if change == 'other':
        state, sentence = {'fc.weight': torch.ones(2)}, 'expected the weights of an RSRefSeg, found'
    else:
        del state['prompter_down_channel.bn.bias']
        sentence = 'a ReferringSegmentor, 1 (first decode_head.norm.bias) missing and 0 unknown\n'
    source, out = tmp_path / 'epoch_85.pth', tmp_path / 'converted.pth'
    torch.save(as_mmengine(state), source)
    assert convert(str(source), str(out), '--config', str(config)) == 1
    error = capsys.readouterr().err.split('error: ')[-1]
    assert error.startswith(f'{source}: ') and sentence in error and error.count('\n') == 1
    assert not out.exists()
