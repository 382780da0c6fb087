"""Nothing of a checkpoint's runs, not even where "y" waits on standard input."""

from __future__ import annotations

import ast
import io
import json
import shutil
import sys
from itertools import product
from pathlib import Path

import pytest
from model_folders import BARE, LOADERS, WEIGHTS, every_folder, panoptic_folder, sam_folder  # noqa: F401
from transformers import AutoTokenizer, dynamic_module_utils

from mmseg_siglip import api
from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.weights.foreign import as_data
from mmseg_siglip.weights.transformers_model import load_part

MODELS = (
    'AutoConfig',
    'AutoModel',
    'AutoModelForCausalLM',
    'AutoModelForImageTextToText',
    'AutoBackbone',
)
TOKENIZER = dict(AutoTokenizer=['evil.Evil', 'evil.Evil'])
IMAGES = dict(AutoImageProcessor='evil.Evil')
BOTH = dict(AutoProcessor='evil.Evil', **IMAGES, **TOKENIZER)
UNKNOWN = {
    'config.json': dict(model_type='evil'),
    'tokenizer_config.json': dict(tokenizer_class='Evil'),
    'preprocessor_config.json': dict(image_processor_type='Evil'),
    'processor_config.json': dict(processor_class='Evil'),
}
"""What only the code in the folder would have."""
CODE = {
    'config.json': dict.fromkeys(MODELS, 'evil.Evil'),
    'tokenizer_config.json': TOKENIZER,
    'preprocessor_config.json': IMAGES,
    'processor_config.json': BOTH,
}


def put_code(folder: Path, file: str, change: dict) -> Path:
    """Code beside a model, and a file that names it; what it would write is returned."""
    bird = folder / 'ran'
    (folder / 'evil.py').write_text(f'open({str(bird)!r}, "w").close()\nclass Evil: pass\n')
    path = folder / file
    fields = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(fields | change | dict(auto_map=CODE[file])))
    return bird


@every_folder
def test_code_beside_a_model_does_not_run(request, tmp_path, monkeypatch, name):
    monkeypatch.setattr(dynamic_module_utils, 'HF_MODULES_CACHE', str(tmp_path / 'modules'))
    source, answers = request.getfixturevalue(name), io.StringIO('y\n' * 50)
    monkeypatch.setattr(sys, 'stdin', answers)
    for unknown in ('', *UNKNOWN):
        folder = tmp_path / f'with {unknown}'
        shutil.copytree(source, folder)
        changes = {file: UNKNOWN[file] if file == unknown else {} for file in CODE}
        birds = [put_code(folder, file, change) for file, change in changes.items()]
        paths = [str(folder), str(folder / WEIGHTS)][: 1 + (name in BARE)]
        for load, path in product(LOADERS[name], paths):
            try:
                load(path)
            except ValueError as error:
                assert str(folder) in str(error)
                assert '\n' not in str(error) and 'trust_remote_code' not in str(error)
        assert not birds[0].exists(), unknown
        assert answers.tell() == 0, unknown


def test_a_question_of_a_loader_inside_another_is_no_question(llm_folder, tmp_path, monkeypatch):
    """RAG's tokenizer loads two others without a word about code."""
    folder = tmp_path / 'rag'
    shutil.copytree(llm_folder, folder)
    config = dict(model_type='rag', question_encoder=dict(model_type='vit'))
    config |= dict(generator=dict(model_type='vit'))
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'tokenizer_config.json').write_text('{"tokenizer_class": "RagTokenizer"}')
    inner = folder / 'question_encoder_tokenizer'
    inner.mkdir()
    bird = put_code(inner, 'tokenizer_config.json', dict(tokenizer_class='Evil'))
    shutil.copy(inner / 'evil.py', folder)
    monkeypatch.setattr(sys, 'stdin', io.StringIO('y\n' * 50))
    with pytest.raises(ValueError, match='needs code of its own, which is never run'):
        load_part(AutoTokenizer, str(folder), 'no tokenizer')
    assert not bird.exists() and sys.stdin.tell() == 0


def test_a_text_tower_that_another_library_would_fetch(llm_folder, clip_config, tmp_path):
    """open_clip builds towers of transformers' by a name in its JSON, and asks about their code."""
    folder, tower = tmp_path / 'open_clip', tmp_path / 'tower'
    folder.mkdir()
    shutil.copytree(llm_folder, tower)
    bird = put_code(tower, 'config.json', dict(model_type='evil'))
    text = dict(hf_model_name=str(tower), hf_tokenizer_name=str(tower), hf_model_pretrained=True)
    config = dict(model_cfg=dict(clip_config, text_cfg=text))
    (folder / 'open_clip_config.json').write_text(json.dumps(config))
    shutil.copy(Path(llm_folder, WEIGHTS), folder / 'open_clip_model.safetensors')
    with pytest.raises(ValueError, match='expected a CLIP with a ViT and a causal text tower'):
        build_encoder(str(folder))
    assert not bird.exists()


def test_what_goes_wrong_within_is_one_sentence():
    for wrong in (KeyError('x'), RecursionError('deep'), MemoryError(), Panic('rust\nand more')):
        with (
            pytest.raises(ValueError, match=r'^a file: damaged \(') as caught,
            as_data('a file', 'damaged'),
        ):
            raise wrong
        assert '\n' not in str(caught.value)
    for other in (KeyboardInterrupt, SystemExit):
        with pytest.raises(other), as_data('a file', 'damaged'):
            raise other
    assert dynamic_module_utils.TIME_OUT_REMOTE_CODE > 0


class Panic(BaseException):
    """As tokenizers has one."""


LOADING = {'from_pretrained', 'from_config'}
ASIDE = 'weights/transformers_model.py'
"""Where a loader is chosen first and called, with the words, a few lines below."""


def test_every_call_that_loads_says_that_no_code_runs(repository):
    """Whoever uses a loader of transformers' says ``trust_remote_code=False`` in its own words."""
    ours, found = {*api.__all__, 'cls'}, 0
    for part in ('mmseg_siglip', 'tools', 'benchmarks'):
        for path in (repository / part).rglob('*.py'):
            nodes = [*ast.walk(ast.parse(path.read_text(encoding='utf-8')))]
            called = {id(node.func): node for node in nodes if isinstance(node, ast.Call)}
            for node in nodes:
                if not isinstance(node, ast.Attribute) or node.attr not in LOADING:
                    continue
                whose = ast.unparse(node.value)
                if whose.split('.')[-1] in ours or whose.startswith('SYSTEMS['):
                    continue
                found += 1
                if id(node) not in called:
                    assert str(path).endswith(ASIDE), f'{path}:{node.lineno}'
                    continue
                words = called[id(node)].keywords
                said = {word.arg: ast.unparse(word.value) for word in words}
                assert said.get('trust_remote_code') == 'False', f'{path}:{node.lineno}'
    assert found > 4
