"""A small trained model for every system: a config's file and a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tiny_sams import SAM_CONFIG, disturb

from mmseg_siglip.registry import MODELS, SCOPE

REFERRING = dict(
    type='ReferringSegmentor',
    backbone=dict(pretrained='tiny_siglip_shapes'),
    sam=dict(config=SAM_CONFIG),
    decode_head=dict(),
)


def write(config: Path, model: torch.nn.Module) -> tuple[Path, Path]:
    """The two files, of which the first is there."""
    checkpoint = config.with_name('iter_1.pth')
    torch.save(dict(state_dict=model.state_dict(), meta=dict(iter=1)), checkpoint)
    return config, checkpoint


def build(model: dict) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope(SCOPE):
        return MODELS.build(model)


@pytest.fixture(scope='session')
def refer_files(tmp_path_factory) -> tuple[Path, Path]:
    model = build(REFERRING)
    for part in (model.sam.model, model.decode_head):
        disturb(part, scale=0.2)
    config = tmp_path_factory.mktemp('refer') / 'config.py'
    config.write_text(f'model = {REFERRING!r}\n')
    return write(config, model)


@pytest.fixture(scope='session')
def depth_files(tmp_path_factory, repository) -> tuple[Path, Path]:
    trained = repository / 'configs/dpt/shapes_frozen.py'
    model = build(Config.fromfile(trained).model)
    disturb(model.decode_head, scale=0.02)
    config = tmp_path_factory.mktemp('depth') / 'config.py'
    config.write_text(f'_base_ = {str(trained)!r}\n')
    return write(config, model)


@pytest.fixture(scope='session')
def ask_files(tmp_path_factory, siglip_folder, llama) -> tuple[Path, Path]:
    fields = dict(
        type='LlavaTrainer', vision=siglip_folder, llm=llama, tokenizer='shapes_questions'
    )
    torch.manual_seed(5)
    config = tmp_path_factory.mktemp('ask') / 'config.py'
    config.write_text(f'model = {fields!r}\n')
    return write(config, build(fields))


@pytest.fixture(scope='session')
def system_files(cat_seg_files, refer_files, depth_files, ask_files) -> dict[str, tuple]:
    """Config and checkpoint by task."""
    return dict(segment=cat_seg_files, refer=refer_files, depth=depth_files, ask=ask_files)
