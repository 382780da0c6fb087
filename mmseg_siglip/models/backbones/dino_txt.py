"""dino.txt on DINOv3: two more blocks behind it, whose patches were trained to agree with words.

Papers: https://arxiv.org/abs/2412.16334 (dino.txt), https://arxiv.org/abs/2508.10104 (DINOv3).
Shapes: B images, P = CLS and registers, N = P + h*w tokens, C channels, which is also D, H heads,
d per head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.nn.functional import silu

from mmseg_siglip.models.adapters.dino_txt import to_dino_txt
from mmseg_siglip.models.backbones.block import Block, merge_heads, split_heads
from mmseg_siglip.models.backbones.causal_text import CausalText
from mmseg_siglip.models.backbones.dino import IMAGENET, load_dino
from mmseg_siglip.models.backbones.dinov3 import DINOv3Block, PatchAngles
from mmseg_siglip.models.backbones.image_size import resolve_image_size
from mmseg_siglip.models.backbones.mean_pooled import MeanPooled
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.transformers_backbone import Described
from mmseg_siglip.models.backbones.trunk import Method
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.claims import check_size, size_of
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.source import Source
from mmseg_siglip.weights.state import load_strict

GATE = 'head.blocks.0.mlp.w1.weight'
EXPECTED = "expected dino.txt's weights"
HEAD_WIDTH = 64
"""Channels of a head of the text tower, which no weight tells."""


class VisionHeadBlock(nn.Module):
    """A `Block` by the names of dino.txt's file: no positions, a gated MLP, layer scales."""

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = nn.ModuleDict(
            dict(
                qkv=nn.Linear(channels, 3 * channels, bias=False),
                proj=nn.Linear(channels, channels),
            )
        )
        self.mlp = nn.ModuleDict(
            dict(
                w1=nn.Linear(channels, hidden),
                w2=nn.Linear(channels, hidden),
                w3=nn.Linear(hidden, channels),
            )
        )
        self.ls1, self.ls2 = (nn.ParameterDict(dict(gamma=torch.ones(channels))) for _ in range(2))

    def norm(self, x: Tensor) -> Tensor:
        return self.norm1(x)

    def qkv(self, u: Tensor, grid: object = None) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(split_heads(part, self.heads) for part in self.attn['qkv'](u).chunk(3, -1))

    def out(self, y: Tensor) -> Tensor:
        return self.ls1['gamma'] * self.attn['proj'](merge_heads(y))

    def ffn(self, x: Tensor) -> Tensor:
        u, part = self.norm2(x), self.mlp
        return self.ls2['gamma'] * part['w3'](silu(part['w1'](u)) * part['w2'](u))


