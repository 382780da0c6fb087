import numpy as np
import pytest
import torch
from scipy import ndimage

from mmseg_siglip.models.sam.blobs import Blobs

CPU = torch.device('cpu')


@pytest.mark.parametrize('least', [1, 20])
def test_blobs_equal_scipys(least):
    labels = np.kron(np.random.default_rng(0).integers(-1, 3, (6, 8)), np.ones((3, 3), int))
    blobs, expected = Blobs.of(labels, least, CPU), []
    for label in range(3):
        found, count = ndimage.label(labels == label, np.ones((3, 3)))
        masks = [found == number for number in range(1, count + 1)]
        expected += [(label, mask) for mask in masks if mask.sum() >= least]
    assert len(blobs) == len(expected) > 4
    ours = {(own, blobs.mask(k).numpy().tobytes()) for k, own in enumerate(blobs.classes)}
    assert ours == {(label, mask.tobytes()) for label, mask in expected}
    for number, box in enumerate(blobs.boxes.int().tolist()):
        rows, columns = np.nonzero(blobs.index.numpy() == number)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert [list(part) for part in blobs.split(4)][0] == [0, 1, 2, 3]


def test_no_blob():
    blobs = Blobs.of(np.full((3, 4), -1), 1, CPU)
    assert len(blobs) == 0 and blobs.boxes.shape == (0, 4) and not list(blobs.split(8))
    assert blobs.index.eq(-1).all()
