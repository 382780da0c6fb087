"""Pixels that do not count have a number of their own."""

from __future__ import annotations

import pytest

from mmseg_siglip.models.losses import MaskBCELoss, MaskDiceLoss


@pytest.mark.parametrize('loss', [MaskBCELoss, MaskDiceLoss])
@pytest.mark.parametrize('answer', [0, 1])
def test_an_answer_is_counted(loss, answer):
    with pytest.raises(ValueError, match=rf'{loss.__name__}.ignore_index: .* found {answer}$'):
        loss(ignore_index=answer)
    assert loss(ignore_index=2).ignore_index == 2
