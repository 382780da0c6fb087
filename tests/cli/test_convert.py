"""Each kind of conversion hands what it was told to its job."""

from __future__ import annotations

import argparse
import inspect

import pytest

from mmseg_siglip.cli.convert import CONVERSIONS, JOBS
from mmseg_siglip.cli.main import main, parser_of
from mmseg_siglip.lazy import resolve


@pytest.mark.parametrize('kind', CONVERSIONS)
def test_a_job_takes_what_its_parser_gives(kind):
    conversion = CONVERSIONS[kind]
    words = [name for name in conversion.arguments if not name.startswith('-')]
    args = vars(parser_of('convert')[0].parse_args([kind, *words]))
    assert args.pop('kind') == kind
    inspect.signature(resolve(f'{JOBS}.{conversion.job}')).bind(**args)


def test_what_a_job_says_is_printed(monkeypatch, capsys):
    told = {}
    monkeypatch.setattr(
        'mmseg_siglip.cli.jobs.conversions.encoder.convert',
        lambda **given: told.update(given) or 'all done',
    )
    assert main(['convert', 'encoder', 'c.py', 'w.pth', 'o', '--dtype', 'float16']) == 0
    assert told == dict(config='c.py', checkpoint='w.pth', out='o', dtype='float16')
    assert capsys.readouterr().out == 'all done\n'


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        ([], 'required: KIND'),
        (['magic'], 'invalid choice'),
        (['encoder', 'c.py'], 'required: CHECKPOINT, OUT'),
        (['encoder', 'c', 'w', 'o', '--dtype', 'int8'], 'invalid choice'),
    ],
)
def test_words_that_make_no_sense(capsys, words, sentence):
    with pytest.raises(SystemExit) as stop:
        main(['convert', *words])
    assert stop.value.code == 2 and sentence in capsys.readouterr().err


def test_the_overview_names_every_kind(capsys):
    parser, _ = parser_of('convert')
    assert isinstance(parser, argparse.ArgumentParser)
    overview = ' '.join(parser.format_help().split())
    assert all(f' {kind} {what.what[:20]}' in overview for kind, what in CONVERSIONS.items())
