"""Trained open-vocabulary segmentation: CAT-Seg on CLIP, SigLIP and SigLIP 2.

CAT-Seg, https://arxiv.org/abs/2303.11797; with SigLIP 2, https://arxiv.org/abs/2502.14786.

Shapes: B images (3, H, W), T words, P prompts a word, C classes, D joint channels, grid (h, w).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from mmseg.structures import SegDataSample
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.kept import to_be_kept
from mmseg_siglip.models.backbones.trunk import method_name
from mmseg_siglip.models.compiled import compilable
from mmseg_siglip.models.finetune import choose_trainable, text_trains
from mmseg_siglip.models.labelling import Labels, label_views
from mmseg_siglip.models.segmentors.open_vocabulary import OpenVocabularySegmentor
from mmseg_siglip.models.windows.stream import in_batches
from mmseg_siglip.models.windows.views import Views, check_views
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.distinct import check_distinct
from mmseg_siglip.text.vocabulary import Vocabulary
from mmseg_siglip.text.word_features import SYNONYMS, word_features

INTERPOLATIONS = ('bilinear', 'bicubic')


@MODELS.register_module()
class CATSegSegmentor(OpenVocabularySegmentor):
    """Asks of every word at every pixel whether it is there, by a head on image-text cosines.

    Args:
        backbone: See `OpenVocabularySegmentor`.
        decode_head: Configuration of a `CATSegHead`; its widths are filled in from the backbone.
        vocabulary: The training masks' classes: a bundled name, a file, or a list (see
            `Vocabulary`). An index in the masks is an index in it.
        test_vocabulary: What is looked for in prediction; `vocabulary` if not given. See
            `set_vocabulary`.
        templates: See `OpenVocabularySegmentor`.
        synonyms: What becomes of a class's further words: ``first``, they are left out, as in
            CAT-Seg's code; ``mean``, averaged; ``max``, each is looked for, and the class has the
            best. Training with ``max`` takes the first, too.
        attention: A dense method that sees one window at a time and gives tokens, its name or
            ``dict(type=name, ...)``; see `mmseg_siglip.models.dense`. By default ``value_cls``
            where the encoder's last block is what pools, as of CLIP and as published, and
            ``vanilla`` where a pooling head follows, as of SigLIP.
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
        test_cfg: See `check_views`.
        data_preprocessor: Configuration. Mean and std come from the backbone.
        train_cfg: Not used; MMSegmentation's configs have it.

    Raises:
        ValueError: A value is out of range, or two contradict each other.
    """

    words_option = 'test_vocabulary'

    def __init__(
        self,
        backbone: Mapping,
        decode_head: Mapping,
        vocabulary: str | Sequence[str],
        *,
        test_vocabulary: str | Sequence[str] | None = None,
        templates: str | Sequence[str] = 'cat_seg',
        synonyms: str = 'first',
        attention: str | Mapping | None = None,
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
        super().__init__(
            backbone,
            templates=templates,
            precision=precision,
            data_preprocessor=data_preprocessor,
        )
        check_choices(synonyms, interpolation)
        self.synonyms, backbone = synonyms, self.backbone
        pools = bool(backbone.pooling_parts())
        self.method = backbone.method_for(attention or ('vanilla' if pools else 'value_cls'))
        method = self.method
        options = attention if isinstance(attention, Mapping) else {}
        self.attention = dict(options, type=method_name(method))
        if method.prepares or method.scope != 'window' or method.gives != 'tokens':
            raise ValueError(
                'attention: expected a method that sees one window at a time and gives tokens, '
                f'found {method_name(self.method)!r}'
            )
        self.readout = backbone.check_readout(readout or ('map' if pools else backbone.readouts[0]))
        self.guidance_blocks = check_blocks(guidance_blocks, backbone.num_layers)
        self.encoder_size = tuple(encoder_size) if encoder_size else None
        self.interpolation, self.antialias = interpolation, antialias
        choose_trainable(backbone, finetune, towers=towers)
        for part in backbone.unread(self.method, readout=self.readout):
            part.requires_grad_(False)
        self.decode_head = MODELS.build(
            dict(
                in_channels=backbone.hidden_size,
                embed_dim=backbone.embed_dim,
                num_prompts=len(self.templates),
            )
            | dict(decode_head)
        )
        self.test_cfg = check_views(test_cfg or {}, self.encoder_size or backbone.image_size)
        self.train_vocabulary = check_distinct(Vocabulary.load(vocabulary), self.backbone)
        self.register_buffer('_train_text', None, persistent=False)
        self.set_vocabulary(vocabulary if test_vocabulary is None else test_vocabulary)

    @property
    def learnt_with(self) -> tuple[str, ...]:
        guided = self.decode_head.decoder is not None
        return 'attention', 'readout', *(('guidance_blocks',) if guided else ())

    def set_vocabulary(
        self, words: str | Sequence[str] | Vocabulary, background_index: int | None = None
    ) -> None:
        if background_index is not None:
            raise ValueError(
                f'background_index: expected None, found {background_index}; a CATSegSegmentor '
                'sends no doubtful pixels to a background'
            )
        vocabulary = Vocabulary.load(words)
        place = vocabulary.background_index
        if self.synonyms == 'first' and place is not None and len(vocabulary.classes[place]) > 1:
            first, *others = vocabulary.classes[place]
            raise ValueError(
                f'background: expected one word, found {first!r} and {len(others)} more, which a '
                "CATSegSegmentor with synonyms='first' leaves out; use 'mean' or 'max'"
            )
        self.vocabulary = check_distinct(vocabulary, self.backbone)
        self._text = None

    set_classes = set_vocabulary

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

    def embed(self) -> Tensor:
        """(T, P, D), each prompt of each word, unit length."""
        return self._words(self.vocabulary, self.synonyms)

    @property
    def train_text(self) -> Tensor:
        """(C, P, D), the training classes, with gradients where the text tower trains."""
        synonyms = 'first' if self.synonyms == 'max' else self.synonyms
        if text_trains(self.backbone):
            return self._words(self.train_vocabulary, synonyms)
        if self._train_text is None:
            with to_be_kept():
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

    @compilable
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

    def check_image(self, image: Tensor, name: str) -> None:
        if self.encoder_size is None and self.test_cfg['image_size'] is None:
            super().check_image(image, name)

    def looks_at_all(self, words: int) -> bool:
        """Whether the head drops none of that many words; if it may, labels wait to see which."""
        return self.decode_head.aggregator.count_kept(words, self.test_cfg['max_classes']) == words

    def label(
        self,
        inputs: Sequence[Tensor],
        samples: Sequence[SegDataSample],
        sizes: Sequence[tuple[int, int]],
        *,
        return_scores: bool,
    ) -> Iterator[Labels]:
        views = [Views.of(image, self.test_cfg) for image in inputs]
        results = self._view_logits([image for own in views for image in own.images])
        everything = self.looks_at_all(len(self.text))
        for own, size in zip(views, sizes, strict=True):
            logits = torch.stack([next(results) for _ in own.images])
            yield label_views(
                lambda words, own=own, logits=logits, size=size: own.probabilities(
                    logits[:, words], size
                ),
                logits,
                size,
                self.query_to_class,
                cells=own.cells(size),
                all_looked=everything,
                return_probabilities=self.test_cfg['return_logits'],
            )

    def _view_logits(self, images: Sequence[Tensor]) -> Iterator[Tensor]:
        """Logits (T, ...) of each view, in turn; views of one size share forward passes."""
        text, limit = self.text, self.test_cfg['max_classes']
        resized = (self.resize(image[None])[0] for image in images)
        for batch in in_batches(resized, self.test_cfg['window_batch']):
            with self.held.autocast(self, self.precision, text.device):
                logits = self.logits(torch.stack(batch), text, max_classes=limit)
            yield from logits.float()


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


def check_choices(synonyms: str, interpolation: str) -> None:
    """Raises: ValueError: One of them is no such name."""
    for name, value, allowed in (
        ('synonyms', synonyms, SYNONYMS),
        ('interpolation', interpolation, INTERPOLATIONS),
    ):
        if value not in allowed:
            raise ValueError(f'{name}: expected one of {", ".join(allowed)}, found {value!r}')
