from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmseg_siglip.api import VisionChat
from mmseg_siglip.vlm import load_pretrained_model

IMAGE = np.full((40, 40, 3), 90, np.uint8)


@pytest.fixture
def folder(llava_folder, tmp_path):
    shutil.copytree(llava_folder, tmp_path / 'llava')
    return tmp_path / 'llava'


def write(folder: Path, **change) -> None:
    path = folder / 'generation_config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def ask(folder: Path) -> str:
    return str(
        VisionChat.from_pretrained(str(folder), device='cpu')(IMAGE, 'what?', max_new_tokens=5)
    )


@pytest.mark.parametrize(
    'change',
    [
        dict(do_sample=True, temperature=5.0, top_k=50, top_p=0.9),
        dict(num_beams=10**9),
        dict(num_return_sequences=3, num_beams=4),
        dict(dola_layers='high'),
        dict(prompt_lookup_num_tokens=10**9),
        dict(assistant_early_exit=1),
        dict(sequence_bias=[1]),
        dict(max_length=1, min_length=400),
        dict(repetition_penalty=2.5),
    ],
)
def test_only_the_most_likely_words(folder, llava_folder, change):
    expected = ask(Path(llava_folder))
    write(folder, **change)
    assert ask(folder) == expected


def test_special_tokens_are_the_checkpoints(folder, llava_folder):
    chat = VisionChat.from_pretrained(llava_folder, device='cpu')
    inputs = chat._inputs([np.array(IMAGE)], 'what?', None)
    first = int(chat.model.generate(**inputs, max_new_tokens=1)[0, -1])
    write(folder, eos_token_id=[2, first])
    assert ask(folder) == chat.vlm.tokenizer.decode([first]).strip()
    for name, value in (('eos_token_id', 'x'), ('eos_token_id', [-1]), ('pad_token_id', 10**9)):
        write(folder, eos_token_id=2, pad_token_id=0)
        write(folder, **{name: value})
        with pytest.raises(ValueError, match=rf'^{folder}: .*{name}.*among the \d+ tokens'):
            ask(folder)


def test_the_tokenizers_end_is_an_end(folder):
    """Trained here, a model ends its answers with it, whatever its configuration says."""
    write(folder, eos_token_id=7)
    chat = VisionChat.from_pretrained(str(folder), device='cpu')
    assert chat.model.generation_config.eos_token_id == [7, chat.vlm.tokenizer.eos_token_id]


@pytest.mark.parametrize('sampling', [False, True])
def test_what_samples_would_be_drawn_by_is_saved_where_they_are(folder, tmp_path, sampling):
    """Transformers refuses to save ``temperature`` without ``do_sample``, as Vicuna has it."""
    write(folder, do_sample=sampling, temperature=0.9, top_p=0.6)
    load_pretrained_model(str(folder), device='cpu').save_pretrained(tmp_path / 'again')
    found = json.loads((tmp_path / 'again' / 'generation_config.json').read_text())
    expected = (0.9, 0.6) if sampling else (None, None)
    assert (found.get('temperature'), found.get('top_p')) == expected
