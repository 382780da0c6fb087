"""Transformers' LLaVA at any image size, with depth beside the image.

Shapes: B images of (H, W) pixels, grid (h, w), N tokens, C channels of the encoder, D of the
language model, K depth statistics.
"""

from __future__ import annotations

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModel, LlavaConfig, PretrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava.modeling_llava import LlavaCausalLMOutputWithPast

from mmseg_siglip.models.compiled import compilable
from mmseg_siglip.patch_stats import PatchStatisticsFusion
from mmseg_siglip.vlm.naflex import is_naflex, patch_states
from mmseg_siglip.vlm.projectors import make_projector
from mmseg_siglip.vlm.strategy import check_strategy, select
from mmseg_siglip.vlm.vision import blocks_needed, check_floats, hidden_states, token_grid
from mmseg_siglip.vlm.with_depth import WithDepth


def feature_layers(config: PretrainedConfig) -> tuple[int, ...]:
    """Blocks done before each hidden state that ``vision_feature_layer`` names."""
    wanted = config.vision_feature_layer
    wanted = (wanted,) if isinstance(wanted, int) else tuple(wanted)
    return tuple(blocks_needed(layer, config.vision_config.num_hidden_layers) for layer in wanted)


class DepthLlavaModel(transformers.LlavaModel):
    """Features of the image come from `get_image_features` below, all else is transformers'."""

    def __init__(self, config: LlavaConfig) -> None:
        super(transformers.LlavaModel, self).__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config, trust_remote_code=False)
        self.multi_modal_projector = make_projector(config)
        self.language_model = AutoModel.from_config(config.text_config, trust_remote_code=False)
        options = getattr(config, 'depth_fusion', None)
        self.depth_fusion: PatchStatisticsFusion | None = None
        if options:
            self.depth_fusion = PatchStatisticsFusion.from_options(
                options, config.text_config.hidden_size
            )
        self.post_init()

    def get_image_features(
        self,
        pixel_values: Tensor,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
        depth_statistics: Tensor | None = None,
        pixel_attention_mask: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """``pooler_output``: per image (N, D), projected, depth added.

        Positions are interpolated, blocks above the layer wanted not computed. Layer and strategy
        are the configuration's, which the projector was made for.

        Args:
            pixel_values: (B, 3, H, W), of any size that patches divide.
            depth_statistics: (B, h*w, K), see `mmseg_siglip.vlm.fusion`; under NaFlex those of all
                images behind each other, (N, K).
            pixel_attention_mask, spatial_shapes: Of NaFlex, see `patch_states`; `pixel_values` are
                patches then.

        Raises:
            ValueError: The strategy does not suit the encoder, the size the patch, or the
                statistics the model; or pixels are not normalised.
        """
        self._refuse(vision_feature_layer=vision_feature_layer)
        self._refuse(vision_feature_select_strategy=vision_feature_select_strategy)
        strategy = check_strategy(
            self.config.vision_feature_select_strategy, self.config.vision_config
        )
        check_floats(pixel_values)
        pixel_values = pixel_values.to(self.vision_tower.dtype)
        if is_naflex(self.config.vision_config):
            return self._features_of_patches(
                pixel_values, pixel_attention_mask, spatial_shapes, depth_statistics
            )
        tokens = self._projected(pixel_values, strategy)
        if depth_statistics is not None:
            tokens = self._fuse(tokens, depth_statistics, tuple(pixel_values.shape[-2:]))
        return BaseModelOutputWithPooling(pooler_output=list(tokens))

    @compilable
    def _projected(self, images: Tensor, strategy: str) -> Tensor:
        """(B, 3, H, W) to (B, N, D); not of NaFlex, whose patches are nowhere compiled."""
        states = hidden_states(self.vision_tower, images, feature_layers(self.config))
        tokens = select(torch.cat(states, -1), strategy, self.config.vision_config)
        return self.multi_modal_projector(tokens)

    def _features_of_patches(
        self, patches: Tensor, mask: Tensor, shapes: Tensor, statistics: Tensor | None
    ) -> BaseModelOutputWithPooling:
        if mask is None or shapes is None:
            raise ValueError(
                'expected pixel_attention_mask and spatial_shapes beside the patches of a NaFlex '
                'encoder, found none'
            )
        layers = feature_layers(self.config)
        found = patch_states(self.vision_tower, patches, mask, shapes, layers)
        tokens = self.multi_modal_projector(torch.cat(found))
        if statistics is not None:
            self._refuse_without_fusion()
            tokens = self.depth_fusion(tokens[None], statistics[None])[0]
        return BaseModelOutputWithPooling(pooler_output=tokens.split([len(x) for x in found]))

    def _refuse(self, **given) -> None:
        """What contradicts the configuration."""
        for name, value in given.items():
            expected = getattr(self.config, name)
            if value is not None and value != expected:
                raise ValueError(
                    f'{name}: expected {expected!r}, as in the configuration, found {value!r}'
                )

    def _refuse_without_fusion(self) -> None:
        if self.depth_fusion is None:
            raise ValueError(
                'depth_statistics: this model has no depth fusion; see add_depth_fusion'
            )

    def _fuse(self, tokens: Tensor, statistics: Tensor, size: tuple[int, int]) -> Tensor:
        self._refuse_without_fusion()
        rows, columns = token_grid(self.config.vision_config, size)
        if tokens.shape[1] != rows * columns:
            raise ValueError(
                f'depth_statistics: expected a token for each of {rows}x{columns} patches, found '
                f'{tokens.shape[1]} tokens; drop the CLS token'
            )
        return self.depth_fusion(tokens, statistics)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        depth_statistics: Tensor | None = None,
        **kwargs,
    ):
        """As transformers'; with an image the prompt reaches it as ``inputs_embeds``."""
        for name in ('vision_feature_layer', 'vision_feature_select_strategy'):
            self._refuse(**{name: kwargs.pop(name, None)})
        if pixel_values is None and depth_statistics is not None:
            raise ValueError('depth_statistics: expected pixel_values beside them, found none')
        if pixel_values is not None:
            features = self.get_image_features(
                pixel_values,
                depth_statistics=depth_statistics,
                pixel_attention_mask=kwargs.pop('pixel_attention_mask', None),
                spatial_shapes=kwargs.pop('spatial_shapes', None),
            ).pooler_output
            counts = [len(image) for image in features]
            features = torch.cat(tuple(features))
            if inputs_embeds is None:
                inputs_embeds = self.get_input_embeddings()(input_ids)
            features = features.to(inputs_embeds.device, inputs_embeds.dtype)
            places = (input_ids == self.config.image_token_id).sum().item()
            if places != sum(counts):
                wanted = f'{len(counts)} x {counts[0]}' if len({*counts}) == 1 else sum(counts)
                raise ValueError(
                    f'expected {wanted} image tokens in the prompts, found {places}; prompt and '
                    'image need the same processor'
                )
            mask = self.get_placeholder_mask(input_ids, inputs_embeds, features)
            inputs_embeds = inputs_embeds.masked_scatter(mask, features)
            input_ids = None
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **kwargs)


