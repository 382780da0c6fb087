"""TIPS v2 (transformers' `Tipsv2Model`): patches that were trained to agree with words.

Paper: https://arxiv.org/abs/2604.12012.
Shapes: B images, P = 1 + registers prefix tokens (CLS first), N = P + h*w tokens, C channels, which
is also D.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmseg_siglip.models.backbones.block import merge_heads, split_heads
from mmseg_siglip.models.backbones.position import resize_position
from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.transformers_backbone import Described, TransformersBackbone
from mmseg_siglip.models.backbones.trunk import Method
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.source import Source

# As published, and as transformers has them.
REGISTERS = ('vision_encoder.register_tokens', 'vision_model.embeddings.register_tokens')


class TIPSBlock:
    """A `Block` over a layer of transformers' TIPS v2, its layer scales included."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def norm(self, x: Tensor) -> Tensor:
        return self.layer.norm1(x)

    def qkv(self, u: Tensor, grid: object = None) -> tuple[Tensor, Tensor, Tensor]:
        attention = self.layer.attention.attention
        projections = (attention.query, attention.key, attention.value)
        return tuple(split_heads(part(u), attention.num_attention_heads) for part in projections)

    def out(self, y: Tensor) -> Tensor:
        return self.layer.layer_scale1(self.layer.attention.output.dense(merge_heads(y)))

    def ffn(self, x: Tensor) -> Tensor:
        return self.layer.layer_scale2(self.layer.mlp(self.layer.norm2(x)))


@MODELS.register_module()
class TIPSBackbone(TransformersBackbone):
    """TIPS v2 as a dense encoder. A patch is compared with words as it leaves the final norm.

    Its authors read patches by ``attention='value_residual'``, in windows of 448 pixels 336 apart,
    and average the softmax of each window's unscaled cosines; averaging and scale are a segmentor's
    affair.

    Args:
        pretrained: A transformers folder, a Hub id (``google/tipsv2-b14``), or a bare weight file.
            None builds random weights from `config`.
        config: Folder, Hub id or mapping (with `model_type`) that describes the model, where
            `pretrained` does not. A weight file is described by the folder that it lies in unless
            told otherwise.
        tokenizer: Folder or Hub id of the tokenizer, where it is not beside the weights.
        attention: Default of `dense`.
        out_indices: See `VisionLanguageBackbone`.
        with_cp: See `VisionLanguageBackbone`.
        revision: Commit of a Hub id.

    Raises:
        ValueError: The checkpoint is of another kind, or lacks weights.
    """

    readouts = ('raw',)
    model_types = ('tipsv2',)
    idle = ('temperature', 'mask_token')
    pixels = ((0.0,) * 3, (1.0,) * 3)

    def __init__(
        self,
        pretrained: str | Source | None = None,
        *,
        config: Described | None = None,
        tokenizer: str | None = None,
        attention: str | dict | Method = 'value_residual',
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__(attention=attention, out_indices=out_indices, with_cp=with_cp)
        self.open_checkpoint(pretrained, config=config, tokenizer=tokenizer, revision=revision)
        self.num_prefix = 1 + self.config.vision_config.num_register_tokens
        self.finish()

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return any(map(source.has, REGISTERS)) or source.model_type in cls.model_types

    def blocks(self) -> list[TIPSBlock]:
        return [TIPSBlock(layer) for layer in self.model.vision_model.encoder.layer]

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        part = self.model.vision_model.embeddings
        x = part.patch_embeddings.projection(images).flatten(2).transpose(1, 2)
        cls_position, position = part.position_embeddings[0].tensor_split([1])
        resampling = dict(mode='bilinear', antialias=True)
        x = x + resize_position(position, self.native_grid, grid, **resampling)
        prefix = torch.cat([part.cls_token + cls_position, part.register_tokens], dim=1)
        return torch.cat([prefix.expand(len(x), -1, -1), x], dim=1)

    def norm(self, x: Tensor) -> Tensor:
        return self.model.vision_model.layernorm(x)

    def project(self, tokens: Tokens, *, readout: str | None = None) -> Tensor:
        self.check_readout(readout or self.readouts[0])
        return tokens.replace(self.norm(tokens.x)).map

    def unread(self, method: Method, *, readout: str | None = None) -> list[nn.Module]:
        if method.pools:
            return []
        layer = self.model.vision_model.encoder.layer[-1]
        attention = layer.attention.attention
        projections = dict(q=attention.query, k=attention.key, v=attention.value)
        parts = [part for name, part in projections.items() if name not in method.reads]
        return parts if method.ffn else [*parts, layer.norm2, layer.mlp, layer.layer_scale2]

    def summary(self, x: Tensor) -> Tensor:
        return self.norm(x[:, 0])

    def pool(self, x: Tensor) -> Tensor:
        return self.summary(x)

    def vision_parts(
        self, blocks: int, *, norm: bool, pooling: bool
    ) -> list[nn.Module | nn.Parameter]:
        vision = self.model.vision_model
        part = vision.embeddings
        parts = [part.patch_embeddings, part.cls_token, part.register_tokens]
        parts += [part.position_embeddings, *vision.encoder.layer[:blocks]]
        return parts + ([vision.layernorm] if norm or pooling else [])

    def pooling_parts(self) -> list[nn.Module]:
        return []

    def encode_text_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """See `VisionLanguageBackbone`. Padding is masked, and a vector is the mean of the tokens
        that are none, so the tower runs up to the longest prompt.

        Raises:
            ValueError: A prompt has no tokens, is too long, or the text tower is gone.
        """
        ids, real = self.tokenize(texts)
        for text, mask in zip(texts, real, strict=True):
            if not mask.any():
                raise ValueError(f'expected a prompt of at least one token, found {text!r}')
        longest = int(real.sum(1).max())
        ids, real = ids[:, :longest], real[:, :longest]
        output = self.model.text_model(input_ids=ids, attention_mask=real.long())
        return output.last_hidden_state, real, output.pooler_output

    def project_text(self, tokens: Tensor) -> Tensor:
        return tokens

    def towers(self) -> dict[str, Tower]:
        attention = dict(q_proj='query', k_proj='key', v_proj='value')
        matrices = {name: f'attention.attention.{part}' for name, part in attention.items()}
        swiglu = self.config.vision_config.use_swiglu_ffn
        mlp = ('weights_in', 'weights_out') if swiglu else ('fc1', 'fc2')
        matrices |= {name: f'mlp.{name}' for name in mlp} | dict(out_proj='attention.output.dense')
        vision = Tower(
            'vision_model.encoder.layer',
            matrices,
            ('q_proj', 'v_proj'),
            query_value=(matrices['q_proj'], matrices['v_proj']),
        )
        return dict(vision=vision, text=self.layers('text_model.encoder.layers'))

    def logit_parameters(self) -> tuple[Tensor, Tensor]:
        scale = 1 / self.model.temperature
        return scale, scale.new_zeros(())

    def set_logit(self, *, scale: float, bias: float) -> None:
        if bias:
            raise ValueError(f'logit_bias: expected 0, as TIPS has none, found {bias}')
        with torch.no_grad():
            self.model.temperature.fill_(1 / scale)

    def drop_pooling(self) -> None:
        """There is none to drop."""
