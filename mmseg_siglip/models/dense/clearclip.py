"""ClearCLIP, https://arxiv.org/abs/2407.12442."""

from torch import Tensor

from mmseg_siglip.models.backbones.block import attend
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.registry import DENSE_METHODS


@DENSE_METHODS.register_module(name='clearclip')
class ClearCLIP(DenseMethod):
    """softmax(q qᵀ / √d) v alone."""

    reads = 'qv'

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: object) -> Tensor:
        return attend(q, q, v)
