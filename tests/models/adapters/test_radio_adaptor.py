import pytest
import torch

from mmseg_siglip.models.adapters.radio_adaptor import adaptor_names, summary_head

STATE = {
    '_heads.siglip2.fc1.weight': torch.ones(1),
    '_heads.siglip2.final.2.bias': torch.ones(2),
    '_heads.clip.fc1.weight': torch.ones(3),
    '_feature_projections.siglip2.fc1.weight': torch.ones(4),
    'base_model.patch_generator.embedder.weight': torch.ones(5),
}


def test_a_summary_head_is_taken_and_nothing_else():
    assert adaptor_names(STATE) == ['siglip2', 'clip']
    found = summary_head(STATE, 'siglip2')
    assert {name: len(value) for name, value in found.items()} == {
        'fc1.weight': 1,
        'final.2.bias': 2,
    }


@pytest.mark.parametrize(('state', 'names'), [(STATE, 'siglip2, clip'), ({}, 'none')])
def test_an_adaptor_that_is_not_there(state, names):
    with pytest.raises(ValueError, match=f"those in the file, {names}; found 'sam'"):
        summary_head(state, 'sam')
