from __future__ import annotations

import pytest

from mmseg_siglip.models.adapters.converters import advice

CAT_SEG = 'sem_seg_head.predictor.clip_model.visual.proj'


@pytest.mark.parametrize(
    ('checkpoint', 'converter'),
    [
        ({CAT_SEG: 0}, 'cat-seg'),
        ({'model': {CAT_SEG: 0}}, 'cat-seg'),
        ({'state_dict': {'clip_vision_encoder.model.x': 0}}, 'rsrefseg'),
        ({'module': {'module.clip_text_encoder.model.x': 0}}, 'rsrefseg'),
        ({'state_dict': {'model.clip_vision_encoder.base_model.model.x': 0}}, 'rsrefseg'),
    ],
)
def test_published_files_are_known_by_their_names(checkpoint, converter):
    assert f'`mmseg-siglip convert {converter}` converts' in advice(checkpoint)


@pytest.mark.parametrize('checkpoint', [{}, {'state_dict': {'backbone.x': 0}}, {'model': [1]}])
def test_no_others(checkpoint):
    assert advice(checkpoint) == ''
