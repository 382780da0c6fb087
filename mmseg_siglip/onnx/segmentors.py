"""Segmentors whose networks are graphs; windows, words, refinement and labels are torch's own.

Shapes: B images (3, H, W), T classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmseg_siglip.models.segmentors import CATSegSegmentor, SCLIPSegmentor
from mmseg_siglip.models.segmentors.cat_seg import check_choices
from mmseg_siglip.models.segmentors.open_vocabulary import OpenVocabularySegmentor
from mmseg_siglip.models.windows.views import check_views
from mmseg_siglip.onnx.encoder import GraphSides, ONNXEncoder, some
from mmseg_siglip.onnx.graph import Graph
from mmseg_siglip.text.vocabulary import Vocabulary

PLAIN = 'plain'  # sentences around words are in the graph's embeddings


class ONNXSegmentor(SCLIPSegmentor):
    """An `SCLIPSegmentor` on a graph: it looks for any of the words that the graph knows.

    Args:
        graph: Of the kind ``dense``.
        options: Arguments of `SCLIPSegmentor` that the graph does not settle, see `DensePart`.

    Raises:
        ValueError: A value is out of range, or the graph does not know one of the words.
    """

    def __init__(self, graph: Graph, **options: Any) -> None:
        index = graph.facts.own.get('background')
        if index is not None and not (type(index) is int and 0 <= index < len(graph.facts.words)):
            raise ValueError(f'{graph.path}: expected a class as background, found {index!r}')
        super().__init__(
            dict(type=ONNXEncoder, graph=graph),
            Vocabulary(graph.facts.words, index),
            templates=PLAIN,
            attention='',
            **options,
        )

    def set_vocabulary(
        self, words: str | Sequence[str] | Vocabulary, background_index: int | None = None
    ) -> None:
        vocabulary = Vocabulary.load(words)
        self.backbone.refuse_words(vocabulary.queries)
        super().set_vocabulary(vocabulary, background_index)

    def _embed_words(self, words: Sequence[str]) -> Tensor:
        return self.backbone.embed_words(words)


class ONNXCATSegSegmentor(CATSegSegmentor):
    """A `CATSegSegmentor` on a graph: it looks for the words that the graph was written for, which
    see each other in it, so that there are no fewer and no others.

    Args:
        graph: Of the kind ``cat_seg``.
        synonyms, encoder_size, interpolation, antialias, test_cfg, data_preprocessor: See
            `CATSegSegmentor`.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        synonyms: str = 'first',
        encoder_size: Sequence[int] | None = None,
        interpolation: str = 'bilinear',
        antialias: bool = False,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:
        OpenVocabularySegmentor.__init__(
            self,
            dict(type=GraphSides, graph=graph),
            templates=PLAIN,
            precision='fp32',
            data_preprocessor=data_preprocessor,
        )
        check_choices(synonyms, interpolation)
        self.graph, self.synonyms = graph, synonyms
        self.encoder_size = tuple(encoder_size) if encoder_size else None
        self.interpolation, self.antialias = interpolation, antialias
        self.test_cfg = check_views(test_cfg or {}, self.encoder_size or graph.facts.native)
        self.set_vocabulary(Vocabulary(graph.facts.words))

    def set_vocabulary(
        self, words: str | Sequence[str] | Vocabulary, background_index: int | None = None
    ) -> None:
        vocabulary = Vocabulary.load(words)
        known = self.graph.facts.words
        if vocabulary.classes != known:
            raise ValueError(
                f'{self.graph.path}: expected the {len(known)} classes that the graph was written '
                f'for, in their order ({some([names[0] for names in known])}), found '
                f'{some(vocabulary.names)}; `mmseg-siglip export-onnx` writes a graph with others'
            )
        super().set_vocabulary(vocabulary, background_index)
        if len(self.query_to_class) != self.graph.facts.channels:
            raise ValueError(
                f'{self.graph.path}: expected {len(self.query_to_class)} logits for its words, '
                f'found {self.graph.facts.channels}'
            )

    def forget_text(self) -> None:
        self._text = None

    def embed(self) -> Tensor:
        """(T, 0): nothing that the graph does not hold."""
        return torch.zeros(self.graph.facts.channels, 0)

    def looks_at_all(self, words: int) -> bool:
        """What the graph drops is not known before it has run."""
        return False

    def logits(self, images: Tensor, text: Tensor, *, max_classes: int | None = None) -> Tensor:
        """(B, 3, H, W) to (B, T, s*h, s*w); the rest is settled by the graph."""
        return self.graph(images)