class DinoTxt(nn.Module):
    """DINOv3, the vision head by its published names, and the words' tower as open_clip's.

    Args:
        dino: transformers' model.
        state: Weights by this model's names, whose shapes tell the sizes.

    Raises:
        Exception: They are no dino.txt's.
    """

    logit_bias = None

    def __init__(self, dino: nn.Module, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        position, words = state['text.positional_embedding'], state['text.token_embedding.weight']
        hidden, joint = len(state[GATE]), state['text.text_projection'].shape[1]
        config = dino.config
        self.dino = dino
        blocks = count_blocks(state, 'head.blocks')
        self.head = nn.ModuleDict(
            dict(
                blocks=nn.ModuleList(
                    VisionHeadBlock(config.hidden_size, config.num_attention_heads, hidden)
                    for _ in range(blocks)
                ),
                ln_final=nn.LayerNorm(config.hidden_size),
            )
        )
        self.text_cfg = dict(
            context_length=len(position),
            vocab_size=len(words),
            width=words.shape[1],
            heads=words.shape[1] // HEAD_WIDTH,
            layers=count_blocks(state, 'text.transformer.resblocks'),
        )
        self.text = TextTransformer(**self.text_cfg, output_dim=joint)
        self.logit_scale = nn.Parameter(torch.zeros(1))


@MODELS.register_module()
class DinoTxtBackbone(MeanPooled, CausalText):
    """DINOv3 with dino.txt's head as a dense encoder.

    The trunk is DINOv3's blocks, the last of which gives normed tokens, and then the head's, so the
    attention that a method replaces is the head's last. A patch is compared, as it leaves the
    head's norm, with the half of a word's vector that was trained on the mean of patches, which
    here is all of a word, as that mean is all of an image; the half of the CLS token is left out.

    Its authors' way is ``attention='vanilla'``, in windows of 384 pixels 192 apart of an image
    whose short side has 512, the softmax of each window's cosines averaged. Not verified against
    published weights, which were not at hand: that the second half is the patches', which is the
    order in which its parts are concatenated, and that the gate is SiLU of ``w1``, times ``w2``.

    Args:
        pretrained: The published file of head and text tower
            (``dinov3_vitl16_dinotxt_vision_head_and_text_encoder-a442d8f5.pth``), or a file of all
            weights, which `dino` then only describes.
        dino: DINOv3 ViT of transformers: a folder, a Hub id, or a mapping (with its `model_type`)
            for random weights; or the release's own file, which was not tried on a released one.
        attention: Default of `dense`.
        out_indices: See `VisionLanguageBackbone`.
        with_cp: See `VisionLanguageBackbone`.

    Raises:
        ValueError: A checkpoint is of another kind, or its weights do not fit.
    """

    readouts = ('raw',)
    rotary = True
    idle = ('logit_scale', 'mask_token')

    def __init__(
        self,
        pretrained: str | Source,
        *,
        dino: Described = 'facebook/dinov3-vitl16-pretrain-lvd1689m',
        attention: str | dict | Method = 'vanilla',
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
    ) -> None:
        super().__init__(attention=attention, out_indices=out_indices, with_cp=with_cp)
        source = Source.open(pretrained)
        vision = load_dino(dino, 'dinov3_vit')
        with as_data(source, EXPECTED):
            state = to_dino_txt(source.tensors)
        own = {f'dino.{name}': value for name, value in vision.state_dict().items()}
        build = partial(build_dino_txt, vision, state, source)
        check_size(build, size_of(own | state), source)
        self.model = build()
        load_strict(self.model, own | state, source)

        config = vision.config
        self.num_prefix = 1 + config.num_register_tokens
        self.image_size, self.patch_size = resolve_image_size(None, config), config.patch_size
        self.hidden_size = self.embed_dim = config.hidden_size
        self.mean, self.std = (tuple(255 * v for v in values) for values in IMAGENET)
        self.set_text(dict(text_cfg=self.model.text_cfg))
        self.finish()

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return source.has(GATE)

    @property
    def text_tower(self) -> nn.Module:
        return self.model.text

    def blocks(self) -> list[Block]:
        dino = self.model.dino
        angles = PatchAngles(dino.rope_embeddings.inv_freq)
        *layers, last = dino.model.layer
        blocks = [DINOv3Block(layer, angles) for layer in layers]
        return [*blocks, DINOv3Block(last, angles, dino.norm), *self.model.head['blocks']]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.model.dino.embeddings(images)

    def norm(self, x: Tensor) -> Tensor:
        return self.model.head['ln_final'](x)

    def project(self, tokens: Tokens, *, readout: str | None = None) -> Tensor:
        self.check_readout(readout or self.readouts[0])
        return tokens.replace(self.norm(tokens.x)).map

    def unread(self, method: Method, *, readout: str | None = None) -> list[nn.Module]:
        block = self.model.head['blocks'][-1]
        return [] if method.ffn or method.pools else [block.norm2, block.mlp, block.ls2]

    def summary(self, x: Tensor) -> Tensor:
        return self.norm(x[:, 0])

    def vision_parts(
        self, blocks: int, *, norm: bool, pooling: bool
    ) -> list[nn.Module | nn.Parameter]:
        dino, head = self.model.dino, self.model.head
        part, own = dino.embeddings, len(dino.model.layer)
        parts = [part.patch_embeddings, part.cls_token, part.register_tokens]
        parts += [*dino.model.layer[:blocks], *head['blocks'][: max(0, blocks - own)]]
        parts += [dino.norm] if blocks >= own else []
        return parts + ([head['ln_final']] if norm or pooling else [])

    def pooling_parts(self) -> list[nn.Module]:
        return []

    def is_text(self, name: str) -> bool:
        return name.startswith('text.')

    def towers(self) -> dict[str, Tower]:
        names = dict(q_proj='q_proj', k_proj='k_proj', v_proj='v_proj', out_proj='o_proj')
        matrices = {name: f'attention.{part}' for name, part in names.items()}
        gated = self.model.dino.config.use_gated_mlp
        mlp = ('gate_proj', 'up_proj', 'down_proj') if gated else ('up_proj', 'down_proj')
        matrices |= {name: f'mlp.{name}' for name in mlp}
        query_value = ('attention.q_proj', 'attention.v_proj')
        vision = Tower('dino.model.layer', matrices, ('q_proj', 'v_proj'), query_value=query_value)
        return dict(vision=vision, text=self.text_layers('text.transformer.resblocks'))

    def drop_text(self) -> None:
        self.model.text = None

    def drop_pooling(self) -> None:
        """There is none to drop."""


def build_dino_txt(vision: nn.Module, state: Mapping[str, Tensor], source: Source) -> DinoTxt:
    """The model that weights are of.

    Raises:
        ValueError: They are no dino.txt's.
    """
    with as_data(source, EXPECTED):
        return DinoTxt(vision, state)


def count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbers follow a prefix in the names of tensors."""
    size = len(prefix) + 1
    return len({name[size:].split('.')[0] for name in state if name.startswith(f'{prefix}.')})
