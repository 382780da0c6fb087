"""Depth Anything, https://arxiv.org/abs/2401.10891, and V2, https://arxiv.org/abs/2406.09414."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, DPTImageProcessor

from mmseg_siglip.models.adapters.depth_release import split_release, to_depth_anything
from mmseg_siglip.models.adapters.timm_vit import dinov2_config
from mmseg_siglip.models.backbones.dino import IMAGENET
from mmseg_siglip.models.depth_models.published import Parts, PublishedDepth
from mmseg_siglip.registry import DEPTH_MODELS
from mmseg_siglip.weights.source import Source

MARKS = ('pretrained.blocks.0.attn.qkv.weight', 'depth_head.projects.0.weight')
NAME = re.compile(r'depth_anything_(?P<second>v2_(metric_(?P<scenes>hypersim|vkitti)_)?)?vit[sblg]')
RANGES = dict(hypersim=20, vkitti=80)
"""Metres of the farthest depth, by the scenes that V2's metric models were trained on."""
SECOND_TAPS = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}
"""Blocks that V2 reads, by how many there are. V1 reads the last four."""


@dataclass(frozen=True)
class Release:
    """What no tensor of a released file tells.

    Attributes:
        second: Whether it is V2.
        max_depth: Metres of a metric model; None of a relative one.
    """

    second: bool
    max_depth: int | None

    @classmethod
    def of(cls, name: str, source: Source, max_depth: int | None = None) -> Release:
        """By the name that a file was published under.

        Args:
            name: It.
            source: The file.
            max_depth: In place of the range that the name tells.

        Raises:
            ValueError: It is no such name, or one of a relative model that is given a range.
        """
        match = NAME.match(name)
        if match is None:
            raise ValueError(
                f'{source}: no tensor tells which Depth Anything this is, V1 or V2, relative or '
                'metric; expected release, the name that the file was published under, such as '
                f'depth_anything_v2_vits or depth_anything_v2_metric_hypersim_vits, found {name!r}'
            )
        known = RANGES.get(match['scenes'])
        if max_depth is not None and known is None:
            raise ValueError(
                f'{source}: expected no max_depth for a relative model, which knows no metres, '
                f'found {max_depth}'
            )
        return cls(bool(match['second']), max_depth or known)


@DEPTH_MODELS.register_module()
class DepthAnythingDepth(PublishedDepth):
    """Depth Anything V1 and V2, relative and metric.

    A release's file has the same tensors whatever it is, so that its name has to tell: of V2 four
    blocks spread over the encoder are read, of V1 the last four; relative models end in a ReLU,
    metric ones in a sigmoid times the range. It is prepared for as the folders that transformers
    converted (``depth-anything/Depth-Anything-V2-Small-hf``), and so gives what these give. The
    release's own script differs in three details: it enlarges pictures under 518 pixels to that
    side at least, resizes without antialias, and samples positions 0.1 patches off.

    Args:
        source: See `PublishedDepth`; or a release's ``.pth``.
        release: The name that a ``.pth`` was published under, if it has another now.
        max_depth: Whole metres, of a ``.pth`` of a metric model that was trained for another range.

    Raises:
        ValueError: See `PublishedDepth`; or an option is unknown or does not fit the checkpoint.
    """

    model_types = ('depth_anything',)
    kind = DepthAnythingForDepthEstimation
    options = ('release', 'max_depth')
    releases = "Depth Anything's .pth"

    def __init__(
        self, source: Source, *, release: str | None = None, max_depth: int | None = None
    ) -> None:
        parts = None
        if is_release(source):
            parts = depth_anything_parts(
                source, Release.of(release or source.path.name, source, max_depth)
            )
        elif release is not None or max_depth is not None:
            raise ValueError(
                f'{source}: expected release and max_depth for a release file alone; a folder of '
                'transformers says itself what it is'
            )
        super().__init__(source, parts)
        is_metric = self.model.config.depth_estimation_type == 'metric'
        self.predicts = 'depth' if is_metric else 'inverse'

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return super().recognises(source) or is_release(source)


def is_release(source: Source) -> bool:
    return all(map(source.tensors.__contains__, MARKS))


def depth_anything_parts(source: Source, release: Release) -> Parts:
    """What a released file is as a model of transformers, by the shapes of its tensors.

    Raises:
        ValueError: Its encoder is none of those that were published, or a tensor is not there.
    """
    state: Mapping[str, Tensor] = source.tensors
    try:
        vision = dinov2_config(split_release(state, 'pretrained.')[0])
        stages = [len(state[f'depth_head.projects.{i}.weight']) for i in range(4)]
        channels = len(state['depth_head.scratch.layer1_rn.weight'])
        hidden = len(state['depth_head.scratch.output_conv2.0.weight'])
    except KeyError as error:
        raise ValueError(
            f'{source}: expected {error.args[0]} of Depth Anything, found none'
        ) from error
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from error
    blocks = vision['num_hidden_layers']
    taps = SECOND_TAPS.get(blocks) if release.second else range(blocks - 4, blocks)
    if taps is None:
        raise ValueError(
            f'{source}: expected an encoder of {", ".join(map(str, SECOND_TAPS))} blocks for Depth '
            f'Anything V2, found {blocks}'
        )
    config = DepthAnythingConfig(
        backbone_config=dict(
            vision,
            out_indices=[tap + 1 for tap in taps],
            apply_layernorm=True,
            reshape_hidden_states=False,
        ),
        reassemble_hidden_size=vision['hidden_size'],
        patch_size=vision['patch_size'],
        neck_hidden_sizes=stages,
        fusion_hidden_size=channels,
        head_hidden_size=hidden,
        depth_estimation_type='relative' if release.max_depth is None else 'metric',
        max_depth=release.max_depth,
    )
    side, (mean, std) = vision['image_size'], IMAGENET
    processor = DPTImageProcessor(
        size=dict(height=side, width=side),
        keep_aspect_ratio=True,
        ensure_multiple_of=vision['patch_size'],
        image_mean=list(mean),
        image_std=list(std),
    )
    return Parts(config, to_depth_anything(state), processor)
