"""A small tokenizer in Llama's manner, learnt from ShapesWorld questions.

It is what ``configs/_base_/models/llava_tiny.py`` reads and writes, and ships with the package as
``shapes_questions``. The language model itself has no file: that config describes it.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mmseg_siglip.datasets.shapes_world.questions import KINDS, PLURALS
from mmseg_siglip.datasets.shapes_world.scene import SHAPES

PAD, START, END = '<pad>', '<s>', '</s>'


def dialogue_sentences() -> list[str]:
    """Every question, every answer, and what stands around them."""
    questions = [f'how many {PLURALS[shape]}?' for shape in SHAPES]
    questions += [f'what colour is the {shape}?' for shape in SHAPES]
    questions += [f'which shape is {kind}?' for kind in ('nearest', 'farthest')]
    answers = {answer for answers in KINDS.values() for answer in answers}
    return [f'USER: \n{q} ASSISTANT: {a}' for q in questions for a in sorted(answers)]


def train_llama_tokenizer(
    texts: list[str], *, vocab_size: int, context: int
) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a start token, case and punctuation kept, padded on the left."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f'{START} $A',
        pair=f'{START} $A {START} $B',
        special_tokens=[(START, tokenizer.token_to_id(START))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        model_max_length=context,
        padding_side='left',
        model_input_names=['input_ids', 'attention_mask'],
    )


def convert(out: str | Path, *, vocab_size: int, context: int) -> str:
    """Write the folder.

    Args:
        out: Its place.
        vocab_size: Tokens, at most.
        context: Tokens of a text.
    """
    tokenizer = train_llama_tokenizer(dialogue_sentences(), vocab_size=vocab_size, context=context)
    tokenizer.save_pretrained(out)
    return f'{out}: {len(tokenizer)} tokens'
