import pytest

import mmseg_siglip
from mmseg_siglip import apis
from mmseg_siglip.api import OFFERED, SYSTEMS


def test_names_old_and_new_are_the_same():
    for name in [name for names in OFFERED.values() for name in names]:
        assert getattr(apis, name) is getattr(mmseg_siglip.api, name)
        assert getattr(mmseg_siglip, name) is getattr(apis, name)
    assert apis.read_image and apis.load_trained and mmseg_siglip.vlm.VisionChat is apis.VisionChat
    with pytest.raises(AttributeError, match="'mmseg_siglip.apis' has no attribute 'nothing'"):
        _ = apis.nothing


def test_names_are_told():
    """By ``dir`` and by ``import *``."""
    told = {'OpenVocabSegmenter', 'ReferringSegmenter', 'create_depth_model', 'predict_depth'}
    told |= {'load_pretrained_model', 'depth_to_patch_stats', 'read_image'}
    assert told <= set(dir(apis)) and told <= set(apis.__all__)
    assert {system.__name__ for system in SYSTEMS.values()} <= set(apis.__all__)
