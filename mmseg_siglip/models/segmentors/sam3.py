"""Open-vocabulary segmentation by SAM 3, which was trained to find what a word names.

SAM 3, https://arxiv.org/abs/2511.16719.

Shapes: an image is (3, H, W), its output (H_o, W_o), the original size; Q query words, C classes;
SAM 3's masks (h, w), over the whole image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.device import at_once
from mmseg_siglip.models.labelling import CHUNK_BYTES, Labels, owners
from mmseg_siglip.models.sam.concepts import Concepts, SAM3Adapter
from mmseg_siglip.models.segmentors.open_vocabulary import OpenVocabularySegmentor
from mmseg_siglip.models.segmentors.parts import background_of
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.distinct import check_distinct
from mmseg_siglip.text.vocabulary import Vocabulary


def instances(found: Concepts) -> Tensor:
    """Scores times masks, added up: (N, h, w), above 1 where things overlap."""
    maps = [
        torch.einsum('m,mhw->hw', scores, masks.sigmoid())
        for scores, masks in zip(found.scores, found.masks, strict=True)
    ]
    return torch.stack(maps)


def semantic(found: Concepts) -> Tensor:
    """The mask of all that a word names together, times its presence: (N, h, w)."""
    return found.presence[:, None, None] * found.semantic.sigmoid()


READS = dict(
    instances=instances,
    semantic=semantic,
    both=lambda found: torch.maximum(instances(found), semantic(found)),
)
"""How evidence for words is read, by name."""


@MODELS.register_module()
class SAM3Segmentor(OpenVocabularySegmentor):
    """Label each pixel with the word whose things SAM 3 finds there.

    An image is encoded once, whole, and each word looked for in it. A word's evidence is the sum of
    its masks' probabilities, each times its score and the word's presence in the image; it is
    enlarged to the original size. A class takes the strongest of its words, as synonyms name the
    same things, and a pixel the strongest class. Of words that were looked at only the best at
    each pixel is kept, so that memory does not grow with their number.

    SAM 3 was trained on masks of concepts: a supervised second model, in the terms of training-free
    methods.

    Args:
        backbone: Configuration of a `SAM3Adapter`.
        vocabulary: A bundled name, a file, or a list of words (see `Vocabulary`). Each is asked for
            as it is; those of the background, too.
        read: What a word's evidence is: ``instances``, as above; ``semantic``, the mask that SAM 3
            gives to all that the word names together, times its presence; ``both``, the larger.
        prob_thd: Pixels whose best evidence is lower become background.
        background_index: The class that `prob_thd` refers to. By default, the one that the
            vocabulary marks.
        precision: Number format (see `mmseg_siglip.precision`).
        test_cfg: ``return_logits``, whether samples carry ``seg_logits``: the evidence, which is
            0 or more and, of overlapping instances, may exceed 1; ``scores`` stop at 1.
        data_preprocessor: Configuration. Mean and std come from the backbone.

    Raises:
        ValueError: A value is out of range, or two contradict each other.
    """

    training_free = supervised = True

    def __init__(
        self,
        backbone: Mapping,
        vocabulary: str | Sequence[str],
        *,
        read: str = 'instances',
        prob_thd: float = 0.0,
        background_index: int | None = None,
        precision: str = 'fp32',
        test_cfg: Mapping | None = None,
        data_preprocessor: Mapping | None = None,
    ) -> None:
        super().__init__(
            dict(dict(type='SAM3Adapter'), **backbone),
            templates='plain',
            precision=precision,
            data_preprocessor=data_preprocessor,
        )
        if not isinstance(self.backbone, SAM3Adapter):
            raise ValueError(
                f'SAM3Segmentor: expected a SAM3Adapter as backbone, '
                f'found {type(self.backbone).__name__}'
            )
        self.backbone.requires_grad_(False)
        if read not in READS:
            raise ValueError(f'read: expected one of {", ".join(READS)}, found {read!r}')
        unknown = set(test_cfg or {}) - {'return_logits'}
        if unknown:
            raise ValueError(f'test_cfg: unknown {sorted(unknown)}; expected return_logits')
        self.read, self.prob_thd = read, prob_thd
        self.test_cfg = dict(dict(return_logits=False), **(test_cfg or {}))
        self.set_vocabulary(vocabulary, background_index)

    def set_vocabulary(
        self, words: str | Sequence[str] | Vocabulary, background_index: int | None = None
    ) -> None:
        vocabulary = check_distinct(Vocabulary.load(words), self.backbone)
        thresholds = dict(prob_thd=self.prob_thd)
        background_index = background_of(vocabulary, background_index, thresholds=thresholds)
        self.vocabulary, self.background_index = vocabulary, background_index
        self.forget_text()

    @torch.no_grad()
    def embed(self) -> Tensor:
        """(Q, L, C), token by token, see `SAM3Adapter.encode_text`."""
        with autocast(self.precision, self.backbone.device):
            return self.backbone.encode_text(self.vocabulary.queries)

    def check_image(self, image: Tensor, name: str) -> None:
        """Refuse nothing: images of any size are stretched to SAM 3's."""

    def loss(self, inputs: Tensor, data_samples: list) -> dict:
        """Refuse: there is nothing to train.

        Raises:
            ValueError: Always.
        """
        raise ValueError('SAM3Segmentor is not trained: use tools/test.py, not tools/train.py')

    def extract_feat(self, inputs: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """The maps of each image that SAM 3 looks for words in, the finest first."""
        seen = (self.backbone.encode(self.backbone.to_pixels(image)) for image in inputs)
        return [found.fpn_hidden_states for found in seen]

    @torch.no_grad()
    def _forward(self, inputs: Sequence[Tensor], data_samples=None) -> list[Tensor]:
        """Evidence (Q, H, W) of each image, at the size it came in."""
        return [
            torch.cat([values for _, values in self.evidence(image, tuple(image.shape[-2:]))])
            for image in inputs
        ]

    def evidence(self, image: Tensor, size: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
        """What an image (3, H, W), normalised, says for some words after the others.

        Yields:
            Indices of words (N,), and their evidence (N, H_o, W_o) float32.
        """
        text, step = self.text, at_once(4 * size[0] * size[1], image.device, CHUNK_BYTES)
        with self.held.autocast(self, self.precision, image.device, 'encode'):
            seen = self.backbone.encode(self.backbone.to_pixels(image))
        indices = torch.arange(len(text), device=image.device)
        for words in indices.split(self.backbone.words_per_batch):
            with self.held.autocast(self, self.precision, image.device, 'find'):
                found = self.backbone.find(seen, text[words])
            maps = READS[self.read](found)
            for chosen, part in zip(words.split(step), maps.split(step), strict=True):
                yield chosen, interpolate(part[None], size, mode='bilinear')[0]

    def label(
        self,
        inputs: Sequence[Tensor],
        samples: Sequence[SegDataSample],
        sizes: Sequence[tuple[int, int]],
        *,
        return_scores: bool,
    ) -> Iterator[Labels]:
        for image, size in zip(inputs, sizes, strict=True):
            yield self._label(image, size, return_scores=return_scores)

    def _label(self, image: Tensor, size: tuple[int, int], *, return_scores: bool) -> Labels:
        owner = owners(self.vocabulary.query_to_class, image.device)
        best, labels = image.new_full(size, -1.0), owner.new_zeros(size)
        kept = self.test_cfg['return_logits']
        everything = image.new_zeros(len(self.vocabulary), *size) if kept else None
        finite = True
        for words, values in self.evidence(image, size):
            value, index = values.max(0)
            finite = finite & value.isfinite().all()
            better = value > best
            best = torch.where(better, value, best)
            labels = torch.where(better, owner[words][index], labels)
            if kept:
                classes = owner[words][:, None, None].expand_as(values)
                everything.scatter_reduce_(0, classes, values, 'amax')
        labels = self._doubt(best, labels)
        scores = best.clamp(max=1) if return_scores else None
        return Labels(labels, scores, everything, finite)

    def labels_of(self, probabilities: Tensor) -> Tensor:
        return self._doubt(*probabilities.max(dim=0))

    def _doubt(self, best: Tensor, labels: Tensor) -> Tensor:
        """Labels (H, W), background where the best evidence is too little."""
        if not self.prob_thd:
            return labels
        return labels.masked_fill(best < self.prob_thd, self.background_index)
