"""What runs code, or could run a file's, stands only where it is allowed, each for a reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

FOLDERS = ('mmseg_siglip', 'tools')
MODULES = {
    'cloudpickle',
    'ctypes',
    'dill',
    'joblib',
    'marshal',
    'pickle',
    'runpy',
    'shelve',
    'subprocess',
}
CALLS = {
    'Config.fromfile',
    'Config.fromstring',
    '__import__',
    'compile',
    'eval',
    'exec',
    'exec_module',
    'import_module',
    'os.popen',
    'os.posix_spawn',
    'os.startfile',
    'os.system',
    'torch.hub.load',
    'torch.jit.load',
    'torch.load',
    'yaml.full_load',
    'yaml.load',
    'yaml.unsafe_load',
}
SAFE = dict(allow_pickle=False, shell=False, trust_remote_code=False, weights_only=True)
"""Keywords of calls, and the one value that needs no permission."""
NEEDED = {'np.load': 'allow_pickle', 'numpy.load': 'allow_pickle', 'torch.load': 'weights_only'}
"""Calls and the keyword that makes them safe."""

OURS = 'a module of this package, by a name in its own source'
ALLOWED = {
    'mmseg_siglip/__init__.py': {'import_module': OURS},
    'mmseg_siglip/api/load.py': {'Config.fromfile': "the user's config, which is trusted"},
    'mmseg_siglip/cli/jobs/costs.py': {'ctypes': 'the C library gives memory back'},
    'mmseg_siglip/cli/main.py': {'import_module': 'one of COMMANDS'},
    'mmseg_siglip/datasets/refs_file.py': {'pickle': 'an interpreter of plain containers alone'},
    'mmseg_siglip/engine/processes.py': {'subprocess': "SLURM's scontrol names the first machine"},
    'mmseg_siglip/lazy.py': {'import_module': OURS},
    'mmseg_siglip/models/postprocessors/compiled_pamr.py': {
        'ctypes': "PAMR's loops in C, which are ours",
        'subprocess': "the machine's own compiler makes them, when a config asks for it",
    },
    'mmseg_siglip/weights/checkpoint.py': {
        'pickle': "the type of torch.load's refusals",
        'torch.load': 'the one reader of torch files',
    },
    'mmseg_siglip/weights/stand_ins.py': {
        'pickle': 'an interpreter of tensors and plain values, all else stands there inert',
    },
    'mmseg_siglip/web/arenas.py': {'ctypes': 'the C library has a setting for memory of threads'},
}
"""Why a file may hold a mark."""


def marks(source: str) -> Iterator[str]:
    """What in a file needs permission."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from MODULES & {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            yield from MODULES & {(node.module or '').split('.')[0]}
            yield from (
                f'{node.module}.{alias.name}'
                for alias in node.names
                if f'{node.module}.{alias.name}' in CALLS
            )
        elif isinstance(node, ast.Name) and node.id in CALLS and node.id not in {'compile'}:
            yield node.id
        elif isinstance(node, ast.Call):
            yield from of_call(node)


def of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    last = name.split('.')[-1]
    if name in CALLS - {'eval', 'exec', '__import__', 'import_module'}:
        yield name
    elif last in {'exec_module', 'import_module'} and name != last:
        yield last
    elif name.startswith(('os.exec', 'os.spawn', 'os.fork')):
        yield name
    given = {word.arg: word.value for word in node.keywords}
    for word, value in given.items():
        if word in SAFE and not (isinstance(value, ast.Constant) and value.value is SAFE[word]):
            yield f'{word}={ast.unparse(value)}'
    if name in NEEDED and NEEDED[name] not in given:
        yield f'{name} without {NEEDED[name]}'


def test_only_where_it_is_allowed(repository):
    files = [path for folder in FOLDERS for path in sorted((repository / folder).rglob('*.py'))]
    assert len(files) > 200
    found = {
        (path.relative_to(repository).as_posix(), mark)
        for path in files
        for mark in marks(path.read_text(encoding='utf-8'))
    }
    listed = {(file, mark) for file, reasons in ALLOWED.items() for mark in reasons}
    assert not found - listed, 'not allowed'
    assert not listed - found, 'these are gone: take them out of ALLOWED'


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        ('import pickle', ['pickle']),
        ('from subprocess import run', ['subprocess']),
        ('torch.load(path, weights_only=True)', ['torch.load']),
        ('torch.load(path, weights_only=flag)', ['torch.load', 'weights_only=flag']),
        ('torch.load(path)', ['torch.load', 'torch.load without weights_only']),
        ('np.load(path)', ['np.load without allow_pickle']),
        ('np.load(path, allow_pickle=False)', []),
        ('f(trust_remote_code=False)', []),
        ('f(trust_remote_code=True)', ['trust_remote_code=True']),
        ('read = eval', ['eval']),
        ('eval(text)', ['eval']),
        ('model.eval()', []),
        ('re.compile(text)', []),
        ('compile(text, name, "exec")', ['compile']),
        ('spec.loader.exec_module(module)', ['exec_module']),
        ('importlib.import_module(name)', ['import_module']),
        ('from os import system', ['os.system']),
        ('os.execvp(name, words)', ['os.execvp']),
        ('yaml.safe_load(text)', []),
        ('yaml.load(text)', ['yaml.load']),
        ('run(words, shell=True)', ['shell=True']),
        ('Config.fromfile(path)', ['Config.fromfile']),
    ],
)
def test_what_is_noticed(source, expected):
    assert sorted(marks(source)) == sorted(expected)
