"""``--cfg-options``, an option a line."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from commands import parse
from fuzz.kind import Kind
from fuzz.mutate import Draw, damage_text

from mmseg_siglip.cli.jobs.config import load_config

CONFIG = Path(__file__).resolve().parents[2] / 'configs/sclip/shapes.py'
PARTS = (
    '=',
    ',',
    '[',
    ']',
    '(',
    ')',
    '{',
    '}',
    '"',
    "'",
    '.',
    '-',
    '1',
    'model',
    'dict(',
    '\\',
    ' ',
)
HEALTHY = (
    'model.attention=naclip',
    'test_dataloader.batch_size=2',
    'model.test_cfg.crop_size=(64,64)',
    'test_dataloader.dataset.pipeline.0.type=PackSegInputs',
    'default_hooks.logger.interval="5"',
    'randomness.seed=3',
    'work_dir="a folder"',
)


def write_options(folder: Path) -> list[Path]:
    (folder / 'options.txt').write_text('\n'.join(HEALTHY))
    return [folder / 'options.txt']


def damage_options(path: Path, draw: Draw) -> str:
    """Marks of the grammar put in, taken out, repeated and nested."""
    if draw.random() < 0.3:
        return damage_text(path, draw)
    text = path.read_text()
    for _ in range(draw.choice((1, 2, 4))):
        at = draw.randrange(len(text))
        part = draw.choice(PARTS) * draw.choice((1, 1, 1, 2, 3000))
        text = text[:at] + part + text[at + draw.choice((0, 1, 8)) :]
    path.write_text(text)
    return f'marks in {path.name}'


def read_options(path: Path) -> object:
    text = path.read_text(encoding='utf-8', errors='surrogateescape')
    options = [line for line in text.split('\n') if line]
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            args = parse('test', [CONFIG, '--cfg-options', *options])
    except SystemExit:
        raise ValueError(told.getvalue().strip().splitlines()[-1]) from None
    return load_config(args)


KINDS = [
    Kind(
        'cfg-options',
        1000,
        write_options,
        damage_options,
        read_options,
        named=('--cfg-options', CONFIG.name, 'unrecognized arguments'),
        batch=20,
    )
]
