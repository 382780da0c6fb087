"""Trained open-vocabulary segmentation: CAT-Seg on CLIP, SigLIP and SigLIP 2.

CAT-Seg, https://arxiv.org/abs/2303.11797; with SigLIP 2, https://arxiv.org/abs/2502.14786.

Shapes: B images (3, H, W), T words, P prompts a word, C classes, D joint channels, grid (h, w).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.structures import PixelData
from mmseg.models import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.finetune import choose_trainable, text_trains
from mmseg_siglip.models.segmentors.cat_seg_views import Views, check_test_cfg, label_views
from mmseg_siglip.models.segmentors.sclip import (
    build_backbone,
    build_preprocessor,
    flipped_axes,
)
from mmseg_siglip.precision import PRECISIONS, autocast
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.templates import get_templates
from mmseg_siglip.text.vocabulary import Vocabulary
from mmseg_siglip.text.word_features import SYNONYMS, word_features

INTERPOLATIONS = ('bilinear', 'bicubic')


@MODELS.register_module()
class CATSegSegmentor(BaseSegmentor):
    """Asks of every word at every pixel whether it is there, by a head on image-text cosines.

    Args:
        backbone: Configuration of a backbone. Without ``type``, the kind is found from what
            ``pretrained`` holds.
        decode_head: Configuration of a `CATSegHead`; its widths are filled in from the backbone.
        vocabulary: The training masks' classes: a bundled name, a file, or a list (see
            `Vocabulary`). An index in the masks is an index in it.
        test_vocabulary: What is looked for in prediction; `vocabulary` if not given. See
            `set_classes`.
        templates: A named set or a list of sentences (see `get_templates`).
        synonyms: What becomes of a class's further words: ``first``, they are left out, as in
            CAT-Seg's code; ``mean``, averaged; ``max``, each is looked for, and the class has the
            best. Training with ``max`` takes the first, too.
        attention: A dense method (see `mmseg_siglip.models.dense`). By default ``value_cls`` where
            the encoder's last block is what pools, as of CLIP and as published, and ``vanilla``
            where a pooling head follows, as of SigLIP.
        readout: How tokens reach the joint space, one of the encoder's ``readouts``; by default
            ``map`` where there is an attention pooling head.
        guidance_blocks: The two blocks of the trunk whose output guides the decoder, from 0. By
            default those after one and two thirds of the trunk: 3 and 7 of 12, 7 and 15 of 24.
        encoder_size: (H, W) that every view is resized to for the encoder. None leaves it as it is.
        interpolation: How it is resized: ``bilinear``, as published, or ``bicubic``.
        antialias: Whether shrinking averages over all pixels, as image processors do; CAT-Seg's
            code does not.
        finetune: What of the encoder trains, see `choose_trainable`; of that, what neither
            `attention` nor `readout` reads stays as it is.
        towers: In which towers.
        precision: Number format of prediction (see `mmseg_siglip.precision`); training
            follows the optimiser wrapper.
        test_cfg: See `check_test_cfg`.
        data_preprocessor: Configuration. Mean and std come from the backbone.
        train_cfg: Not used; MMSegmentation's configs have it.

    Raises:
        ValueError: A value is out of range, or two contradict each other.
    """

    prob_thd = 0.0
    background_index = None

    def __init__(
        self,
        backbone: Mapping,
        decode_head: Mapping,
        vocabulary: str | Sequence[str],
        *,
        test_vocabulary: str | Sequence[str] | None = None,
        templates: str | Sequence[str] = 'cat_seg',
        synonyms: str = 'first',
        attention: str | None = None,
        readout: str | None = None,
        guidance_blocks: Sequence[int] | None = None,
        encoder_size: Sequence[int] | None = None,
        interpolation: str = 'bilinear',
        antialias: bool = False,
        finetune: str | Mapping = 'qv',
        towers: Sequence[str] = ('vision', 'text'),
        precision: str = 'fp32',
        test_cfg: Mapping | None = None,
        data_preprocessor: Mapping | None = None,
        train_cfg: Mapping | None = None,
    ) -> None:
        backbone = build_backbone(backbone, attention='vanilla')
        super().__init__(data_preprocessor=build_preprocessor(data_preprocessor, backbone))
        for name, value, allowed in (
            ('precision', precision, PRECISIONS),
            ('synonyms', synonyms, SYNONYMS),
            ('interpolation', interpolation, INTERPOLATIONS),
        ):
            if value not in allowed:
                raise ValueError(f'{name}: expected one of {", ".join(allowed)}, found {value!r}')
        self.precision, self.synonyms = precision, synonyms
        pools = bool(backbone.pooling_parts())
        self.method = backbone.method_for(attention or ('vanilla' if pools else 'value_cls'))
        self.readout = backbone.check_readout(readout or ('map' if pools else backbone.readouts[0]))
        self.guidance_blocks = check_blocks(guidance_blocks, backbone.num_layers)
        self.encoder_size = tuple(encoder_size) if encoder_size else None
        self.interpolation, self.antialias = interpolation, antialias
        self.templates = get_templates(templates)
        choose_trainable(backbone, finetune, towers=towers)
        for part in backbone.unread(self.method, readout=self.readout):
            part.requires_grad_(False)
        self.backbone = backbone
        self.decode_head = MODELS.build(
            dict(
                in_channels=backbone.hidden_size,
                embed_dim=backbone.embed_dim,
                num_prompts=len(self.templates),
            )
            | dict(decode_head)
        )
        self.test_cfg = check_test_cfg(test_cfg or {}, self.encoder_size or backbone.image_size)
        self.train_vocabulary = Vocabulary.load(vocabulary)
        self.register_buffer('_text', None, persistent=False)
        self.register_buffer('_train_text', None, persistent=False)
        self.set_classes(vocabulary if test_vocabulary is None else test_vocabulary)
        self.register_load_state_dict_post_hook(lambda *_: self.forget_text())

    def set_classes(self, vocabulary: str | Sequence[str] | Vocabulary) -> None:
        """Change what is looked for in prediction; nothing else changes, nor is reloaded.

        Raises:
            ValueError: The words are not usable.
        """
        self.vocabulary = Vocabulary.load(vocabulary)
        self._text = None

    def forget_text(self) -> None:
        self._text = self._train_text = None

    def train(self, mode: bool = True):
        """MMEngine's; what is known of words is forgotten, if their encoder is about to change."""
        if mode and text_trains(self.backbone):
            self.forget_text()
        return super().train(mode)

    @property
    def query_to_class(self) -> tuple[int, ...]:
        """Class of each word that is looked for."""
        if self.synonyms == 'max':
            return self.vocabulary.query_to_class
        return tuple(range(len(self.vocabulary)))

    @property
    def text(self) -> Tensor:
        """(T, P, D), the words that prediction looks for; encoded once for unchanged weights."""
        if self._text is None:
            self._text = self._words(self.vocabulary, self.synonyms)
        return self._text

    @property
    def train_text(self) -> Tensor:
        """(C, P, D), the training classes, with gradients where the text tower trains."""
        synonyms = 'first' if self.synonyms == 'max' else self.synonyms
        if text_trains(self.backbone):
            return self._words(self.train_vocabulary, synonyms)
        if self._train_text is None:
            self._train_text = self._words(self.train_vocabulary, synonyms)
        return self._train_text

    def _words(self, vocabulary: Vocabulary, synonyms: str) -> Tensor:
        return word_features(
            self.backbone,
            vocabulary,
            self.templates,
            synonyms=synonyms,
            frozen=not text_trains(self.backbone),
            precision=self.precision,
        )

    def resize(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to what the encoder gets."""
        if self.encoder_size is None or tuple(images.shape[-2:]) == self.encoder_size:
            return images
        return interpolate(
            images,
            size=self.encoder_size,
            mode=self.interpolation,
            align_corners=False,
            antialias=self.antialias,
        )

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Dense joint features (B, D, h, w) and the two taps that guide the decoder."""
        blocks = self.guidance_blocks if self.decode_head.decoder is not None else ()
        tokens, taps = self.backbone.forward_intermediates(
            self.resize(inputs), blocks, method=self.method
        )
        return self.backbone.project(tokens, readout=self.readout), taps

    def logits(self, images: Tensor, text: Tensor, *, max_classes: int | None = None) -> Tensor:
        """(B, 3, H, W) and (T, P, D) to (B, T, s*h, s*w), see `CATSegHead`."""
        features, taps = self.extract_feat(images)
        return self.decode_head(features, taps, text, max_classes=max_classes)

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses by name, of images (B, 3, H, W) and their masks."""
        labels = torch.cat([sample.gt_sem_seg.data for sample in data_samples])
        return self.decode_head.loss(self.logits(inputs, self.train_text), labels)

    def _forward(self, inputs: Tensor | Sequence[Tensor], data_samples=None) -> list[Tensor]:
        """Logits (T, s*h, s*w) of each whole image."""
        return [self.logits(image[None], self.text)[0] for image in inputs]

    def encode_decode(self, inputs: Sequence[Tensor], batch_img_metas: list[dict]) -> list[Tensor]:
        """MMSeg's name for `_forward`."""
        return self._forward(inputs)

    @torch.no_grad()
    def predict(
        self,
        inputs: Sequence[Tensor],
        data_samples: list[SegDataSample] | None = None,
        *,
        return_scores: bool = False,
    ) -> list[SegDataSample]:
        """Label every pixel of every image.

        Args:
            inputs: (B, 3, H, W), or B images (3, H, W) of any sizes; normalised.
            data_samples: Their ``ori_shape`` is the output size; without it, the image's own.
            return_scores: Whether the samples also get ``scores``.

        Returns:
            The samples with ``pred_sem_seg`` (1, H_o, W_o) int64 and, if asked for, ``scores``
            (1, H_o, W_o) float32, the probability of that label, from a sigmoid, and, if
            ``return_logits`` is set, ``seg_logits`` (C, H_o, W_o) float32, those of all classes.
            Their ``num_classes`` lets a metric notice a dataset of another size.
        """
        if data_samples is None:
            data_samples = [SegDataSample() for _ in inputs]
        views = [Views.of(image, self.test_cfg) for image in inputs]
        results = self._view_logits([view for plan in views for view in plan.images])
        for plan, sample in zip(views, data_samples, strict=True):
            logits = torch.stack([next(results) for _ in plan.images])
            size = tuple(sample.metainfo.get('ori_shape', plan.size)[:2])
            found = label_views(
                lambda classes, plan=plan, logits=logits, size=size: plan.probabilities(
                    logits[:, classes], size
                ),
                logits,
                size,
                self.query_to_class,
                cells=plan.cells(size),
                return_probabilities=self.test_cfg['return_logits'],
            )
            axis = flipped_axes(sample)
            sample.pred_sem_seg = PixelData(data=found.labels[None].flip(axis))
            if return_scores:
                sample.scores = PixelData(data=found.scores[None].flip(axis))
            if found.probabilities is not None:
                sample.seg_logits = PixelData(data=found.probabilities.flip(axis))
            sample.set_metainfo(dict(num_classes=len(self.vocabulary)))
        return data_samples

    def _view_logits(self, images: Sequence[Tensor]):
        """Logits (T, ...) of each view, in turn; views of one size share forward passes."""
        text, limit = self.text, self.test_cfg['window_batch']
        first = 0
        while first < len(images):
            batch = [self.resize(images[first][None])]
            while len(batch) < limit and first + len(batch) < len(images):
                image = self.resize(images[first + len(batch)][None])
                if image.shape != batch[0].shape:
                    break
                batch.append(image)
            with autocast(self.precision, text.device):
                logits = self.logits(
                    torch.cat(batch), text, max_classes=self.test_cfg['max_classes']
                )
            yield from logits.float()
            first += len(batch)


def check_blocks(blocks: Sequence[int] | None, num_layers: int) -> tuple[int, int]:
    """The two blocks that guide the decoder.

    Raises:
        ValueError: They are not two, or the trunk has no such block.
    """
    if blocks is None:
        return max(num_layers // 3 - 1, 0), max(2 * num_layers // 3 - 1, 0)
    if len(blocks) != 2 or any(not 0 <= block < num_layers for block in blocks):
        raise ValueError(
            f'guidance_blocks: expected two of 0 to {num_layers - 1}, found {tuple(blocks)}'
        )
    return tuple(blocks)
