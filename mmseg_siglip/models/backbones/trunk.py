"""What a dense method sees of a batch of images in an encoder, computed when it is asked for.

Blocks are counted from 0; negatives count from the last. Shapes: B images or windows (H, W), grid
(h, w), N = P + h*w tokens, C channels, H heads, Q query words, D joint channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from mmseg_siglip.misspelt import did_you_mean
from mmseg_siglip.models.backbones.block import Block, Residual, run_block
from mmseg_siglip.models.backbones.planes import Dense
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.precision import autocast
from mmseg_siglip.registry import DENSE_METHODS

if TYPE_CHECKING:
    from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
    from mmseg_siglip.models.backbones.site import PoolingHead, Site
    from mmseg_siglip.text.vocabulary import Vocabulary


NO_REGIONS = (
    'expected the regions of the image: load them by the transform LoadRegions, or name what finds '
    "them in the segmentor's regions"
)
NO_WORDS = 'expected words, which a segmentor has and an encoder has not'


class Method(Protocol):
    """What an encoder asks of a dense method; see `mmseg_siglip.models.dense.DenseMethod`."""

    residual: Residual
    ffn: bool
    reads: str
    scope: Literal['window', 'image']
    gives: Literal['tokens', 'features', 'cosines']
    sites: Sequence[str]
    site: str
    normalise: bool
    uses_regions: bool
    refiners: Sequence[nn.Module]
    pools: bool
    prepares: bool
    scores: bool
    whole: bool
    windows: bool

    def check(self, encoder: VisionLanguageBackbone) -> None: ...

    def prepare(self, pixels: Tensor) -> Any: ...

    def mix(self, q: Tensor, k: Tensor, v: Tensor, trunk: Trunk) -> Tensor: ...

    def __call__(self, trunk: Trunk) -> Tokens | Dense: ...


def build_method(spec: str | dict | Method) -> Method:
    """A dense method by its name, by ``dict(type=name, ...)``, or itself.

    Raises:
        ValueError: No method has that name.
    """
    if not isinstance(spec, (str, dict)):
        return spec
    config = dict(type=spec) if isinstance(spec, str) else dict(spec)
    if config.get('type') not in method_names():
        raise ValueError(
            f'unknown attention {config.get("type")!r}; expected one of {", ".join(method_names())}'
            f'{did_you_mean(config.get("type"), method_names())}'
        )
    return DENSE_METHODS.build(config)


def method_names() -> list[str]:
    """The names of all dense methods, those of one method side by side."""
    DENSE_METHODS.import_from_location()
    return list(DENSE_METHODS.module_dict)


def block_positions(blocks: Sequence[int], count: int, name: str = 'blocks') -> tuple[int, ...]:
    """Positions from 0 of blocks that may be counted from the end.

    Raises:
        ValueError: One is not among the encoder's `count` blocks; `name` says who asked.
    """
    for block in blocks:
        if not -count <= block < count:
            raise ValueError(
                f'{name}: expected blocks from {-count} to {count - 1}, found {block}; '
                f'the encoder has {count} blocks'
            )
    return tuple(block % count for block in blocks)


def method_name(method: Method) -> str:
    """The first of a method's names, or that of its class where it is not registered."""
    named = DENSE_METHODS.module_dict.items()
    return next((name for name, kind in named if kind is type(method)), type(method).__name__)


@dataclass(frozen=True)
class View:
    """Where one element of a batch comes from.

    Attributes:
        image: Index of its image.
        box: (top, left, height, width) in it, pixels.
        prepared: What the method's ``prepare`` made of the whole image.
        regions: Its part of the image's regions: (height, width) int64, 0 is none, or where they
            overlap (M, height, width) bool.
    """

    image: int
    box: tuple[int, int, int, int]
    prepared: Any = None
    regions: Tensor | None = None


@dataclass(frozen=True)
class Surroundings:
    """What a segmentor knows and an encoder does not.

    Attributes:
        views: One for each element of the batch.
        text: Gives (Q, D), unit length.
        embed: Gives any words as `text` gives those looked for, (n, D), unit length.
        logit_scale: Factor on cosines; the encoder's if None.
        batch: Most windows that pass through a block at once; None for all.
        readout: How tokens are projected; the encoder's setting if None.
        site: Which attention a method replaces, see `mmseg_siglip.models.backbones.site`.
        vocabulary: The words and their classes; without it each word is a class.
        bank: Gives (Q, T, D), each word in each template alone, unit length.
    """

    views: Sequence[View] = ()
    text: Callable[[], Tensor] | None = None
    embed: Callable[[Sequence[str]], Tensor] | None = None
    logit_scale: float | None = None
    batch: int | None = None
    readout: str | None = None
    site: str = 'trunk'
    vocabulary: Vocabulary | None = None
    bank: Callable[[], Tensor] | None = None


