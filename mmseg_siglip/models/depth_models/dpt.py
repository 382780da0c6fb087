"""DPT, https://arxiv.org/abs/2103.13413, and MiDaS 3.1, https://arxiv.org/abs/2307.14460."""

from __future__ import annotations

from math import isqrt
from typing import Any

from torch import Tensor
from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

from mmseg_siglip.models.adapters.depth_release import split_release, to_dpt
from mmseg_siglip.models.adapters.timm_vit import vit_config
from mmseg_siglip.models.depth_models.published import PREDICTS, Parts, PublishedDepth, Seen
from mmseg_siglip.registry import DEPTH_MODELS
from mmseg_siglip.weights.source import Source

MARK = 'scratch.refinenet1.out_conv.weight'
BLOCKS = 'pretrained.model.blocks.0.attn.qkv.weight'
HYBRID = 'pretrained.model.patch_embed.backbone.'
TABLE = 'blocks.0.attn.relative_position_bias_table'
TAPS = {12: (2, 5, 8, 11), 24: (5, 11, 17, 23)}


@DEPTH_MODELS.register_module()
class DPTDepth(PublishedDepth):
    """DPT on ViT, BEiT, Swin 2, DINOv2 or the hybrid, as transformers has them.

    No configuration says what comes out. The models of DINOv2 (``facebook/dpt-dinov2-small-nyu``),
    known by the projection in front of their head, were trained on metres; all others
    (``Intel/dpt-large``, ``Intel/dpt-beit-large-512``) give inverse depth.

    Args:
        source: See `PublishedDepth`; or MiDaS' ``.pt`` on ViT or BEiT (``dpt_large_384.pt``,
            ``dpt_beit_large_512.pt``), which is prepared for as the folder that transformers
            converted it to, at the one square size of its positions.
        predicts: ``depth``, metres, or ``inverse``, where it is not as above.

    Raises:
        ValueError: See `PublishedDepth`.
    """

    model_types = ('dpt',)
    kind = DPTForDepthEstimation
    options = ('predicts',)
    releases = "MiDaS' .pt of DPT"

    def __init__(self, source: Source, *, predicts: str | None = None) -> None:
        if predicts not in (None, *PREDICTS):
            raise ValueError(f'predicts: expected one of {", ".join(PREDICTS)}, found {predicts!r}')
        super().__init__(source, dpt_parts(source) if MARK in source.tensors else None)
        projects = self.model.config.add_projection
        self.predicts = predicts or ('depth' if projects else 'inverse')

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return super().recognises(source) or MARK in source.tensors

    def run(self, pixels: Tensor) -> Seen:
        height, width = pixels.shape[-2:]
        if self.model.config.backbone_config is None and height != width:
            raise ValueError(
                'expected an image processor with keep_aspect_ratio=False, as this DPT of '
                f'transformers takes squares alone, found {height}x{width} pixels (height x width)'
            )
        return super().run(pixels)


def dpt_parts(source: Source) -> Parts:
    """What MiDaS' file is as a model of transformers, by the shapes of its tensors.

    Raises:
        ValueError: Its encoder is neither ViT nor BEiT, or a tensor is not there.
    """
    state = source.tensors
    if BLOCKS not in state or any(name.startswith(HYBRID) for name in state):
        raise ValueError(
            f'{source}: of the releases of DPT, those on ViT and BEiT are read, found '
            f'{next(iter(state))}; the folders that transformers converted are read of all'
        )
    vision = split_release(state, 'pretrained.model.')[0]
    try:
        fields = beit_fields(vision) if TABLE in vision else vit_fields(vision)
        stages = [len(state[f'pretrained.act_postprocess{i}.3.weight']) for i in (1, 2, 3, 4)]
        channels = len(state['scratch.layer1_rn.weight'])
    except KeyError as error:
        raise ValueError(f'{source}: expected {error.args[0]} of DPT, found none') from error
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from error
    projects = 'pretrained.act_postprocess1.0.project.0.weight' in state
    config = DPTConfig(
        **fields,
        neck_hidden_sizes=stages,
        fusion_hidden_size=channels,
        readout_type='project' if projects else 'ignore',
    )
    side = (config.backbone_config or config).image_size
    processor = DPTImageProcessor(size=dict(height=side, width=side))
    return Parts(config, to_dpt(state), processor)


def vit_fields(state: dict[str, Tensor]) -> dict[str, Any]:
    """Of a ViT, whose fields are DPT's own. Norms have the epsilon of transformers' folders."""
    fields = vit_config(state)
    del fields['layer_norm_eps']
    return dict(fields, backbone_out_indices=taps_of(fields['num_hidden_layers']))


def beit_fields(state: dict[str, Tensor]) -> dict[str, Any]:
    """Of a BEiT, as ``backbone_config``."""
    width, _, patch, _ = state['patch_embed.proj.weight'].shape
    count, heads = state[TABLE].shape
    blocks = len({name.split('.')[1] for name in state if name.startswith('blocks.')})
    side = (isqrt(count - 3) + 1) // 2
    if (2 * side - 1) ** 2 + 3 != count:
        raise ValueError(f'expected positions of a square grid, found {count}')
    vision = dict(
        model_type='beit',
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        intermediate_size=len(state['blocks.0.mlp.fc1.weight']),
        image_size=side * patch,
        patch_size=patch,
        use_relative_position_bias=True,
        reshape_hidden_states=False,
        out_indices=[tap + 1 for tap in taps_of(blocks)],
    )
    return dict(backbone_config=vision)


def taps_of(blocks: int) -> tuple[int, ...]:
    """The blocks that DPT reads.

    Raises:
        ValueError: It was published on no encoder of that many.
    """
    if blocks not in TAPS:
        raise ValueError(
            f'expected an encoder of {" or ".join(map(str, TAPS))} blocks, found {blocks}'
        )
    return TAPS[blocks]
