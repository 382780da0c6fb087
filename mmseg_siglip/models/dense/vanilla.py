"""The encoder as it was trained, https://arxiv.org/abs/2103.00020."""

from torch import Tensor

from mmseg_siglip.models.backbones.block import attend
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.registry import DENSE_METHODS


@DENSE_METHODS.register_module(name=['vanilla', 'clip'])
class Vanilla(DenseMethod):
    """softmax(q kᵀ / √d) v, residual and FFN."""

    residual, ffn = True, True

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: object) -> Tensor:
        return attend(q, k, v)
