"""Vision towers with LLaVA's interface (https://arxiv.org/abs/2304.08485) on transformers' models.

Shapes: B images of (H, W) pixels, grid (h, w), N tokens, C channels, S scales.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.transformers_trunk import TransformersTrunk
from mmseg_siglip.models.compiled import compilable
from mmseg_siglip.models.sizes import pair
from mmseg_siglip.precision import autocast, compute_dtype
from mmseg_siglip.registry import MODELS
from mmseg_siglip.vlm.checkpoints import load_vision_model, read_vision_config
from mmseg_siglip.vlm.processing import load_image_processor
from mmseg_siglip.vlm.scales import check_scales, multi_scale
from mmseg_siglip.vlm.strategy import (
    check_strategy,
    default_strategy,
    extra_tokens,
    select,
)
from mmseg_siglip.vlm.vision import (
    CLIP_TYPES,
    SIGLIP_TYPES,
    blocks_needed,
    check_floats,
    hidden_states,
    token_grid,
)
from mmseg_siglip.weights.source import bundled


class VisionTower(nn.Module):
    """One hidden state of a vision encoder as tokens for a language model.

    Only what that state needs is read from the checkpoint and computed: no block above it, no
    final norm, no pooling head. Frozen unless `trainable`; gradients flow to whatever requires
    them, the images included.

    Args:
        name_or_path: A transformers folder or Hub id, or the name of a checkpoint that ships with
            this package.
        select_layer: As in transformers' ``hidden_states``.
        select_feature: ``full``, all tokens, which is all there is for SigLIP, where ``patch`` and
            ``cls_patch`` mean the same. For CLIP also
            ``patch`` or ``default``, without CLS, and ``cls_patch``, the same as ``full``.
        image_size: Pixels, a side or (height, width); the checkpoint's own if not given.
        scales: Factors on `image_size` for S2, such as (1, 2).
        precision: ``fp32``, ``bf16``, ``fp16`` or ``auto``, see `compute_dtype`. The weights of
            a frozen tower are kept in that format, norms and sums between blocks in float32.
        trainable: Whether the weights require gradients.
        delay_load: Read the configuration only, until `load_model`.
        revision: Commit of a Hub id.

    Raises:
        ValueError: The checkpoint is of another kind or lacks files, or a value does not fit it.
    """

    model_types: tuple[str, ...]

    def __init__(
        self,
        name_or_path: str,
        *,
        select_layer: int = -2,
        select_feature: str | None = None,
        image_size: int | tuple[int, int] | None = None,
        scales: Sequence[int] = (1,),
        precision: str = 'fp32',
        trainable: bool = False,
        delay_load: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        compute_dtype(precision, torch.device('cpu'))
        self.vision_tower_name = name_or_path
        self._source, self._revision = bundled(name_or_path), revision
        self.config = read_vision_config(self._source, revision=revision)
        if self.config.model_type not in self.model_types:
            raise ValueError(
                f'{name_or_path}: expected a checkpoint for {type(self).__name__} '
                f'({", ".join(self.model_types)}), found {self.config.model_type}'
            )
        self.select_feature = check_strategy(
            select_feature or default_strategy(self.config), self.config
        )
        self.select_layer = select_layer
        self._depth = blocks_needed(select_layer, self.config.num_hidden_layers)
        self.scales = check_scales(scales)
        self.image_size = pair(image_size or resolve_image_size(None, self.config), 'image_size')
        self.grid = token_grid(self.config, self.image_size)
        if len(self.scales) > 1 and self.num_tokens > self.num_patches:
            raise ValueError(
                f"scales: expected select_feature 'patch', found {self.select_feature!r}, which "
                'keeps a CLS token that has no place among the tiles'
            )
        largest = self.scales[-1]
        self.image_processor = load_image_processor(
            self._source,
            self.config,
            size=(largest * self.image_size[0], largest * self.image_size[1]),
            revision=revision,
        )
        self.precision, self.trainable = precision, trainable
        self.vision_tower: nn.Module | None = None
        if not delay_load:
            self.load_model()

    @property
    def is_loaded(self) -> bool:
        return self.vision_tower is not None

    def load_model(self) -> None:
        """Read the weights, unless that is done."""
        if self.is_loaded:
            return
        tower = load_vision_model(
            self._source, self.config, num_blocks=self._depth, revision=self._revision
        )
        tower.requires_grad_(self.trainable)
        self.vision_tower = tower.train(self.training)
        if not self.trainable:
            self._apply_precision()

    def _apply_precision(self) -> None:
        dtype = compute_dtype(self.precision, self.device)
        for module in self.vision_tower.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.to(dtype)

    def to(self, *args, **kwargs) -> VisionTower:
        """As of any module; on another device ``auto`` may mean another format."""
        device = self.device
        super().to(*args, **kwargs)
        if self.is_loaded and not self.trainable and self.device != device:
            self._apply_precision()
        return self

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Tokens for the language model.

        Args:
            images: (B, 3, H, W), normalised by `image_processor`, of any size that patches
                divide; or a list of (3, H, W) of any such sizes.

        Returns:
            (B, N, S*C), or a list of (N, S*C), in the dtype of the images.

        Raises:
            ValueError: The weights are not loaded, or an image does not fit.
        """
        if not self.is_loaded:
            raise ValueError(f'{self.vision_tower_name}: call load_model() before the first image')
        if not isinstance(images, Tensor):
            return self._encode_list(images)
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f'images: expected (B, 3, H, W), found {tuple(images.shape)}')
        check_floats(images)
        with autocast(self.precision, self.device):
            if len(self.scales) == 1:
                tokens = self._encode(images)
            else:
                tokens = multi_scale(self._encode_map, images, self.scales).flatten(2).mT
        return tokens.to(images.dtype)

    @compilable
    def _encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, N, C)."""
        images = images.to(self.device, self.dtype)
        (tokens,) = hidden_states(self.vision_tower, images, (self._depth,))
        return select(tokens, self.select_feature, self.config)

    def _encode_map(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, C, h, w)."""
        grid = token_grid(self.config, tuple(images.shape[-2:]))
        return self._encode(images).mT.unflatten(2, grid)

    def _encode_list(self, images: Sequence[Tensor]) -> list[Tensor]:
        places = defaultdict(list)
        for place, image in enumerate(images):
            places[image.shape].append(place)
        found = {}
        for same in places.values():
            tokens = self(torch.stack([images[place] for place in same]))
            found.update(zip(same, tokens, strict=True))
        return [found[place] for place in range(len(images))]

    @property
    def dtype(self) -> torch.dtype:
        """Of the sums between blocks."""
        if not self.is_loaded:
            return torch.float32
        return TransformersTrunk(self.vision_tower).dtype

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device('cpu'))

    @property
    def hidden_size(self) -> int:
        """Channels of a token: S*C."""
        return self.config.hidden_size * len(self.scales)

    @property
    def num_patches(self) -> int:
        """h*w at `image_size`."""
        return self.grid[0] * self.grid[1]

    @property
    def num_tokens(self) -> int:
        """N: patches, and CLS where it is kept."""
        return self.num_patches + extra_tokens(self.select_feature, self.config)

    @property
    def num_patches_per_side(self) -> int:
        if self.grid[0] != self.grid[1]:
            raise ValueError(
                f'num_patches_per_side: expected a square image, found a grid of {self.grid[0]}x'
                f'{self.grid[1]} patches; see grid'
            )
        return self.grid[0]

    @property
    def dummy_feature(self) -> Tensor:
        return torch.zeros(1, self.hidden_size, device=self.device, dtype=self.dtype)


@MODELS.register_module()
class SigLIPVisionTower(VisionTower):
    """SigLIP and SigLIP 2; see `VisionTower`."""

    model_types = SIGLIP_TYPES


@MODELS.register_module()
class CLIPVisionTower(VisionTower):
    """CLIP in transformers' format; see `VisionTower`."""

    model_types = CLIP_TYPES
