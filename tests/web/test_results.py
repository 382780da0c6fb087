import io
import json

import numpy as np
import pytest
from PIL import Image

from mmseg_siglip.api import Answer, DepthMap, Referred, Segmentation
from mmseg_siglip.web.results import ResultFiles
from mmseg_siglip.web.service import Answered
from mmseg_siglip.web.views import view_of

IMAGE = np.full((20, 30, 3), 90, np.uint8)
LABELS = np.zeros((20, 30), np.int64)
LABELS[:, 20:] = 2
SEGMENTATION = Segmentation(LABELS, np.ones((20, 30)), ('a', 'b', '<i>c</i>'), IMAGE)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_files_of_a_segmentation():
    kept = ResultFiles.of(SEGMENTATION)
    assert set(kept.files) == {
        'picture.png', 'result.json', 'labels.png', 'image.jpg', 'indices.png'
    }  # fmt: skip
    assert json.loads(kept.files['result.json']) == SEGMENTATION.to_dict()
    np.testing.assert_array_equal(np.asarray(opened(kept.files['indices.png'])), LABELS)
    np.testing.assert_array_equal(np.asarray(opened(kept.files['labels.png'])), LABELS)
    assert [(entry['name'], round(entry['share'], 2)) for entry in kept.legend] == [
        ('a', 0.67),
        ('<i>c</i>', 0.33),
    ]
    colour = '#{:02x}{:02x}{:02x}'.format(*SEGMENTATION.palette[2])
    assert kept.legend[1]['colour'] == colour
    assert kept.num_bytes == sum(map(len, kept.files.values()))


@pytest.mark.parametrize(
    ('result', 'file'),
    [
        (DepthMap(np.ones((20, 30), np.float32), 'metre', IMAGE), 'depth.png'),
        (DepthMap(np.full((20, 30), 100, np.float32), 'metre', IMAGE), 'depth.npy'),
        (Referred(LABELS > 0, 0.5, 'the cup', IMAGE), 'mask.png'),
        (Answer('two', 'how many?', IMAGE), 'answer.txt'),
    ],
)
def test_files_of_other_results(result, file):
    kept = ResultFiles.of(result)
    assert set(kept.files) == {'picture.png', 'result.json', file}
    assert kept.text == (str(result) if isinstance(result, Answer) else '')


def test_what_visitors_typed_is_shown_as_text():
    for result in (SEGMENTATION, Answer('<script>', '<b>', IMAGE)):
        text = view_of({'results/x/': ResultFiles.of(result)}, Answered([result], '<m>', 1.234))
        assert '1.23 s, &lt;m&gt;' in text
        assert '<script>' not in text and '<i>c' not in text
        assert 'href="results/x/result.json" download' in text
