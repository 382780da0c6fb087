from __future__ import annotations

import json

import pytest

from mmseg_siglip.onnx.facts import GraphFacts, size_text

FACTS = GraphFacts(
    kind='dense',
    patch=8,
    native=(64, 64),
    size=None,
    batched=True,
    mean=(1.0, 2.0, 3.0),
    std=(4.0, 5.0, 6.0),
    channels=128,
    words=(('cat',), ('dog', 'hound')),
    model=dict(test_cfg=dict(mode='whole')),
    own=dict(logit_scale=10.0),
)


def test_there_and_back():
    assert GraphFacts.from_json(FACTS.to_json(), 'x') == FACTS
    assert FACTS.queries == ('cat', 'dog', 'hound')
    assert size_text((64, 96)) == '64x96 pixels (height x width)'


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('kind', 'other'),
        ('kind', ['dense']),
        ('weights', 'int4'),
        ('batched', 1),
        ('patch', 0),
        ('patch', True),
        ('patch', 10**9),
        ('native', [64]),
        ('native', [64, -1]),
        ('size', 'any'),
        ('mean', [0, 0]),
        ('std', [1, 0, 1]),
        ('std', [1, 1, float('nan')]),
        ('channels', '3'),
        ('words', [['cat'], []]),
        ('words', [['cat'], [3]]),
        ('model', []),
        ('settings', None),
    ],
)
def test_a_strangers_value_is_refused(name, value):
    data = json.loads(FACTS.to_json()) | {name: value}
    with pytest.raises(ValueError, match=rf'^file\.onnx: expected another {name} of a graph'):
        GraphFacts.from_json(json.dumps(data), 'file.onnx')


@pytest.mark.parametrize('text', ['', '[]', '{"version": 2}', '[' * 100_000])
def test_what_is_no_description_is_refused(text):
    with pytest.raises(ValueError, match=r'^file\.onnx: expected'):
        GraphFacts.from_json(text, 'file.onnx')


def test_further_names_are_refused():
    data = json.loads(FACTS.to_json()) | dict(plugin='x.so')
    with pytest.raises(ValueError, match="found a difference in 'plugin'"):
        GraphFacts.from_json(json.dumps(data), 'file.onnx')
