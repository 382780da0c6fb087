import json

import pytest
import torch
from tiny_guides import GUIDES, tiny_guide
from transformers import AutoConfig, SamModel

from mmseg_siglip.models.adapters.dinov3 import PERIODS
from mmseg_siglip.models.adapters.segment_anything import MARK as SAM_MARK
from mmseg_siglip.models.adapters.timm_vit import MARK
from mmseg_siglip.models.guides import build_guide, find_guide


@pytest.mark.parametrize('name', ['DINOGuide', 'DINOv2Guide', 'DINOv3Guide'])
def test_a_folder_of_transformers(name, tmp_path):
    guide = tiny_guide(name, site='q')
    guide.model.save_pretrained(tmp_path)
    pixels = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    found = build_guide(str(tmp_path), site='q')
    assert type(found) is type(guide)
    torch.testing.assert_close(found(pixels), guide(pixels))


def test_sam_and_encoders(tmp_path, siglip_folder, dino_folder):
    SamModel(AutoConfig.for_model(**GUIDES['SAMGuide'])).save_pretrained(tmp_path)
    assert find_guide(str(tmp_path), site='q') == dict(type='SAMGuide', pretrained=str(tmp_path))
    assert type(build_guide(str(tmp_path))).__name__ == 'SAMGuide'
    encoder = dict(type='EncoderGuide', pretrained=siglip_folder)
    assert find_guide(siglip_folder, site='v') == encoder
    assert type(build_guide(siglip_folder)).__name__ == 'EncoderGuide'
    assert find_guide(dino_folder)['type'] == 'DINOv2Guide'


@pytest.mark.parametrize(
    ('names', 'kind'),
    [
        ([MARK], 'DINOGuide'),
        ([MARK, 'blocks.0.ls1.gamma'], 'DINOv2Guide'),
        ([MARK, 'blocks.0.ls1.gamma', PERIODS], 'DINOv3Guide'),
        ([SAM_MARK], 'SAMGuide'),
    ],
)
def test_publishers_files(names, kind, tmp_path):
    torch.save({name: torch.ones(2, 2) for name in names}, tmp_path / 'weights.pth')
    assert find_guide(str(tmp_path / 'weights.pth'))['type'] == kind


@pytest.mark.parametrize(
    ('architecture', 'kind'),
    [
        ('vit_base_patch8_224', 'DINOGuide'),
        ('vit_base_patch14_reg4_dinov2', 'DINOv2Guide'),
        ('vit_base_patch16_dinov3', 'DINOv3Guide'),
    ],
)
def test_timms_folders(architecture, kind, tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps(dict(architecture=architecture)))
    assert find_guide(str(tmp_path))['type'] == kind


def test_mae_by_its_kind(tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps(dict(model_type='vit_mae')))
    assert find_guide(str(tmp_path))['type'] == 'MAEGuide'


def test_what_is_no_guide(tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps(dict(model_type='bert')))
    with pytest.raises(ValueError, match=r"unknown guide .*DINOGuide, .*found model_type 'bert'"):
        build_guide(str(tmp_path))
    with pytest.raises(ValueError, match=r'unknown guide .*absent.pt: no such file'):
        build_guide('absent.pt')
