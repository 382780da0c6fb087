"""SCLIP, https://arxiv.org/abs/2312.01597."""

from torch import Tensor

from mmseg_siglip.models.backbones.block import attend
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.registry import DENSE_METHODS


@DENSE_METHODS.register_module(name=['csa', 'sclip'])
class CorrelativeSelfAttention(DenseMethod):
    """softmax(q qᵀ / √d) v + softmax(k kᵀ / √d) v, a sum and not a mean; residual and FFN."""

    residual, ffn = True, True

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: object) -> Tensor:
        return attend(q, q, v) + attend(k, k, v)
