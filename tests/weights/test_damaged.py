"""Folders and files that somebody, or a disk, has changed: they load, or say in one sentence what
is wrong."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from model_folders import BARE, LOADERS, SAM, WEIGHTS, every_folder, panoptic_folder, sam_folder  # noqa: F401

from mmseg_siglip.models.backbones import DinoTxtBackbone, RADIOBackbone, Talk2DINOBackbone
from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.models.sam.load import load_sam

ODD = (None, -1, 0, 2.5, 10**9, 10**30, float('nan'), 'x', '../x', [], [1, [2]], {}, dict(a=1))
TRIES = 12


def loads_or_says(load, path: str) -> None:
    try:
        load(path)
    except (ValueError, OSError) as error:
        folder = str(path if Path(path).is_dir() else Path(path).parent)
        assert folder in str(error), error
        assert '\n' not in str(error)


def changed(fields: dict, draw: random.Random) -> dict:
    """With one value, wherever it lies, odd or gone."""
    owner = fields
    while True:
        key = draw.choice(sorted(owner))
        if isinstance(owner[key], dict) and owner[key] and draw.random() < 0.8:
            owner = owner[key]
            continue
        if draw.random() < 0.3:
            del owner[key]
        else:
            owner[key] = draw.choice(ODD)
        return fields


@every_folder
def test_json(request, tmp_path, name):
    source, draw = Path(request.getfixturevalue(name)), random.Random(name)
    files = [path.name for path in sorted(source.glob('*.json'))]
    for number in range(TRIES):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        file = folder / draw.choice([*files, 'config.json'])
        fields = json.loads(file.read_text(encoding='utf-8'))
        file.write_text(json.dumps(changed(fields, draw)), encoding='utf-8')
        path = folder / WEIGHTS if number % 3 == 0 and name in BARE else folder
        loads_or_says(draw.choice(LOADERS[name]) if path is folder else LOADERS[name][0], str(path))


@every_folder
def test_text_and_weights_cut_short(request, tmp_path, name):
    source = Path(request.getfixturevalue(name))
    for number, file in enumerate(sorted(path.name for path in source.iterdir())):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) * 2 // 3])
        if file in ('config.json', WEIGHTS, 'model.safetensors.index.json'):
            with pytest.raises(ValueError, match=str(folder)):
                LOADERS[name][0](str(folder))
        loads_or_says(LOADERS[name][-1], str(folder))


FILES = {
    'openai_file': lambda path, get: build_encoder(path),
    'original_sam_file': lambda path, get: load_sam(path, **SAM),
    'radio_file': lambda path, get: RADIOBackbone(
        path, radio=get('radio_folder'), siglip=get('siglip_folder')
    ),
    'talk2dino_file': lambda path, get: Talk2DINOBackbone(
        path, dino=get('dino_folder'), clip=get('openai_file')
    ),
    'dino_txt_file': lambda path, get: DinoTxtBackbone(path, dino=get('dino3_folder')),
}
"""What builds a model of a state dict, given a fixture's value by name."""
LARGE = ('talk2dino_file', 'dino_txt_file')


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in FILES]
)
def test_tensors(request, tmp_path, name):
    """Each with another shape, or gone, or nothing of the kind."""
    get, path, draw = request.getfixturevalue, tmp_path / 'x.pth', random.Random(name)
    for _ in range(TRIES // 2):
        content = torch.load(get(name), weights_only=False)
        state = content.get('state_dict', content)
        key, how = draw.choice(sorted(state)), draw.random()
        if how < 0.3:
            del state[key]
        elif how < 0.8:
            shape = [draw.choice((0, 1, 2, 48)) for _ in range(draw.randrange(5))]
            state[key] = torch.zeros(shape)
        else:
            state[key] = draw.choice((None, 'x', 3))
        torch.save(content, path)
        loads_or_says(lambda path: FILES[name](path, get), str(path))
