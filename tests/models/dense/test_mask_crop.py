import pytest
import torch
from contracts.dense_method import ENCODERS, quarters
from contracts.whole_method import WholeMethodContract
from torch.nn.functional import interpolate, normalize
from torch.testing import assert_close

from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.models.backbones.planes import whole
from mmseg_siglip.models.backbones.trunk import Surroundings, View
from mmseg_siglip.models.dense import MaskCrop
from mmseg_siglip.models.dense.region_masks import RegionMasks, mask_boxes

SIZE = (40, 72)


class TestMaskCrop(WholeMethodContract):
    cases = [('mask_crop', kind) for kind in ENCODERS]


@pytest.fixture
def clip(openai_file):
    return CLIPBackbone(openai_file)


@pytest.fixture
def picture():
    return torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def scores(clip, picture, method, regions, text, batch=None):
    known = Surroundings([View(0, (0, 0, *SIZE), regions=regions)], lambda: text, batch=batch)
    return whole(method(clip.trunk(picture, surroundings=known)))[0]


@pytest.mark.parametrize('masked', [True, False])
@torch.no_grad()
def test_each_region_is_cut_out_and_encoded(clip, picture, masked):
    regions, text = torch.zeros(SIZE, dtype=torch.long), normalize(torch.randn(5, 48), dim=1)
    regions[5:20, 10:15] = 7
    regions[10:12, 30:60] = regions[25:39, 50:52] = 2
    boxes = {7: (5, 20, 10, 15), 2: (10, 39, 30, 60), 0: (0, 40, 0, 72)}
    found = scores(clip, picture, MaskCrop(masked=masked), regions, text)
    for label, (top, bottom, left, right) in boxes.items():
        image = picture * (regions == label) if masked and label else picture
        view = image[..., top:bottom, left:right]
        view = interpolate(view, size=(32, 32), mode='bilinear', antialias=True)
        wanted = text @ normalize(clip.encode_image(view)[0], dim=0)
        inside = found[:, regions == label]
        assert_close(inside, wanted[:, None].expand_as(inside), atol=1e-5, rtol=1e-4)
    few = scores(clip, picture, MaskCrop(masked=masked), regions, text, batch=2)
    assert_close(few, found, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_margin_shows_more(clip, picture):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[10:20, 10:30] = True
    (box,) = mask_boxes(mask[None]).tolist()
    cut = MaskCrop(margin=0.5, masked=False).cut(picture[0], mask, box)
    assert torch.equal(cut, picture[0, :, 5:25, 0:40])
    assert MaskCrop(margin=9.0).cut(picture[0], mask, box).shape == (3, *SIZE)


@torch.no_grad()
def test_boxes_are_read_at_once(clip, picture, monkeypatch):
    masks = torch.rand(6, *SIZE, generator=torch.Generator().manual_seed(3)) > 0.999
    reads, read = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, 'tolist', lambda x: reads.append(1) or read(x))
    monkeypatch.setattr(torch.Tensor, '__int__', lambda x: pytest.fail('read one by one'))
    assert len([*MaskCrop().cuts(picture[0], RegionMasks(masks))]) == 6 and len(reads) == 1


@pytest.mark.parametrize('regions', ['none', 'one', 'one pixel', 'masks', 'no masks'])
@torch.no_grad()
def test_few_regions(clip, picture, regions):
    one = torch.ones(SIZE, dtype=torch.long)
    pixel = 0 * one
    pixel[3, 3] = 2
    masks = torch.stack([one, pixel, 0 * one]).bool()
    kinds = {'none': 0 * one, 'one': one, 'one pixel': pixel, 'masks': masks}
    text = normalize(torch.randn(1, 48), dim=1)
    found = scores(clip, picture, MaskCrop(), kinds.get(regions, masks[:0]), text)
    assert found.shape == (1, *SIZE) and found.isfinite().all()


def test_bad_input(clip, picture):
    with pytest.raises(ValueError, match='margin of 0 or more, found -0.1'):
        MaskCrop(margin=-0.1)
    with pytest.raises(ValueError, match='expected the regions of the image'):
        clip.dense(picture, attention='mask_crop')
    regions = quarters(picture[0])
    known = Surroundings([View(0, (0, 0, *SIZE), regions=regions)] * 2)
    with pytest.raises(ValueError, match="'mask_crop' cuts the image itself"):
        clip.dense(picture.expand(2, -1, -1, -1), attention='mask_crop', surroundings=known)
