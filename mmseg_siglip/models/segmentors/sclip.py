"""Training-free open-vocabulary segmentation by dense image-text similarity.

SCLIP, https://arxiv.org/abs/2312.01597, and with other attentions its family.

Shapes: an image is (3, H, W), its output (H_o, W_o), the original size; Q query words, C classes;
D joint channels; n_y x n_x windows with patch grids (h, w).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby, islice

import torch
from mmengine.structures import PixelData
from mmseg.models import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.models.labelling import Labeller, Rows
from mmseg_siglip.models.windows.grid import Windows, check_test_cfg
from mmseg_siglip.models.windows.stitch import Stitch, stitch_matrix, upsample_matrix, window_starts
from mmseg_siglip.precision import PRECISIONS, autocast
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.templates import get_templates
from mmseg_siglip.text.text_bank import text_bank
from mmseg_siglip.text.vocabulary import Vocabulary


@MODELS.register_module()
class SCLIPSegmentor(BaseSegmentor):
    """Label each pixel with the word whose embedding is nearest to its patch feature.

    The cosines of all windows are averaged, resized to the original image, scaled, and turned into
    probabilities by a softmax over all query words; a class takes the highest of its words.

    Args:
        backbone: Configuration of a backbone. Without ``type``, the kind is found from what
            ``pretrained`` holds.
        vocabulary: A bundled name, a file, or a list of words (see `Vocabulary`).
        templates: A named set or a list of sentences (see `get_templates`).
        attention: A dense method, its name or ``dict(type=name, ...)``; see
            `mmseg_siglip.models.dense`.
        logit_scale: Factor on cosines before the softmax; None takes the encoder's own.
        prob_thd: Pixels whose best probability is lower become background.
        area_thd: A foreground class is removed from an image in which it covers at most this
            part of the foreground, by argmax.
        background_index: The class that `prob_thd` and `area_thd` refer to. By default, the one
            that the vocabulary marks.
        postprocessor: Configuration of a module that refines (B, Q, H, W) cosines on
            (B, 3, H, W) images. It needs them at full size. By its ``wants`` it may ask for
            ``pixels``, ``features``, ``text``, ``query_to_class`` and ``logit_scale`` as well.
        precision: Number format of the encoders (see `mmseg_siglip.precision`).
        compile_backend: Runs the encoder through ``torch.compile`` with this backend, such as
            'inductor', which needs a C++ compiler. Batches of windows are filled up to
            ``window_batch``, so windows of one size are compiled once. Not with mode 'whole',
            where every image size would be.
        test_cfg: ``mode`` 'slide' | 'whole'; ``crop_size`` and ``stride``, (rows, columns) or one
            number for both, in pixels; ``window_batch``, windows per forward pass, of one image
            or several; ``return_logits``, whether samples carry ``seg_logits``.
        data_preprocessor: Configuration. Mean and std come from the backbone.

    Raises:
        ValueError: A value is out of range, or two contradict each other.
    """

    training_free = True

    def __init__(
        self,
        backbone: Mapping,
        vocabulary: str | Sequence[str],
        *,
        templates: str | Sequence[str] = 'imagenet80',
        attention: str | Mapping = 'csa',
        logit_scale: float | None = None,
        prob_thd: float = 0.0,
        area_thd: float | None = None,
        background_index: int | None = None,
        postprocessor: Mapping | None = None,
        precision: str = 'fp32',
        compile_backend: str | None = None,
        test_cfg: Mapping | None = None,
        data_preprocessor: Mapping | None = None,
    ) -> None:
        backbone = build_backbone(backbone)
        super().__init__(data_preprocessor=build_preprocessor(data_preprocessor, backbone))
        self.backbone = backbone.requires_grad_(False)
        self.postprocessor = MODELS.build(postprocessor) if postprocessor else None
        self.templates = get_templates(templates)
        self.method = backbone.method_for(attention)
        self._logit_scale = logit_scale
        self.prob_thd, self.area_thd = prob_thd, area_thd
        if precision not in PRECISIONS:
            raise ValueError(f'precision: expected one of {PRECISIONS}, found {precision!r}')
        self.precision = precision
        self.test_cfg = check_test_cfg(test_cfg or {}, backbone.image_size)
        self._window_features = self._dense
        if compile_backend is not None:
            if self.test_cfg['mode'] == 'whole':
                raise ValueError("compile_backend: expected test_cfg.mode 'slide', found 'whole'")
            self._compiled = torch.compile(self._dense, backend=compile_backend, dynamic=False)
            self._window_features = self._of_full_batches
        self.register_buffer('_text', None, persistent=False)
        self.set_vocabulary(vocabulary, background_index)
        self.register_load_state_dict_post_hook(lambda *_: self.forget_text())

    def set_vocabulary(
        self, vocabulary: str | Sequence[str], background_index: int | None = None
    ) -> None:
        """Change what is looked for; embeddings follow at the next prediction.

        Raises:
            ValueError: The words or the background index are not usable.
        """
        vocabulary = Vocabulary.load(vocabulary)
        if background_index is None:
            background_index = vocabulary.background_index
        elif not 0 <= background_index < len(vocabulary):
            raise ValueError(
                f'background_index: expected 0 to {len(vocabulary) - 1}, found {background_index}'
            )
        if background_index is None and (self.prob_thd or self.area_thd):
            raise ValueError(
                'prob_thd and area_thd need a background: mark a class in the vocabulary, '
                'or set background_index'
            )
        self.vocabulary, self.background_index = vocabulary, background_index
        self.forget_text()

    def forget_text(self) -> None:
        self._text = None

    @property
    def text(self) -> Tensor:
        """(Q, D) unit-length word embeddings, from the cache where nothing has changed."""
        if self._text is None:
            self._text = text_bank(
                self.backbone, self.vocabulary.queries, self.templates, precision=self.precision
            )
        return self._text

    @property
    def logit_scale(self) -> float:
        return self.backbone.logit_scale if self._logit_scale is None else self._logit_scale

    @property
    def labeller(self) -> Labeller:
        return Labeller(
            self.vocabulary.query_to_class,
            self.logit_scale,
            self.prob_thd,
            self.area_thd,
            self.background_index,
        )

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict:
        """Refuse: there is nothing to train.

        Raises:
            ValueError: Always.
        """
        raise ValueError('SCLIPSegmentor is training-free: use tools/test.py, not tools/train.py')

    def _forward(self, inputs: Sequence[Tensor], data_samples=None) -> list[Tensor]:
        """Mean cosines (Q, H, W) of each image, at the size it came in."""
        return [
            self._stitch(windows, self._plan(image), image.shape[-2:]).rows(0, image.shape[-2])
            for image, windows in zip(inputs, self._cosines(inputs), strict=True)
        ]

    def extract_feat(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Joint-space features (D, h, w) of each whole image, not normalised."""
        return [self._dense(image[None])[0] for image in inputs]

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
            (1, H_o, W_o) float32, the probability of that label, and ``seg_logits``
            (C, H_o, W_o) float32, the probabilities of all classes. Their ``num_classes`` lets a
            metric notice a dataset of another size.

        Raises:
            ValueError: An image is smaller than one patch.
        """
        if data_samples is None:
            data_samples = [SegDataSample() for _ in inputs]
        for image, sample in zip(inputs, data_samples, strict=True):
            self._check_size(image, sample.metainfo.get('img_path', 'image'))
        given = self._cosines(inputs, features='features' in self._wanted)
        for image, windows, sample in zip(inputs, given, data_samples, strict=True):
            size = tuple(sample.metainfo.get('ori_shape', image.shape[-2:])[:2])
            cosines = windows[:, :, : len(self.vocabulary.queries)]
            rows = self._stitch(cosines, self._plan(image), size).rows
            if self.postprocessor is not None:
                features = windows[:, :, len(self.vocabulary.queries) :]
                rows = self._refine(image, rows, size, features)
            result = self.labeller(
                rows,
                size,
                return_scores=return_scores,
                return_probabilities=self.test_cfg['return_logits'],
            )
            axis = flipped_axes(sample)
            fields = dict(pred_sem_seg=result.labels[None], seg_logits=result.probabilities)
            if return_scores:
                fields['scores'] = result.scores[None]
            sample.set_data(
                {
                    name: PixelData(data=data.flip(axis))
                    for name, data in fields.items()
                    if data is not None
                }
            )
            sample.set_metainfo(dict(num_classes=len(self.vocabulary)))
        return data_samples

    def _check_size(self, image: Tensor, name: str) -> None:
        patch, size = self.backbone.patch_size, tuple(image.shape[-2:])
        if min(size) < patch:
            raise ValueError(
                f'{name}: expected at least one patch ({patch}x{patch} pixels), '
                f'found {size[0]}x{size[1]} (height x width)'
            )

    def _plan(self, image: Tensor) -> Windows:
        size = tuple(image.shape[-2:])
        if self.test_cfg['mode'] == 'whole':
            return Windows([0], [0], size)
        crop, stride = self.test_cfg['crop_size'], self.test_cfg['stride']
        starts = [window_starts(*side) for side in zip(size, crop, stride, strict=True)]
        return Windows(*starts, tuple(map(min, crop, size)))

    def _dense(self, images: Tensor) -> Tensor:
        with autocast(self.precision, images.device):
            return self.backbone.dense(images, attention=self.method).float()

    def _of_full_batches(self, windows: Tensor) -> Tensor:
        """`_dense`, compiled, on batches that all have the same size."""
        missing = self.test_cfg['window_batch'] - len(windows)
        full = torch.cat([windows, windows[:1].expand(missing, -1, -1, -1)])
        return self._compiled(full)[: len(windows)]

    @property
    def _wanted(self) -> tuple[str, ...]:
        return getattr(self.postprocessor, 'wants', ())

    def _cosines(self, images: Sequence[Tensor], *, features: bool = False) -> Iterator[Tensor]:
        """Patch cosines (n_y, n_x, Q, h, w) of each image, in turn.

        The windows of all images form one stream, cut into batches of equal window size. With
        `features`, the D joint-space features follow the cosines: (n_y, n_x, Q + D, h, w).
        """
        plans = [self._plan(image) for image in images]
        crops = (plan.crops(image) for image, plan in zip(images, plans, strict=True))
        done: list[Tensor] = []
        batches = self._batches(chain.from_iterable(crops))
        for plan in plans:
            count = len(plan.rows) * len(plan.columns)
            while len(done) < count:
                dense = self._window_features(next(batches))
                cosines = torch.einsum('bdhw,qd->bqhw', normalize(dense, dim=1), self.text)
                done.extend(torch.cat([cosines, dense], dim=1) if features else cosines)
            windows, done = torch.stack(done[:count]), done[count:]
            yield windows.unflatten(0, (len(plan.rows), len(plan.columns)))

    def _batches(self, crops: Iterator[Tensor]) -> Iterator[Tensor]:
        for _, group in groupby(crops, key=lambda crop: crop.shape):
            while batch := list(islice(group, self.test_cfg['window_batch'])):
                yield torch.stack(batch)

    def _stitch(self, windows: Tensor, plan: Windows, size: tuple[int, int]) -> Stitch:
        """Cosines (Q, H_o, W_o) at `size`, a few rows at a time."""
        patch, sides = self.backbone.patch_size, []
        for i, starts in enumerate((plan.rows, plan.columns)):
            crop = plan.size[i]
            upsample = upsample_matrix(crop, windows.shape[3 + i], patch)
            sides.append(stitch_matrix(starts, crop, starts[-1] + crop, upsample, size[i]))
        return Stitch.of(windows, *sides)

    def _refine(self, image: Tensor, rows: Rows, size: tuple[int, int], windows: Tensor) -> Rows:
        given = dict(
            pixels=lambda: [self._pixels(image)],
            features=lambda: [self._stitched(windows, image)],
            text=lambda: self.text,
            query_to_class=lambda: self.vocabulary.query_to_class,
            logit_scale=lambda: self.logit_scale,
        )
        context = {name: given[name]() for name in self._wanted}
        resized = interpolate(image[None], size=size, mode='bilinear')
        refined = self.postprocessor(resized, rows(0, size[0])[None], **context)[0]
        return lambda first, last: refined[:, first:last]

    def _pixels(self, image: Tensor) -> Tensor:
        """RGB in [0, 1] of a normalised image (3, H, W)."""
        mean, std = (
            image.new_tensor(values)[:, None, None]
            for values in (self.backbone.mean, self.backbone.std)
        )
        return ((image * std + mean) / 255).clamp(0, 1)

    def _stitched(self, windows: Tensor, image: Tensor) -> Tensor:
        """Features (D, h, w) of an image, two cells a patch."""
        size = tuple(max(1, 2 * side // self.backbone.patch_size) for side in image.shape[-2:])
        return self._stitch(windows, self._plan(image), size).rows(0, size[0])


def flipped_axes(sample: SegDataSample) -> tuple[int, ...]:
    """Axes along which an augmented image, and so its result, is mirrored."""
    direction = sample.metainfo.get('flip_direction') if sample.metainfo.get('flip') else None
    return {None: (), 'horizontal': (-1,), 'vertical': (-2,), 'diagonal': (-2, -1)}[direction]


def build_backbone(config: Mapping, **defaults) -> VisionLanguageBackbone:
    """A backbone of the kind that `config` names, or that its checkpoint holds. Random weights of
    a transformers `config` alone are a `SigLIPBackbone`'s.

    Raises:
        ValueError: It names neither kind nor checkpoint.
    """
    config = {**defaults, **config}
    if not config.get('pretrained') and config.get('config'):
        config.setdefault('type', 'SigLIPBackbone')
    if 'type' in config:
        return MODELS.build(config)
    if not config.get('pretrained'):
        raise ValueError('backbone: expected type or pretrained, found neither')
    return build_encoder(config.pop('pretrained'), **config)


def build_preprocessor(config: Mapping | None, backbone: VisionLanguageBackbone) -> nn.Module:
    """A data preprocessor with the pixel statistics of the backbone.

    Raises:
        ValueError: `config` brings statistics of its own that differ.
    """
    config = dict(config or dict(type='ImageListPreProcessor', bgr_to_rgb=True))
    for name in ('mean', 'std'):
        own, given = getattr(backbone, name), config.get(name)
        if given is not None and any(abs(a - b) > 0.01 for a, b in zip(own, given, strict=True)):
            raise ValueError(
                f'data_preprocessor.{name}: expected {own} as in the checkpoint, found {given}'
            )
        config[name] = list(own)
    return MODELS.build(config)
