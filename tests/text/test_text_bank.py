import json
import os
import subprocess
import sys

import open_clip
import pytest
import torch
from oracles import embed_words
from safetensors.torch import load_file, save_file
from tiny_encoders import CLIP_CONFIG, SIGLIP_CONFIGS

from mmseg_siglip.io.cache import cache_folder
from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.text import text_bank as module
from mmseg_siglip.text.templates import get_templates
from mmseg_siglip.text.text_bank import (
    bank_key,
    embed_queries,
    prompt_batches,
    text_bank,
)

WORDS = ['sky', 'a person in a long red jacket', 'cat', 'sky', 'mountain range']
TEMPLATES = get_templates('imagenet8')


@pytest.fixture(scope='module')
def clip(openai_file):
    return CLIPBackbone(openai_file)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv('MMSEG_SIGLIP_CACHE', str(tmp_path / 'cache'))


@pytest.fixture
def count(monkeypatch):
    """How often the words were embedded rather than read."""
    calls = []
    real = module.embed_queries
    monkeypatch.setattr(
        module, 'embed_queries', lambda *args, **kw: calls.append(1) or real(*args, **kw)
    )
    return calls


@pytest.mark.parametrize('batch_size', [1, 7, 256])
@torch.no_grad()
def test_equals_one_word_at_a_time_untrimmed(clip, tiny_clip, batch_size):
    tokenizer = open_clip.get_tokenizer('ViT-B-16')
    expected = embed_words(tiny_clip, tokenizer, WORDS, TEMPLATES)
    bank = embed_queries(clip, WORDS, TEMPLATES, batch_size=batch_size)
    torch.testing.assert_close(bank, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_siglip_by_hand(siglip_folder):
    backbone = SigLIPBackbone(siglip_folder)
    vectors = torch.stack([backbone.encode_text([f'a photo of a {w}'])[0] for w in ('cat', 'sky')])
    expected = vectors / vectors.norm(dim=-1, keepdim=True)
    bank = embed_queries(backbone, ['cat', 'sky'], ['a photo of a {}.'])
    torch.testing.assert_close(bank, expected, atol=1e-5, rtol=0)


def test_repeated_words_are_encoded_once(clip, monkeypatch):
    seen = []
    real = clip.encode_text
    monkeypatch.setattr(clip, 'encode_text', lambda texts: seen.extend(texts) or real(texts))
    bank = embed_queries(clip, WORDS, TEMPLATES)
    assert len(seen) == len(set(seen)) == 4 * len(TEMPLATES)
    assert torch.equal(bank[0], bank[3])


def test_second_time_is_read(clip, count):
    first = text_bank(clip, WORDS, TEMPLATES)
    again = text_bank(clip, WORDS, TEMPLATES)
    assert torch.equal(first, again) and len(count) == 1
    assert len(list(cache_folder('text_bank').iterdir())) == 1


def test_others_may_read_what_the_umask_lets_them(clip):
    before = os.umask(0o022)
    try:
        text_bank(clip, WORDS, TEMPLATES)
    finally:
        os.umask(before)
    (path,) = cache_folder('text_bank').iterdir()
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(('num_words', 'batch_size'), [(3, 256), (70, 256), (70, 32)])
def test_batches_hold_every_prompt_once(num_words, batch_size):
    words = [f'w{"x" * (i % 7)}{i}' for i in range(num_words)]
    batches = list(prompt_batches(words, TEMPLATES, batch_size))
    prompts = [prompt for batch in batches for prompt in batch]
    expected = [(t.replace('{}', word), i) for t in TEMPLATES for i, word in enumerate(words)]
    assert sorted(prompts) == sorted(expected)
    assert max(map(len, batches)) <= batch_size


RACER = """
import sys, time
from pathlib import Path
import torch
from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.text.text_bank import text_bank

weights, folder, me, other = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
backbone, banks = CLIPBackbone(weights), []
for turn in range(10):
    (folder / f'{me}{turn}').touch()
    while not (folder / f'{other}{turn}').exists():
        time.sleep(0.001)
    banks.append(text_bank(backbone, ['sky', f'turn {turn}'], ['a photo of a {}.']))
torch.save(torch.stack(banks), folder / f'{me}.pth')
"""


@torch.no_grad()
def test_two_processes_may_write_at_once(clip, openai_file, tmp_path):
    """Both meet before each of ten files; both get, and leave behind, whole ones."""
    racers = [
        subprocess.Popen([sys.executable, '-c', RACER, str(openai_file), str(tmp_path), *names])
        for names in ('ab', 'ba')
    ]
    assert [racer.wait(timeout=300) for racer in racers] == [0, 0]
    turns = [['sky', f'turn {turn}'] for turn in range(10)]
    expected = torch.stack([embed_queries(clip, words, ['a photo of a {}.']) for words in turns])
    for name in 'ab':
        found = torch.load(tmp_path / f'{name}.pth', weights_only=True)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    files = list(cache_folder('text_bank').iterdir())
    assert len(files) == 10 and {path.suffix for path in files} == {'.safetensors'}
    assert all(load_file(path)['embeddings'].shape == (2, 48) for path in files)


def test_nothing_stale_is_served(clip, openai_file, siglip_folder, count):
    text_bank(clip, WORDS, TEMPLATES)
    text_bank(clip, [*WORDS, 'dog'], TEMPLATES)
    text_bank(clip, WORDS, TEMPLATES[:-1])
    text_bank(clip, WORDS[::-1], TEMPLATES)
    text_bank(clip, WORDS, TEMPLATES, precision='bf16')
    other = CLIPBackbone(openai_file)
    other.model.ln_final.bias.data[0] += 1e-3
    moved = text_bank(other, WORDS, TEMPLATES)
    assert len(count) == 6
    assert not torch.equal(moved, text_bank(clip, WORDS, TEMPLATES)) and len(count) == 6


@pytest.mark.parametrize(
    'changes', [dict(quick_gelu=False), dict(text_cfg=CLIP_CONFIG['text_cfg'] | dict(heads=2))]
)
def test_what_clip_weights_do_not_tell_is_part_of_the_key(changes, count):
    """Neither the activation nor the number of heads is in the weights."""
    one, other = CLIPBackbone(arch=CLIP_CONFIG), CLIPBackbone(arch=CLIP_CONFIG | changes)
    other.model.load_state_dict(one.model.state_dict())
    banks = [text_bank(backbone, WORDS, TEMPLATES) for backbone in (one, other)]
    assert len(count) == 2 and not torch.equal(*banks)


@pytest.mark.parametrize('changes', [dict(hidden_act='relu'), dict(num_attention_heads=2)])
def test_what_siglip_weights_do_not_tell_is_part_of_the_key(siglip_folder, changes, count):
    fields = SIGLIP_CONFIGS['siglip']
    fields = fields | dict(text_config=fields['text_config'] | changes)
    one = SigLIPBackbone(siglip_folder)
    other = SigLIPBackbone(config=fields, tokenizer=siglip_folder)
    other.model.load_state_dict(one.model.state_dict())
    banks = [text_bank(backbone, WORDS, ['{}']) for backbone in (one, other)]
    assert len(count) == 2 and not torch.equal(*banks)


def test_where_siglip_weights_come_from_does_not_matter(siglip_folder, tmp_path, count):
    one = SigLIPBackbone(siglip_folder)
    one.save_pretrained(tmp_path / 'copy')
    config = tmp_path / 'copy' / 'config.json'
    fields = json.loads(config.read_text())
    fields['text_config'] |= dict(transformers_version='4.0.0', dtype='bfloat16')
    config.write_text(json.dumps(fields))
    for backbone in (one, SigLIPBackbone(str(tmp_path / 'copy'))):
        text_bank(backbone, WORDS, ['{}'])
    assert len(count) == 1


def test_image_weights_do_not_matter(clip, openai_file):
    other = CLIPBackbone(openai_file)
    other.model.visual.ln_post.bias.data += 1
    keys = [bank_key(b, WORDS, TEMPLATES, torch.float32) for b in (clip, other)]
    assert keys[0] == keys[1]


def test_tokenizer_is_part_of_the_key(siglip_folder):
    backbone = SigLIPBackbone(siglip_folder)
    before = bank_key(backbone, WORDS, TEMPLATES, torch.float32)
    backbone.tokenizer.add_tokens(['zzyzxq'])
    assert bank_key(backbone, WORDS, TEMPLATES, torch.float32) != before


@pytest.mark.parametrize('content', [b'', b'not safetensors', b'\x08\0\0\0\0\0\0\0{}      '])
def test_damaged_file_is_replaced(clip, count, content):
    first = text_bank(clip, WORDS, TEMPLATES)
    (path,) = cache_folder('text_bank').iterdir()
    path.write_bytes(content)
    assert torch.equal(text_bank(clip, WORDS, TEMPLATES), first) and len(count) == 2
    assert torch.equal(text_bank(clip, WORDS, TEMPLATES), first) and len(count) == 2


@pytest.mark.parametrize(
    'spoil',
    [
        lambda bank: bank[1:],
        lambda bank: bank[:, 1:],
        lambda bank: bank.half(),
        lambda bank: bank * 1.01,
        lambda bank: torch.zeros_like(bank),
        lambda bank: bank.index_fill(0, torch.tensor([1]), float('nan')),
        lambda bank: bank.index_fill(0, torch.tensor([1]), float('inf')),
    ],
)
@pytest.mark.parametrize('each', [False, True])
def test_a_file_of_other_numbers_is_replaced(clip, count, spoil, each):
    bank = text_bank(clip, WORDS, TEMPLATES, each=each)
    (path,) = cache_folder('text_bank').iterdir()
    save_file(dict(embeddings=spoil(bank).contiguous()), path)
    del count[:]
    assert torch.equal(text_bank(clip, WORDS, TEMPLATES, each=each), bank)
    assert count
    del count[:]
    assert torch.equal(text_bank(clip, WORDS, TEMPLATES, each=each), bank)
    assert not count


def test_unwritable_cache_is_no_obstacle(clip, monkeypatch, tmp_path):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('MMSEG_SIGLIP_CACHE', str(tmp_path / 'file' / 'cache'))
    assert text_bank(clip, WORDS, TEMPLATES).shape == (5, 48)
