"""Referring segmentation: an encoder reads image and phrase, SAM draws the mask.

RSRefSeg, https://arxiv.org/abs/2501.06809, and RSRefSeg 2, https://arxiv.org/abs/2507.06231.

Shapes: B images (3, H, W) of any sizes, P phrases of an image, R of the batch, masks (M_h, M_w)
over SAM's input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from mmengine.structures import PixelData
from mmseg.models import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor

from mmseg_siglip.kept import constant
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.decode_heads.text_visual_activation import ImageFeatures, TextFeatures
from mmseg_siglip.models.finite import doubts, fetch_sure
from mmseg_siglip.models.held_weights import HeldWeights
from mmseg_siglip.models.sam import SAMAdapter, SAMFeatures
from mmseg_siglip.models.sam.finetune import choose_sam_trainable
from mmseg_siglip.models.sam.geometry import Size
from mmseg_siglip.models.segmentors.parts import (
    build_backbone,
    check_finite,
    check_precision,
    places_by,
)
from mmseg_siglip.models.segmentors.phrases import Phrases
from mmseg_siglip.models.segmentors.referring_encoder import ReferringEncoder
from mmseg_siglip.models.windows.test_cfg import check_test_cfg
from mmseg_siglip.registry import MODELS

TEST_OPTIONS = dict(mode='whole', threshold=0.5, phrase_batch=32, return_logits=False)
WHY_WHOLE = 'a phrase such as "the top left one" means something else in every window'
WHY_NO_FLIP = 'a phrase such as "the left one" means another object in a mirrored image'


@dataclass(frozen=True)
class ImageAnswer:
    """What is found for the P phrases of an image.

    Attributes:
        logits: Masks (P, M_h, M_w) over SAM's input.
        iou: (P,), predicted.
        aspects: (P, 2, E), if the head tells them apart.
        patches: The encoder's (C, h, w).
        coverage: Part of the image that these span, see `ImageFeatures`.
    """

    logits: Tensor
    iou: Tensor
    aspects: Tensor | None
    patches: Tensor
    coverage: tuple[float, float]


@MODELS.register_module()
class ReferringSegmentor(BaseSegmentor):
    """Masks of what phrases mean, any number of phrases for one pass of the image encoders.

    A sample's phrases are ``text`` of its metainfo, P strings; its masks ``gt_sem_seg`` (P, H, W),
    0, 1 and 255 where nothing counts. Images come in [0, 1], each encoder normalises for itself.

    Args:
        backbone: Configuration of an encoder, which sets patch, size and grid; see
            `build_backbone`.
        sam: Configuration of a `SAMAdapter`.
        decode_head: Configuration of a `SAMPrompterDecodeHead`; its widths are filled in.
        encoder: Options of `ReferringEncoder`: the size that the encoder sees, what of it trains.
        sam_finetune: What of SAM's image encoder trains, see `choose_sam_trainable`.
        train_decoder: Whether SAM's mask decoder trains.
        parity: Work as the published code of RSRefSeg and RSRefSeg 2 does, whose weights mean the
            same then. One picture at SAM's input size (`SAMAdapter.canvas`) serves both encoders;
            the encoder reads it and the phrases as `ReferringEncoder` says; norms are batch norms
            unless the head names others; masks come back by way of SAM's input; SAM 2 may answer
            with its proposals (`dynamic_multimask`). Where patches stop short of the image, as 27
            of 14 pixels of 384, every map is then stretched by 384 / 378, as in training there:
            that moves an edge by up to 16 of 1024 pixels.
        precision: Number format of prediction (see `mmseg_siglip.precision`); training
            follows the optimiser wrapper.
        fallback_text: Phrases of images that come without, in `forward` for traces and FLOPs only.
        test_cfg: ``mode``, 'whole' alone; ``threshold`` on probabilities; ``phrase_batch``,
            phrases in one pass of the decoder; ``return_logits``.
        data_preprocessor: Configuration.
        train_cfg: Not used; MMSegmentation's configs have it.

    Raises:
        ValueError: A value is out of range, or two contradict each other.
    """

    learnt_with = ('parity',)

    def __init__(
        self,
        backbone: Mapping,
        sam: Mapping,
        decode_head: Mapping,
        *,
        encoder: Mapping | None = None,
        sam_finetune: str | Mapping = 'none',
        train_decoder: bool = True,
        parity: bool = False,
        precision: str = 'fp32',
        fallback_text: Sequence[str] = ('object',),
        test_cfg: Mapping | None = None,
        data_preprocessor: Mapping | None = None,
        train_cfg: Mapping | None = None,
        init_cfg: Mapping | None = None,
    ) -> None:
        super().__init__(
            data_preprocessor=MODELS.build(
                dict(data_preprocessor or dict(type='UnitImagePreProcessor'))
            ),
            init_cfg=init_cfg,
        )
        backbone = build_backbone(backbone)
        self.parity = parity
        self.encoder = ReferringEncoder(backbone, parity=parity, **(encoder or {}))
        self.sam: SAMAdapter = MODELS.build(
            dict(dict(type='SAMAdapter', dynamic_multimask=parity), **sam)
        )
        self.decode_head = MODELS.build(
            dict(
                dict(
                    type='SAMPrompterDecodeHead',
                    in_channels=backbone.hidden_size,
                    text_channels=backbone.text_width,
                    prompt_dim=self.sam.prompt_dim,
                    native_grid=backbone.native_grid,
                    space_channels=self.encoder.space_channels,
                    num_taps=len(self.encoder.taps),
                    norm_cfg=dict(type='SyncBN') if parity else None,
                ),
                **decode_head,
            )
        )
        if self.decode_head.trains_logit:
            for weight in self.siglip.logit_weights():
                weight.requires_grad_(True)
        choose_sam_trainable(
            self.sam,
            sam_finetune,
            decoder=train_decoder,
            masks=self.decode_head.dense is not None,
            iou=self.decode_head.iou_loss_weight > 0,
        )
        self.precision, self.held = check_precision(precision), HeldWeights()
        self.fallback_text = list(fallback_text)
        self.test_cfg = check_referring(test_cfg or {})
        self.align_corners, self.num_classes, self.out_channels = False, 2, 1

    @property
    def siglip(self) -> VisionLanguageBackbone:
        return self.encoder.backbone

    def extract_feat(self, inputs: Sequence[Tensor]) -> SAMFeatures:
        """SAM's features of B images (3, H, W) in [0, 1]."""
        return self.sam.encode(inputs)

    def answer(
        self, inputs: Sequence[Tensor], texts: Sequence[Sequence[str]]
    ) -> tuple[list[ImageAnswer], SAMFeatures]:
        """Masks of every phrase of every image.

        Args:
            inputs: B images (3, H, W), RGB in [0, 1].
            texts: B lists of phrases, of any lengths.

        Returns:
            What was found in each image, and SAM's features.
        """
        original = [tuple(image.shape[-2:]) for image in inputs]
        if self.parity:
            inputs = [self.sam.canvas(image) for image in inputs]
        features = self.extract_feat(inputs)
        sizes = self.encoder.draw_sizes([tuple(image.shape[-2:]) for image in inputs])
        answers: dict[int, ImageAnswer] = {}
        for size, images in places_by(sizes).items():
            phrases = Phrases(texts).take(images)
            self.encoder.select(size)
            image = self.encoder.encode_images([inputs[i] for i in images], size)
            found = self._decode(image, phrases, features.take(images))
            for i, patches, own in zip(images, image.patches, found, strict=True):
                answers[i] = ImageAnswer(*own, patches, image.coverage)
        if self.parity:
            features = features.placed(original, [*map(self.sam.content_size, original)])
        return [answers[i] for i in range(len(inputs))], features

    def place(self, answer: ImageAnswer, features: SAMFeatures, size: Size) -> Tensor:
        """Logits (P, H, W) of an answer over its image, at a size (H, W)."""
        return self.sam.to_image(answer.logits[None], features, size, by_input=self.parity)[0]

    def _decode(
        self, image: ImageFeatures, phrases: Phrases, features: SAMFeatures
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Masks, IoU and aspects of each image's phrases, see `ImageAnswer`."""
        text, owners = self.encoder.encode_text(phrases.texts), phrases.owners
        step = len(owners) if torch.is_grad_enabled() else self.test_cfg['phrase_batch']
        found = [
            self._decode_some(image, text[part], owners[part], features)
            for part in phrases.parts(step)
        ]
        return zip(*map(phrases.split, zip(*found, strict=True)), strict=True)

    def _decode_some(
        self, image: ImageFeatures, text: TextFeatures, owners: list[int], features: SAMFeatures
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Masks (r, M_h, M_w), IoU (r,) and aspects (r, 2, E) of r phrases, of any images."""
        own = features.take(owners)
        scale, bias = self.siglip.logit_parameters()
        sparse, dense, aspects = self.decode_head(
            image,
            text,
            constant(tuple(owners), dtype=torch.int64, device=text.pooled.device),
            own,
            self.sam,
            scale=scale,
            bias=bias,
        )
        dense = None if dense is None else dense[:, None]
        masks, iou = self.sam.decode(own, sparse[:, None], dense)
        return masks[:, 0, 0], iou[:, 0, 0], aspects

    def loss(self, inputs: Sequence[Tensor], data_samples: list[SegDataSample]) -> dict:
        """Losses by name; the precision of training is the optimiser wrapper's."""
        texts = Phrases.of(data_samples).of_image
        truth = [sample.gt_sem_seg.data for sample in data_samples]
        for text, mask, image in zip(texts, truth, inputs, strict=True):
            if tuple(mask.shape) != (len(text), *image.shape[-2:]):
                raise ValueError(
                    f'expected masks {(len(text), *image.shape[-2:])}, one for each phrase at the '
                    f"image's size, found {tuple(mask.shape)}"
                )
        answers, features = self.answer(inputs, texts)
        placed = [
            self.place(answer, features[i], tuple(truth[i].shape[-2:]))
            for i, answer in enumerate(answers)
        ]
        losses = self.decode_head.loss(placed, truth, [answer.iou for answer in answers])
        if answers[0].aspects is not None:
            losses |= self.decode_head.aspect_losses(
                [answer.aspects for answer in answers],
                [(answer.patches, answer.coverage) for answer in answers],
                [self.sam.canvas_masks(mask) for mask in truth] if self.parity else truth,
                texts,
            )
        return losses

    def _forward(
        self, inputs: Sequence[Tensor], data_samples: list[SegDataSample] | None = None
    ) -> list[Tensor]:
        """Logits (P, M_h, M_w) of each image over SAM's input."""
        samples = data_samples or [SegDataSample() for _ in inputs]
        texts = [sample.metainfo.get('text') or self.fallback_text for sample in samples]
        return [answer.logits for answer in self.answer(inputs, texts)[0]]

    def encode_decode(
        self, inputs: Sequence[Tensor], batch_img_metas: Sequence[Mapping] = ()
    ) -> list[Tensor]:
        """MMSeg's name for `_forward`."""
        return self._forward(inputs)

    @torch.no_grad()
    def predict(
        self, inputs: Sequence[Tensor], data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """The mask of every phrase, at the original size of its image.

        Args:
            inputs: B images (3, H, W), RGB in [0, 1].
            data_samples: Their ``text`` is looked for; their ``ori_shape`` is the output size.

        Returns:
            The samples with ``pred_sem_seg`` (P, H_o, W_o) uint8 of 0 and 1, if ``return_logits``
            is set ``seg_logits`` (P, H_o, W_o) float32, and ``scores``, P predicted IoUs.

        Raises:
            ValueError: A sample has no phrase, or was mirrored; or its masks are no numbers.
        """
        samples = [SegDataSample() for _ in inputs] if data_samples is None else data_samples
        with doubts(later=True) as held:
            iou = self.draw(inputs, samples)
        for sample, found in zip(samples, fetch_sure(iou, held)(), strict=True):
            sample.set_metainfo(dict(scores=scores_of(found)))
        return samples

    @torch.no_grad()
    def draw(self, inputs: Sequence[Tensor], samples: Sequence[SegDataSample]) -> list[Tensor]:
        """`predict` as far as nobody waits for a GPU: where `doubts` are open, it is they that
        refuse what is no number.

        Returns:
            Predicted IoUs (P,) float32 of each image, on the model's device; see `scores_of`. The
            samples have all the rest.
        """
        texts = Phrases.of(samples).of_image
        if any(sample.metainfo.get('flip') for sample in samples):
            raise ValueError(f'flipped images are refused in prediction: {WHY_NO_FLIP}')
        with self.held.autocast(self, self.precision, self.encoder.mean.device):
            answers, features = self.answer(inputs, texts)
        finite = [a.logits.isfinite().all() & a.iou.isfinite().all() for a in answers]
        check_finite(finite, samples, self.precision)
        for i, sample in enumerate(samples):
            size = tuple(sample.metainfo.get('ori_shape', inputs[i].shape[-2:])[:2])
            placed = self.place(answers[i], features[i], size)
            found = placed.sigmoid() > self.test_cfg['threshold']
            sample.pred_sem_seg = PixelData(data=found.to(torch.uint8))
            if self.test_cfg['return_logits']:
                sample.seg_logits = PixelData(data=placed)
        return [answer.iou.float() for answer in answers]


def scores_of(iou: Tensor) -> list[float]:
    """Predicted IoUs (P,) as `ReferringSegmentor` tells them, to six digits."""
    return [round(value, 6) for value in iou.tolist()]


def check_referring(config: Mapping) -> dict:
    """`check_test_cfg` of phrases.

    Raises:
        ValueError: See there; or mirroring is asked for.
    """
    config = dict(config)
    if config.pop('flip', False):
        raise ValueError(f'test_cfg.flip is refused: {WHY_NO_FLIP}')
    return check_test_cfg(config, TEST_OPTIONS, modes=('whole',), why=WHY_WHOLE)
