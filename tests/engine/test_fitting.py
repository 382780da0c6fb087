"""Which weights of a checkpoint fit a model, and under which names."""

from __future__ import annotations

import torch

from mmseg_siglip.engine.fitting import compare_weights, revised


def test_names_are_revised_and_versions_kept():
    state = torch.nn.BatchNorm1d(2).state_dict()
    found = revised(state, [('^', 'a.'), ('^a', 'b')])
    assert set(found) == {f'b.{name}' for name in state}
    assert found._metadata == state._metadata and revised({}, ())._metadata == {}


def test_weights_of_another_form_do_not_fit():
    model = torch.nn.Linear(2, 1)
    found = dict(weight=torch.ones(1, 2), bias='x')
    assert compare_weights(model, found) == ([], ['bias'], 1)
