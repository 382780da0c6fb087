"""GEM, https://arxiv.org/abs/2312.00878: tokens group themselves, beside the last blocks.

Shapes: B images, H heads, N = P + h*w tokens, d per head, C channels.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from mmseg_siglip.models.backbones.block import attend
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.dense.dual_path import DUAL_BLOCKS, check_dual_blocks, dual_path
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.registry import DENSE_METHODS

SETTINGS = dict(
    image_size=(448, 448),
    template='a photo of a {}.',
    backbone=dict(position_antialias=True, position_offset=0.0),
)
"""Settings of https://github.com/WalBouss/GEM, commit 5fa677c, for all data: images are squashed to
a square. Those that its tables were made with are not published for each data set.
For the reader and parity: no protocol takes them."""


@DENSE_METHODS.register_module(name='gem')
class GEM(DenseMethod):
    """A second path of (A_q v + A_k v + A_v v) / 3, A_u = softmax(t u uᵀ), u of unit length.

    It begins in front of the last six blocks, see `dual_path`. Before they meet, q, k and v have
    each gathered themselves: u becomes A_u u, of unit length again, `iterations` times. Unless
    fixed, t is the mean length of a block's normed tokens over √d, of one image.

    Args:
        blocks: Blocks with a second path. The published ``depth`` counts one more.
        iterations: How often q, k and v gather themselves.
        temperature: t of all images and blocks; None for that of each image.
    """

    sites = ('trunk',)

    def __init__(
        self,
        *,
        blocks: int = DUAL_BLOCKS,
        iterations: int = 1,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        self.dual_blocks = check_dual_blocks(blocks)
        if iterations < 0:
            raise ValueError(f'iterations: expected 0 or more, found {iterations}')
        self.iterations, self.temperature = iterations, temperature

    def forward(self, trunk: Trunk) -> Tokens:
        path = dual_path(trunk, self.dual_blocks, self.gather)
        return Tokens(path, trunk.grid, trunk.prefix)

    def gather(self, normed: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, N, C) and three (B, H, N, d) to (B, H, N, d)."""
        root = q.shape[-1] ** 0.5
        if self.temperature is None:
            factor = normed.float().norm(dim=-1).mean(1)[:, None, None, None]  # t √d
        else:
            factor = self.temperature * root

        def gathered(u: Tensor, values: Tensor | None = None) -> Tensor:
            u = normalize(u.float(), dim=-1)
            unit, scaled = u.to(v.dtype), (factor * u).to(v.dtype)
            return attend(scaled, unit, unit if values is None else values)

        parts = []
        for u in (q, k, v):
            for _ in range(self.iterations):
                u = gathered(u)
            parts.append(gathered(u, v))
        return sum(parts) / 3
