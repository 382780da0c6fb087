"""Values of the command line: MMEngine's where these are right, and to the letter in quotes."""

from __future__ import annotations

import argparse
import math

import pytest
from mmengine.config import Config, DictAction

from mmseg_siglip.cli.common import add_overrides
from mmseg_siglip.cli.overrides import parse_value

MMENGINES = (
    *('1', '-3', '1e-3', '0.5', 'true', 'False', 'None', 'naclip', '', 'a=b', 'none', 'inf'),
    *('1,2,3', '1,', 'a,b', '[a, b, c]', '[]', '()', '(1,)', '(1)', '(448,448)', '[1.0,x,None]'),
    *('[(1, 2, 3), [a, b], c]', '[[1,2],[3]]', '((1,2),(3,4))', '[a,,b]', 'True,false'),
    *("'nccl'", '"word"', "'[1,2]'", '"[(a,b),(c,d)]"', "['a', 'b']"),
    *('refs(unc).p', 'data/run(1)/x.pth', 'http://host:80/a.pth', "it's", 'C:\\data\\x'),
)
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 448), keep_ratio=True),
    dict(type='PackSegInputs', meta_keys=['img_path', 'a b']),
]


def parsed(*arguments):
    parser = argparse.ArgumentParser(prog='test')
    add_overrides(parser)
    return parser.parse_args(['--cfg-options', *arguments]).cfg_options


@pytest.mark.parametrize('text', MMENGINES)
def test_as_mmengine_reads_it(text):
    found, expected = parse_value(text), DictAction._parse_iterable(text)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/my data/x', '/my data/x'),
        ('"/my data/x"', '/my data/x'),
        (' a  b ', 'a  b'),
        ("'cat, dog'", 'cat, dog'),
        ('sky, blue car', ['sky', 'blue car']),
        ("['007', 7, 'x, y']", ['007', 7, 'x, y']),
        ('[1,2],[3,4]', [[1, 2], [3, 4]]),
        ('a(b,c)', 'a(b,c)'),
        ("[it's, o'clock]", ["it's", "o'clock"]),
        ("['a photo of a {}.', \"a dog's\"]", ['a photo of a {}.', "a dog's"]),
        ('{}', {}),
        ('dict()', {}),
        ("{'a': 1, b: {c: [1, (2, 3)]}}", dict(a=1, b=dict(c=[1, (2, 3)]))),
        ("dict(a='x=y', b='p, q', c=None)", dict(a='x=y', b='p, q', c=None)),
        ('{url: http://h:80/x}', dict(url='http://h:80/x')),
        ('dict(type=A, b=1),dict(type=B)', [dict(type='A', b=1), dict(type='B')]),
        (repr(PIPELINE), PIPELINE),
    ],
)
def test_blanks_quotes_and_dicts(text, value):
    assert parse_value(text) == value


def test_not_a_number_is_one():
    assert math.isnan(parse_value('nan'))


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('[1,2', r"expected brackets that match, found '\[1,2'"),
        ('[1,2)', 'expected brackets that match'),
        ('[a(b]', 'expected brackets that match'),
        ('{a}', "expected different keys, each as key:value, in a dict, found 'a'"),
        ('dict(1)', "each as key=value, in a dict, found '1'"),
        ('dict(a=1,a=2)', "expected different keys.* found 'a=2'"),
        ('[' * 60 + ']' * 60, 'expected at most 40 brackets within each other'),
        ('[' * 5000, 'expected brackets that match'),
    ],
)
def test_what_does_not_match_gets_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_value(text)


def test_arguments_are_collected(capsys):
    assert parsed('a.b=1', 'data_root=/my data/x', 'c=d=e', 'a.b=2') == {
        'a.b': 2,
        'data_root': '/my data/x',
        'c': 'd=e',
    }
    for bad, sentence in (
        ('a.b', "--cfg-options: expected KEY=VALUE, found 'a.b'"),
        ('=1', "--cfg-options: expected KEY=VALUE, found '=1'"),
        ('a=[1', "--cfg-options a: expected brackets that match, found '[1'"),
    ):
        with pytest.raises(SystemExit, match='2'):
            parsed(bad)
        assert sentence in capsys.readouterr().err


def test_a_pipeline_reaches_the_config():
    config = Config(dict(data=dict(pipeline=[dict(type='Other')], root='x')))
    config.merge_from_dict(parsed(f'data.pipeline={PIPELINE}', 'data.root="/my data"'))
    assert config.data.pipeline == PIPELINE and config.data.root == '/my data'
    assert config.data.pipeline[1].scale == (2048, 448)
    config.merge_from_dict(parsed('data.pipeline.1=dict(type=Resize, scale=(8, 8))'))
    assert config.data.pipeline[1].scale == (8, 8)
