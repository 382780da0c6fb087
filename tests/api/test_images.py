from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_siglip.api.images import as_tensor, is_single, read_images

RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


@pytest.mark.parametrize(
    ('images', 'single'),
    [
        ('photo.jpg', True),
        (Path('photo.jpg'), True),
        (Image.new('RGB', (2, 2)), True),
        (RGB, True),
        (torch.zeros(3, 2, 2), True),
        (['photo.jpg'], False),
        ((), False),
        (None, False),
    ],
)
def test_one_or_several(images, single):
    assert is_single(images) == single


def test_every_form_is_read(tmp_path):
    Image.fromarray(RGB).save(tmp_path / 'a.png')
    forms = [tmp_path / 'a.png', str(tmp_path / 'a.png'), Image.fromarray(RGB), RGB, as_tensor(RGB)]
    for images in (forms, iter(forms)):
        found = read_images(images)
        assert len(found) == 5 and all(np.array_equal(rgb, RGB) for rgb in found)
    (alone,) = read_images(RGB)
    assert np.array_equal(alone, RGB)


@pytest.mark.parametrize('images', [None, 3, [None], [RGB, 3]])
def test_what_is_no_image(images):
    with pytest.raises(ValueError, match='expected an image, found a (NoneType|int)'):
        read_images(images)


def test_a_tensor_of_the_same_memory():
    rgb = RGB.copy()
    tensor = as_tensor(rgb)
    rgb[1, 2, 0] = 200
    assert tensor.shape == (3, 2, 3) and tensor[0, 1, 2] == 200
