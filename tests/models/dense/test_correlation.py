"""Who shares values with whom, by the formulas, pair by pair."""

from math import exp

import pytest
import torch
from torch.nn.functional import normalize

from mmseg_siglip.models.dense import correlation
from mmseg_siglip.models.dense.correlation import mean_cosine, proxy, share_values


@pytest.mark.parametrize('first', [0, 2])
def test_proxy_equals_the_formula(first):
    cosines = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = proxy(cosines, torch.tensor(0.1), beta=1.2, gamma=3.0, first=first)
    for i, row in enumerate(cosines.tolist()):
        logits = [3.0 * (value - 1.2 * 0.1) for value in row]
        kept = [exp(x) if x >= 0 or j == i + first else 0.0 for j, x in enumerate(logits)]
        wanted = [value / sum(kept) for value in kept]
        torch.testing.assert_close(found[i], torch.tensor(wanted))
    assert (found == 0).any()


def test_a_query_may_lose_all_where_that_is_asked_for():
    cosines, mean = torch.zeros(2, 2), torch.tensor(1.0)
    assert proxy(cosines, mean, beta=1.0, gamma=1.0, first=None).isnan().all()
    assert torch.equal(proxy(cosines, mean, beta=1.0, gamma=1.0), torch.eye(2))


def test_chunks_change_nothing(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    f = normalize(torch.randn(5, 37, 4, generator=generator), dim=-1)
    values, mean = torch.randn(5, 37, 6, generator=generator), mean_cosine(f)
    torch.testing.assert_close(mean[:, 0, 0], (f @ f.transpose(1, 2)).mean((1, 2)))

    def weigh(cosines, windows, queries):
        return proxy(cosines, mean[windows], beta=1.2, gamma=3.0, first=queries.start)

    wanted = share_values(f, values, weigh)
    seen = []
    for size in (1, 4 * 37 * 5, 4 * 37 * 37 * 2):
        monkeypatch.setattr(correlation, 'CHUNK_BYTES', size)

        def watched(cosines, windows, queries):
            seen.append(cosines.numel() * 4)
            return weigh(cosines, windows, queries)

        torch.testing.assert_close(share_values(f, values, watched), wanted)
        assert max(seen) <= max(size, 4 * 37)
        seen.clear()
