"""Depth, or surface normals, from four maps of a plain transformer.

DPT, https://arxiv.org/abs/2103.13413; outputs as in Depth Anything V2,
https://arxiv.org/abs/2406.09414, and DINOv2's bins, https://arxiv.org/abs/2304.07193.
Shapes: B images, D encoder channels, grid (h, w) of patches of side p, F decoder channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, pad

from mmseg_siglip.models.compiled import compilable
from mmseg_siglip.models.decode_heads.dpt_blocks import (
    READOUTS,
    FusionBlock,
    ReassembleBlocks,
    Tap,
)
from mmseg_siglip.registry import MODELS

OUTPUTS = ('relative', 'metric', 'bins', 'normals')
HIDDEN = 32

# Encoder width, up to which: F and the channels of the four stages. Those of Depth Anything V2
# where it has an encoder of that width.
PRESETS = {
    256: (32, (1 / 8, 1 / 4, 1 / 2, 1)),
    384: (64, (1 / 8, 1 / 4, 1 / 2, 1)),
    768: (128, (1 / 8, 1 / 4, 1 / 2, 1)),
    1152: (256, (256, 512, 1024, 1024)),
    1536: (384, (1536, 1536, 1536, 1536)),
}


def default_channels(width: int) -> tuple[int, tuple[int, ...]]:
    """F and the four stages' channels for an encoder of `width` channels."""
    limit = next((limit for limit in PRESETS if width <= limit), max(PRESETS))
    channels, stages = PRESETS[limit]
    return channels, tuple(int(c * width) if c <= 1 else int(c) for c in stages)


