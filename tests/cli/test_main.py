import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import mmseg_siglip
from mmseg_siglip.cli.main import COMMANDS, main, parser_of

WORDS = {
    'segment': ['a.jpg', 'b.jpg', 'cat, dog', '--precision', 'auto'],
    'refer': ['a.jpg', 'b.jpg', 'the cup', '--config', 'c.py'],
    'depth': ['a.jpg', 'b.jpg', '--config', 'c.py', '--device', 'cpu'],
    'ask': ['model', 'a.jpg', 'b.jpg', 'what?'],
    'demo': ['--out', 'o', '--images', '3'],
    'serve': ['--segment', 'a=b', '--port', '8000'],
    'label': ['photos', '--words', 'cat', '--out', 'o', '--format', 'png'],
    'export': ['labels', '--out', 'o'],
    'train': ['c.py', '--launcher', 'none'],
    'test': ['c.py', 'w.pth', '--show'],
    'benchmark': ['--datasets', 'voc21', '--attention', 'csa'],
    'reproduce': ['voc21', '--root', 'data'],
    'rank-templates': ['c.py', 'w.pt', '--out', 'o.json'],
    'trace': ['c.py', '--index', '3'],
    'convert': ['encoder', 'c.py', 'w.pth', 'o'],
    'export-onnx': ['segment', 'o.onnx', '--words', 'cat', '--size', '64', '64'],
    'patch-stats': ['maps', '--out', 'o', '--patch-size', '14'],
    'completion': ['bash'],
}
HEAVY = ('torch', 'numpy', 'mmengine', 'mmcv', 'mmseg', 'transformers')


def python(repository, *argv, **options):
    environment = dict(os.environ, PYTHONPATH=str(repository))
    return subprocess.run(
        [sys.executable, *map(str, argv)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def test_help_and_parsing_import_nothing_heavy(repository):
    code = f"""
import sys
from mmseg_siglip.cli.main import COMMANDS, main, parser_of
assert main(['--help']) == 0
for command, words in {WORDS!r}.items():
    parser_of(command)[0].parse_args(words)
    try:
        main([command, '--help'])
    except SystemExit as stop:
        assert stop.code == 0
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    result = python(repository, '-c', code)
    assert result.stdout.endswith('\n[]\n'), result.stderr
    assert all(f'usage: mmseg-siglip {name} ' in result.stdout for name in COMMANDS)


@pytest.mark.parametrize('buffered', ['', '1'])
def test_nobody_reads_to_the_end(repository, buffered):
    """As with ``| head``."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'mmseg_siglip', '--help'],
        env=dict(os.environ, PYTHONPATH=str(repository), PYTHONUNBUFFERED=buffered),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b''
    assert process.wait(60) == 1


def test_every_command_is_named_and_nothing_else(repository, capsys):
    assert main(['-h']) == 0
    overview = capsys.readouterr().out
    assert WORDS.keys() == COMMANDS.keys()
    assert all(f'  {name} ' in overview for name in COMMANDS)
    assert main([]) == 2 and capsys.readouterr().err == overview
    assert main(['--version']) == 0 and capsys.readouterr().out == f'{mmseg_siglip.__version__}\n'
    setup = (repository / 'setup.cfg').read_text()
    assert 'mmseg-siglip = mmseg_siglip.cli.main:main' in setup


def test_every_command_says_what_it_keeps():
    """Whether it is interrupted before it has begun or not."""
    for command, words in WORDS.items():
        parser, module = parser_of(command)
        assert re.fullmatch(r'.+; the same command .+', module.kept(parser.parse_args(words)))


def test_arguments_in_common_are_the_same_everywhere():
    """One name, one meaning: `--device` of any command says what that of any other says."""
    meanings: dict[str, set] = {}
    for command in COMMANDS:
        for action in parser_of(command)[0]._actions:
            for name in action.option_strings:
                meanings.setdefault(name, set()).add(action.help)
    for name in ('--device', '--precision', '--checkpoint', '--launcher', '--cfg-options'):
        assert len(meanings[name]) == 1, name


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['segment', 'a.jpg'], 'the following arguments are required: words'),
        (['segment', 'a.jpg', 'cat', '--precision', 'half'], 'expected one of auto, fp32, bf16'),
        (
            ['segment', 'a.jpg', 'cat', '--method', 'magic'],
            "sclip, .*naclip, .* found 'magic'",
        ),
        (['a.jpg', 'cat', '--templates', 'magic'], "expected one of imagenet80, .* found 'magic'"),
        (
            ['label', 'a', '--words', 'b', '--out', 'c', '--format', 'x'],
            'expected one of png, coco',
        ),
        (['label', 'a', '--words', 'b', '--out', 'c', '--batch-size', '0'], 'at least 1, found 0'),
        (['depth', 'a.jpg'], 'expected one of --model and --config'),
        (['depth', 'a.jpg', '--config', 'c', '--depth-scale', '-1'], 'a positive number, found -1'),
        (['train', 'c.py', '--launcher', 'rocket'], 'expected one of none, pytorch, slurm, mpi'),
        (['benchmark', 'w.pth', '--referring', 'a', '--pamr-steps', '3'], '--pamr-steps: expected'),
        (['benchmark', '--datasets', 'a', '--sizes', '3'], '--sizes: expected nothing of the kind'),
        (['benchmark', '--referring', 'a'], '--referring needs a CHECKPOINT'),
        (
            ['patch-stats', 'a', '--out', 'b', '--grid', '2', '2', '--checkpoint', 'c'],
            'needs --conf',
        ),
    ],
)
def test_arguments_that_make_no_sense(capsys, argv, message):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert re.search(message, ' '.join(capsys.readouterr().err.split()))


def test_without_a_command_it_is_segment(repository, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / 'photo.png')
    options = ['--encoder', 'tiny_siglip_shapes', '--templates', 'plain', '--out', 'out']
    argv = ['-m', 'mmseg_siglip', 'photo.png', 'red star, ground', *options]
    result = python(repository, *argv, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == '1 of 1 images segmented into out\n'
    names = {path.name for path in (tmp_path / 'out').iterdir()}
    assert names == {'photo.png.labels.png', 'photo.png.picture.png', 'photo.png.json'}
    assert main(['no.png', 'cat']) == 1


@pytest.mark.slow
@pytest.mark.parametrize('task', ['refer', 'depth', 'ask'])
def test_commands_as_processes(repository, system_files, llava_folder, tmp_path, task):
    Image.new('RGB', (40, 32)).save(tmp_path / 'photo.png')
    config, checkpoint = system_files[task]
    trained = ['--config', config, '--checkpoint', checkpoint, '--out', tmp_path / 'out']
    argv = {
        'refer': ['mmseg_siglip', 'refer', tmp_path / 'photo.png', 'the ring', *trained],
        'depth': ['mmseg_siglip', 'depth', tmp_path / 'photo.png', *trained],
        'ask': ['mmseg_siglip.vlm', llava_folder, tmp_path / 'photo.png', 'what?'],
    }[task]
    result = python(repository, '-m', *argv)
    assert result.returncode == 0 and result.stdout, result.stderr
