"""Your own photograph, your own words, three lines of Python.

    from mmseg_siglip.api import OpenVocabSegmenter

    segmenter = OpenVocabSegmenter.from_pretrained('ViT-B/16')
    segmenter('photo.jpg', 'cat, dog, grass').plot().save('photo_segmented.png')

Shapes: an image is (H, W); C classes; D joint channels; (h, w) the grid of patches.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.structures import SegDataSample
from torch import Tensor, no_grad

from mmseg_siglip.api.graphs import is_graph
from mmseg_siglip.api.images import as_tensor, read_images
from mmseg_siglip.api.segmentation import Segmentation
from mmseg_siglip.api.system import System
from mmseg_siglip.device import find_device
from mmseg_siglip.io.image import ImageLike, check_sides, check_tensor, read_image
from mmseg_siglip.later import Later
from mmseg_siglip.misspelt import check_options, did_you_mean
from mmseg_siglip.models.backbones.trunk import method_names
from mmseg_siglip.models.data_preprocessor import normalise
from mmseg_siglip.models.finite import doubts, fetch_sure
from mmseg_siglip.models.labelling import compact, merge_words
from mmseg_siglip.models.segmentors import OpenVocabularySegmentor, SCLIPSegmentor
from mmseg_siglip.registry import DENSE_METHODS, MODELS, SCOPE
from mmseg_siglip.text.vocabulary import BACKGROUND, Vocabulary
from mmseg_siglip.weights.json_file import MOST_LABELS

METHODS = tuple(method_names())
MOST_SHORT_SIDE = 4096
RESIZE = 1.5  # short side over the encoder's image size: 336 over 224, as SCLIP has it

Words = str | Path | Sequence[str] | Vocabulary
Background = str | Sequence[str] | bool | None


class OpenVocabSegmenter(System):
    """Segments images by words: labels and their probability for every pixel, a `Segmentation`.

    Args:
        model: The segmentor.
        short_side: Pixels to which the short side of an image is resized first; None leaves it.
        background_index: The class that stands for everything else, whatever the words are. By
            default, the one that they mark.

    Raises:
        ValueError: One of the two is out of range.

    Examples:
        >>> from mmseg_siglip.api import OpenVocabSegmenter
        >>> from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
        >>> image = generate(scene_seed('test', 0), size=(64, 96)).image  # or 'photo.jpg'
        >>> segmenter = OpenVocabSegmenter.from_pretrained('tiny_siglip_shapes', device='cpu')
        >>> found = segmenter(image, 'heart, crescent, brick|wall, grass')
        >>> found.labels.shape, found.classes
        ((64, 96), ('heart', 'crescent', 'brick', 'grass'))
        >>> segmenter(image, 'heart, brick', background=True, threshold=0.9).classes
        ('background', 'heart', 'brick')
        >>> segmenter.compute_dense_similarity(image, ['heart', 'brick']).shape
        torch.Size([2, 12, 18])
    """

    task, asks, kind = 'segment', 'words', OpenVocabularySegmentor
    gives = Segmentation
    told = 'short_side', 'background_index'

    def __init__(
        self,
        model: OpenVocabularySegmentor,
        *,
        short_side: int | None,
        background_index: int | None = None,
    ) -> None:
        self.short_side = whole_or_none(short_side, 'short_side', 1, MOST_SHORT_SIDE)
        self.background_index = whole_or_none(background_index, 'background_index', 0, MOST_LABELS)
        self.model = model.eval()
        self._prob_thd = model.prob_thd

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        method: str | Mapping = 'sclip',
        *,
        guide: str | Mapping | None = None,
        device: str | torch.device | None = None,
        precision: str = 'auto',
        short_side: int | None = None,
        background_index: int | None = None,
        revision: str | None = None,
        **options,
    ) -> OpenVocabSegmenter:
        """Build a segmenter on an encoder's weights.

        Args:
            source: Whatever `build_encoder` takes: an OpenAI or open_clip name, a transformers
                folder or Hub id, a file, or the name of a checkpoint that ships along. Or what
                `save_pretrained`, `export_onnx` or ``mmseg-siglip convert cat-seg`` wrote, a whole
                system, which takes no method, guide or options.
            method: One of `METHODS`, or its configuration, ``dict(type=one, ...)``.
            guide: Second model of a method that asks for one: a checkpoint of DINO, SAM or an
                encoder, see `build_guide`; the method's own by default.
            device: By default the GPU, if there is one.
            precision: See `mmseg_siglip.precision`.
            short_side: By default 1.5 times the encoder's image size.
            background_index: See `OpenVocabSegmenter`.
            revision: Commit of a Hub id.
            options: Further arguments of `SCLIPSegmentor`, but for its vocabulary.

        Raises:
            ValueError: No such method or option, no encoder there, a guide for a method without, or
                a vocabulary among the options.
        """
        graph = is_graph(source)
        saved = None if graph else cls.saved(source, revision=revision)
        if graph or saved is not None:
            if method != 'sclip' or guide or options or (graph and revision):
                raise ValueError(
                    f'{source}: expected neither method nor other options for a saved system'
                )
            told = dict(short_side=short_side, background_index=background_index)
            build, held = (cls._of_graph, source) if graph else (cls._of_saved, saved)
            return build(held, device=device, precision=precision, **told)
        if isinstance(method, str) and method not in method_names():
            raise ValueError(
                f'unknown method {method!r}; expected one of {", ".join(method_names())}'
                f'{did_you_mean(method, method_names())}'
            )
        if 'vocabulary' in options:
            raise ValueError(
                "vocabulary: expected words in the segmenter's call, "
                f'found {options["vocabulary"]!r} here'
            )
        check_options(
            options,
            cls.from_pretrained,
            SCLIPSegmentor,
            but=('source', 'backbone', 'vocabulary', 'attention'),
            what=f'{cls.__name__}.from_pretrained',
        )
        if guide is not None:
            method = guided_by(method, guide)
        device = find_device(device)
        description = dict(
            type='SCLIPSegmentor',
            backbone=dict(pretrained=str(source), revision=revision),
            vocabulary=[f'{BACKGROUND} object'],
            attention=method,
            **options,
        )
        with DefaultScope.overwrite_default_scope(SCOPE):
            model = MODELS.build(dict(description, precision=precision))
        side = short_side or round(RESIZE * min(model.backbone.image_size))
        system = cls(model.to(device), short_side=side, background_index=background_index)
        system.description = description
        return system

    @classmethod
    def _of_trained(
        cls,
        model: OpenVocabularySegmentor,
        config: Config,
        precision: str,
        *,
        short_side: int | None = None,
    ) -> OpenVocabSegmenter:
        """By default, images are resized as the config resizes test images, if it does."""
        model.precision = precision
        return cls(model, short_side=short_side or short_side_of(config))

    def check_prompt(self, prompt: Words | None) -> Vocabulary:
        """Words between commas, each a class, synonyms after ``|``; or a list, one class an item,
        synonyms after commas, too; or a vocabulary, its name or its file: see `split_words`."""
        vocabulary = Vocabulary.of_words(prompt)
        if vocabulary != self.model.vocabulary:
            self.use(vocabulary)
        return vocabulary

    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompt: Words | None = None,
        *,
        background: Background = None,
        threshold: float | None = None,
    ) -> Segmentation | list[Segmentation]:
        """Label each pixel of images with one of the words.

        Args:
            images: See `System.__call__`.
            prompt: Words, see `check_prompt`.
            background: Words that mean everything else, for pixels that no other word fits: a
                list, or a text with commas or ``|`` between them; True is the word "background".
                They are class 0, "background".
            threshold: Pixels whose label has a lower probability, 0 to 1, become background. By
                default the model's ``prob_thd``.

        Returns:
            One for one image, a list for a list.

        Raises:
            ValueError: As of `System.__call__`; or a threshold without a background, or of a model
                that sends no doubtful pixels there.
        """
        return self.begin(images, prompt, background=background, threshold=threshold)()

    def begin(
        self, images: ImageLike | Sequence[ImageLike], prompt: Words | None = None, **options
    ) -> Later[Segmentation | list[Segmentation]]:
        """See `System.begin`; the options are those of `__call__`."""
        vocabulary = self.use(prompt, **options)
        return super().begin(images, vocabulary, threshold=options.get('threshold'))

    def torch(
        self,
        images: Tensor | Sequence[Tensor],
        words: Words,
        *,
        background: Background = None,
        threshold: float | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Labels (H, W) int64 and scores (H, W) float32 in [0, 1] of each image, on the CPU."""
        return self._begin(images, words, background=background, threshold=threshold)()

    segment_torch = torch

    @no_grad()
    def _begin(
        self, images: Sequence[Tensor], words: Words, **options
    ) -> Later[list[tuple[Tensor, Tensor]]]:
        self.use(words, **options)
        images = [check_tensor(image) for image in images]
        inputs = [self._prepare(image) for image in images]
        samples = [SegDataSample(metainfo=dict(ori_shape=image.shape[-2:])) for image in images]
        with doubts(later=True) as held:
            self.model.predict(inputs, samples, return_scores=True)
        classes = len(self.model.vocabulary)
        labels = [compact(sample.pred_sem_seg.data[0], classes) for sample in samples]
        scores = [sample.scores.data[0] for sample in samples]

        def pairs(found: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
            half = len(found) // 2
            return [(found[i].long(), found[half + i]) for i in range(half)]

        return fetch_sure([*labels, *scores], held).then(pairs)

    @no_grad()
    def class_scores(
        self, images: ImageLike | Sequence[ImageLike], words: Words | None = None
    ) -> list[Tensor]:
        """The scores of all classes for every pixel, of which the highest is the label.

        Args:
            images: See `System.__call__`.
            words: See `check_prompt`; by default, those that are looked for already.

        Returns:
            (C, H, W) float32 in [0, 1] for each image, on the model's device.

        Raises:
            ValueError: See `System.__call__`; or the model has label steps, which change labels
                and no scores.
        """
        if getattr(self.model, 'label_steps', ()):
            raise ValueError('class_scores: expected a model without label_steps')
        if words is not None:
            self.use(words)
        tensors = [as_tensor(rgb) for rgb in read_images(images)]
        inputs = [self._prepare(image) for image in tensors]
        samples = [SegDataSample(metainfo=dict(ori_shape=image.shape[-2:])) for image in tensors]
        settings = self.model.test_cfg
        before, settings['return_logits'] = settings['return_logits'], True
        try:
            self.model.predict(inputs, samples)
        finally:
            settings['return_logits'] = before
        return [sample.seg_logits.data for sample in samples]

    def of_scores(self, rgb: np.ndarray, scores: Tensor) -> Segmentation:
        """The labels that class scores (C, H, W) give an image (H, W, 3)."""
        labels = self.model.labels_of(scores)
        found = scores.gather(0, labels[None])[0]
        return Segmentation(
            labels.cpu().numpy(), found.cpu().numpy(), self.model.vocabulary.names, rgb
        )

    def _result(
        self, rgb: np.ndarray, output: tuple[Tensor, Tensor], prompt: Vocabulary
    ) -> Segmentation:
        labels, scores = output
        return Segmentation(labels.numpy(), scores.numpy(), prompt.names, rgb)

    @no_grad()
    def compute_dense_similarity(self, image: ImageLike, class_names: Sequence[str]) -> Tensor:
        """Cosines between words and patches of the whole image, in one forward pass.

        Returns:
            (num_classes, H_feat, W_feat) float32 in [-1, 1]; of several words for one class, the
            highest.

        Raises:
            ValueError: The model was trained to look at cosines, and has none to show.
        """
        if not isinstance(self.model, SCLIPSegmentor):
            raise ValueError(
                'compute_dense_similarity: expected a segmenter made by from_pretrained, '
                f'found a {type(self.model).__name__}'
            )
        self.use(class_names)
        (cosines,) = self.model.whole_cosines([self._prepare(as_tensor(read_image(image)))])
        return merge_words(cosines, self.model.vocabulary.query_to_class).cpu()

    def use(
        self, words: Words, *, background: Background = None, threshold: float | None = None
    ) -> Vocabulary:
        """Look for these words from now on, see `__call__`."""
        vocabulary = Vocabulary.of_words(words, background=background)
        model, before = self.model, self.model.prob_thd
        wanted = self._prob_thd if threshold is None else self._check(threshold, vocabulary)
        if (vocabulary, wanted) != (model.vocabulary, before):
            model.prob_thd = wanted
            try:
                model.set_vocabulary(vocabulary, self.background_index)
            except ValueError:
                model.prob_thd = before
                raise
        return vocabulary

    def _check(self, threshold: float, vocabulary: Vocabulary) -> float | None:
        if self._prob_thd is None:
            raise ValueError(
                f'threshold: expected none, found {threshold}; a {type(self.model).__name__} sends '
                'no doubtful pixels to a background'
            )
        if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise ValueError(f'threshold: expected a probability, 0 to 1, found {threshold!r}')
        if threshold and vocabulary.background_index is None and self.background_index is None:
            raise ValueError(
                'threshold: expected a background, which gets the pixels below it; name its words '
                '(background), or mark one of the words [background]'
            )
        return threshold

    def _prepare(self, rgb: Tensor) -> Tensor:
        """(3, H, W) RGB, uint8 or float in [0, 1], resized and normalised, on the device."""
        check_sides(*rgb.shape[-2:], 'an image')
        return normalise(rgb, self.model.data_preprocessor, short_side=self.short_side)


def whole_or_none(value: int | None, name: str, least: int, most: int) -> int | None:
    """A whole number of that range, or None.

    Raises:
        ValueError: It is neither.
    """
    if value is not None and not (type(value) is int and least <= value <= most):
        raise ValueError(f'{name}: expected {least} to {most} or none, found {reprlib.repr(value)}')
    return value


def guided_by(method: str | Mapping, guide: str | Mapping) -> dict:
    """A method's configuration with a guide.

    Raises:
        ValueError: It asks for none.
    """
    config = dict(type=method) if isinstance(method, str) else dict(method)
    kind = DENSE_METHODS.get(config.get('type'))
    if kind is not None and not kind.uses_guide:
        raise ValueError(
            f'guide: expected a method that asks for one, such as proxyclip or corrclip, found '
            f'{config["type"]!r}'
        )
    return dict(config, guide=guide)


def short_side_of(config: Config) -> int | None:
    """What a config resizes the short side of its test images to, if it keeps their aspect."""
    for transform in config.test_dataloader.dataset.pipeline:
        if transform['type'] == 'Resize' and transform.get('keep_ratio'):
            return min(transform['scale'])
    return None
