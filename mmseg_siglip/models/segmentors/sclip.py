"""Training-free open-vocabulary segmentation by dense image-text similarity.

SCLIP, https://arxiv.org/abs/2312.01597, and with other attentions its family. Shapes: an image is
(3, H, W), its output (H_o, W_o), the original size; Q query words, C classes; D joint channels;
n_y x n_x windows with grids of cells (h, w), n of them in a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmseg_siglip.models.backbones.planes import Dense
from mmseg_siglip.models.backbones.trunk import Method, Surroundings, Trunk, method_name
from mmseg_siglip.models.backbones.vision_trunk import patch_grid
from mmseg_siglip.models.compiled import compile_method
from mmseg_siglip.models.dense.guided import spanned_pixels
from mmseg_siglip.models.finite import of_image
from mmseg_siglip.models.labelling import Labeller, Labels, Rows
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.sam.proposals import propose
from mmseg_siglip.models.segmentors.open_vocabulary import OpenVocabularySegmentor
from mmseg_siglip.models.segmentors.parts import background_of, build_all, check_fit, check_scale
from mmseg_siglip.models.segmentors.seen import RegionsOfImage, Seen, find_regions, meet_words
from mmseg_siglip.models.windows.batch import window_batch
from mmseg_siglip.models.windows.grid import Windows
from mmseg_siglip.models.windows.stitch import Cells, Stitch
from mmseg_siglip.models.windows.stream import by_image, stream
from mmseg_siglip.models.windows.test_cfg import check_test_cfg, window_defaults
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.distinct import check_distinct
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
        score_steps: Configurations of what changes the cosines of windows; see `ScoreStep`. As
            `upsampler`, not with a method that gives scores.
        upsampler: Configuration of what makes features (n, D, h, w) finer by the pixels that they
            span, some rows at a time, before they meet words; see `AnyUp`.
        regions: Configuration of what finds the regions of an image (3, H, W), RGB in [0, 1], where
            its sample brings none along.
        postprocessor: Configuration, or several, of modules that refine cosines (B, Q, H, W), which
            they need at full size, on images (B, 3, H, W), and may ask a `Context` for more, for
            its features by an attribute ``needs_features``.
        label_steps: Configurations of what changes labels; see `LabelStep`.
        precision: Number format of the encoders (see `mmseg_siglip.precision`).
        compile_backend: Runs the encoder through ``torch.compile`` with this backend, such as
            'inductor', which needs a C++ compiler. Batches of windows are filled up to
            ``window_batch``, so windows of one size are compiled once. Not with mode 'whole',
            where every image size would be, nor with a method that sees all windows of an image.
        test_cfg: ``mode`` 'slide' | 'whole'; ``crop_size`` and ``stride``, (rows, columns) or one
            number for both, in pixels; ``window_batch``, windows per forward pass, of one image
            or several, by default what the device is good for (see `window_batch`);
            ``return_logits``, whether samples carry ``seg_logits``.
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
        score_steps: Sequence[Mapping] = (),
        upsampler: Mapping | None = None,
        regions: Mapping | None = None,
        postprocessor: Mapping | Sequence[Mapping] | None = None,
        label_steps: Sequence[Mapping] = (),
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
        self.score_steps, self.label_steps = build_all(score_steps), build_all(label_steps)
        self.postprocessors = build_all(postprocessor or ())
        self.upsampler = MODELS.build(upsampler) if upsampler else None
        self.method = attention
        self.proposer = MODELS.build(regions) if regions else None
        self._logit_scale = check_scale(logit_scale)
        self.prob_thd, self.area_thd = prob_thd, area_thd
        defaults = dict(window_defaults(self.backbone.image_size), window_batch=None)
        self.test_cfg = check_test_cfg(test_cfg or {}, defaults)
        self._compiled = None
        if compile_backend is not None:
            if self.test_cfg['mode'] == 'whole':
                raise ValueError("compile_backend: expected test_cfg.mode 'slide', found 'whole'")
            options = dict(backend=compile_backend, dynamic=False)
            self._compiled = compile_method(self.encode, options)
        self.set_vocabulary(vocabulary, background_index)

    def __setattr__(self, name: str, value: object) -> None:
        if name in ('attention', 'method'):
            device = next(self.backbone.parameters()).device
            name, value = 'method', self.backbone.method_for(value).to(device)
            check_fit(value, self.score_steps, self.upsampler)
            self.held.forget()
        super().__setattr__(name, value)

    @property
    def attention(self) -> str:
        """The dense method's name."""
        return method_name(self.method)

    def set_vocabulary(
        self, words: str | Sequence[str] | Vocabulary, background_index: int | None = None
    ) -> None:
        vocabulary = check_distinct(Vocabulary.load(words), self.backbone)
        thresholds = dict(prob_thd=self.prob_thd, area_thd=self.area_thd)
        background_index = background_of(vocabulary, background_index, thresholds=thresholds)
        self.vocabulary, self.background_index = vocabulary, background_index
        self.forget_text()

    def embed(self) -> Tensor:
        """(Q, D), unit length, from the cache where nothing has changed."""
        return self._embed_words(self.vocabulary.queries)

    def _embed_words(self, words: Sequence[str]) -> Tensor:
        return text_bank(self.backbone, words, self.templates, precision=self.precision)

    @property
    def logit_scale(self) -> float:
        return self.backbone.logit_scale if self._logit_scale is None else self._logit_scale

    @property
    def labeller(self) -> Labeller:
        rules = self.prob_thd, self.area_thd, self.background_index
        device = next(self.backbone.parameters()).device
        return Labeller(self.vocabulary.query_to_class, self.logit_scale, *rules, device)

    def labels_of(self, probabilities: Tensor) -> Tensor:
        return self.labeller.of_probabilities(probabilities)

    def loss(self, inputs: Tensor, data_samples: list) -> dict:
        """Refuse: there is nothing to train.

        Raises:
            ValueError: Always.
        """
        raise ValueError('SCLIPSegmentor is training-free: use tools/test.py, not tools/train.py')

    @property
    def takes_many(self) -> bool:
        return super().takes_many and self.proposer is None and not self.method.uses_regions

    def _forward(self, inputs: Sequence[Tensor], data_samples=None) -> list[Tensor]:
        """Mean cosines (Q, H, W) of each image, at the size it came in."""
        found = self._look(inputs, data_samples or [None] * len(inputs))
        return [self._stitch(s.cosines, s.windows, s.size).rows(0, s.size[0]) for s in found]

    def extract_feat(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Joint-space features (D, h, w) of each whole image, not normalised."""
        whole = [Windows.of(tuple(image.shape[-2:]), dict(mode='whole')) for image in inputs]
        regions = self._regions_of(inputs, [None] * len(inputs))
        return [self.encode(*part)[0] for part in self._parts(inputs, whole, regions, batch=1)]

    def whole_cosines(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """What words get at the cells of each whole image, (Q, h, w)."""
        seen = self._look(inputs, [None] * len(inputs), dict(mode='whole'))
        return [each.first for each in seen]

    def label(
        self,
        inputs: Sequence[Tensor],
        samples: Sequence[SegDataSample],
        sizes: Sequence[tuple[int, int]],
        *,
        return_scores: bool,
    ) -> Iterator[Labels]:
        kept = self.test_cfg['return_logits']
        probabilities = kept or any(step.needs_probabilities for step in self.label_steps)
        for seen, size, sample in zip(self._look(inputs, samples), sizes, samples, strict=True):
            context = self._context(seen, size)
            with of_image(sample):
                found = self.labeller(
                    self._refined(seen, size, context),
                    size,
                    return_scores=return_scores,
                    return_probabilities=probabilities,
                )
                found = replace(found, finite=found.finite & seen.finite)
                for step in self.label_steps:
                    found = step(found, context)
            yield found if kept else replace(found, probabilities=None)

    def encode(self, windows: Tensor, surroundings: Surroundings | None = None) -> Dense:
        """Windows (n, 3, H, W), normalised, to features (n, D, h, w) of the joint space, not
        normalised, or what else the method gives."""
        return self._encode(self.backbone.trunk(windows, surroundings=surroundings))

    def _encode(self, trunk: Trunk) -> Dense:
        with self.held.autocast(self, self.precision, trunk.images.device, 'encode'):
            found = self.backbone.features_of(trunk, self.method)
        return found.float() if isinstance(found, Tensor) else found

    def _encode_full(self, windows: Tensor, surroundings: Surroundings) -> Dense:
        """`encode`, compiled, on batches that all have the same size."""
        if self.method.scope != 'window' or self.method.scores or self.score_steps:
            raise ValueError(
                'compile_backend: expected a method that sees one window at a time, without score '
                f'steps, found {self.attention!r}'
            )
        missing = window_batch(self.test_cfg, self.backbone, alone=False) - len(windows)
        full = torch.cat([windows, windows[:1].expand(missing, -1, -1, -1)])
        views = (*surroundings.views, *surroundings.views[:1] * missing)
        with self.held.autocast(self, self.precision, windows.device, 'encode') as eager:
            encode = self.encode if eager else self._compiled
            return encode(full, replace(surroundings, views=views))[: len(windows)]

    def _cells(
        self, windows: Tensor, surroundings: Surroundings, pictures: Tensor | None = None
    ) -> Dense:
        """Windows to their cosines and, if somebody asks for them, features: (n, Q + D, h, w),
        or (n, Q, h, w). They span `pictures` (n, 3, H, W), which are the windows if not given."""
        if self._compiled is not None:
            trunk, features = None, self._encode_full(windows, surroundings)
        else:
            trunk = self.backbone.trunk(windows, surroundings=surroundings)
            features = self._encode(trunk)
        if self.method.gives == 'cosines':
            return features
        steps = (*self._refining, *self.label_steps)
        asked = any(getattr(step, 'needs_features', False) for step in steps)
        rows = [features]
        if self.upsampler is not None:
            seen = self.backbone.trunk(windows if pictures is None else pictures)
            rows = self.upsampler.rows(features, spanned_pixels(seen))
        cosines, features = meet_words(
            rows,
            self.text,
            normalise=self.method.normalise,
            keep=asked or self.method.scores or len(self.score_steps) > 0,
        )
        if trunk is not None:
            with self.held.autocast(self, self.precision, windows.device, 'score'):
                cosines = self.method.score(cosines, features, trunk)
                for step in self.score_steps:
                    cosines = step(cosines, features, trunk)
            cosines = cosines.float()
        return torch.cat([cosines, features], dim=1) if asked else cosines

    def _parts(
        self,
        images: Sequence[Tensor],
        windows: Sequence[Windows],
        regions: Sequence[RegionsOfImage],
        *,
        batch: int,
    ) -> Iterator[tuple[Tensor, Surroundings]]:
        """Windows (n, 3, h, w) of all images, batch after batch."""
        method = self.method
        known = Surroundings(
            text=lambda: self.text,
            embed=self._embed_words,
            vocabulary=self.vocabulary,
            bank=lambda: self.bank,
            logit_scale=self.logit_scale,
            batch=batch,
        )
        parts = stream(
            images,
            windows,
            batch=batch,
            scope=method.scope,
            prepare=self._prepare if method.prepares else None,
            regions=lambda i: regions[i].at(images[i].shape[-2:]) if method.uses_regions else None,
        )
        for crops, views in parts:
            yield crops, replace(known, views=views)

    def _prepare(self, image: Tensor) -> object:
        with self.held.autocast(self, self.precision, image.device, 'prepare'):
            return self.method.prepare(self.backbone.to_pixels(image))

    def _regions_of(
        self, images: Sequence[Tensor], samples: Sequence[SegDataSample | None]
    ) -> list[RegionsOfImage]:
        """Those of each image, of its sample or of the proposer."""

        def search(image: Tensor) -> Tensor:
            return propose(self.proposer, self.backbone.to_pixels(image), self.vocabulary)

        find = partial(find_regions, search=None if self.proposer is None else search)
        return [RegionsOfImage(partial(find, *pair)) for pair in zip(images, samples, strict=True)]

    def _look(
        self,
        images: Sequence[Tensor],
        samples: Sequence[SegDataSample | None],
        config: Mapping | None = None,
    ) -> Iterator[Seen]:
        """What the windows of each image give, by a `test_cfg` or the model's own."""
        config = (config or self.test_cfg) if self.method.windows else dict(mode='whole')
        windows = [Windows.of(tuple(image.shape[-2:]), config) for image in images]
        regions = self._regions_of(images, samples)
        alone = self._compiled is None and not self.method.uses_guide
        batch = window_batch(self.test_cfg, self.backbone, alone=alone)
        parts = self._parts(images, windows, regions, batch=batch)
        if self.method.whole:
            windows = [Windows.of(tuple(im.shape[-2:]), dict(mode='whole')) for im in images]

        def cells(crops: Tensor, known: Surroundings) -> Dense:
            pictures = images[known.views[0].image][None] if self.method.whole else crops
            places = {view.image for view in known.views}
            with of_image(samples[places.pop()] if len(places) == 1 else None):
                cells = self._cells(crops, known, pictures)
            assert len(cells) == len(pictures), f'expected {len(pictures)}, found {len(cells)}'
            return cells

        found = by_image((cells(*part) for part in parts), windows)
        for image, own, values, areas in zip(images, windows, found, regions, strict=True):
            yield Seen.of(image, own, values, areas, words=len(self.vocabulary.queries))

    def _stitch(self, cells: Cells, windows: Windows, size: tuple[int, int]) -> Stitch:
        """(n_y, n_x, N, h, w) to (N, H_o, W_o) at `size`, a few rows at a time."""
        patch = self.backbone.patch_size
        grid = patch_grid(windows.size, patch, self.backbone.image_size)
        return Stitch.over(cells, windows, tuple(n * patch for n in grid), size)

    @property
    def _refining(self) -> list[nn.Module]:
        return [*self.method.refiners, *self.postprocessors]

    def _refined(self, seen: Seen, size: tuple[int, int], context: Context) -> Rows:
        """Cosines of an output of `size`, behind all postprocessors."""
        if not self._refining:
            return self._stitch(seen.cosines, seen.windows, size).rows
        planes = None
        for step in self._refining:
            at = size if getattr(step, 'at', 'output') == 'output' else seen.size
            if planes is None:
                planes = self._stitch(seen.cosines, seen.windows, at).rows(0, at[0])[None]
            image = interpolate(seen.image[None], size=at, mode='bilinear')
            planes = step(image, interpolate(planes, size=at, mode='bilinear'), context)
        (refined,) = interpolate(planes, size=size, mode='bilinear')
        return lambda first, last: refined[:, first:last]

    def _context(self, seen: Seen, size: tuple[int, int]) -> Context:
        def stitched() -> list[Tensor]:
            if seen.features is None or not seen.features.shape[2]:
                raise ValueError(
                    'expected a method that gives features, and needs_features of what asks for '
                    f'them, found {self.attention!r} and none kept'
                )
            grid = tuple(max(1, 2 * side // self.backbone.patch_size) for side in seen.size)
            return [self._stitch(seen.features, seen.windows, grid).rows(0, grid[0])]

        return Context(
            query_to_class=self.vocabulary.query_to_class,
            logit_scale=self.logit_scale,
            pixels=lambda: [self.backbone.to_pixels(seen.image)],
            features=stitched,
            text=lambda: self.text,
            words=self.vocabulary.queries,
            regions=lambda: [seen.regions.at(size)],
        )