class DepthLlavaForConditionalGeneration(WithDepth, transformers.LlavaForConditionalGeneration):
    """Transformers' LLaVA, which can also load what this one saves, less the depth.

    Beyond it: images of any size, ``depth_statistics`` beside ``pixel_values`` in `forward` and
    ``generate``, and no computing of layers that nothing reads, but under NaFlex.
    """

    stock = transformers.LlavaForConditionalGeneration.__name__

    def __init__(self, config: LlavaConfig) -> None:
        super(transformers.LlavaForConditionalGeneration, self).__init__(config)
        self.model = DepthLlavaModel(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        depth_statistics: Tensor | None = None,
        pixel_attention_mask: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        **kwargs,
    ) -> LlavaCausalLMOutputWithPast:
        if pixel_values is not None:
            kwargs |= dict(pixel_attention_mask=pixel_attention_mask, spatial_shapes=spatial_shapes)
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            depth_statistics=depth_statistics,
            **kwargs,
        )
        some = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, some])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.text_config.vocab_size)
        fields = LlavaCausalLMOutputWithPast.__dataclass_fields__
        kept = {name: value for name, value in outputs.items() if name in fields}
        return LlavaCausalLMOutputWithPast(loss=loss, logits=logits, **kept)


LlavaForConditionalGeneration = DepthLlavaForConditionalGeneration  # its former name
