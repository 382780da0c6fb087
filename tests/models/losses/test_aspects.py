import subprocess
import sys

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from mmseg_siglip.models.losses.aspects import (
    PairedContrast,
    aspect_overlap,
    pool_cells,
    pool_regions,
    region_text_contrast,
)


def test_overlap_by_hand():
    aspects = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [3.0, 0.0]], [[1, 2], [2, 4]]])
    torch.testing.assert_close(aspect_overlap(aspects), torch.tensor([0.0, 0.5, 1.0]))


def test_regions_are_means_by_area():
    patches = torch.tensor([[[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]]])
    masks = torch.zeros(3, 4, 6, dtype=torch.uint8)
    masks[0, :2, :3] = 1  # all of the first patch, half of the second
    masks[1, 3, 5], masks[1, 0, 0] = 1, 255
    means, seen = pool_regions(patches, masks, (1.0, 1.0))
    torch.testing.assert_close(means[:, 0], torch.tensor([(1 + 0.5 * 10) / 1.5, 200.0, 0.0]))
    assert seen.tolist() == [True, True, False]


def test_regions_follow_what_the_patches_span():
    patches = torch.tensor([[[1.0, 10.0]]])
    masks = torch.zeros(2, 4, 10, dtype=torch.uint8)
    masks[0, :, 4:8], masks[1, :, 8:] = 1, 1  # the second lies where no patch sees
    means, seen = pool_regions(patches, masks, (1.0, 0.8))
    assert means[0, 0] == 10 and seen.tolist() == [True, False]


def test_regions_where_the_patches_reach_past_the_image():
    """Cells of 8 pixels over 36: the fifth is half beyond."""
    patches = torch.arange(5.0).view(1, 5, 1)
    masks = torch.zeros(2, 36, 8, dtype=torch.uint8)
    masks[0, 24:32], masks[1, 28:] = 1, 1
    means, _ = pool_regions(patches, masks, (40 / 36, 1.0))
    torch.testing.assert_close(means[:, 0], torch.tensor([3.0, (3 * 4 + 4 * 4) / 8]))


def test_autocast_changes_nothing():
    torch.manual_seed(0)
    patches, masks = torch.randn(8, 3, 4), torch.randint(0, 2, (5, 12, 16))
    texts, same = torch.randn(5, 8), torch.eye(5).bool()

    def loss():
        return region_text_contrast(pool_regions(patches, masks, (1.0, 1.0))[0], texts, same)

    expected = loss()
    with torch.autocast('cpu', torch.bfloat16):
        found = loss()
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_contrast_without_company_is_cross_entropy_both_ways():
    torch.manual_seed(0)
    regions, texts = torch.randn(5, 8), torch.randn(5, 8)
    logits = normalize(regions, dim=1) @ normalize(texts, dim=1).T / 0.2
    truth = torch.arange(5)
    expected = (cross_entropy(logits, truth) + cross_entropy(logits.T, truth)) / 2
    found = region_text_contrast(regions, texts, torch.eye(5).bool(), temperature=0.2)
    torch.testing.assert_close(found, expected)


def test_rows_of_the_same_meaning_share_the_truth():
    torch.manual_seed(0)
    regions, texts = torch.randn(4, 8), torch.randn(4, 8)
    groups = [0, 1, 0, 2]
    same = torch.tensor([[one == other for other in groups] for one in groups])
    logits = normalize(regions, dim=1) @ normalize(texts, dim=1).T / 0.07
    each = [
        -sum(way.log_softmax(1)[i, j] for j in range(4) if same[i, j]) / same[i].sum()
        for way in (logits, logits.T)
        for i in range(4)
    ]
    torch.testing.assert_close(region_text_contrast(regions, texts, same), sum(each) / 8)


def test_no_region_costs_nothing():
    empty = torch.zeros(0, 4, requires_grad=True)
    loss = region_text_contrast(empty, empty, torch.zeros(0, 0).bool())
    loss.backward()
    assert loss == 0


def test_cells_whose_centres_a_mask_meets():
    """Outer centres on the edges: columns 0, 2.5 and 5 of six, rows 0 and 3 of four."""
    patches = torch.tensor([[[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]]])
    masks = torch.zeros(4, 4, 6, dtype=torch.uint8)
    masks[0, :2, :4] = 1
    masks[1, 3, 3:] = 1  # half of the middle centre: not inside
    masks[2, 1:3] = 1
    masks[3, 0, 0], masks[3, 0, 5] = 1, 255
    assert pool_cells(patches, masks, (1.0, 1.0))[:, 0].tolist() == [11, 200, 0, 1]
    short = pool_cells(patches[..., :2], masks[:1], (1.0, 0.5))
    assert short[:, 0].tolist() == [11]  # columns 0 and 2 of three


def test_pairs_are_told_apart_both_ways():
    torch.manual_seed(0)
    regions, texts = torch.randn(5, 8), torch.randn(5, 8)
    regions[3] = 0  # of a mask that no centre meets
    contrast = PairedContrast()
    assert contrast.scale.exp().item() == pytest.approx(1 / 0.07)
    logits = normalize(regions, dim=1) @ normalize(texts, dim=1).T / 0.07
    truth = torch.arange(5)
    expected = (cross_entropy(logits, truth) + cross_entropy(logits.T, truth)) / 2
    torch.testing.assert_close(contrast(regions, texts), expected)
    contrast(regions, texts).backward()
    assert contrast.scale.grad.abs() > 0


WORKER = """
import sys
import torch
import torch.distributed as dist
from mmseg_siglip.models.losses.aspects import PairedContrast

rank, out = int(sys.argv[1]), sys.argv[2]
dist.init_process_group('gloo', init_method=f'file://{out}.rendezvous', rank=rank, world_size=2)
parts = torch.load(f'{out}.in')
mine = [part[:2] if rank == 0 else part[2:] for part in parts]
for part in mine:
    part.requires_grad_(True)
loss = PairedContrast()(*mine)
loss.backward()
torch.save([loss.detach(), *(part.grad for part in mine)], f'{out}.{rank}')
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_pairs_of_two_processes_are_one_batch(tmp_path):
    """Batches of two and three rows; the mean of both processes' gradients is that of one batch."""
    torch.manual_seed(0)
    parts, out = [torch.randn(5, 8) for _ in range(2)], tmp_path / 'pairs'
    torch.save(parts, f'{out}.in')
    command = [sys.executable, '-c', WORKER]
    workers = [subprocess.Popen([*command, str(rank), str(out)]) for rank in range(2)]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    for part in parts:
        part.requires_grad_(True)
    expected = PairedContrast()(*parts)
    expected.backward()
    found = [torch.load(f'{out}.{rank}') for rank in range(2)]
    for value, *_ in found:
        torch.testing.assert_close(value, expected.detach())
    for one, other, part in zip(found[0][1:], found[1][1:], parts, strict=True):
        torch.testing.assert_close(torch.cat([one, other]) / 2, part.grad)
