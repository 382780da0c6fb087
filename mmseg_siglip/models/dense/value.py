"""No attention: every patch keeps its own value, with more or less of the block around it."""

from __future__ import annotations

from torch import Tensor

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.registry import DENSE_METHODS


@DENSE_METHODS.register_module(name='maskclip')
class MaskCLIP(DenseMethod):
    """W_o v alone, MaskCLIP (https://arxiv.org/abs/2112.01071) as ClearCLIP and others' tables read
    it. MaskCLIP's authors keep more of the block, see `ValueResidual`."""

    reads = 'v'

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: object) -> Tensor:
        return v


@DENSE_METHODS.register_module(name='value')
class Value(MaskCLIP):
    """W_o v and the FFN."""

    ffn = True


@DENSE_METHODS.register_module(name=['value_residual', 'maskclip_official'])
class ValueResidual(Value):
    """W_o v, the token's own residual, and the FFN: a whole block whose tokens attend to themselves
    alone, which is MaskCLIP (https://arxiv.org/abs/2112.01071) in its authors' code for ViT
    (https://github.com/chongzhou96/MaskCLIP, commit 245d31f).

    That code runs CLIP's weights with GELU in place of QuickGELU, norms of epsilon 1e-6 in place of
    1e-5, and ImageNet's pixel statistics. These are the encoder's matters, and there as it was
    trained.
    """

    residual = True


@DENSE_METHODS.register_module(name='value_cls')
class ValueCLS(Value):
    """W_o v, the CLS token's residual for all, and the FFN, as CAT-Seg's code has it
    (https://arxiv.org/abs/2303.11797)."""

    residual = 'cls'

    def check(self, encoder: VisionLanguageBackbone) -> None:
        if not encoder.num_prefix:
            raise ValueError(
                f"attention 'value_cls' needs a CLS token, which {type(encoder).__name__} has not"
            )
