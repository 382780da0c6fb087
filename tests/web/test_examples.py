import numpy as np

from mmseg_siglip.web.examples import draw_examples
from mmseg_siglip.web.limits import Limits
from mmseg_siglip.web.uploads import decode_upload


def test_scenes_come_with_something_to_ask():
    examples = draw_examples()
    assert len(examples) == 4
    for example in examples.values():
        rgb = decode_upload(example.upload.data, example.upload.name, Limits())
        assert rgb.shape == (256, 384, 3) and np.ptp(rgb) > 100
        assert example.prompts['words'].count(',') >= 1
        assert example.prompts['phrases'].startswith('the ')
        assert example.prompts['question'].endswith('?')
