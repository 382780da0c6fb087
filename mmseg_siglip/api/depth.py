"""Depth of your own photographs.

from mmseg_siglip.api.depth import load_depth_model, predict_depth

model = load_depth_model('configs/dpt/nyu_finetune.py', 'iter_20000.pth')
metres = predict_depth(model, 'photo.jpg')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor

from mmseg_siglip.api.segment import ImageLike, load_trained, read_image
from mmseg_siglip.models.segmentors import SigLIPDepthEstimator


def create_depth_model(
    model_name: str | Mapping,
    *,
    image_size: int | None = 896,
    tap_layers: Sequence[int] | None = None,
    decoder_channels: int | None = None,
    output: str = 'metric',
    max_depth: float = 10.0,
    readout_type: str = 'ignore',
    **options,
) -> SigLIPDepthEstimator:
    """An estimator on a SigLIP encoder's weights, its decoder untrained.

    Args:
        model_name: What `SigLIPBackbone.pretrained` takes, such as
            ``google/siglip2-so400m-patch14-384``; or a transformers configuration, for random
            weights.
        image_size: Pixels of the longer side in `predict_depth`.
        tap_layers: Four blocks, such as (-18, -12, -6, -2) of an encoder with 24 or 27; the last
            of each quarter if not given.
        decoder_channels: F of `DPTHead`; by default what suits the encoder.
        output: See `DPTHead`.
        max_depth: Metres.
        readout_type: See `DPTHead`.
        options: Further arguments of `SigLIPDepthEstimator`.

    Raises:
        ValueError: There is no such encoder, or a value is out of range.
    """
    key = 'config' if isinstance(model_name, Mapping) else 'pretrained'
    head = dict(
        channels=decoder_channels, output=output, max_depth=max_depth, readout_type=readout_type
    )
    model = SigLIPDepthEstimator(
        {key: model_name}, head, tap_layers=tap_layers, image_size=image_size, **options
    )
    return model.eval()


def load_depth_model(
    config: str | Path | Config, checkpoint: str | Path | None = None, *, device: str | None = None
) -> SigLIPDepthEstimator:
    """The trained model of a config.

    Args:
        config: A config of ``configs/dpt``.
        checkpoint: Weights written by training; the config's ``load_from`` if not given.
        device: By default the GPU, if there is one.

    Raises:
        ValueError: There are no weights, they do not fit, or the config is of another model.
    """
    return load_trained(SigLIPDepthEstimator, config, checkpoint, device=device)


def predict_depth(
    model: SigLIPDepthEstimator, images: ImageLike | Sequence[ImageLike]
) -> np.ndarray | list[np.ndarray]:
    """Depth of one image, or of each of a list.

    Args:
        model: An estimator.
        images: A path (turned upright by its EXIF orientation), a PIL image, an RGB array
            (H, W, 3) uint8, an RGB tensor (3, H, W); or a list of them, of any sizes.

    Returns:
        (H, W) float32: metres, or inverse depth up to scale and shift of a relative model.

    Raises:
        ValueError: An image cannot be read; the message names it.
    """
    single = isinstance(images, (str, Path, Image.Image, np.ndarray, Tensor))
    pixels = [read_image(image) for image in ([images] if single else images)]
    tensors = [torch.from_numpy(rgb).permute(2, 0, 1) for rgb in pixels]
    depths = [depth.cpu().numpy() for depth in model.predict_depth(tensors)]
    return depths[0] if single else depths
