"""Image-text pre-training of a SigLIP encoder on MMEngine's Runner.

Shapes: B images on this process, M = B times the number of processes texts, D channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from mmengine.dist import get_world_size
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor
from torch.distributed.nn.functional import all_gather
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.trunk import Trunk
from mmseg_siglip.models.labelling import owners
from mmseg_siglip.models.losses import SigmoidLoss
from mmseg_siglip.models.segmentors.parts import check_finite
from mmseg_siglip.precision import training_attention
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.distinct import check_distinct
from mmseg_siglip.text.vocabulary import Vocabulary


@MODELS.register_module()
class SigLIPPretrainer(BaseModel):
    """Trains both towers of an encoder so that a caption and its image agree.

    A training batch has columns: ``caption``, a list of B sentences. Samples with equal captions
    are positives of each other: in a small world the same words come up often in a batch, and
    calling them negatives would be false. Where the data set knows more, so may the batch:
    ``facts``, what is certainly true of an image, ``possible``, a superset that may be true,
    (B, F) bool each, and ``claims``, (B, K), the indices of the facts that a caption states. Then
    a text is a positive of every image of which all its claims are certain, and is left out for
    images where some are in doubt.

    The loss is that of the whole batch over all processes: texts are gathered with their
    gradients, each process scores its own images against all of them.

    Args:
        backbone: Config of an encoder.
        vocabulary: What validation tells apart; see `Vocabulary.load`.
        train_sizes: Sides, pixels, of square training images; each batch is resized to one of
            them, drawn at random. Small ones are cheap (https://arxiv.org/abs/2305.07017), and
            several make the encoder at home in windows of any size. None leaves batches as they
            are.
        max_tokens: Most patches of an image that training looks at. Of more, so many are drawn at
            random: cheap, and each patch has to speak for itself
            (https://arxiv.org/abs/2212.00794). None looks at all.
        logit_scale: Start of the factor on cosines.
        logit_bias: Start of the term added to them.
    """

    def __init__(
        self,
        backbone: dict,
        *,
        vocabulary: str | Sequence[str],
        train_sizes: Sequence[int] | None = None,
        max_tokens: int | None = None,
        logit_scale: float = 10.0,
        logit_bias: float = -10.0,
    ) -> None:
        encoder = MODELS.build(backbone)
        if max_tokens and encoder.rotary:
            raise ValueError(
                'max_tokens: expected an encoder that adds positions once, found a '
                f'{type(encoder).__name__}, whose blocks ask where each patch lies'
            )
        super().__init__(
            data_preprocessor=dict(
                type='mmengine.ImgDataPreprocessor',
                mean=encoder.mean,
                std=encoder.std,
                bgr_to_rgb=True,
            )
        )
        if training_attention() == 'eager':
            encoder.use_plain_attention()
        self.backbone = encoder
        self.loss = SigmoidLoss()
        self.train_sizes = train_sizes
        self.max_tokens = max_tokens
        self.vocabulary = check_distinct(Vocabulary.load(vocabulary), encoder)
        encoder.set_logit(scale=logit_scale, bias=logit_bias)

    def forward(
        self, inputs: Tensor, data_samples: dict | list | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[BaseDataElement] | Tensor:
        """Runs the encoder.

        Args:
            inputs: (B, 3, H, W), normalised.
            data_samples: The columns of a training batch, or the samples to add predictions to.
            mode: ``loss`` for a dict of scalars, ``predict`` for samples, ``tensor`` for (B, D).
        """
        if mode == 'loss':
            return self._loss(inputs, data_samples)
        if mode == 'predict':
            return self._predict(inputs, data_samples)
        if mode == 'tensor':
            return self._pool(inputs)
        raise ValueError(f"mode: expected loss, predict or tensor, found '{mode}'")

    def _resize(self, inputs: Tensor) -> Tensor:
        if not self.train_sizes:
            return inputs
        side = self.train_sizes[int(torch.randint(len(self.train_sizes), ()))]
        return interpolate(inputs, (side, side), mode='bilinear', antialias=True)

    def _pool(self, inputs: Tensor) -> Tensor:
        """(B, 3, H, W) to the encoder's pooled vectors (B, D)."""
        tokens = self.backbone.tokens(inputs)
        if self.training and self.max_tokens:
            tokens = draw_patches(tokens, self.max_tokens)
        return self.backbone.pool(Trunk(self.backbone, inputs, embedded=tokens).output(-1))

    def _loss(self, inputs: Tensor, batch: dict) -> dict[str, Tensor]:
        unique = {caption: index for index, caption in enumerate(dict.fromkeys(batch['caption']))}
        index = torch.tensor([unique[caption] for caption in batch['caption']])
        images = self._pool(self._resize(inputs))
        texts = self.backbone.encode_text(list(unique)).float()
        texts = gather(texts[index.to(inputs.device)])
        positives, ignored = truth(batch, inputs.device)
        scale, bias = self.backbone.logit_parameters()
        loss = self.loss(
            images, texts, scale=scale, bias=bias, positives=positives, ignored=ignored
        )
        return dict(loss=loss, scale=scale.detach(), bias=bias.detach().clone())

    def _predict(self, inputs: Tensor, samples: list[BaseDataElement]) -> list[BaseDataElement]:
        """Adds ``pred_label``, the class that the pooled image is nearest to, and
        ``pred_sem_seg``, (1, H, W), the one that each patch is nearest to."""
        texts = normalize(self.backbone.encode_text(self.vocabulary.queries).float(), dim=-1)
        to_class = owners(self.vocabulary.query_to_class, inputs.device)
        pooled = normalize(self.backbone.encode_image(inputs).float(), dim=-1) @ texts.T
        dense = normalize(self.backbone.dense(inputs).float(), dim=1)
        cosines = torch.einsum('bdhw,qd->bqhw', dense, texts)
        cosines = interpolate(cosines, inputs.shape[-2:], mode='bilinear', align_corners=False)
        finite = pooled.isfinite().all(1) & cosines.isfinite().flatten(1).all(1)
        check_finite(finite, samples)
        for sample, scores, maps in zip(samples, pooled, cosines, strict=True):
            sample.set_data(
                dict(
                    pred_label=int(to_class[scores.argmax()]),
                    pred_sem_seg=PixelData(data=to_class[maps.argmax(0)][None]),
                )
            )
        return samples


def draw_patches(tokens: Tokens, count: int) -> Tokens:
    """At most `count` patches of each image, drawn at random; the prefix stays."""
    x = tokens.patches
    kept = torch.rand(x.shape[:2], device=x.device).argsort(1)[:, :count, None]
    x = x.gather(1, kept.expand(-1, -1, x.shape[2]))
    return Tokens(
        torch.cat([tokens.x[:, : tokens.prefix], x], dim=1), (1, x.shape[1]), tokens.prefix
    )


def gather(tensor: Tensor) -> Tensor:
    """Rows of all processes, (B, ...) to (M, ...); gradients flow back to each row's owner."""
    return torch.cat(all_gather(tensor)) if get_world_size() > 1 else tensor


def truth(batch: dict, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Which of all processes' texts are true of this process's images, and which are in doubt.

    Returns:
        (B, M) bool, and (B, M) bool or None.
    """
    if 'claims' in batch:
        claims = gather(batch['claims'].to(device))
        certain = holds(batch['facts'].to(device), claims)
        return certain, holds(batch['possible'].to(device), claims) & ~certain
    keys = torch.tensor([caption_key(caption) for caption in batch['caption']], device=device)
    return keys[:, None] == gather(keys), None


def holds(facts: Tensor, claims: Tensor) -> Tensor:
    """Whether all claims (M, K), indices, are among the facts (B, F), bool: (B, M)."""
    return facts[:, claims].all(-1)


def caption_key(caption: str) -> int:
    """A 63-bit number that is the same for equal captions on every process."""
    return int.from_bytes(hashlib.sha256(caption.encode()).digest()[:8], 'big') >> 1
