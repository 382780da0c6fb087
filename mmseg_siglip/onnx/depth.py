"""A depth model whose network is a graph; windows, flips and sizes are torch's own.

Shapes: B images (3, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping

from mmseg.models import BaseSegmentor
from torch import Tensor

from mmseg_siglip.models.decode_heads.dpt_head import fit_to_image
from mmseg_siglip.models.segmentors import SigLIPDepthEstimator
from mmseg_siglip.models.segmentors.depth_estimator import depth_preprocessor
from mmseg_siglip.models.windows.test_cfg import check_test_cfg, window_defaults
from mmseg_siglip.onnx.encoder import GraphSides
from mmseg_siglip.onnx.graph import Graph

PREDICTS = ('depth', 'inverse')


class ONNXDepthEstimator(SigLIPDepthEstimator):
    """A `SigLIPDepthEstimator` on a graph.

    Args:
        graph: Of the kind ``depth``.
        image_size, test_cfg, data_preprocessor: See `SigLIPDepthEstimator`.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        image_size: int | None = None,
        test_cfg: Mapping | None = None,
        data_preprocessor: Mapping | None = None,
    ) -> None:
        sides, predicts = GraphSides(graph), graph.facts.own.get('predicts')
        if predicts not in PREDICTS or graph.facts.channels not in (1, 4):
            raise ValueError(f'{graph.path}: expected a graph of depth, found {predicts!r}')
        BaseSegmentor.__init__(self, data_preprocessor=depth_preprocessor(data_preprocessor, sides))
        self.graph, self._predicts = graph, predicts
        self.register_buffer('graph_digest', graph.digest)
        self.align_corners, self.num_classes, self.out_channels = False, 1, 1
        self.precision, self.image_size = 'fp32', image_size
        config = dict(test_cfg or {})
        self.flip = config.pop('flip', False)
        self.test_cfg = check_test_cfg(config, window_defaults(sides.image_size, mode='whole'))

    def train(self, mode: bool = True) -> ONNXDepthEstimator:
        return BaseSegmentor.train(self, mode)

    def encode_decode(self, inputs: Tensor, batch_img_metas: object = None) -> Tensor:
        """(B, 3, H, W), normalised, to maps (B, C, H, W), float32, of the pixels themselves."""
        maps = self.graph(self.graph.fit(inputs)).to(inputs.device)
        return fit_to_image(maps, tuple(inputs.shape[-2:]))

    @property
    def predicts(self) -> str:
        return self._predicts

    @property
    def has_normals(self) -> bool:
        return self.graph.facts.channels == 4
