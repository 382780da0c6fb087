"""A small subword tokenizer in the transformers format, learnt from a list of sentences."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

PAD, END = '<pad>', '</s>'


def train_tokenizer(
    sentences: Iterable[str], *, vocab_size: int = 1024, context_length: int = 32
) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any word of any script has tokens; https://arxiv.org/abs/1508.07909.

    As in SigLIP, text is lower-cased, loses its punctuation, ends with one end token and is padded
    on the right.

    Args:
        sentences: What the merges are learnt from.
        vocab_size: Upper limit; the alphabet of 256 bytes and 2 special tokens are part of it.
        context_length: Tokens of a padded sentence.

    Raises:
        ValueError: If ``vocab_size`` does not hold the alphabet.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(alphabet) + 2:
        raise ValueError(f'vocab_size must be at least {len(alphabet) + 2}, got {vocab_size}')
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r'[!-,./:-@\[-`{-~]'), ''),
            normalizers.Replace(Regex(r'\s+'), ' '),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f'$A {END}', pair=f'$A {END} $B {END}', special_tokens=[(END, end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        model_max_length=context_length,
        padding_side='right',
        model_input_names=['input_ids'],
    )
