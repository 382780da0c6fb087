"""Where the parts of a SigLIP in open_clip's layout lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from open_clip import get_model_config

from mmseg_siglip.weights.open_clip_checkpoint import HALVES, OpenClipCheckpoint, read_open_clip
from mmseg_siglip.weights.source import Source

CLEAN = {'clean': 'canonicalize'}
TOKENIZER_FILES = ('tokenizer.json', 'tokenizer_config.json')


@dataclass(frozen=True)
class OpenClipSigLIP:
    """What an open_clip SigLIP is built from.

    Attributes:
        checkpoint: Its configuration and weights.
        tokenizer: Folder or Hub id of its tokenizer; None if nothing tells.
    """

    checkpoint: OpenClipCheckpoint
    tokenizer: str | None


def read_open_clip_siglip(
    source: Source | None, config: str | Mapping | None, model_types: Sequence[str]
) -> OpenClipSigLIP | None:
    """A checkpoint in open_clip's layout; None if it, or `config`, is transformers'.

    Args:
        source: See `read_open_clip`; None for random weights of `config`.
        config: A configuration of open_clip's, the name of one, or a folder that one lies in, where
            `source` does not tell.
        model_types: What tells that it is transformers'.

    Raises:
        ValueError: Weights are missing, or words are prepared in another way than SigLIP's.
    """
    folder = None
    if isinstance(config, Mapping):
        arch = config.get('model_cfg', config)
        if 'vision_cfg' not in arch:
            return None
    elif config is None or (arch := get_model_config(config)) is None:
        described = source if config is None else Source.open(config)
        if described.model_type in model_types or not described.timm_model:
            return None
        arch, folder = described.open_clip_model, described.folder
    words = arch.get('text_cfg', {})
    prepared = words.get('tokenizer_kwargs')
    if prepared != CLEAN:
        raise ValueError(f'{source or config}: expected tokenizer_kwargs {CLEAN}, found {prepared}')
    checkpoint = read_open_clip(source, None if config is None else arch, pixels=HALVES)
    has_tokenizer = folder and any((folder / name).is_file() for name in TOKENIZER_FILES)
    tokenizer = str(folder) if has_tokenizer else words.get('hf_tokenizer_name')
    return OpenClipSigLIP(checkpoint, tokenizer)
