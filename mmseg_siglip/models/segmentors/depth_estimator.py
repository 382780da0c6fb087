"""Monocular depth, and surface normals, from a vision-language encoder and DPT decoders.

Shapes: B images (3, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmseg.models import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor

from mmseg_siglip.io.image import check_tensor
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.compiled import compilable
from mmseg_siglip.models.data_preprocessor import normalise
from mmseg_siglip.models.decode_heads.dpt_blocks import Tap
from mmseg_siglip.models.decode_heads.dpt_head import DPTHead, fit_to_image
from mmseg_siglip.models.finetune import freeze_unread
from mmseg_siglip.models.held_weights import HeldWeights
from mmseg_siglip.models.lora import add_lora
from mmseg_siglip.models.segmentors.depth_model import DepthModel, mirrored_maps
from mmseg_siglip.models.segmentors.depth_taps import DepthTaps
from mmseg_siglip.models.segmentors.parts import (
    build_backbone,
    build_preprocessor,
    check_precision,
)
from mmseg_siglip.models.windows.grid import Windows
from mmseg_siglip.models.windows.stream import in_batches
from mmseg_siglip.models.windows.test_cfg import check_test_cfg, window_defaults
from mmseg_siglip.registry import MODELS


@MODELS.register_module()
class SigLIPDepthEstimator(DepthModel):
    """A DPT decoder on a vision-language encoder of any kind.

    What else differs from MMSeg's `DepthEstimator`: sliding windows whose result is kept; and an
    encoder of which only what depth needs remains: its text tower, and its pooling head if nothing
    reads it, are dropped.

    Args:
        backbone: Configuration of an encoder, see `build_backbone`.
        decode_head: Configuration of a `DPTHead`; ``in_channels`` and ``patch_size`` are the
            encoder's.
        normal_head: Configuration of a second one for surface normals, if any, over the same pass
            of the encoder; its ``output`` is ``normals``.
        tap_layers: Four blocks, counted from 0 or, negative, from the end. By default the last of
            each quarter.
        tap_norm: See `DepthTaps`.
        tap_readout: See `DepthTaps`; of decoders whose ``readout_type`` is not ``ignore``.
        freeze_backbone: Train the decoder alone: the encoder has no gradients and stays in eval
            mode.
        lora: Arguments of `add_lora`: train adapters in the encoder instead of all its weights.
        precision: Number format of prediction, see `mmseg_siglip.precision`; training has
            `AmpOptimWrapper`.
        image_size: Pixels to which `predict_depth` resizes the longer side of an image; None
            leaves images as they are.
        train_cfg: Nothing is read from it.
        test_cfg: ``mode`` 'whole' | 'slide'; ``crop_size`` and ``stride`` (rows, columns) in
            pixels; ``window_batch``, windows per forward pass; ``flip``, whether the mean with
            the mirrored image's prediction is taken.
        data_preprocessor: Configuration. Mean and std come from the backbone.

    Raises:
        ValueError: A value is out of range, or two contradict each other.
    """

    def __init__(
        self,
        backbone: Mapping,
        decode_head: Mapping,
        *,
        normal_head: Mapping | None = None,
        tap_layers: Sequence[int] | None = None,
        tap_norm: str = 'post_ln',
        tap_readout: str = 'pooled',
        freeze_backbone: bool = False,
        lora: Mapping | None = None,
        precision: str = 'fp32',
        image_size: int | None = None,
        train_cfg: Mapping | None = None,
        test_cfg: Mapping | None = None,
        data_preprocessor: Mapping | None = None,
        init_cfg: Mapping | None = None,
    ) -> None:
        encoder = build_backbone(backbone)
        if freeze_backbone and lora:
            raise ValueError('freeze_backbone and lora contradict each other; give one of them')
        BaseSegmentor.__init__(
            self,
            data_preprocessor=depth_preprocessor(data_preprocessor, encoder),
            init_cfg=init_cfg,
        )
        self.backbone = encoder
        self.decode_head = build_head(decode_head, encoder)
        self.normal_head = None
        if normal_head is not None:
            self.normal_head = build_head(dict(dict(output='normals'), **normal_head), encoder)
        check_outputs(self.decode_head, self.normal_head)
        self.taps = DepthTaps(
            encoder,
            tap_layers=tap_layers,
            tap_norm=tap_norm,
            with_readout=any(head.readout_type != 'ignore' for head in self.heads),
            tap_readout=tap_readout,
        )
        self.align_corners, self.num_classes, self.out_channels = False, 1, 1
        self.precision, self.held = check_precision(precision), HeldWeights()
        self.train_cfg, self.image_size = train_cfg, image_size
        config = dict(test_cfg or {})
        self.flip = config.pop('flip', False)
        defaults = window_defaults(encoder.image_size, mode='whole')
        self.test_cfg = check_test_cfg(config, defaults)
        self.freeze_backbone = freeze_backbone
        self._keep_what_depth_needs(lora)

    @property
    def heads(self) -> list[DPTHead]:
        """The decoders, that of depth first."""
        return [head for head in (self.decode_head, self.normal_head) if head is not None]

    def _keep_what_depth_needs(self, lora: Mapping | None) -> None:
        """Drop or freeze what no tap depends on, which DDP would wait for in vain."""
        self.backbone.keep_vision(pooling=self.taps.pools)
        self.backbone.requires_grad_(not self.freeze_backbone)
        if lora:
            add_lora(self.backbone, **lora)
        freeze_unread(self.backbone, self.taps.used(self.backbone))

    def train(self, mode: bool = True) -> SigLIPDepthEstimator:
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    @compilable
    def extract_feat(self, inputs: Tensor, batch_img_metas: object = None) -> list[Tap]:
        """(B, 3, H, W), normalised, to what the decoder takes."""
        return self.taps(self.backbone, inputs, frozen=self.freeze_backbone)

    def encode_decode(self, inputs: Tensor, batch_img_metas: object = None) -> Tensor:
        """(B, 3, H, W), normalised, to maps (B, C, H, W), float32, of the pixels themselves."""
        with self.held.autocast(self, self.precision, inputs.device):
            taps = self.extract_feat(inputs)
            maps = torch.cat([head(taps) for head in self.heads], dim=1)
        return fit_to_image(maps, tuple(inputs.shape[-2:]))

    def _forward(self, inputs: Sequence[Tensor], data_samples: object = None) -> Tensor:
        """Maps (B, C, H, W) of (B, 3, H, W), without windows or flips."""
        images = inputs if isinstance(inputs, Tensor) else torch.stack(list(inputs))
        return self.encode_decode(images)

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """The decoders' losses; the precision of training is the optimiser wrapper's."""
        taps = self.extract_feat(inputs)
        losses = self._decode_head_forward_train(taps, data_samples)
        if self.normal_head is not None:
            found = self.normal_head.loss(taps, data_samples, self.train_cfg)
            losses.update({f'normals.{name}': value for name, value in found.items()})
        return losses

    def inference(self, inputs: Tensor, batch_img_metas: object = None) -> Tensor:
        """Maps (B, C, H, W) of images of one size, by windows and flips as `test_cfg` says."""
        run = self.slide_inference if self.test_cfg['mode'] == 'slide' else self.encode_decode
        maps = run(inputs)
        if self.flip:
            maps = (maps + mirrored_maps(run(inputs.flip(-1)), (-1,))) / 2
        return maps

    def slide_inference(self, inputs: Tensor, batch_img_metas: object = None) -> Tensor:
        """The mean over windows at each pixel: (B, 3, H, W) to (B, C, H, W)."""
        windows = Windows.of(tuple(inputs.shape[-2:]), self.test_cfg)
        shape = (len(inputs), 4 if self.has_normals else 1, *inputs.shape[-2:])
        total, count = inputs.new_zeros(2, *shape, dtype=torch.float32)
        crops, parts, counts = (
            (crop for image in images for crop in windows.crops(image))
            for images in (inputs, total, count)
        )
        for batch in in_batches(crops, self.test_cfg['window_batch']):
            for found in self.encode_decode(torch.stack(batch)):
                next(parts).add_(found)
                next(counts).add_(1)
        return total / count

    @property
    def predicts(self) -> str:
        return self.decode_head.predicts

    @property
    def has_normals(self) -> bool:
        return self.normal_head is not None

    def _prepare(self, rgb: Tensor) -> Tensor:
        return normalise(check_tensor(rgb), self.data_preprocessor, long_side=self.image_size)


def build_head(config: Mapping, encoder: VisionLanguageBackbone) -> DPTHead:
    """A decoder on an encoder."""
    sizes = dict(in_channels=encoder.hidden_size, patch_size=encoder.patch_size)
    return MODELS.build(dict(type='DPTHead', **sizes) | dict(config))


def check_outputs(depth: DPTHead, normals: DPTHead | None) -> None:
    """Refuse decoders that stand in each other's place.

    Raises:
        ValueError: One gives what the other should.
    """
    if depth.predicts == 'normals':
        raise ValueError('decode_head: expected an output of depth, found normals; see normal_head')
    if normals is not None and normals.predicts != 'normals':
        raise ValueError(f'normal_head: expected output normals, found {normals.output}')


def depth_preprocessor(config: Mapping | None, backbone: VisionLanguageBackbone):
    """A data preprocessor with the backbone's statistics, which pads depth with "none", 0.

    Raises:
        ValueError: `config` would pad with a depth: MMSeg's default is 255, which is 255 metres.
    """
    default = dict(
        type='ImageListPreProcessor',
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,
        size_divisor=backbone.patch_size,
    )
    config = dict(config or default)
    if config.get('seg_pad_val', 255) != 0:
        raise ValueError(
            'data_preprocessor.seg_pad_val: expected 0, which means no depth, '
            f'found {config.get("seg_pad_val", 255)}, which would be metres'
        )
    return build_preprocessor(config, backbone)
