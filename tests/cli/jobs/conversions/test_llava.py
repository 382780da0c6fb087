"""The converter: from the original's layout to a folder that stock transformers loads."""

from __future__ import annotations

import torch
import transformers
from original_llava import WORDS, original_config, original_names, stock, write_original
from tiny_vlm import NARROW

from mmseg_siglip.cli.main import main


def convert(*arguments: object) -> int:
    return main(['convert', 'llava', *map(str, arguments)])


def test_converted(clip_folder, llava_folder, tmp_path, capsys):
    vision = NARROW | dict(model_type='clip_vision_model', patch_size=8, image_size=32)
    oracle = stock('llava', 'llama', vision)
    fields = original_config(oracle, 'nobody/clip', model_type='llava')
    state = original_names(oracle, tower=True)
    folder = write_original(tmp_path / 'in', state, fields, form='shards')
    out = str(tmp_path / 'out')
    assert convert(str(folder), out, '--vision', clip_folder) == 0
    assert capsys.readouterr().out == f'{out}: a LlavaForConditionalGeneration\n'
    found = transformers.LlavaForConditionalGeneration.from_pretrained(out)
    for name, value in oracle.state_dict().items():
        rows = (
            WORDS
            if name in ('lm_head.weight', 'model.language_model.embed_tokens.weight')
            else None
        )
        assert torch.equal(found.state_dict()[name][:rows], value[:rows]), name

    (tmp_path / 'file').touch()
    assert convert(str(folder), str(tmp_path / 'file')) == 1
    assert 'file: expected a folder, found a file' in capsys.readouterr().err
    assert convert(llava_folder, out) == 1
    assert "expected a checkpoint in the original LLaVA's layout" in capsys.readouterr().err
