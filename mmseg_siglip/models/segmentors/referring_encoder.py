"""Images and phrases through an encoder of any kind and resolution, as referring needs them.

Shapes: B images (3, H, W), R phrases, L tokens, C channels of patches, D of the joint space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.functional import interpolate
from torch.nn.utils.rnn import pad_sequence

from mmseg_siglip.kept import constant
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.image_size import Size, fitting_size
from mmseg_siglip.models.backbones.siglip_text import SigLIPText
from mmseg_siglip.models.compiled import compilable
from mmseg_siglip.models.decode_heads.text_visual_activation import ImageFeatures, TextFeatures
from mmseg_siglip.models.finetune import choose_trainable, freeze_unread
from mmseg_siglip.models.lora import select_adapter
from mmseg_siglip.models.sizes import pair
from mmseg_siglip.text.distinct import warn_of_silence

SPACES = ('joint', 'tower')
PHRASES_AT_ONCE = 64


class ReferringEncoder(BaseModule):
    """What `ReferringSegmentor` asks of its vision-language encoder.

    Args:
        backbone: The encoder.
        image_size: What every image is resized to: a side, (height, width), or
            ``dict(max_patches=N)``, which keeps the aspect. By default the encoder's own, or, of
            NaFlex, its number of patches.
        train_sizes: Sizes of which each training batch gets one, drawn at random.
        similarity: Where words and patches are compared: ``joint``, the space that the encoder
            was trained to compare in, patches as `project` reads each alone, SigLIP's without the
            pooling head's norm and MLP, and tokens through the text head; ``tower``, what leaves
            the towers, as RSRefSeg does.
        taps: Further blocks whose output is used, from 0 or, negative, from the end.
        finetune: What trains, see `choose_trainable`. With ``resolutions``, a list of sizes,
            beside ``type='lora'``, every resolution has adapters of its own, and an image size
            takes those of the nearest area.
        towers: In which towers.
        parity: Resize and encode as RSRefSeg's code does: no anti-aliasing; the grid is taken to
            span the whole image, even where its patches stop short of it; phrases as given, padded
            to the longest of the batch, padding read like words.

    Attributes:
        space_channels: D.

    Raises:
        ValueError: A value is out of range.
    """

    learnt_with = ('similarity', 'taps')

    def __init__(
        self,
        backbone: VisionLanguageBackbone,
        *,
        image_size: int | Size | Mapping | None = None,
        train_sizes: Sequence[int | Size] = (),
        similarity: str = 'joint',
        taps: Sequence[int] = (),
        finetune: str | Mapping = 'none',
        towers: Sequence[str] = ('vision', 'text'),
        parity: bool = False,
    ) -> None:
        super().__init__()
        if parity and not isinstance(backbone, SigLIPText):
            raise ValueError(f'parity: expected a SigLIP, found a {type(backbone).__name__}')
        self.parity = parity
        if similarity not in SPACES:
            raise ValueError(f'similarity: expected one of {SPACES}, found {similarity!r}')
        layers, wanted = backbone.num_layers, tuple(taps)
        if any(not -layers <= tap < layers for tap in wanted):
            raise ValueError(f'taps: expected blocks of -{layers} to {layers - 1}, found {wanted}')
        widths = backbone.hidden_size, backbone.text_width, backbone.embed_dim
        if similarity == 'tower' and len(set(widths)) > 1:
            raise ValueError(
                "similarity 'tower' compares patches with tokens and phrases, whose widths "
                f"{widths} differ; expected 'joint'"
            )
        self.space_channels = backbone.embed_dim
        self.similarity, self.taps = similarity, tuple(tap % layers for tap in wanted)
        self.image_size = image_size
        self.train_sizes = tuple(pair(size, 'train_sizes') for size in train_sizes)
        if image_size is None and backbone.naflex:
            self.image_size = dict(max_patches=backbone.native_grid[0] * backbone.native_grid[1])
        finetune = dict(finetune) if isinstance(finetune, Mapping) else dict(type=finetune)
        resolutions = finetune.pop('resolutions', ())
        self.resolutions = tuple(pair(size, 'resolutions') for size in resolutions)
        if self.resolutions:
            finetune['adapters'] = [adapter_name(size) for size in self.resolutions]
        choose_trainable(backbone, finetune, towers=towers)
        for part in backbone.pooling_parts():  # its query never has a gradient
            part.requires_grad_(False)
        if similarity == 'tower':
            read = backbone.vision_parts(layers, norm=True, pooling=False)
            freeze_unread(backbone, [*read, *backbone.text_module_parameters()])
        self.backbone = backbone
        self.readout = 'value' if 'value' in backbone.readouts else backbone.readouts[0]
        self.size_for((1, 1))  # refuses what is no size
        for name, values in (('mean', backbone.mean), ('std', backbone.std)):
            value = torch.tensor(values).view(3, 1, 1) / 255
            self.register_buffer(name, value, persistent=False)

    def init_weights(self) -> None:
        """Do nothing: weights were set at construction."""

    def size_for(self, size: Size) -> Size:
        """What an image of `size` is resized to in prediction.

        Raises:
            ValueError: `image_size` is no size.
        """
        wanted = self.image_size
        if wanted is None:
            return self.backbone.image_size
        if not isinstance(wanted, Mapping):
            return pair(wanted, 'image_size')
        if set(wanted) != {'max_patches'} or wanted['max_patches'] < 1:
            raise ValueError(
                f'image_size: expected a size or dict(max_patches=N), found {dict(wanted)}'
            )
        return fitting_size(size, self.backbone.patch_size, wanted['max_patches'])

    def draw_sizes(self, sizes: Sequence[Size]) -> list[Size]:
        """What images of these sizes are resized to now."""
        if self.training and self.train_sizes:
            drawn = self.train_sizes[int(torch.randint(len(self.train_sizes), ()))]
            return [drawn] * len(sizes)
        return [self.size_for(size) for size in sizes]

    def select(self, size: Size) -> None:
        """Take the adapters of a size, in both towers, if each resolution has its own."""
        if self.resolutions:
            area = size[0] * size[1]
            nearest = min(self.resolutions, key=lambda own: abs(own[0] * own[1] - area))
            select_adapter(self.backbone, adapter_name(nearest))

    def encode_images(self, images: Sequence[Tensor], size: Size) -> ImageFeatures:
        """Images (3, H, W) in [0, 1], all through one size."""
        pixels = torch.stack([self.resize(image, size) for image in images])
        return self._read((pixels - self.mean) / self.std, size)

    @compilable
    def _read(self, pixels: Tensor, size: Size) -> ImageFeatures:
        """Normalised images (B, 3, H, W), of that size."""
        tokens, found = self.backbone.forward_intermediates(pixels, self.taps)
        patches = tokens.replace(self.backbone.norm(tokens.x)).map
        similar = patches
        if self.similarity == 'joint':
            similar = self.backbone.project(tokens, readout=self.readout)
        patch, coverage = self.backbone.patch_size, (1.0, 1.0)
        if not self.parity:
            coverage = tuple(n * patch / side for n, side in zip(tokens.grid, size, strict=True))
        return ImageFeatures(patches, similar, found, coverage)

    def resize(self, image: Tensor, size: Size) -> Tensor:
        if tuple(image.shape[-2:]) == size:
            return image
        return interpolate(image[None], size=size, mode='bilinear', antialias=not self.parity)[0]

    def encode_text(self, texts: Sequence[str]) -> TextFeatures:
        """Phrases, each encoded once, whatever stands beside it; but see `parity`."""
        unique = list(dict.fromkeys(texts))
        warn_of_silence(unique, self.backbone)
        if self.parity:
            tokens, pooled = self.backbone.encode_text_as_given(unique)
            real = tokens.new_ones(tokens.shape[:2], dtype=torch.bool)
        else:
            parts = [
                self.backbone.encode_text_tokens(unique[start : start + PHRASES_AT_ONCE])
                for start in range(0, len(unique), PHRASES_AT_ONCE)
            ]
            tokens, real, pooled = map(join, zip(*parts, strict=True))
        similar = tokens
        if self.similarity == 'joint':
            similar = self.backbone.project_text(tokens)
        place = {text: index for index, text in enumerate(unique)}
        rows = tuple(place[text] for text in texts)
        rows = constant(rows, dtype=torch.int64, device=tokens.device)
        return TextFeatures(tokens, similar, real, pooled)[rows]


def join(parts: Sequence[Tensor]) -> Tensor:
    """Rows of batches whose phrases differ in length, (n, L_i, ...) each, zeros behind the short
    ones: (N, L, ...)."""
    return pad_sequence([row for part in parts for row in part], batch_first=True)


def adapter_name(size: Size) -> str:
    return f'size_{size[0]}x{size[1]}'
