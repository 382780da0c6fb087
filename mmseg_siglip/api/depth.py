"""Depth of your own photographs.

from mmseg_siglip.api import DepthPredictor

predictor = DepthPredictor.from_pretrained('depth_anything_v2_metric_hypersim_vits.pth')
predictor = DepthPredictor.from_config('configs/dpt/nyu_finetune.py', 'iter_20000.pth')
predictor('photo.jpg').depth  # metres
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from mmseg_siglip.api.graphs import is_graph
from mmseg_siglip.api.load import load_trained
from mmseg_siglip.api.results import DepthMap, NormalMap
from mmseg_siglip.api.system import System
from mmseg_siglip.device import find_device
from mmseg_siglip.io.image import ImageLike
from mmseg_siglip.later import Later
from mmseg_siglip.models.finite import doubts, fetch_sure
from mmseg_siglip.models.segmentors import (
    DepthModel,
    PublishedDepthEstimator,
    SigLIPDepthEstimator,
)
from mmseg_siglip.precision import compute_dtype


class DepthPredictor(System):
    """Predicts depth, metric or relative, as the model was trained: a `DepthMap`.

    Args:
        model: The estimator.

    Examples:
        >>> from mmseg_siglip.api import DepthPredictor, create_depth_model
        >>> from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
        >>> image = generate(scene_seed('test', 0), size=(64, 96)).image  # or 'photo.jpg'
        >>> model = create_depth_model('tiny_siglip_shapes', image_size=64)  # untrained
        >>> found = DepthPredictor(model)(image)
        >>> found.depth.shape, found.unit
        ((64, 96), 'metre')
    """

    task, asks, kind = 'depth', None, DepthModel
    gives = DepthMap

    def __init__(self, model: DepthModel) -> None:
        self.model = model.eval()

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | torch.device | None = None,
        precision: str = 'auto',
        **options,
    ) -> DepthPredictor:
        """A published model of depth: Depth Anything V1 and V2, DPT, ZoeDepth, TIPS v2 with DPT;
        or a saved one.

        Args:
            source: A folder or Hub id of transformers (``Intel/dpt-large``), a release's own file
                (``depth_anything_v2_vits.pth``), or what `save_pretrained` or `export_onnx`
                wrote.
            device: By default the GPU, if there is one.
            precision: See `mmseg_siglip.precision`.
            options: The family's: ``release`` and ``max_depth`` of `DepthAnythingDepth`,
                ``predicts`` of `DPTDepth`.

        Raises:
            ValueError: Nothing known is there, its weights do not fit, or an option is another
                family's.
        """
        if is_graph(source):
            return cls._of_graph(source, device=device, precision=precision, **options)
        saved = cls.saved(source, revision=options.get('revision'))
        if saved is not None:
            return cls._of_saved(saved, device=device, precision=precision, **options)
        device = find_device(device)
        compute_dtype(precision, device)
        backbone = dict(pretrained=str(source), **options)
        system = cls(PublishedDepthEstimator(backbone, precision=precision).to(device))
        system.description = dict(type='PublishedDepthEstimator', backbone=backbone)
        return system

    @property
    def unit(self) -> str:
        """``metre`` or ``inverse``, see `DepthMap`."""
        return 'metre' if self.model.predicts == 'depth' else 'inverse'

    def torch(
        self,
        images: Tensor | Sequence[Tensor],
        prompt: None = None,
        *,
        normals: bool = False,
    ) -> list[Tensor]:
        """The map of each image, on the CPU, float32.

        Args:
            images: (B, 3, H, W), or B tensors (3, H, W), uint8 or float in [0, 1].
            prompt: None.
            normals: Whether surface normals are asked for.

        Returns:
            Depth (H, W) or, with normals, (4, H, W), see `DepthModel`.

        Raises:
            ValueError: The model has no normals; or see `DepthModel.predict_maps`.
        """
        return self._begin(images, prompt, normals=normals)()

    def _begin(
        self, images: Tensor | Sequence[Tensor], prompt: None, *, normals: bool = False
    ) -> Later[list[Tensor]]:
        if normals and not self.model.has_normals:
            raise ValueError('expected a model that predicts normals, found one of depth alone')
        with doubts(later=True) as held:
            maps = self.model.predict_maps(images)
        return fetch_sure([found if normals else found[0] for found in maps], held)

    def _result(self, rgb: np.ndarray, output: Tensor, prompt: None) -> DepthMap:
        if output.dim() == 2:
            return DepthMap(output.numpy(), self.unit, rgb)
        normals = NormalMap(output[1:].permute(1, 2, 0).numpy(), rgb)
        return DepthMap(output[0].numpy(), self.unit, rgb, normals)


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
    """An estimator on an encoder's weights, its decoder untrained, of which a warning tells.

    Args:
        model_name: What `build_encoder` takes, such as
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

    Examples:
        >>> from mmseg_siglip.api import create_depth_model
        >>> model = create_depth_model('tiny_siglip_shapes', tap_layers=(0, 1, 2, 3), max_depth=80)
        >>> model.predicts
        'depth'
    """
    key = 'config' if isinstance(model_name, Mapping) else 'pretrained'
    head = dict(
        channels=decoder_channels, output=output, max_depth=max_depth, readout_type=readout_type
    )
    model = SigLIPDepthEstimator(
        {key: model_name}, head, tap_layers=tap_layers, image_size=image_size, **options
    )
    encoder = 'a new encoder' if key == 'config' else model_name
    warnings.warn(
        f'create_depth_model: the decoder on {encoder} is untrained: its depths mean nothing yet',
        stacklevel=2,
    )
    return model.eval()


def load_depth_model(
    config: str | Path | Config, checkpoint: str | Path | None = None, *, device: str | None = None
) -> DepthModel:
    """`DepthPredictor.from_config`'s model, at the precision of the config.

    Examples:
        >>> import torch
        >>> from mmseg_siglip.api import load_depth_model
        >>> from mmseg_siglip.registry import MODELS
        >>> from mmseg_siglip.api.load import read_config
        >>> with open('own.py', 'w') as file:
        ...     _ = file.write("_base_ = 'mmseg_siglip::dpt/shapes_frozen.py'")
        >>> model = MODELS.build(read_config('own.py').model)  # to be trained
        >>> torch.save(dict(state_dict=model.state_dict()), 'weights.pth')
        >>> load_depth_model('own.py', 'weights.pth', device='cpu').predicts
        Loads checkpoint by safe backend from path: weights.pth
        'depth'
    """
    return load_trained(DepthModel, config, checkpoint, device=device)


def predict_depth(
    model: DepthModel, images: ImageLike | Sequence[ImageLike]
) -> np.ndarray | list[np.ndarray]:
    """`DepthPredictor`'s call, reduced to depth (H, W) float32.

    Examples:
        >>> from mmseg_siglip.api import create_depth_model, predict_depth
        >>> from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
        >>> image = generate(scene_seed('test', 0), size=(64, 96)).image  # or 'photo.jpg'
        >>> model = create_depth_model('tiny_siglip_shapes', image_size=64)  # untrained
        >>> predict_depth(model, image).shape
        (64, 96)
    """
    found = DepthPredictor(model)(images)
    return found.depth if isinstance(found, DepthMap) else [result.depth for result in found]


def metric_depth(*given, **options) -> Callable[[ImageLike], np.ndarray]:
    """`metric_predictor` as a function from an image to its depth (H, W) float32, metres."""
    predictor = metric_predictor(*given, **options)
    return lambda image: predictor(image).depth


def metric_predictor(
    config: str | Path | Config | None = None,
    checkpoint: str | Path | None = None,
    *,
    published: str | Path | None = None,
    device: str | None = None,
) -> DepthPredictor:
    """A predictor that knows metres.

    Args:
        config: A config, whose precision counts.
        checkpoint: Weights of the config's model.
        published: A model of `DepthPredictor.from_pretrained` in the place of both.
        device: By default the GPU, if there is one.

    Raises:
        ValueError: See `load_trained`; or the model is a relative one.
    """
    if published is not None:
        predictor = DepthPredictor.from_pretrained(published, device=device)
    else:
        predictor = DepthPredictor(load_depth_model(config, checkpoint, device=device))
    if predictor.unit != 'metre':
        raise ValueError(
            f'{published or config}: expected a model of metric depth, found a relative one'
        )
    return predictor
