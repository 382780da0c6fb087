"""The most likely words, whatever else a checkpoint would have ``generate`` do."""

from __future__ import annotations

from transformers import GenerationConfig, PreTrainedModel

TOKENS = ('bos_token_id', 'eos_token_id', 'pad_token_id')


def greedy(model: PreTrainedModel) -> GenerationConfig:
    """A checkpoint's special tokens and none of its other settings of ``generate``, which ask for
    samples, for beams that fill any memory, for several answers, or for code of the Hub.

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
    return GenerationConfig(**found, do_sample=False)


def _is_token(token: object, vocabulary: int) -> bool:
    return type(token) is int and 0 <= token < vocabulary
