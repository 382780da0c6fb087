"""The tokenizers of checkpoints."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mmseg_siglip.weights.json_file import check_token_ids
from mmseg_siglip.weights.source import bundled
from mmseg_siglip.weights.transformers_model import load_part

MISSING = 'expected tokenizer files, found none that load'


def load_tokenizer(
    source: str,
    *,
    missing: str = MISSING,
    revision: str | None = None,
    padding: bool = False,
    tokens: int = 0,
) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, a Hub id, or one that ships with this package; none runs code.

    Args:
        source: Folder, Hub id or shipped name.
        missing: What messages say where there is none.
        revision: Of a Hub id.
        padding: Whether it must have a token to pad with.
        tokens: How many the model knows. transformers makes a tokenizer without any where its files
            are lost, which takes all words for one.

    Raises:
        ValueError: There is none, or a small part of one; its ids run beyond those of any
            vocabulary, ``model_max_length`` is no length, or the token to pad with is missing.
    """
    source = bundled(source)
    if Path(source).is_dir():
        check_token_ids(source)
    tokenizer = load_part(AutoTokenizer, source, missing, revision=revision)
    if len(tokenizer) < tokens // 8:
        raise ValueError(
            f'{source}: expected a tokenizer of {tokens} tokens, found {len(tokenizer)}'
        )
    longest = tokenizer.model_max_length
    if type(longest) not in (int, float) or not longest >= 1:
        raise ValueError(
            f'{source}: expected model_max_length of its tokenizer of at least 1, found {longest!r}'
        )
    if padding and tokenizer.pad_token_id is None:
        raise ValueError(f'{source}: expected a tokenizer with a padding token, found none')
    return tokenizer
