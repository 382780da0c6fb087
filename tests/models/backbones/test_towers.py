import pytest
from torch import nn

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.backbones.towers import NAMES, Tower


@pytest.fixture(scope='module', params=['clip', 'siglip', 'naflex'])
def backbone(request, openai_file, siglip_folder, naflex_folder):
    if request.param == 'clip':
        return CLIPBackbone(openai_file)
    return SigLIPBackbone(siglip_folder if request.param == 'siglip' else naflex_folder)


def test_every_name_leads_to_a_matrix(backbone):
    towers = backbone.towers()
    assert tuple(towers) == NAMES
    for tower in towers.values():
        layers = backbone.model.get_submodule(tower.layers)
        assert isinstance(layers, nn.ModuleList) and len(layers) > 1
        assert set(tower.default) <= set(tower.adaptable) and tower.default
        for layer in layers:
            for path in (*tower.adaptable.values(), *tower.query_value):
                assert isinstance(layer.get_submodule(path), nn.Linear), path
            if tower.fused:
                weight = getattr(layer.get_submodule(tower.fused[0]), tower.fused[1])
                assert weight.shape[0] == 3 * weight.shape[1]
        assert bool(tower.query_value) != bool(tower.fused)


def test_towers_are_apart_and_all_the_trunk_is_in_one(backbone):
    vision, text = (backbone.towers()[name].layers for name in NAMES)
    assert not vision.startswith(text) and not text.startswith(vision)
    assert len(backbone.model.get_submodule(vision)) == backbone.num_layers


def test_nothing_is_adaptable_unless_it_is_said():
    assert Tower('layers') == Tower('layers', {}, (), (), None)
