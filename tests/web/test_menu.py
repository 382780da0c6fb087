import numpy as np
import pytest

from mmseg_siglip.api import SYSTEMS
from mmseg_siglip.web.limits import Refusal
from mmseg_siglip.web.menu import Menu, build_offer, shipped_offers

GREY = np.full((64, 64, 3), 128, np.uint8)


def test_a_method_counts_for_one_request(shapes_offer):
    model = shapes_offer.system.model
    own = model.method
    shapes_offer(GREY, ['a', 'b'], dict(method='naclip'))
    assert model.attention == 'naclip'
    shapes_offer(GREY, ['a', 'b'], {})
    assert model.method is own


def test_a_name_and_a_source(depth_files, tmp_path):
    config, checkpoint = depth_files
    offer = build_offer('depth', f'rooms={config},{checkpoint}', device='cpu')
    assert (offer.name, offer.task) == ('rooms', 'depth')
    alone = build_offer('segment', 'tiny_siglip_shapes', device='cpu', method='naclip')
    assert alone.name == 'tiny_siglip_shapes' and alone.system.model.attention == 'naclip'


def test_what_ships_along_has_a_tab_for_each_task():
    offers = shipped_offers(device='cpu')
    assert {offer.task for offer in offers} == {*SYSTEMS}
    assert offers[0].system.model.attention == 'vanilla'
    Menu(offers)
    assert shipped_offers(device='cpu', method='naclip')[0].system.model.attention == 'naclip'


@pytest.mark.parametrize('text', ['', '=x', 'a=', 'name=nowhere/at/all.pth'])
def test_no_source_is_refused(text):
    with pytest.raises(ValueError, match=r'expected NAME=SOURCE|nowhere/at/all\.pth'):
        build_offer('segment', text, device='cpu')


def test_visitors_choose_among_what_is_named(shapes_offer):
    menu = Menu([shapes_offer])
    assert menu.find('segment') is menu.find('segment', 'shapes') is shapes_offer
    with pytest.raises(Refusal, match='expected one of shapes, found') as refused:
        menu.find('segment', 'tiny_siglip_shapes')
    assert refused.value.status == 400
    with pytest.raises(Refusal, match='expected one of segment, found'):
        menu.find('depth')


def test_names_differ(shapes_offer):
    with pytest.raises(ValueError, match="segment: expected names that differ, found 'shapes'"):
        Menu([shapes_offer, shapes_offer])
    with pytest.raises(ValueError, match='expected one or more models'):
        Menu([])
