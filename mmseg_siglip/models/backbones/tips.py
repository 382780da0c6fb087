"""TIPS v2 (transformers' `Tipsv2Model`): patches that were trained to agree with words.

Paper: https://arxiv.org/abs/2604.12012.
Shapes: B images, P = 1 + registers prefix tokens (CLS first), N = P + h*w tokens, C channels, which
is also D.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmseg_siglip.models.backbones.dino import DinoVision
from mmseg_siglip.models.backbones.towers import Tower
from mmseg_siglip.models.backbones.transformers_backbone import Described, TransformersBackbone
from mmseg_siglip.models.backbones.trunk import Method
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.source import Source

# As published, and as transformers has them.
REGISTERS = ('vision_encoder.register_tokens', 'vision_model.embeddings.register_tokens')


@MODELS.register_module()
class TIPSBackbone(DinoVision, TransformersBackbone):
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

    model_types = ('tipsv2',)
    idle = ('temperature', 'mask_token')
    pixels = ((0.0,) * 3, (1.0,) * 3)
    position_mode = 'bilinear'

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

    @property
    def vision(self) -> nn.Module:
        return self.model.vision_model

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
        return dict(
            vision=self.vision_layers('vision_model.encoder.layer'),
            text=self.layers('text_model.encoder.layers'),
        )

    def logit_parameters(self) -> tuple[Tensor, Tensor]:
        scale = 1 / self.model.temperature
        return scale, scale.new_zeros(())

    def logit_weights(self) -> list[nn.Parameter]:
        return [self.model.temperature]

    def set_logit(self, *, scale: float, bias: float) -> None:
        if bias:
            raise ValueError(f'logit_bias: expected 0, as TIPS has none, found {bias}')
        with torch.no_grad():
            self.model.temperature.fill_(1 / scale)
