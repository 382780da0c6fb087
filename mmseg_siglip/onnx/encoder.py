"""A graph where a segmentor expects an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from torch import Tensor, nn

from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.trunk import Method, Surroundings, Trunk
from mmseg_siglip.models.dense.method import DenseMethod
from mmseg_siglip.onnx.graph import Graph
from mmseg_siglip.weights.source import Source

LOGITS = (0.01, 1e4)
"""Factors on cosines that are taken for one."""


class GraphSides(VisionLanguageBackbone):
    """What a model on a graph asks of an encoder beside its network: sizes and statistics.

    Args:
        graph: Of any kind.
    """

    num_prefix = 0
    readouts = ('project',)
    tokenizer = None

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        facts = self.facts = graph.facts
        self.image_size, self.patch_size = facts.native, facts.patch
        self.mean, self.std = facts.mean, facts.std
        self.hidden_size = self.embed_dim = facts.channels
        self.register_buffer('graph_digest', graph.digest)

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return False

    def blocks(self) -> list:
        """None: they are in the graph."""
        return []

    def refuse_inside(self, *_: object, **__: object) -> NoReturn:
        """Refuse what only an encoder in torch can do.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            'expected an encoder in torch, found an ONNX graph, of which nothing inside can be '
            'asked for'
        )

    embed = norm = project = summary = pool = refuse_inside
    forward = forward_intermediates = encode_image = refuse_inside
    unread = vision_parts = pooling_parts = towers = drop_pooling = refuse_inside
    encode_text = encode_text_tokens = token_rows = project_text = refuse_inside


class ONNXEncoder(GraphSides):
    """Patch features that a `Graph` computes, and the words that were written into it.

    Args:
        graph: Of the kind ``dense``.

    Raises:
        ValueError: It is of another kind, or damaged.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        facts = graph.facts
        scale, normalise = facts.own.get('logit_scale'), facts.own.get('normalise')
        if graph.words is None:
            raise ValueError(f'{graph.path}: expected a dense graph, found a {facts.kind} one')
        if type(scale) not in (int, float) or not LOGITS[0] <= scale <= LOGITS[1]:
            raise ValueError(f'{graph.path}: expected a logit_scale of a graph, found {scale!r}')
        if type(normalise) is not bool:
            raise ValueError(f'{graph.path}: expected normalise of a graph, found {normalise!r}')
        self.graph, self.scale = graph, float(scale)
        self.words = nn.Parameter(graph.words, requires_grad=False)
        self.rows = {word: row for row, word in enumerate(facts.queries)}
        self.method = self.method_for('')

    def method_for(self, attention: object) -> Method:
        """The method that the graph was written with, whatever is asked for."""
        return ExportedMethod(normalise=self.graph.facts.own['normalise'])

    def trunk(
        self, images: Tensor, *, surroundings: Surroundings | None = None, **reading: str | None
    ) -> Trunk:
        return Trunk(self, images, surroundings=surroundings)

    def compute(self, images: Tensor) -> Tensor:
        """(B, 3, H, W), normalised, of any size, to features (B, D, h, w)."""
        return self.graph(self.graph.fit(images), 'features').to(images.device)

    @property
    def logit_scale(self) -> float:
        return self.scale

    @property
    def logit_bias(self) -> float:
        return 0.0

    def refuse_words(self, words: Sequence[str]) -> None:
        """Refuse words that are not in the graph.

        Raises:
            ValueError: One is not.
        """
        for word in words:
            if word not in self.rows:
                self.refuse(f'words of the graph ({some(list(self.rows))})', repr(word))

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """(n, D), unit length.

        Raises:
            ValueError: See `refuse_words`.
        """
        self.refuse_words(words)
        return self.words[[self.rows[word] for word in words]]

    def refuse(self, expected: str, found: str) -> NoReturn:
        raise ValueError(
            f'{self.graph.path}: expected {expected}, found {found}; `mmseg-siglip export-onnx` '
            'writes a graph with others'
        )


class ExportedMethod(DenseMethod):
    """Whatever dense method a graph was written with.

    Args:
        normalise: See `DenseMethod`.
    """

    gives = 'features'

    def __init__(self, *, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, trunk: Trunk) -> Tensor:
        return trunk.encoder.compute(trunk.images)


def some(words: Sequence[str], most: int = 8) -> str:
    """Words for people: the first, and how many there are."""
    shown = ', '.join(words[:most])
    return shown if len(words) <= most else f'{shown} and {len(words) - most} more'
