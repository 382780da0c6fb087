"""NACLIP, https://arxiv.org/abs/2404.08181."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_siglip.models.backbones.block import attend
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.registry import DENSE_METHODS

GAUSSIAN_STD = 5.0

SOURCE = 'https://arxiv.org/abs/2404.08181, without PAMR'
WHOLE = dict(short_side=336, crop_size=None, logit_scale=40)
SLIDE = dict(short_side=336, crop_size=224, stride=112, logit_scale=40)
PUBLISHED = dict(
    voc21=dict(WHOLE, prob_thd=0.1, area_thd=None),
    voc20=WHOLE,
    context60=dict(SLIDE, prob_thd=0.1),
    context59=SLIDE,
    coco_object=dict(SLIDE, prob_thd=0.1),
    coco_stuff=SLIDE,
    cityscapes=dict(SLIDE, short_side=560),
    ade20k=SLIDE,
)
PUBLISHED_MIOU = dict(
    voc21=58.9,
    voc20=79.7,
    context60=32.2,
    context59=35.2,
    coco_object=33.2,
    coco_stuff=23.3,
    cityscapes=35.5,
    ade20k=17.4,
)


@DENSE_METHODS.register_module(name='naclip')
class NACLIP(DenseMethod):
    """softmax(k kᵀ / √d + G) v alone, G a Gaussian window around each patch."""

    reads = 'kv'

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: Trunk) -> Tensor:
        prefix = k.shape[-2] - trunk.grid[0] * trunk.grid[1]
        return attend(k, k, v, gaussian_bias(trunk.grid, prefix, device=k.device).to(k.dtype))


def gaussian_bias(
    grid: tuple[int, int], num_prefix: int, *, device: torch.device | str = 'cpu'
) -> Tensor:
    """Additive attention bias exp(-‖i - j‖² / (2 std²)) between patches, 0 for prefix tokens.

    Made anew at each call, which costs far less than the attention that it is for. A cached tensor
    would keep the mode that it was made in, be it inference or export.

    Returns:
        (N, N) float32, values in [0, 1], distances in patches.
    """
    rows, columns = (
        (place[:, None] - place).square()
        for place in (torch.arange(side, dtype=torch.float32, device=device) for side in grid)
    )
    distance = rows[:, None, :, None] + columns[:, None, :]
    window = torch.exp(-distance / (2 * GAUSSIAN_STD**2)).flatten(2).flatten(0, 1)
    return torch.nn.functional.pad(window, (num_prefix, 0, num_prefix, 0))
