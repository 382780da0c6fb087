"""The most likely words, whatever else a checkpoint would have ``generate`` do."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENS = ('bos_token_id', 'eos_token_id', 'pad_token_id')


OF_SAMPLES = (
    *('temperature', 'top_k', 'top_p', 'min_p', 'top_h', 'typical_p'),
    *('epsilon_cutoff', 'eta_cutoff'),
)


@contextmanager
def generating_by(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """While it lasts, `config` is what the model generates by, and what it saves."""
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


def without_idle(config: GenerationConfig) -> GenerationConfig:
    """`config` less what nothing reads: how to sample, where no samples are drawn.

    Vicuna and LLaVA 1.5 have that, and transformers refuses to save a model with it.
    """
    config = copy.deepcopy(config)
    for name in () if config.do_sample else OF_SAMPLES:
        if getattr(config, name, None) is not None:
            setattr(config, name, None)
    return config


def greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """A checkpoint's special tokens and none of its other settings of ``generate``, which ask for
    samples, for beams that fill any memory, for several answers, or for code of the Hub.

    An answer ends with any of the checkpoint's end tokens or with the tokenizer's.

    Raises:
        ValueError: A special token is none of the model's.
    """
    vocabulary = model.get_input_embeddings().num_embeddings
    found = {}
    for name in TOKENS:
        value = getattr(model.generation_config, name, None)
        tokens = value if isinstance(value, list) and name == 'eos_token_id' else [value]
        if value is not None and not all(_is_token(token, vocabulary) for token in tokens):
            raise ValueError(
                f'{model.name_or_path or "model"}: expected {name} of generation_config.json among '
                f'the {vocabulary} tokens, found {value!r}'
            )
        found[name] = value
    ends = [*ends_of(found['eos_token_id']), tokenizer.eos_token_id]
    ends = [token for token in ends if token is not None and _is_token(token, vocabulary)]
    found['eos_token_id'] = list(dict.fromkeys(ends)) or None
    return GenerationConfig(**found, do_sample=False)


def ends_of(tokens: int | list[int] | None) -> list[int]:
    """The numbers of ``eos_token_id``, which may be one, several or none."""
    if tokens is None:
        return []
    return tokens if isinstance(tokens, list) else [tokens]


def _is_token(token: object, vocabulary: int) -> bool:
    return type(token) is int and 0 <= token < vocabulary
