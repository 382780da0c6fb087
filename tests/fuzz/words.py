"""Vocabularies and rankings of templates."""

from __future__ import annotations

import json
from pathlib import Path

from fuzz.kind import Kind
from fuzz.mutate import damage_text
from fuzz.structures import damage_json

from mmseg_siglip.text.template_ranking import experts_of, read_ranking
from mmseg_siglip.text.vocabulary import Vocabulary

NAMES = ('sky', 'person', 'traffic light')


def write_vocabularies(folder: Path) -> list[Path]:
    text = '# words\n#! duplicates: bed\n[background] sky, wall\nperson, man\nbed\nbunk, bed\nÉté\n'
    (folder / 'words.txt').write_text(text, encoding='utf-8')
    return [folder / 'words.txt']


def write_rankings(folder: Path) -> list[Path]:
    ranking = {name: list(range(number + 1)) for number, name in enumerate(NAMES)}
    (folder / 'ranking.json').write_text(json.dumps(ranking))
    return [folder / 'ranking.json']


def read_experts(path: Path) -> object:
    return experts_of(read_ranking(path), NAMES, 4, 2)


KINDS = [
    Kind('vocabulary', 1000, write_vocabularies, damage_text, Vocabulary.load, batch=100),
    Kind(
        'template ranking',
        300,
        write_rankings,
        damage_json,
        read_experts,
        named=('ranking',),
        batch=100,
    ),
]
