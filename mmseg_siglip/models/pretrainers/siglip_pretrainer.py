"""Image-text pre-training of a SigLIP encoder on MMEngine's Runner.

Shapes: B images on this process, M = B times the number of processes texts, D channels.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from mmengine.dist import get_world_size
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize
from transformers.modeling_outputs import BaseModelOutputWithPooling

from mmseg_siglip.models.attention import ATTENTIONS, DenseAttention, run_block
from mmseg_siglip.models.backbones.siglip import HeadBlock
from mmseg_siglip.models.losses import SigmoidLoss
from mmseg_siglip.registry import MODELS
from mmseg_siglip.vocabulary import Vocabulary


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

    With ``local_weight`` patches learn as well: every patch, read by the pooling head alone, is
    scored against all texts. This needs ``shares``, (B, F', h, w), for the first F' facts the part
    of each cell of a grid over the image where the fact is true; a fact is certain of a patch if
    it is true of at least half of it, possible if of any of it, and texts that claim other facts
    say nothing of patches. Text aligned to places is what localised contrastive pre-training adds
    to CLIP (https://arxiv.org/abs/2410.02746).

    The loss is that of the whole batch over all processes: texts are gathered with their
    gradients, each process scores its own images against all of them.

    Args:
        backbone: Config of a `SigLIPBackbone`.
        vocabulary: What validation tells apart; see `Vocabulary.load`.
        local_weight: Factor on the loss of patches; 0 is SigLIP's own training.
        train_sizes: Sides, pixels, of square training images; each batch is resized to one of
            them, drawn at random. Small ones are cheap (https://arxiv.org/abs/2305.07017), and
            several make the encoder at home in windows of any size. None leaves batches as they
            are.
        logit_scale: Start of the factor on cosines.
        logit_bias: Start of the term added to them.
    """

    def __init__(
        self,
        backbone: dict,
        *,
        vocabulary: str | Sequence[str],
        local_weight: float = 0.0,
        train_sizes: Sequence[int] | None = None,
        logit_scale: float = 10.0,
        logit_bias: float = -10.0,
    ) -> None:
        encoder = MODELS.build(backbone)
        super().__init__(
            data_preprocessor=dict(
                type='mmengine.ImgDataPreprocessor',
                mean=encoder.mean,
                std=encoder.std,
                bgr_to_rgb=True,
            )
        )
        encoder.model.set_attn_implementation('eager')
        self.backbone = encoder
        self.loss = SigmoidLoss()
        self.local_weight = local_weight
        self.train_sizes = train_sizes
        self.vocabulary = Vocabulary.load(vocabulary)
        with torch.no_grad():
            encoder.model.logit_scale.fill_(math.log(logit_scale))
            encoder.model.logit_bias.fill_(logit_bias)

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
            return self._tokens(inputs).pooler_output
        raise ValueError(f"mode: expected loss, predict or tensor, found '{mode}'")

    def _resize(self, inputs: Tensor) -> Tensor:
        if not self.train_sizes:
            return inputs
        side = self.train_sizes[int(torch.randint(len(self.train_sizes), ()))]
        return interpolate(inputs, (side, side), mode='bilinear', antialias=True)

    def _tokens(self, inputs: Tensor) -> BaseModelOutputWithPooling:
        """Transformers' own forward, with plain attention: on a CPU in bfloat16 it trains several
        times faster than the fused one."""
        return self.backbone.model.vision_model(inputs, interpolate_pos_encoding=True)

    def _loss(self, inputs: Tensor, batch: dict) -> dict[str, Tensor]:
        unique = {caption: index for index, caption in enumerate(dict.fromkeys(batch['caption']))}
        index = torch.tensor([unique[caption] for caption in batch['caption']])
        inputs = self._resize(inputs)
        images = self._tokens(inputs)
        texts = self.backbone.encode_text(list(unique)).float()
        texts = gather(texts[index.to(inputs.device)])
        positives, ignored = truth(batch, inputs.device)
        model = self.backbone.model
        scaling = dict(scale=model.logit_scale.exp(), bias=model.logit_bias)
        losses = dict(
            loss=self.loss(
                images.pooler_output, texts, positives=positives, ignored=ignored, **scaling
            )
        )
        if self.local_weight:
            grid = [side // self.backbone.patch_size for side in inputs.shape[-2:]]
            patches = read_patches(model.vision_model.head, images.last_hidden_state)
            positives, ignored = local_truth(batch, grid, inputs.device)
            losses['local_loss'] = self.local_weight * self.loss(
                patches.flatten(0, 1), texts, positives=positives, ignored=ignored, **scaling
            )
        losses.update(scale=scaling['scale'].detach(), bias=scaling['bias'].detach().clone())
        return losses

    def _predict(self, inputs: Tensor, samples: list[BaseDataElement]) -> list[BaseDataElement]:
        """Adds ``pred_label``, the class that the pooled image is nearest to, and
        ``pred_sem_seg``, (1, H, W), the one that each patch is nearest to."""
        texts = normalize(self.backbone.encode_text(self.vocabulary.queries).float(), dim=-1)
        to_class = torch.tensor(self.vocabulary.query_to_class, device=inputs.device)
        pooled = normalize(self.backbone.encode_image(inputs).float(), dim=-1) @ texts.T
        dense = normalize(self.backbone.dense(inputs).float(), dim=1)
        cosines = torch.einsum('bdhw,qd->bqhw', dense, texts)
        cosines = interpolate(cosines, inputs.shape[-2:], mode='bilinear', align_corners=False)
        for sample, scores, maps in zip(samples, pooled, cosines, strict=True):
            sample.set_data(
                dict(
                    pred_label=int(to_class[scores.argmax()]),
                    pred_sem_seg=PixelData(data=to_class[maps.argmax(0)][None]),
                )
            )
        return samples


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


def local_truth(batch: dict, grid: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """`truth` of patches: (B * h * w, M) bool each."""
    shares = adaptive_avg_pool2d(batch['shares'].to(device), tuple(grid))
    shares = shares.flatten(2).transpose(1, 2).flatten(0, 1)
    claims = gather(batch['claims'].to(device))
    elsewhere = (claims >= shares.shape[1]).any(-1)
    claims = claims.masked_fill(elsewhere[:, None], 0)
    certain = holds(shares >= 0.5, claims) & ~elsewhere
    possible = holds(shares > 0, claims) | elsewhere
    return certain, possible & ~certain


def read_patches(head: nn.Module, tokens: Tensor) -> Tensor:
    """The pooling head run on each token (B, N, C) as a sequence of one: (B, N, D)."""
    identity = DenseAttention(ATTENTIONS['maskclip'].mix, residual=False, ffn=True)
    grid = (1, tokens.shape[1])
    return run_block(HeadBlock(head), tokens, identity, grid=grid, num_prefix=0)


def holds(facts: Tensor, claims: Tensor) -> Tensor:
    """Whether all claims (M, K), indices, are among the facts (B, F), bool: (B, M)."""
    return facts[:, claims].all(-1)


def caption_key(caption: str) -> int:
    """A 63-bit number that is the same for equal captions on every process."""
    return int.from_bytes(hashlib.sha256(caption.encode()).digest()[:8], 'big') >> 1
