"""Every dense method on the encoders that are made of DINO or RADIO."""

import inspect

import pytest
import torch
from contracts.dense_method import images, quarters
from tiny_guides import tiny_guide
from torch.nn.functional import normalize
from torch.testing import assert_close

from mmseg_siglip.models.backbones.block import attend
from mmseg_siglip.models.backbones.planes import whole
from mmseg_siglip.models.backbones.trunk import Surroundings, View, build_method, method_names
from mmseg_siglip.models.segmentors.parts import build_backbone
from mmseg_siglip.registry import DENSE_METHODS

ENCODERS = ('talk2dino', 'dino_txt', 'radio')
NAMES = [
    name
    for name in method_names()
    if 'sam' not in inspect.signature(DENSE_METHODS.get(name)).parameters
]


@pytest.fixture(scope='module', params=ENCODERS)
def encoder(request):
    return build_backbone(request.getfixturevalue(request.param))


def made(name):
    """A method by its defaults, a tiny model in the place of its second."""
    known = inspect.getmro(DENSE_METHODS.get(name))
    guided = any('guide' in inspect.signature(kind).parameters for kind in known[:2])
    site = dict(site='q+k') if name == 'corrclip' else {}
    return build_method(dict(type=name, **(dict(guide=tiny_guide(**site)) if guided else {})))


def dense(encoder, method, batch):
    """What a method and its score step give for images, each with four regions."""
    text = normalize(torch.ones(3, encoder.embed_dim).cumsum(1).sin().cumsum(0), dim=1)
    views = [
        View(
            0 if method.scope == 'image' else i,
            (0, 0, *image.shape[-2:]),
            method.prepare(encoder.to_pixels(image)),
            quarters(image) if method.uses_regions else None,
        )
        for i, image in enumerate(batch)
    ]
    known = Surroundings(views, lambda: text, logit_scale=20.0)
    trunk = encoder.trunk(torch.stack(list(batch)), surroundings=known)
    found = encoder.features_of(trunk, encoder.method_for(method))
    if method.gives == 'cosines':
        return whole(found)
    return torch.cat([found, method.score(trunk.cosines(found), found, trunk)], dim=1)


@pytest.mark.parametrize('name', NAMES)
@torch.no_grad()
def test_finite_or_refused_in_a_sentence(encoder, name):
    try:
        found = dense(encoder, made(name), images((40, 56)))
    except ValueError as error:
        assert f'{name!r} needs' in str(error), error
    else:
        assert found.isfinite().all() and found.std() > 0


@pytest.mark.parametrize('name', ['corrclip', 'textregion', 'mask_crop'])
@torch.no_grad()
def test_regions_side_by_side(encoder, name):
    method, batch = made(name), images((40, 56), (40, 56))
    singles = [dense(encoder, method, [image]) for image in batch]
    assert all(found.isfinite().all() for found in singles)
    if method.scope == 'window':
        assert_close(dense(encoder, method, batch), torch.cat(singles), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_second_path_passes_the_norm_between_two_towers(dino_txt):
    """CLIP Surgery beside DINOv3's last block, whose end is a norm, and dino.txt's two."""
    encoder, (image,) = build_backbone(dino_txt), images((40, 56))
    trunk = encoder.trunk(image[None])
    path = trunk.input(-3)
    for i in (-3, -2, -1):
        v = trunk.qkv(i, trunk.input(i))[2]
        path = path + trunk.blocks[i].out(attend(v, v, v))
        path = encoder.model.dino.norm(path) if i == -3 else path
    wanted = encoder.norm(path[:, encoder.num_prefix :]).mT.unflatten(2, trunk.grid)
    found = encoder.dense(image[None], attention=dict(type='clip_surgery', blocks=3))
    assert_close(found, wanted)


@pytest.mark.parametrize('name', ['corrclip', 'resclip', 'itaclip'])
def test_no_blocks_are_refused(name):
    guide = dict(guide=tiny_guide(site='q+k')) if name == 'corrclip' else {}
    with pytest.raises(ValueError, match=rf'{name}: expected blocks None .*, found \[\]'):
        build_method(dict(type=name, blocks=[], **guide))


def test_a_checkpoint_is_read_where_a_method_reads_its_guide(dino_folder):
    for name, site in dict(corrclip='q+k', lposs='v', proxyclip='tokens').items():
        assert build_method(dict(type=name, guide=dino_folder)).guide.site == site
