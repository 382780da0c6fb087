"""A published model of depth where MMSeg expects an estimator."""

from __future__ import annotations

from collections.abc import Mapping

from mmseg.models import BaseSegmentor
from torch import Tensor

from mmseg_siglip.device import upload
from mmseg_siglip.io.image import check_tensor
from mmseg_siglip.models.depth_models import build_depth_model
from mmseg_siglip.models.held_weights import HeldWeights
from mmseg_siglip.models.segmentors.depth_model import DepthModel
from mmseg_siglip.models.segmentors.parts import check_precision
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class PublishedDepthEstimator(DepthModel):
    """Depth Anything, DPT and others as published, for prediction and evaluation.

    Args:
        backbone: ``pretrained`` and options, see `build_depth_model`.
        precision: See `DepthModel`.
        data_preprocessor: Configuration of one that leaves pixels in 0..255, RGB; sizes and
            statistics are the published model's affair.
        train_cfg: Nothing is read from it.
        test_cfg: Nothing is read from it.

    Raises:
        ValueError: See `build_depth_model`.
    """

    training_free = True

    def __init__(
        self,
        backbone: Mapping,
        *,
        precision: str = 'fp32',
        data_preprocessor: Mapping | None = None,
        train_cfg: Mapping | None = None,
        test_cfg: Mapping | None = None,
        init_cfg: Mapping | None = None,
    ) -> None:
        default = dict(type='ImageListPreProcessor', bgr_to_rgb=True)
        preprocessor = MODELS.build(dict(data_preprocessor or default))
        BaseSegmentor.__init__(self, data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.backbone = build_depth_model(**backbone)
        self.align_corners, self.num_classes, self.out_channels = False, 1, 1
        self.precision, self.held = check_precision(precision), HeldWeights()
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    @property
    def predicts(self) -> str:
        return self.backbone.predicts

    @property
    def has_normals(self) -> bool:
        return self.backbone.has_normals

    def inference(self, inputs: Tensor, batch_img_metas: object = None) -> Tensor:
        with self.held.autocast(self, self.precision, inputs.device):
            return self.backbone(inputs.round().clamp(0, 255).byte())

    def _prepare(self, rgb: Tensor) -> Tensor:
        image = upload(check_tensor(rgb), next(self.parameters()).device)
        return 255 * image if image.is_floating_point() else image.float()

    def loss(self, inputs: Tensor, data_samples: object) -> dict[str, Tensor]:
        """Refuse to train.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            'PublishedDepthEstimator: expected to predict; what trains is a DPTHead on an encoder, '
            'see configs/dpt'
        )
