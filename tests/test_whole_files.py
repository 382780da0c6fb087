"""Nothing is written to its place bit by bit: a file is a `whole_file`, or stands here with why."""

from __future__ import annotations

import ast
import os

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.api.results import Answer, DepthMap
from mmseg_siglip.api.segmentation import Segmentation

WRITERS = {'write_text', 'write_bytes', 'imwrite', 'tofile', 'savefig', 'save_file', 'to_csv'}
WRITERS |= {'save', 'savez', 'savez_compressed', 'dump', 'save_pretrained', 'save_model'}
WRITERS |= {'copyfile', 'move'}
DRAFTS = {'draft', 'file', 'buffer'}
"""What a `whole_file` gives, what was opened of it, and memory."""
FOLDERS = 'a folder, by the writer of transformers; what is cut short is refused when it is loaded'
SYSTEMS = 'a saved system, whose files are whole and whose config.json comes last'
FINE = {
    'mmseg_siglip/api/ask.py': FOLDERS,
    'mmseg_siglip/api/system.py': SYSTEMS,
    'mmseg_siglip/cli/depth.py': 'a Result, which writes whole files',
    'mmseg_siglip/cli/jobs/benchmark.py': 'a folder of rows, each a whole file',
    'mmseg_siglip/cli/photographs.py': 'a Result, which writes whole files',
    'mmseg_siglip/cli/video.py': 'a Result, which writes whole files',
    'mmseg_siglip/io/video.py': 'a draft, and a video plays up to where it was written',
    'mmseg_siglip/io/journal.py': 'a journal: a line that was cut short is dropped',
    'mmseg_siglip/io/output_folder.py': 'a lock, which holds nothing',
    'mmseg_siglip/labelling/names.py': 'memory, no file',
    'mmseg_siglip/models/backbones/longer_text.py': FOLDERS,
    'mmseg_siglip/models/backbones/radio.py': FOLDERS,
    'mmseg_siglip/models/backbones/siglip_text.py': FOLDERS,
    'mmseg_siglip/models/backbones/transformers_backbone.py': FOLDERS,
    'mmseg_siglip/models/sam/adapter.py': FOLDERS,
    'mmseg_siglip/vlm/assemble.py': FOLDERS,
    'mmseg_siglip/vlm/trainer.py': FOLDERS,
    'mmseg_siglip/vlm/with_depth.py': FOLDERS,
    'mmseg_siglip/cli/jobs/conversions/cat_seg.py': SYSTEMS,
    'mmseg_siglip/cli/jobs/conversions/system.py': SYSTEMS,
    'mmseg_siglip/cli/jobs/conversions/encoder.py': FOLDERS,
    'mmseg_siglip/cli/jobs/conversions/vlm.py': FOLDERS,
    'mmseg_siglip/cli/jobs/conversions/new_encoder.py': FOLDERS,
    'mmseg_siglip/cli/jobs/conversions/new_tokenizer.py': FOLDERS,
    'mmseg_siglip/cli/jobs/conversions/llava.py': FOLDERS,
    'mmseg_siglip/weights/transformers_model.py': FOLDERS,
    'mmseg_siglip/web/results.py': 'a Result, into a folder that goes at once',
}


def writes(tree):
    """The calls of a module that write to a place that they are given."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
        near = [getattr(node.func, 'value', None), *node.args]
        if name == 'open':
            modes = (part.value for part in node.args if isinstance(part, ast.Constant))
            if not any(set('wxa') & set(str(mode)) for mode in modes):
                continue
        elif name not in WRITERS or ast.unparse(node.func) == 'save':  # safetensors', to bytes
            continue
        if not any(
            isinstance(part, ast.Name) and part.id in DRAFTS for part in [*near, *node.args]
        ):
            yield ast.unparse(node)


def test_whatever_is_written_is_whole(repository):
    found = {}
    for folder in ('mmseg_siglip', 'tools'):
        for path in sorted((repository / folder).rglob('*.py')):
            if calls := list(writes(ast.parse(path.read_text()))):
                found[path.relative_to(repository).as_posix()] = calls
    assert {path: calls for path, calls in found.items() if path not in FINE} == {}
    assert found.keys() == FINE.keys()


IMAGE = np.zeros((2, 3, 3), np.uint8)
RESULTS = [
    (Segmentation(np.ones((2, 3), int), np.ones((2, 3)), ('a', 'b'), IMAGE), 'a.png'),
    (DepthMap(np.ones((2, 3), np.float32), 'metre', IMAGE), 'a.png'),
    (DepthMap(np.ones((2, 3), np.float32), 'metre', IMAGE), 'a.npy'),
    (Answer('no', 'Is it?', IMAGE), 'a.txt'),
]


@pytest.mark.parametrize(('result', 'name'), RESULTS)
def test_a_result_that_cannot_be_written_leaves_the_old_one(result, name, tmp_path, monkeypatch):
    result.save(tmp_path / 'deep' / name)
    before = (tmp_path / 'deep' / name).read_bytes()
    monkeypatch.setattr(Image.Image, 'save', half_written)
    monkeypatch.setattr(np, 'save', half_written)

    def full(file):
        raise OSError('no space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='no space left'):
        result.save(tmp_path / 'deep' / name)
    assert (tmp_path / 'deep' / name).read_bytes() == before
    assert [file.name for file in (tmp_path / 'deep').iterdir()] == [name]


def half_written(first, second, *args, **kwargs):
    """Pillow's writer, or NumPy's, on a disk that is full after a byte."""
    file = first if hasattr(first, 'write') else second
    (file.write if hasattr(file, 'write') else file.write_bytes)(b'h')
