"""RADIO (C-RADIOv3, C-RADIOv4): patches read by the head that learnt SigLIP 2's summary.

Papers: https://arxiv.org/abs/2601.17237 (C-RADIOv4); RADSeg, https://arxiv.org/abs/2511.19704, for
reading patches so.
Shapes: B images, P = CLS tokens, one of each teacher, and registers, N = P + h*w tokens, C
channels, D of SigLIP 2's joint space.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn, sym_max

from mmseg_siglip.models.adapters.radio_adaptor import summary_head
from mmseg_siglip.models.backbones.base import VisionLanguageBackbone
from mmseg_siglip.models.backbones.dino import DinoVision, load_dino
from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.backbones.siglip import SigLIPBackbone
from mmseg_siglip.models.backbones.siglip_text import SigLIPText
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.transformers_backbone import Described
from mmseg_siglip.models.backbones.trunk import Method
from mmseg_siglip.models.backbones.vision_trunk import unfold_patches
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.pixels import check_statistics
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import load_strict

OUTPUT = 'final.2.weight'
FILES = re.compile(rf'(_heads\.[^.]+|adaptor)\.{re.escape(OUTPUT)}')


@MODELS.register_module()
class RADIOBackbone(DinoVision, SigLIPText):
    """RADIO as a dense encoder, with SigLIP 2's words.

    The trunk has no final norm. RADIO's SigLIP 2 adaptor maps a CLS token to SigLIP 2's vector of
    an image; here the same head reads each patch, as in RADSeg. Its authors' factor on cosines is
    100, a segmentor's affair; the encoder's own is SigLIP 2's.

    Not verified against published weights, which were not at hand: that the head's inner blocks
    are residual and that the first CLS token is SigLIP 2's, which others say of C-RADIOv4.

    Args:
        pretrained: A published file with the adaptors
            (https://huggingface.co/nvidia/C-RADIOv3-B, ``c-radio_v3-b_half.pth.tar``), of which no
            more than one summary head is read, or a file of all weights, which `radio` and
            `siglip` then only describe.
        radio: The trunk of transformers: a folder, a Hub id, or a mapping (with its `model_type`)
            for random weights.
        siglip: SigLIP 2, whose words are taken: a folder, a Hub id, or a mapping for random
            weights.
        tokenizer: SigLIP 2's, where it is not beside the weights.
        adaptor: The name of the adaptor in the file, or in older ones its number.
        summary_token: Which of the CLS tokens is the adaptor's, from 0.
        attention: Default of `dense`.
        out_indices: See `VisionLanguageBackbone`.
        with_cp: See `VisionLanguageBackbone`.

    Raises:
        ValueError: A checkpoint is of another kind, or its weights do not fit.
    """

    def __init__(
        self,
        pretrained: str | Source,
        *,
        radio: Described = 'nvidia/C-RADIOv4-H',
        siglip: Described = 'google/siglip2-giant-opt-patch16-384',
        tokenizer: str | None = None,
        adaptor: str = 'siglip2-g',
        summary_token: int = 0,
        attention: str | dict | Method = 'vanilla',
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
    ) -> None:
        super().__init__(attention=attention, out_indices=out_indices, with_cp=with_cp)
        source, trunk = Source.open(pretrained), load_dino(radio, 'radio')
        described = isinstance(siglip, Mapping)
        words = SigLIPBackbone(
            None if described else siglip,
            config=siglip if described else None,
            tokenizer=tokenizer,
        )
        state = source.tensors
        is_whole = f'adaptor.{OUTPUT}' in state
        prefix = 'adaptor.' if is_whole else ''
        with as_data(source, "expected an adaptor's summary head"):
            head = state if is_whole else summary_head(state, adaptor)
            own = SummaryHead(head, prefix)
        self.model = RADIO(trunk, own, words.model)
        load_strict(self.model if is_whole else self.model.adaptor, head, source)
        self.check_joint_space()

        config = trunk.config
        if not 0 <= summary_token < config.num_cls_tokens:
            raise ValueError(
                f'summary_token: expected 0 to {config.num_cls_tokens - 1}, found {summary_token}'
            )
        self.summary_token = summary_token
        self.config, self.tokenizer = words.config, words.tokenizer
        self.context_length, self.text_width = words.context_length, words.text_width
        self.num_prefix = config.num_cls_tokens + config.num_registers
        self.image_size, self.patch_size = resolve_image_size(None, config), config.patch_size
        self.hidden_size = config.hidden_size
        self.embed_dim = self.model.adaptor.final[2].out_features
        values = check_statistics(config.norm_mean, config.norm_std, str(radio))
        self.mean, self.std = (tuple(255 * v for v in part) for part in values)
        self.finish()

    def check_joint_space(self) -> None:
        """Refuse a head and a text tower that do not meet.

        Raises:
            ValueError: They do not.
        """
        head, words = self.model.adaptor.final[2].out_features, self.model.text_model.head
        if head != words.out_features:
            raise ValueError(
                f"siglip: expected a text tower of the adaptor's {head} channels, "
                f'found {words.out_features}'
            )

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return any(map(FILES.fullmatch, source.tensors))

    @property
    def vision(self) -> nn.Module:
        return self.model.radio

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        part, p = self.vision.embeddings, self.patch_size
        patches = unfold_patches(images, grid, p)
        x = part.patch_projection(patches.flatten(2).transpose(1, 2))
        native, side = (part.max_rows, part.max_cols), sym_max(*grid)
        position = resize_position(
            part.position_embedding[0], native, (side, side), mode='bilinear'
        )
        x = x + position.unflatten(0, (side, side))[: grid[0], : grid[1]].flatten(0, 1)
        return torch.cat([part.cls_register_token.expand(len(x), -1, -1), x], dim=1)

    def norm(self, x: Tensor) -> Tensor:
        return x

    def project(self, tokens: Tokens, *, readout: str | None = None) -> Tensor:
        self.check_readout(readout or self.readouts[0])
        return tokens.replace(self.model.adaptor(tokens.x)).map

    def summary(self, x: Tensor) -> Tensor:
        return x[:, self.summary_token]

    def pool(self, x: Tensor) -> Tensor:
        return self.model.adaptor(self.summary(x))

    def vision_parts(
        self, blocks: int, *, norm: bool, pooling: bool
    ) -> list[nn.Module | nn.Parameter]:
        part = self.vision.embeddings
        parts = [part.patch_projection, part.position_embedding, part.cls_register_token]
        return [*parts, *self.vision.encoder.layer[:blocks]]

    def pooling_parts(self) -> list[nn.Module]:
        return [self.model.adaptor]

    def towers(self) -> dict[str, Tower]:
        return dict(
            vision=self.vision_layers('radio.encoder.layer'),
            text=self.layers('text_model.encoder.layers'),
        )

    def drop_pooling(self) -> None:
        self.model.adaptor = None

    def save_pretrained(self, folder: str | Path) -> None:
        VisionLanguageBackbone.save_pretrained(self, folder)


class RADIO(nn.Module):
    """Trunk, head, and SigLIP's words with their factor and term."""

    def __init__(self, trunk: nn.Module, adaptor: SummaryHead, siglip: nn.Module) -> None:
        super().__init__()
        trunk.make_preprocessor_external()  # images come normalised
        del trunk.summary_idxs  # of teachers that are not asked
        self.radio, self.adaptor = trunk, adaptor
        self.text_model = siglip.text_model
        self.logit_scale, self.logit_bias = siglip.logit_scale, siglip.logit_bias

    def set_attn_implementation(self, name: str) -> None:
        self.text_model.set_attn_implementation(name)


class SummaryHead(nn.Module):
    """An adaptor's summary head, (..., C) to (..., D), by its published names.

    Args:
        state: Weights, whose shapes tell the sizes.
        prefix: What their names begin with.

    Raises:
        ValueError: They are of another kind of head.
    """

    def __init__(self, state: Mapping[str, Tensor], prefix: str = '') -> None:
        super().__init__()
        shapes = [state.get(f'{prefix}{name}') for name in ('fc1.weight', OUTPUT)]
        if any(shape is None for shape in shapes):
            raise ValueError(f'adaptor: expected fc1 and final.2, found {", ".join(state)}')
        (hidden, channels), (joint, _) = (weight.shape for weight in shapes)
        self.fc1 = nn.Linear(channels, hidden)
        blocks = 0
        while f'{prefix}blocks.{blocks}.2.weight' in state:
            blocks += 1
        self.blocks = nn.ModuleList(step(hidden, hidden) for _ in range(blocks))
        self.final = step(hidden, joint)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        for block in self.blocks:
            x = x + block(x)
        return self.final(x)


def step(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(channels), nn.GELU(), nn.Linear(channels, out))
