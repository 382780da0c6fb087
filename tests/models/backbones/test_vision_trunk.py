import pytest

from mmseg_siglip.models.backbones.vision_trunk import patch_grid


@pytest.mark.parametrize(
    ('size', 'patch', 'native', 'grid'),
    [
        ((384, 384), 14, (384, 384), (27, 27)),
        ((378, 392), 14, (384, 384), (27, 28)),
        ((384, 500), 14, (384, 384), (27, 36)),
        ((224, 448), 16, (224, 224), (14, 28)),
        ((17, 225), 16, (224, 224), (2, 15)),
    ],
)
def test_patch_grid(size, patch, native, grid):
    assert patch_grid(size, patch, native) == grid


def test_image_smaller_than_a_patch():
    with pytest.raises(ValueError, match=r'at least one patch \(16x16 pixels\), found 15x40'):
        patch_grid((15, 40), 16, (224, 224))
