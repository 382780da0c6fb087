"""A dense method of your own: a patch listens to keys that resemble its own, within some steps.

PYTHONPATH=examples mmseg-siglip test examples/local_attention_shapes.py
"""

import torch

from mmseg_siglip.models.backbones.block import attend
from mmseg_siglip.models.dense import DenseMethod
from mmseg_siglip.registry import DENSE_METHODS


@DENSE_METHODS.register_module(name='local')
class LocalAttention(DenseMethod):
    """softmax(k kᵀ / √d) v over the patches at most `radius` rows and columns away; residual, FFN.

    Args:
        radius: In patches.
    """

    residual, ffn, reads = True, True, 'kv'

    def __init__(self, radius: int = 2) -> None:
        super().__init__()
        self.radius = radius

    def mix(self, q, k, v, trunk):
        rows, columns = (torch.arange(side, device=k.device) for side in trunk.grid)
        places = torch.cartesian_prod(rows, columns)  # (h*w, 2)
        far = (places[:, None] - places).abs().amax(-1) > self.radius
        bias = torch.zeros(far.shape, device=k.device).masked_fill(far, -torch.inf)
        prefix = k.shape[-2] - len(places)  # CLS and registers, which all may listen to
        bias = torch.nn.functional.pad(bias, (prefix, 0, prefix, 0))
        return attend(k, k, v, bias.to(k.dtype))
