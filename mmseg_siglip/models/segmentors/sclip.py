"""Training-free open-vocabulary segmentation by dense image-text similarity.

SCLIP, https://arxiv.org/abs/2312.01597, and with other attentions its family.

Shapes: an image is (3, H, W), its output (H_o, W_o), the original size; Q query words, C classes;
D joint channels; n_y x n_x windows with grids of cells (h, w), n of them in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.backbones.trunk import Method, Surroundings, method_name
from mmseg_siglip.models.backbones.vision_trunk import patch_grid
from mmseg_siglip.models.labelling import Labeller, Labels, Rows
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.segmentors.open_vocabulary import OpenVocabularySegmentor
from mmseg_siglip.models.windows.grid import Windows
from mmseg_siglip.models.windows.stitch import Stitch
from mmseg_siglip.models.windows.stream import by_image, stream
from mmseg_siglip.models.windows.test_cfg import check_test_cfg, window_defaults
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.text_bank import text_bank
from mmseg_siglip.text.vocabulary import Vocabulary


@MODELS.register_module()
class SCLIPSegmentor(OpenVocabularySegmentor):
    """Label each pixel with the word whose embedding is nearest to its patch feature.

    The cosines of all windows are averaged, resized to the original image, scaled, and turned into
    probabilities by a softmax over all query words; a class takes the highest of its words.

    Args:
        backbone: See `OpenVocabularySegmentor`.
        vocabulary: A bundled name, a file, or a list of words (see `Vocabulary`).
        templates: See `OpenVocabularySegmentor`.
        attention: A dense method, its name or ``dict(type=name, ...)``; see
            `mmseg_siglip.models.dense`. It may be set later, too, as ``attention`` or ``method``.
        logit_scale: Factor on cosines before the softmax; None takes the encoder's own.
        prob_thd: Pixels whose best probability is lower become background.
        area_thd: A foreground class is removed from an image in which it covers at most this
            part of the foreground, by argmax.
        background_index: The class that `prob_thd` and `area_thd` refer to. By default, the one
            that the vocabulary marks.
        postprocessor: Configuration of a module that refines cosines (B, Q, H, W), which it needs
            at full size, on images (B, 3, H, W), and may ask a `Context` for more.
        precision: Number format of the encoders (see `mmseg_siglip.precision`).
        compile_backend: Runs the encoder through ``torch.compile`` with this backend, such as
            'inductor', which needs a C++ compiler. Batches of windows are filled up to
            ``window_batch``, so windows of one size are compiled once. Not with mode 'whole',
            where every image size would be, nor with a method that sees all windows of an image.
        test_cfg: ``mode`` 'slide' | 'whole'; ``crop_size`` and ``stride``, (rows, columns) or one
            number for both, in pixels; ``window_batch``, windows per forward pass, of one image
            or several; ``return_logits``, whether samples carry ``seg_logits``.
        data_preprocessor: Configuration. Mean and std come from the backbone.

    Raises:
        ValueError: A value is out of range, or two contradict each other.
    """

    training_free = True
    method: Method

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
        super().__init__(
            backbone,
            templates=templates,
            precision=precision,
            data_preprocessor=data_preprocessor,
        )
        self.backbone.requires_grad_(False)
        self.method = attention
        self.postprocessor = MODELS.build(postprocessor) if postprocessor else None
        self._logit_scale = logit_scale
        self.prob_thd, self.area_thd = prob_thd, area_thd
        self.test_cfg = check_test_cfg(test_cfg or {}, window_defaults(self.backbone.image_size))
        self._compiled = None
        if compile_backend is not None:
            if self.test_cfg['mode'] == 'whole':
                raise ValueError("compile_backend: expected test_cfg.mode 'slide', found 'whole'")
            self._compiled = torch.compile(self.encode, backend=compile_backend, dynamic=False)
        self.set_vocabulary(vocabulary, background_index)

    def __setattr__(self, name: str, value: object) -> None:
        if name in ('attention', 'method'):
            device = next(self.backbone.parameters()).device
            name, value = 'method', self.backbone.method_for(value).to(device)
        super().__setattr__(name, value)

    @property
    def attention(self) -> str:
        """The dense method's name."""
        return method_name(self.method)

    def set_vocabulary(
        self, words: str | Sequence[str] | Vocabulary, background_index: int | None = None
    ) -> None:
        vocabulary = Vocabulary.load(words)
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

    def embed(self) -> Tensor:
        """(Q, D), unit length, from the cache where nothing has changed."""
        queries = self.vocabulary.queries
        return text_bank(self.backbone, queries, self.templates, precision=self.precision)

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

    def labels_of(self, probabilities: Tensor) -> Tensor:
        return self.labeller.of_probabilities(probabilities)

    def loss(self, inputs: Tensor, data_samples: list) -> dict:
        """Refuse: there is nothing to train.

        Raises:
            ValueError: Always.
        """
        raise ValueError('SCLIPSegmentor is training-free: use tools/test.py, not tools/train.py')

    def _forward(self, inputs: Sequence[Tensor], data_samples=None) -> list[Tensor]:
        """Mean cosines (Q, H, W) of each image, at the size it came in."""
        return [
            self._stitch(cosines, windows, image.shape[-2:]).rows(0, image.shape[-2])
            for image, windows, cosines, _ in self._look(inputs)
        ]

    def extract_feat(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Joint-space features (D, h, w) of each whole image, not normalised."""
        whole = [Windows.of(tuple(image.shape[-2:]), dict(mode='whole')) for image in inputs]
        return [found[0] for found in self._encoded(self.encode, inputs, whole, batch=1)]

    def label(
        self, inputs: Sequence[Tensor], sizes: Sequence[tuple[int, int]], *, return_scores: bool
    ) -> Iterator[Labels]:
        labeller, kept = self.labeller, self.test_cfg['return_logits']
        seen = zip(self._look(inputs), sizes, strict=True)
        for (image, windows, cosines, features), size in seen:
            rows = self._stitch(cosines, windows, size).rows
            if self.postprocessor is not None:
                rows = self._refined(image, windows, rows, size, features)
            yield labeller(rows, size, return_scores=return_scores, return_probabilities=kept)

    def encode(self, windows: Tensor, surroundings: Surroundings | None = None) -> Tensor:
        """Windows (n, 3, H, W), normalised, to features (n, D, h, w) of the joint space, not
        normalised."""
        with autocast(self.precision, windows.device):
            features = self.backbone.dense(
                windows, attention=self.method, surroundings=surroundings
            )
        return features.float()

    def _encode_full(self, windows: Tensor, surroundings: Surroundings) -> Tensor:
        """`encode`, compiled, on batches that all have the same size."""
        if self.method.scope != 'window':
            raise ValueError(
                'compile_backend: expected a method that sees one window at a time, '
                f'found {self.attention!r}'
            )
        missing = self.test_cfg['window_batch'] - len(windows)
        full = torch.cat([windows, windows[:1].expand(missing, -1, -1, -1)])
        views = (*surroundings.views, *surroundings.views[:1] * missing)
        return self._compiled(full, replace(surroundings, views=views))[: len(windows)]

    def _encoded(
        self,
        encode: Callable[[Tensor, Surroundings], Tensor],
        images: Sequence[Tensor],
        windows: Sequence[Windows],
        *,
        batch: int,
    ) -> Iterator[Tensor]:
        """Features (n, D, h, w) of all windows of all images, batch after batch."""
        prepare = self._prepare if self.method.prepares else None
        known = Surroundings(text=lambda: self.text, logit_scale=self.logit_scale, batch=batch)
        parts = stream(images, windows, batch=batch, scope=self.method.scope, prepare=prepare)
        for crops, views in parts:
            yield encode(crops, replace(known, views=views))

    def _prepare(self, image: Tensor) -> object:
        with autocast(self.precision, image.device):
            return self.method.prepare(self.backbone.to_pixels(image))

    def _look(self, images: Sequence[Tensor]) -> Iterator[tuple[Tensor, Windows, Tensor, Tensor]]:
        """Each image, its windows, their cosines (n_y, n_x, Q, h, w) and, if a postprocessor may
        ask for them, features (n_y, n_x, D, h, w), else none of them (n_y, n_x, 0, h, w)."""
        kept = None if self.postprocessor is not None else 0

        def cells(features: Tensor) -> Tensor:
            cosines = torch.einsum('bdhw,qd->bqhw', normalize(features, dim=1), self.text)
            return torch.cat([cosines, features[:, :kept]], dim=1)

        windows = [Windows.of(tuple(image.shape[-2:]), self.test_cfg) for image in images]
        encode = self.encode if self._compiled is None else self._encode_full
        encoded = self._encoded(encode, images, windows, batch=self.test_cfg['window_batch'])
        found = by_image(map(cells, encoded), windows)
        for image, own, values in zip(images, windows, found, strict=True):
            words = len(self.vocabulary.queries)
            yield image, own, values[:, :, :words], values[:, :, words:]

    def _stitch(self, cells: Tensor, windows: Windows, size: tuple[int, int]) -> Stitch:
        """(n_y, n_x, N, h, w) to (N, H_o, W_o) at `size`, a few rows at a time."""
        patch = self.backbone.patch_size
        grid = patch_grid(windows.size, patch, self.backbone.image_size)
        return Stitch.over(cells, windows, tuple(n * patch for n in grid), size)

    def _refined(
        self,
        image: Tensor,
        windows: Windows,
        rows: Rows,
        size: tuple[int, int],
        features: Tensor,
    ) -> Rows:
        def stitched() -> list[Tensor]:
            patch = self.backbone.patch_size
            grid = tuple(max(1, 2 * side // patch) for side in image.shape[-2:])
            return [self._stitch(features, windows, grid).rows(0, grid[0])]

        context = Context(
            query_to_class=self.vocabulary.query_to_class,
            logit_scale=self.logit_scale,
            pixels=lambda: [self.backbone.to_pixels(image)],
            features=stitched,
            text=lambda: self.text,
        )
        resized = interpolate(image[None], size=size, mode='bilinear')
        refined = self.postprocessor(resized, rows(0, size[0])[None], context)[0]
        return lambda first, last: refined[:, first:last]