class Opened:
    """A block as it is, whose `parts`, queries, keys and values, stay when it has run."""

    residual = ffn = True
    parts: tuple[Tensor, Tensor, Tensor] | None = None

    def mix(self, *parts: Any) -> Tensor:
        *self.parts, trunk = parts
        return trunk.encoder.attend(*self.parts)


class Trunk:
    """A batch of images on its way through an encoder's blocks.

    A block's output is computed from the nearest one that is held: the embedding, every output that
    was asked for, and those in `keep`. Ask in rising order, and no block runs twice.

    Args:
        encoder: The encoder.
        images: (B, 3, H, W), normalised.
        embedded: What stands for their embedding, such as a part of it.
        keep: Blocks whose outputs will be asked for once later ones are there.
        surroundings: See `Surroundings`.

    Attributes:
        prefix: P.
        blocks: The encoder's.
        notes: What a method's ``forward`` leaves for its ``score``.
    """

    def __init__(
        self,
        encoder: VisionLanguageBackbone,
        images: Tensor,
        *,
        embedded: Tokens | None = None,
        keep: Sequence[int] = (),
        surroundings: Surroundings | None = None,
    ) -> None:
        self.encoder, self.images = encoder, images
        self.blocks: list[Block] = encoder.blocks()
        self.prefix = encoder.num_prefix
        self.notes: dict[str, Any] = {}
        self.surroundings = surroundings or Surroundings()
        self._embedded = embedded
        self._keep = set(keep)
        self._held: dict[int, Tensor] = {}
        self._open: dict[int, Opened] = {}

    @property
    def embedded(self) -> Tokens:
        """The tokens in front of the first block."""
        if self._embedded is None:  # no cached_property, whose lock torch.compile cannot follow
            self._embedded = self.encoder.tokens(self.images)
        return self._embedded

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w)."""
        return self.embedded.grid

    def look(self, images: Tensor) -> Trunk:
        """The same encoder and words on other pictures (b, 3, H', W'), normalised."""
        return Trunk(self.encoder, images, surroundings=replace(self.surroundings, views=()))

    def parts(self) -> Iterator[Trunk]:
        """The same, no more than `Surroundings.batch` elements at a time."""
        known = self.surroundings
        step = known.batch or len(self.images)
        for first in range(0, len(self.images), step):
            some = slice(first, first + step)
            surroundings = replace(known, views=known.views[some])
            yield Trunk(self.encoder, self.images[some], surroundings=surroundings)

    def keep(self, blocks: Sequence[int]) -> None:
        """Hold the outputs of `blocks`, see `Trunk`."""
        self._keep.update(map(self.index, blocks))

    def open(self, blocks: Sequence[int]) -> None:
        """Hold the queries, keys and values by which `blocks` will run, see `opened`."""
        self.keep([block - 1 for block in map(self.index, blocks) if block])
        if not (self.encoder.with_cp and torch.is_grad_enabled()):
            self._open.update({self.index(block): Opened() for block in blocks})

    def index(self, block: int) -> int:
        """A block's position from 0; see `block_positions`."""
        return block_positions([block], len(self.blocks))[0]

    def output(self, block: int) -> Tensor:
        """What `block` gives, (B, N, C)."""
        return self._after(self.index(block))

    def input(self, block: int) -> Tensor:
        """What `block` takes, (B, N, C)."""
        return self._after(self.index(block) - 1)

    def _after(self, last: int) -> Tensor:
        self._held.setdefault(-1, self.embedded.x)
        if last not in self._held:
            start = max(held for held in self._held if held < last)
            x = self._held[start]
            for i in range(start + 1, last + 1):
                x = self.run(i, x, self._open[i]) if i in self._open else self.run(i, x)
                if i in self._keep:
                    self._held[i] = x
            self._held[last] = x
        return self._held[last]

    def opened(self, block: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, N, d) of `block` for its own input."""
        held = self._open.get(self.index(block))
        return held.parts if held and held.parts else self.qkv(block, self.input(block))

    def attention(self, block: int) -> Tensor:
        """The softmaxed map of `block`, (B, H, N, N); computed at each call."""
        q, k, _ = self.qkv(block, self.input(block))
        return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)

    def qkv(self, block: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, N, d) of `block` for an input (B, N, C) of it."""
        part = self.blocks[self.index(block)]
        return part.qkv(part.norm(x), self.grid)

    def run(self, block: int, x: Tensor, method: Method | Opened | None = None) -> Tensor:
        """(B, N, C) through `block`, with its own attention or that of `method`."""
        part = self.blocks[self.index(block)]

        def call(x: Tensor) -> Tensor:
            if method is None:
                return run_block(part, x, self.encoder.attend, grid=self.grid)
            return run_block(
                part,
                x,
                lambda q, k, v: method.mix(q, k, v, self),
                grid=self.grid,
                residual=method.residual,
                ffn=method.ffn,
            )

        if self.encoder.with_cp and torch.is_grad_enabled():
            return checkpoint(call, x, use_reentrant=False)
        batch = self.surroundings.batch
        if batch is None or len(x) <= batch or method is not None:
            return call(x)
        return torch.cat([call(part) for part in x.split(batch)])

    @property
    def last(self) -> Site:
        """The attention that a method replaces; see `mmseg_siglip.models.backbones.site`."""
        return self.encoder.site_of(self)

    @property
    def head(self) -> PoolingHead | None:
        """The attention pooling head over the trunk as it was trained, where there is one."""
        return self.encoder.head_of(self)

    @property
    def pooled(self) -> Tensor:
        """The encoder's own vector of each element, (B, D), not normalised."""
        return self.encoder.pool(self.output(-1))

    def project(self, tokens: Tokens) -> Tensor:
        """Tokens into the joint space, (B, D, h, w), not normalised."""
        return self.encoder.project(tokens, readout=self.surroundings.readout)

    @property
    def pixels(self) -> Tensor:
        """The images as RGB in [0, 1], (B, 3, H, W), for a second model."""
        return self.encoder.to_pixels(self.images)

    @property
    def prepared(self) -> list[Any]:
        """For each element of the batch what ``prepare`` made of its whole image."""
        return [view.prepared for view in self.surroundings.views]

    @property
    def extent(self) -> tuple[int, int]:
        """(H, W) in pixels of the image that the elements are windows of, by their boxes."""
        ends = [(y + height, x + width) for y, x, height, width in self.boxes]
        return tuple(map(max, zip(*ends, strict=True)))

    @property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """(top, left, height, width) of each element in its image, in pixels."""
        whole = (0, 0, *self.images.shape[-2:])
        return [view.box for view in self.surroundings.views] or [whole] * len(self.images)

    @property
    def regions(self) -> list[Tensor]:
        """B of (H, W) int64, the region that each pixel belongs to, 0 is none; or where they
        overlap (M, H, W) bool.

        Raises:
            ValueError: There are none.
        """
        found = [view.regions for view in self.surroundings.views]
        if not found or any(part is None for part in found):
            raise ValueError(NO_REGIONS)
        return found

    def region_vectors(self, masks: Tensor) -> Tensor:
        """The encoder's pooled vector of some of the patches, see
        `VisionLanguageBackbone.region_vectors`: (B, R, h*w) to (B, R, D)."""
        return self.encoder.region_vectors(self, masks)

    @property
    def logit_scale(self) -> float:
        """Factor on cosines."""
        known = self.surroundings.logit_scale
        return self.encoder.logit_scale if known is None else known

    @property
    def text(self) -> Tensor:
        """The words looked for, (Q, D), unit length.

        Raises:
            ValueError: Nobody said what is looked for.
        """
        if self.surroundings.text is None:
            raise ValueError(NO_WORDS)
        return self.surroundings.text()

    def embed(self, words: Sequence[str]) -> Tensor:
        """Further words, in the sentences of those looked for: (n, D), unit length.

        Raises:
            ValueError: Nobody said how.
        """
        if self.surroundings.embed is None:
            raise ValueError(NO_WORDS)
        return self.surroundings.embed(words)

    @property
    def query_to_class(self) -> Sequence[int]:
        """Class of each word, (Q,)."""
        known = self.surroundings.vocabulary
        return range(len(self.text)) if known is None else known.query_to_class

    def cosines(self, dense: Tokens | Tensor) -> Tensor:
        """Of tokens, or of joint features (B, D, h, w), with the words: (B, Q, h, w) float32,
        whatever the encoder computes in."""
        features = self.project(dense) if isinstance(dense, Tokens) else dense
        features = normalize(features.float(), dim=1)
        with autocast('fp32', features.device):
            return torch.einsum('bdhw,qd->bqhw', features, self.text)
