"""Which tokens of a vision tower reach the language model.

LLaVA calls it ``mm_vision_select_feature``, transformers ``vision_feature_select_strategy``.
"""

from __future__ import annotations

import warnings

from torch import Tensor
from transformers import PretrainedConfig

from mmseg_siglip.vlm.vision import num_prefix

PATCHES, EVERYTHING = ('patch', 'default'), ('cls_patch', 'full')
STRATEGIES = (*PATCHES, *EVERYTHING)
LLAVA = ('patch', 'cls_patch')
"""LLaVA's own words, which configurations of SigLIP have too, though there is nothing to select."""


def check_strategy(strategy: str, config: PretrainedConfig) -> str:
    """The strategy that suits the encoder: of SigLIP ``full``, which LLaVA's words mean there.

    ``patch`` of a SigLIP is warned of: LLaVA-NeXT's tower passes over it and gives all tokens.

    Raises:
        ValueError: It is unknown; or it removes or counts a CLS token that the encoder lacks.
    """
    if strategy not in STRATEGIES:
        allowed = STRATEGIES if num_prefix(config) else ('full',)
        raise ValueError(
            f'select_feature: expected one of {", ".join(allowed)}, found {strategy!r}'
        )
    if num_prefix(config) or strategy == 'full':
        return strategy
    if strategy not in LLAVA:
        raise ValueError(
            f"select_feature: expected 'full' for SigLIP, found {strategy!r}; SigLIP has no CLS "
            'token, so it would be a real patch that is taken for one'
        )
    if strategy == 'patch':
        warnings.warn(
            "select_feature: 'patch' of a SigLIP, which has no CLS token, is taken for all tokens",
            stacklevel=2,
        )
    return 'full'


def default_strategy(config: PretrainedConfig) -> str:
    """All tokens of SigLIP; of CLIP the patches, as in LLaVA."""
    return 'patch' if num_prefix(config) else 'full'


def in_transformers(strategy: str) -> str:
    """``default`` (without CLS) or ``full``."""
    return 'default' if strategy in PATCHES else 'full'


def select(tokens: Tensor, strategy: str, config: PretrainedConfig) -> Tensor:
    """(B, N, C) to the tokens that `strategy` keeps."""
    return tokens[:, num_prefix(config) :] if strategy in PATCHES else tokens


def extra_tokens(strategy: str, config: PretrainedConfig) -> int:
    """Tokens kept beside the patches."""
    return num_prefix(config) if strategy in EVERYTHING else 0