@MODELS.register_module()
class DPTHead(BaseModule):
    """Four taps to one map at the resolution of the patches' pixels.

    Args:
        in_channels: D.
        patch_size: p.
        channels: F; by default what suits `in_channels`, see `default_channels`.
        post_process_channels: Channels of the four stages; likewise.
        expand_channels: Multiply `post_process_channels` by 1, 2, 4 and 8, as MMSeg's option.
        readout_type: What to do with the vector that comes with each tap: ``ignore`` | ``add`` |
            ``project``. SigLIP has no CLS token; its pooled vector takes the place.
        output: ``relative``, inverse depth up to scale and shift, by a ReLU; ``metric``, metres by
            a sigmoid times `max_depth`; ``bins``, the expectation over `num_bins` depths evenly
            spaced from `min_depth` to `max_depth`, at 8 pixels a patch, enlarged; ``normals``,
            vectors of length 1, see `DepthModel`.
        min_depth: Metres; of ``bins`` alone.
        max_depth: Metres; of ``metric`` and ``bins``.
        num_bins: Of ``bins``.
        norm_cfg: Norm of the residual units; none for depth.
        loss_decode: Configuration of a loss on (B, H, W) prediction and truth, or of ``normals``
            (B, 3, H, W), or several.

    Raises:
        ValueError: A value is unknown or out of range.

    Attributes:
        gelu: See `ReassembleBlocks`.
        fusion_bias: See `FusionBlock`.
        aligns_corners: How a map at 8 pixels a patch is enlarged.
        grows: Whether a grid of odd sides is fused at up to one patch more, and brought back at
            the end.
    """

    gelu = 'none'
    fusion_bias = True
    aligns_corners = True
    grows = False

    def __init__(
        self,
        in_channels: int,
        *,
        patch_size: int,
        channels: int | None = None,
        post_process_channels: Sequence[int] | None = None,
        expand_channels: bool = False,
        readout_type: str = 'ignore',
        output: str = 'metric',
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        num_bins: int = 256,
        norm_cfg: dict | None = None,
        loss_decode: Mapping | Sequence[Mapping] = (),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, value, allowed in (
            ('readout_type', readout_type, READOUTS),
            ('output', output, OUTPUTS),
        ):
            if value not in allowed:
                raise ValueError(
                    f'DPTHead.{name}: expected one of {", ".join(allowed)}, found {value!r}'
                )
        if not 0 <= min_depth < max_depth:
            raise ValueError(
                f'DPTHead: expected 0 <= min_depth < max_depth, found {min_depth} and {max_depth}'
            )
        default, default_stages = default_channels(in_channels)
        channels = default if channels is None else channels
        stages = list(post_process_channels or default_stages)
        if len(stages) != 4:
            raise ValueError(f'DPTHead.post_process_channels: expected 4, found {len(stages)}')
        if expand_channels:
            stages = [stage * 2**i for i, stage in enumerate(stages)]
        self.in_channels, self.patch_size, self.channels = in_channels, patch_size, channels
        self.readout_type, self.output = readout_type, output
        self.min_depth, self.max_depth = min_depth, max_depth

        self.reassemble_blocks = ReassembleBlocks(
            in_channels, stages, readout_type, patch_size, gelu=self.gelu
        )
        self.convs = nn.ModuleList(
            ConvModule(stage, channels, 3, padding=1, act_cfg=None, bias=False) for stage in stages
        )
        self.fusion_blocks = nn.ModuleList(
            FusionBlock(channels, has_skip=i > 0, norm_cfg=norm_cfg, bias=self.fusion_bias)
            for i in range(4)
        )
        self.build_tail(dict(bins=num_bins, normals=3).get(output, 1))
        centres = torch.linspace(min_depth, max_depth, num_bins if output == 'bins' else 0)
        self.register_buffer('bin_centres', centres, persistent=False)
        losses = [loss_decode] if isinstance(loss_decode, Mapping) else loss_decode
        self.losses = nn.ModuleList(MODELS.build(loss) for loss in losses)

    def build_tail(self, channels: int) -> None:
        """Set the modules of `tail`, which ends in so many channels."""
        self.conv1 = nn.Conv2d(self.channels, self.channels // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(self.channels // 2, HIDDEN, 3, padding=1)
        self.conv3 = nn.Conv2d(HIDDEN, channels, 1)

    def tail(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, F, 8h, 8w) to the channels of the output, there or at `size`."""
        x = self.conv1(x)
        if self.output != 'bins':
            x = interpolate(x, size=size, mode='bilinear', align_corners=True)
        x = self.conv2(x).relu()
        # The mean of many bins is finer than each of them.
        return self.conv3(x) if self.output == 'bins' else unrounded(self.conv3, x)

    @property
    def bin_floor(self) -> float:
        """What is added to each bin's weight behind the ReLU, so that their sum is not 0."""
        return 0.1

    @property
    def learnt_with(self) -> tuple[str, ...]:
        ranges = dict(metric=('max_depth',), bins=('min_depth', 'max_depth'))
        return 'output', 'readout_type', *ranges.get(self.output, ())

    @property
    def predicts(self) -> str:
        """``depth`` in metres, ``inverse``: inverse depth up to scale and shift, or ``normals``."""
        return dict(relative='inverse', normals='normals').get(self.output, 'depth')

    def fuse(self, taps: Sequence[Tap]) -> Tensor:
        """Four taps on a grid (h, w) to (B, F, 8h, 8w), or larger if it grows.

        With channels last, enlarging in bfloat16 is eight times faster on a CPU; what follows
        keeps to the layout.
        """
        pyramid = (
            x.contiguous(memory_format=torch.channels_last) for x in self.reassemble_blocks(taps)
        )
        maps = [conv(x) for conv, x in zip(self.convs, pyramid, strict=True)][::-1]
        x = maps[0]
        for i, block in enumerate(self.fusion_blocks):
            twice = tuple(2 * side for side in x.shape[2:])
            is_free = self.grows or i == len(maps) - 1
            x = block(x, maps[i] if i else None, twice if is_free else tuple(maps[i + 1].shape[2:]))
        return x

    @compilable
    def forward(self, taps: Sequence[Tap]) -> Tensor:
        """The output for the pixels that the patches cover.

        Args:
            taps: Four (B, D, h, w) maps, the earliest block's first, or pairs of such a map and a
                readout vector (B, D).

        Returns:
            (B, 1, p*h, p*w) float32, at least 0: metres, or inverse depth; or normals
            (B, 3, p*h, p*w).
        """
        first = taps[0] if isinstance(taps[0], Tensor) else taps[0][0]
        size = tuple(side * self.patch_size for side in first.shape[2:])
        x = self.activate(self.tail(self.fuse(taps), size).float())
        if x.shape[2:] != size:
            x = interpolate(x, size=size, mode='bilinear', align_corners=self.aligns_corners)
        return normalize(x, dim=1) if self.output == 'normals' else x

    def activate(self, x: Tensor) -> Tensor:
        """What `tail` gives, float32, to the range of the output."""
        if self.output == 'relative':
            return x.relu()
        if self.output == 'metric':
            return x.sigmoid() * self.max_depth
        if self.output == 'normals':
            return normalize(x, dim=1)
        weight = x.relu() + self.bin_floor
        with torch.autocast(weight.device.type, enabled=False):
            depth = torch.einsum('bnhw,n->bhw', weight, self.bin_centres) / weight.sum(1)
        return depth[:, None]

    def predict(
        self, taps: Sequence[Tap], batch_img_metas: Sequence[dict] = (), test_cfg: object = None
    ) -> Tensor:
        """MMSeg's name for `forward`."""
        return self.forward(taps)

    def loss(
        self, taps: Sequence[Tap], data_samples: Sequence[SegDataSample], train_cfg: object = None
    ) -> dict[str, Tensor]:
        """Every loss of `loss_decode` on the samples' ``gt_depth_map``, data (1, H, W), or
        ``gt_normal_map``, data (3, H, W).

        Raises:
            ValueError: There is no loss, or the truth of a sample has another size.
        """
        if not self.losses:
            raise ValueError('DPTHead: expected loss_decode to train with, found none')
        is_normals = self.output == 'normals'
        truth = stack_truth(data_samples, 'gt_normal_map' if is_normals else 'gt_depth_map')
        prediction = fit_to_image(self.forward(taps), tuple(truth.shape[-2:]))
        prediction = prediction if is_normals else prediction[:, 0]
        return {loss.loss_name: loss(prediction, truth) for loss in self.losses}


def unrounded(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The output of a last layer in the format of its weights, also under autocast, whose bfloat16
    would leave steps of up to 1/128 in depth; its products are few."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(layer.weight.dtype))


def stack_truth(data_samples: Sequence[SegDataSample], field: str = 'gt_depth_map') -> Tensor:
    """(B, H, W) float32 from the samples' maps of one channel, (B, C, H, W) from others.

    Raises:
        ValueError: A sample has none, or one of another size than the first.
    """
    maps = []
    for sample in data_samples:
        name = sample.metainfo.get('img_path', 'a sample')
        if field not in sample:
            raise ValueError(f'{name}: expected {field} to train on, found none')
        maps.append(sample.get(field).data.float().squeeze(0))
        if maps[-1].shape != maps[0].shape:
            raise ValueError(
                f'{name}: expected a {field} of {tuple(maps[0].shape)} as in the rest of the '
                f'batch, found {tuple(maps[-1].shape)}'
            )
    return torch.stack(maps)


def fit_to_image(depth: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut off what padding added to (B, C, p*h, p*w), or repeat the border where patches end.

    Returns:
        (B, C, *size).
    """
    height, width = size
    depth = depth[..., :height, :width]
    down, right = height - depth.shape[-2], width - depth.shape[-1]
    return pad(depth, (0, right, 0, down), mode='replicate') if down or right else depth
