"""SAM of every origin behind two calls: `encode` images once, `decode` any number of prompts.

Shapes: B images of (H, W) pixels, P prompts each, N sparse tokens per prompt, SAM's input
(S_h, S_w), its embeddings (C, h, w), masks (4h, 4w), M masks per prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import Sam2ImageProcessor, SamImageProcessor

from mmseg_siglip.device import made_on
from mmseg_siglip.kept import constant
from mmseg_siglip.models.backbones.dino import IMAGENET
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.compiled import compilable
from mmseg_siglip.models.sam import geometry
from mmseg_siglip.models.sam.geometry import RESIZES, SAMFeatures, Size
from mmseg_siglip.models.sam.load import load_sam
from mmseg_siglip.models.sizes import pair
from mmseg_siglip.precision import training_attention
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.transformers_model import save_model

# Hiera halves its stride-4 grid three times and tiles a window over it.
SAM2_MULTIPLE = 32


@MODELS.register_module()
class SAMAdapter(BaseModule):
    """Segment Anything 1 and 2, batch-native in images and in prompts.

    https://arxiv.org/abs/2304.02643, https://arxiv.org/abs/2408.00714

    Args:
        checkpoint: Hub id or folder of transformers (SAM, SAM 2), a file of the package
            segment-anything (``sam_vit_b_01ec64.pth``) or sam2 (``sam2.1_hiera_tiny.pt``), or a
            bare weight file. None builds random weights from `config`.
        kind: ``sam``, ``sam2`` or ``segment_anything`` where another kind shall be an error.
        config: transformers configuration as a mapping with its ``model_type``, where the
            checkpoint brings none.
        image_size: Side or (height, width) of SAM's input, in pixels; the checkpoint's own by
            default. For another, SAM's absolute position embeddings are resampled; the relative
            ones follow the grid by themselves.
        resize: How an image comes to that size, ``pad`` (SAM) or ``squash`` (RSRefSeg).
        dynamic_multimask: Whether SAM 2's one answer, outside training, gives way to the best of
            its three proposals where it is unstable.
        attention: ``sdpa`` or ``eager``, in transformers' terms, or ``auto``, see
            `training_attention`.
        with_cp: Recompute the encoder's blocks in the backward pass.
        revision: Commit of a Hub id.

    Raises:
        ValueError: The checkpoint is of another kind or lacks weights, or a size does not suit.

    Attributes:
        prompt_dim: C, width of prompts and embeddings.
        image_size: (S_h, S_w).
    """

    learnt_with = ('resize',)

    def __init__(
        self,
        checkpoint: str | None = None,
        *,
        kind: str = 'auto',
        config: Mapping | None = None,
        image_size: int | Size | None = None,
        resize: str = 'pad',
        dynamic_multimask: bool = False,
        attention: str = 'sdpa',
        with_cp: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        if resize not in RESIZES:
            raise ValueError(f'unknown resize {resize!r}; expected one of {", ".join(RESIZES)}')
        self.resize = resize
        self.model, self.kind = load_sam(
            checkpoint,
            kind=kind,
            config=config,
            revision=revision,
            attention=training_attention(attention),
        )
        self.is_sam2 = self.model.config.model_type == 'sam2'
        prompts = self.model.config.prompt_encoder_config
        self.prompt_dim, self.patch_size = prompts.hidden_size, prompts.patch_size
        self.image_size = self._set_image_size(image_size)
        for part in (self.model.shared_image_embedding, self.model.prompt_encoder.shared_embedding):
            part.requires_grad_(False)
        if self.is_sam2:
            # Evaluation would answer with mask tokens that training never touched.
            self.model.mask_decoder.dynamic_multimask_via_stability = dynamic_multimask
        if with_cp:
            self.model.gradient_checkpointing_enable(dict(use_reentrant=False))
        self.register_buffer('mean', torch.tensor(IMAGENET[0]).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(IMAGENET[1]).view(3, 1, 1), persistent=False)
        self.eval()

    def init_weights(self) -> None:
        """Do nothing: weights were set at construction (transformers' would draw them anew)."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a transformers checkpoint: configuration, safetensors, image processor.

        Position embeddings are written at the configuration's own size, to which those of another
        `image_size` are resampled.
        """
        state, name = self.model.state_dict(), 'vision_encoder.pos_embed'
        if not self.is_sam2 and state.get(name) is not None:
            grids = self.embedding_size, self._grid(self.native_size)
            position = resize_position(state[name].flatten(0, 2), *grids)
            state[name] = position.reshape(1, *grids[1], -1)
        save_model(self.model, folder, state_dict=state)
        height, width = self.native_size
        if self.is_sam2:
            processor = Sam2ImageProcessor(size=dict(height=height, width=width))
        else:
            pad = dict(height=height, width=width)
            processor = SamImageProcessor(size=dict(longest_edge=max(pad.values())), pad_size=pad)
        processor.save_pretrained(folder)

    @property
    def native_size(self) -> Size:
        """Image size that the configuration names."""
        side = self.model.config.prompt_encoder_config.image_size
        return side, side

    @property
    def embedding_size(self) -> Size:
        """(h, w)."""
        return self._grid(self.image_size)

    @property
    def mask_size(self) -> Size:
        """(4h, 4w)."""
        return tuple(4 * side for side in self.embedding_size)

    def encode(self, images: Tensor | Sequence[Tensor]) -> SAMFeatures:
        """Run SAM's image encoder.

        Args:
            images: RGB in [0, 1], (B, 3, H, W) or B of (3, H, W) whose sizes may differ.

        Raises:
            ValueError: An image has another shape.
        """
        for image in images:
            if image.ndim != 3 or len(image) != 3 or not image.is_floating_point():
                raise ValueError(
                    'SAMAdapter.encode: expected float RGB images (3, H, W) in [0, 1], '
                    f'found {image.dtype} of shape {tuple(image.shape)}'
                )
        sizes = tuple(tuple(image.shape[-2:]) for image in images)
        fitted = [
            geometry.fit((image - self.mean) / self.std, self.image_size, self.resize)
            for image in images
        ]
        contents = tuple(map(self.content_size, sizes))
        embeddings, high_resolution = self._encode(torch.stack(fitted))
        return SAMFeatures(embeddings, high_resolution, sizes, contents, self.image_size)

    def canvas(self, image: Tensor) -> Tensor:
        """An image (3, H, W) in [0, 1] at SAM's input size, (3, S_h, S_w), as RSRefSeg's code makes
        it for all its encoders: without anti-aliasing, and black where it does not reach."""
        return geometry.fit(image, self.image_size, self.resize, antialias=False)

    def canvas_masks(self, masks: Tensor) -> Tensor:
        """Labels (P, H, W) of an image where `canvas` puts it: (P, S_h, S_w)."""
        return geometry.fit_masks(masks, self.image_size, self.resize)

    def content_size(self, size: Size) -> Size:
        """Rows and columns of SAM's input that an image of `size` fills."""
        return geometry.content_size(size, self.image_size, self.resize)

    @compilable
    def _encode(self, pixels: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        with made_on(pixels):
            found = self.model.vision_encoder(pixels)
        if not self.is_sam2:
            return found.last_hidden_state, ()
        fine, middle, coarse = found.fpn_hidden_states
        decoder = self.model.mask_decoder
        # SAM 2 is told that there is no earlier frame.
        coarse = coarse + self.model.no_memory_embedding.reshape(1, -1, 1, 1)
        return coarse, (decoder.conv_s0(fine), decoder.conv_s1(middle))

    def decode(
        self,
        features: SAMFeatures,
        sparse: Tensor,
        dense: Tensor | None = None,
        *,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Masks for P prompts on each of B images, all in one pass.

        Args:
            features: Of the B images.
            sparse: (B, P, N, C); N may be 0.
            dense: (B, P, C, h, w); SAM's embedding of "no mask" by default.
            multimask: SAM's three proposals instead of its one answer.

        Returns:
            Logits (B, P, M, 4h, 4w) over SAM's input, and the predicted IoU (B, P, M).
        """
        expected = (len(features), self.prompt_dim)
        if sparse.ndim != 4 or (len(sparse), sparse.shape[-1]) != expected:
            raise ValueError(
                f'SAMAdapter.decode: expected sparse prompts (B, P, N, C) with B, C = {expected}, '
                f'found {tuple(sparse.shape)}'
            )
        b, p = sparse.shape[:2]
        if dense is None:
            dense = self.no_mask(b, p)
        shape = (b, p, self.prompt_dim, *self.embedding_size)
        if tuple(dense.shape) != shape:
            raise ValueError(
                f'SAMAdapter.decode: expected dense prompts {shape}, found {tuple(dense.shape)}'
            )
        arguments = dict(
            image_embeddings=features.embeddings.repeat_interleave(p, 0),
            image_positional_embeddings=self.position(self.embedding_size),
            sparse_prompt_embeddings=sparse.flatten(0, 1)[:, None],
            dense_prompt_embeddings=dense.flatten(0, 1),
            multimask_output=multimask,
        )
        if self.is_sam2:
            arguments['high_resolution_features'] = [
                feature.repeat_interleave(p, 0) for feature in features.high_resolution
            ]
        masks, iou = self.model.mask_decoder(**arguments)[:2]
        return masks[:, 0].unflatten(0, (b, p)), iou[:, 0].unflatten(0, (b, p))

    def no_mask(self, b: int, p: int) -> Tensor:
        """SAM's dense embedding for prompts without a mask, (b, p, C, h, w)."""
        embedding = self.model.prompt_encoder.no_mask_embed.weight.reshape(1, 1, -1, 1, 1)
        return embedding.expand(b, p, -1, *self.embedding_size)

    def position(self, grid: Size, extents: Tensor | None = None) -> Tensor:
        """SAM's Fourier code at the centres of a grid.

        Args:
            grid: Rows and columns (h, w).
            extents: (B, 2), part of SAM's input that the grid spans from its top left, per image;
                the whole by default.

        Returns:
            (B, C, h, w), B = 1 without extents.
        """
        code = self.model.shared_image_embedding
        device = code.positional_embedding.device
        extents = torch.ones(1, 2, device=device) if extents is None else extents.to(device)
        y, x = (
            (torch.arange(n, device=device) + 0.5) / n * extents[:, i : i + 1]
            for i, n in enumerate(grid)
        )
        shape = (len(extents), *grid)
        centres = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], dim=-1)
        with torch.autocast(device.type, enabled=False):
            return code(centres).permute(0, 3, 1, 2)

    def prompt_points(self, points: Tensor, labels: Tensor, features: SAMFeatures) -> Tensor:
        """Sparse prompts (B, P, N + 1, C) of points, the last token SAM's "not a point".

        Args:
            points: (B, P, N, 2), (x, y) in pixels of each image.
            labels: (B, P, N): 1 on the object, 0 off it, -10 to be ignored.
            features: Of the B images.
        """
        points = self._square(geometry.to_input(points, features))
        with torch.autocast(points.device.type, enabled=False):
            return self.model.prompt_encoder(points, labels.long(), None, None)[0]

    def prompt_boxes(self, boxes: Tensor, features: SAMFeatures) -> Tensor:
        """Sparse prompts of boxes, (B, P, 2, C), with a third token in SAM 2.

        Args:
            boxes: (B, P, 4), x1, y1, x2, y2 in pixels of each image.
            features: Of the B images.
        """
        corners = self._square(geometry.to_input(boxes.unflatten(-1, (2, 2)), features))
        with torch.autocast(boxes.device.type, enabled=False):
            return self.model.prompt_encoder(None, None, corners.flatten(-2), None)[0]

    def prompt_masks(self, logits: Tensor) -> Tensor:
        """Dense prompts (B, P, C, h, w) of mask logits (B, P, h', w') over SAM's input."""
        flat = logits.flatten(0, 1)[:, None]
        if tuple(flat.shape[-2:]) != self.mask_size:
            flat = interpolate(flat, size=self.mask_size, mode='bilinear', antialias=True)
        return self.model.prompt_encoder.mask_embed(flat).unflatten(0, logits.shape[:2])

    to_image = staticmethod(geometry.to_image)
    from_image = staticmethod(geometry.from_image)

    def _square(self, points: Tensor) -> Tensor:
        """Pixels of SAM's input to those of the square that its prompt encoder divides by."""
        side = self.model.prompt_encoder.input_image_size
        scale = constant(
            tuple(side / n for n in reversed(self.image_size)),
            dtype=torch.float32,
            device=points.device,
        )
        return (points.float() + 0.5) * scale - 0.5

    def _grid(self, size: Size) -> Size:
        return tuple(side // self.patch_size for side in size)

    def _set_image_size(self, size: int | Size | None) -> Size:
        native = self.native_size
        size = native if size is None else pair(size, 'SAMAdapter: image_size')
        multiple = SAM2_MULTIPLE if self.is_sam2 else self.patch_size
        if any(n < multiple or n % multiple for n in size):
            raise ValueError(
                f'SAMAdapter: expected image_size in multiples of {multiple} pixels, found {size}'
            )
        if size != native and not self.is_sam2:
            encoder, grids = self.model.vision_encoder, (self._grid(native), self._grid(size))
            encoder.patch_embed.image_size = size
            if encoder.pos_embed is not None:
                position = resize_position(encoder.pos_embed.data.flatten(0, 2), *grids)
                encoder.pos_embed = nn.Parameter(position.reshape(1, *grids[1], -1))
        return size
