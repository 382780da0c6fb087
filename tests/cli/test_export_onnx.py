from __future__ import annotations

import re

import pytest
from commands import command
from PIL import Image

from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed

main = command('export-onnx')
SHAPES = ['--encoder', 'tiny_siglip_shapes', '--method', 'vanilla', '--templates', 'plain']


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        (['segment', 'x.onnx', *SHAPES], '--words: expected the words that the graph shall know'),
        (['segment', 'x.bin', *SHAPES, '--words', 'cat'], r'expected a name that ends in \.onnx'),
        (
            ['segment', 'x.onnx', *SHAPES, '--words', 'cat', '--size', '44', '64'],
            'expected whole patches of 8 pixels, found 44x64',
        ),
        (
            ['segment', 'x.onnx', *SHAPES, '--words', 'cat', '--precision', 'bf16'],
            "expected a model of precision='fp32' to export, found 'bf16'",
        ),
        (['depth', 'x.onnx', '--model', 'nothing.pth'], 'nothing.pth'),
        (['tower', 'x.onnx', '--encoder', 'nothing/here'], 'nothing/here'),
    ],
)
def test_what_cannot_be_exported_is_one_line(arguments, match, tmp_path, monkeypatch, capsys):
    pytest.importorskip('onnxruntime')
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert re.search(match, printed.err.strip().splitlines()[-1]), printed.err
    assert not [*tmp_path.glob('x.*')] and not printed.out


def test_a_depth_model_is_named_once():
    with pytest.raises(SystemExit) as stop:
        main(['depth', 'x.onnx'])
    assert stop.value.code == 2


@pytest.mark.slow
def test_a_segmenter_is_written_and_segments(tmp_path, capsys):
    """The whole way: two commands, and the words of the graph alone."""
    pytest.importorskip('onnxscript')
    out = tmp_path / 'x.onnx'
    assert main(['segment', out, *SHAPES, '--words', 'circle, grass', '--size', 64, 64]) == 0
    assert (
        'x.onnx: dense graph for 64x64 pixels (height x width), float32' in capsys.readouterr().out
    )
    photo = tmp_path / 'photo.png'
    Image.fromarray(generate(scene_seed('test', 0), size=(64, 64)).image).save(photo)
    segment, segmented = command('segment'), tmp_path / 'segmented'
    assert segment([photo, 'grass', '--encoder', out, '--out', segmented]) == 0
    assert [*segmented.glob('*labels.png')]
    assert segment([photo, 'cat', '--encoder', out, '--out', segmented]) == 1
    assert "expected words of the graph (circle, grass), found 'cat'" in capsys.readouterr().err
    assert segment([photo, 'grass', '--encoder', out, '--method', 'csa']) == 1
    assert 'a whole system' in capsys.readouterr().err
