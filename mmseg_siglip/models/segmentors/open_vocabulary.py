"""What the segmentors have in common that look for words.

Shapes: B images (3, H, W) of any sizes, their outputs (H_o, W_o); C classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import torch
from mmengine.structures import PixelData
from mmseg.models import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmseg_siglip.kept import to_be_kept
from mmseg_siglip.models.finite import doubts
from mmseg_siglip.models.held_weights import HeldWeights
from mmseg_siglip.models.labelling import Labels
from mmseg_siglip.models.segmentors.parts import (
    build_backbone,
    build_preprocessor,
    check_finite,
    check_precision,
    flipped_axes,
)
from mmseg_siglip.text.class_colours import class_colours
from mmseg_siglip.text.templates import get_templates
from mmseg_siglip.text.text_bank import text_bank
from mmseg_siglip.text.vocabulary import Vocabulary


class OpenVocabularySegmentor(BaseSegmentor):
    """Gives each pixel one of the classes of a vocabulary that may change at any time.

    Args:
        backbone: Configuration of an encoder. Without ``type``, the kind is found from what
            ``pretrained`` holds.
        templates: A named set or a list of sentences (see `get_templates`).
        precision: Number format of prediction.
        data_preprocessor: Configuration. Mean and std come from the encoder.

    Attributes:
        training_free: Whether an encoder's weights are all that it needs.
        words_option: The argument that holds the words of prediction, in a configuration.
        vocabulary: What is looked for.
        prob_thd: Pixels whose best probability is lower become background; None where a model
            sends none there.
        dataset_meta: Its classes and their colours; what MMSeg's inferencers put there, the classes
            of a training, is not taken.
    """

    training_free = False
    words_option = 'vocabulary'
    vocabulary: Vocabulary
    prob_thd: float | None = None

    def __init__(
        self,
        backbone: Mapping,
        *,
        templates: str | Sequence[str],
        precision: str,
        data_preprocessor: Mapping | None,
    ) -> None:
        encoder = build_backbone(backbone)
        super().__init__(data_preprocessor=build_preprocessor(data_preprocessor, encoder))
        self.backbone = encoder
        self.templates = get_templates(templates)
        self.precision, self.held = check_precision(precision), HeldWeights()
        self.register_buffer('_text', None, persistent=False)
        self.register_buffer('_bank', None, persistent=False)
        self.register_load_state_dict_pre_hook(refuse_others)
        self.register_load_state_dict_post_hook(lambda *_: self.forget_text())

    @property
    def dataset_meta(self) -> dict[str, list]:
        names = list(self.vocabulary.names)
        return dict(classes=names, palette=class_colours(names).tolist())

    @dataset_meta.setter
    def dataset_meta(self, given: Mapping) -> None:
        """Nothing: words may change, and a checkpoint knows only those of its training."""

    @property
    def takes_many(self) -> bool:
        """Whether many images of a `predict` take no more memory than one, labels apart, as their
        windows pass in batches of their own."""
        return not self.test_cfg['return_logits']

    @abstractmethod
    def set_vocabulary(
        self, words: str | Sequence[str] | Vocabulary, background_index: int | None = None
    ) -> None:
        """Change what is looked for; embeddings follow at the next prediction.

        Args:
            words: A bundled name, a file, or a list (see `Vocabulary`).
            background_index: The class that doubtful pixels go to. By default, the one that the
                vocabulary marks.

        Raises:
            ValueError: The words or the background are not usable.
        """

    def forget_text(self) -> None:
        self._text = self._bank = None

    @property
    def text(self) -> Tensor:
        """Embeddings of the words, computed once for unchanged weights."""
        if self._text is None:
            with to_be_kept():
                self._text = self.embed()
        return self._text

    @property
    def bank(self) -> Tensor:
        """Embeddings of the words in each template alone, (Q, T, D), computed likewise."""
        if self._bank is None:
            queries, templates = self.vocabulary.queries, self.templates
            with to_be_kept():
                self._bank = text_bank(
                    self.backbone, queries, templates, precision=self.precision, each=True
                )
        return self._bank

    @abstractmethod
    def embed(self) -> Tensor:
        """Embeddings of the words."""

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
            (1, H_o, W_o) float32, the probability of that label, and, by
            ``test_cfg.return_logits``, ``seg_logits`` (C, H_o, W_o) float32, the probabilities of
            all classes. Their ``num_classes`` and ``vocabulary`` let a metric notice a dataset of
            another size or order.

        Raises:
            ValueError: An image is smaller than one patch, or what a label goes by is no number.
        """
        samples = [SegDataSample() for _ in inputs] if data_samples is None else data_samples
        sizes = []
        for image, sample in zip(inputs, samples, strict=True):
            self.check_image(image, sample.metainfo.get('img_path', 'image'))
            sizes.append(tuple(sample.metainfo.get('ori_shape', image.shape[-2:])[:2]))
        results, finite = self.label(inputs, samples, sizes, return_scores=return_scores), []
        with doubts():
            for sample, found in zip(samples, results, strict=True):
                axes = flipped_axes(sample)
                fields = dict(pred_sem_seg=found.labels[None], seg_logits=found.probabilities)
                if return_scores:
                    fields['scores'] = found.scores[None]
                for name, data in fields.items():
                    if data is not None:
                        sample.set_data({name: PixelData(data=data.flip(axes))})
                words = self.vocabulary
                sample.set_metainfo(dict(num_classes=len(words), vocabulary=words))
                finite.append(found.finite)
            check_finite(finite, samples, self.precision)
        return samples

    @abstractmethod
    def label(
        self,
        inputs: Sequence[Tensor],
        samples: Sequence[SegDataSample],
        sizes: Sequence[tuple[int, int]],
        *,
        return_scores: bool,
    ) -> Iterator[Labels]:
        """What the pixels of each image (3, H, W) get, at its output size (H_o, W_o).

        Args:
            inputs: The images.
            samples: Of each; it may bring along more than the picture.
            sizes: Of each output.
            return_scores: Whether the labels' probabilities are wanted.
        """

    def labels_of(self, probabilities: Tensor) -> Tensor:
        """Labels (H, W) by probabilities (C, H, W), such as a mean over several views."""
        return probabilities.argmax(0)

    def check_image(self, image: Tensor, name: str) -> None:
        """Refuse an image (3, H, W) that is smaller than one patch.

        Raises:
            ValueError: It is; the sentence begins with `name`.
        """
        patch, size = self.backbone.patch_size, tuple(image.shape[-2:])
        if min(size) < patch:
            raise ValueError(
                f'{name}: expected at least one patch ({patch}x{patch} pixels), '
                f'found {size[0]}x{size[1]} (height x width)'
            )

    def encode_decode(self, inputs: Sequence[Tensor], batch_img_metas: list[dict]) -> list[Tensor]:
        """MMSeg's name for `_forward`."""
        return self._forward(inputs)


class OtherWeights(RuntimeError, ValueError):
    """Weights of another model: what torch raises of some that do not fit, and a user's mistake."""


def refuse_others(model: nn.Module, weights: Mapping[str, Tensor], prefix: str, *_) -> None:
    """Refuse weights none of which are the model's, which MMEngine passes over.

    Raises:
        OtherWeights: They are an encoder's, or another model's.
    """
    if weights and not prefix and not weights.keys() & model.state_dict().keys():
        raise OtherWeights(
            f'expected weights of a {type(model).__name__}, found {len(weights)} tensors such as '
            f"{next(iter(weights))}, none of them its own; an encoder's are "
            'model.backbone.pretrained of a config'
        )
