from __future__ import annotations

import torch

from mmseg_siglip.models.decode_heads.cat_seg_aggregator import cost_volume, likeliest


def test_cost_is_the_cosine_of_each_place_and_prompt():
    features, text = torch.randn(2, 4, 3, 5), torch.randn(6, 2, 4)
    cost = cost_volume(features, text)
    assert cost.shape == (2, 6, 2, 3, 5) and cost.abs().max() <= 1 + 1e-6
    wanted = torch.cosine_similarity(features[1, :, 2, 3], text[4, 1], dim=0)
    torch.testing.assert_close(cost[1, 4, 1, 2, 3], wanted)
    own = torch.stack([text, text.flip(0)])
    torch.testing.assert_close(cost_volume(features, own)[1], cost[1].flip(0))


def test_likeliest_by_hand():
    cost = torch.zeros(2, 4, 1, 2, 2)
    cost[0, 3, 0, 1, 1], cost[0, 1, 0, 0, 0], cost[1, 0, 0, 0, 1], cost[1, 2] = 0.9, 0.5, 0.2, 0.1
    assert likeliest(cost, 2).tolist() == [[1, 3], [0, 2]]
