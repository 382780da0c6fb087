"""GEM, and CLIP Surgery with its scores."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from golden import Case, Golden, rows
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from mmseg_siglip.models.backbones.trunk import Surroundings
from mmseg_siglip.models.dense.clip_surgery import SETTINGS as SURGERY
from mmseg_siglip.models.dense.gem import SETTINGS as GEM
from mmseg_siglip.models.scores.feature_surgery import feature_surgery

PICTURES = dict(native=(31, 224, 224), wide=(32, 224, 336))
VARIANTS = {
    '': dict(),
    '_iter2': dict(iterations=2),
    '_temp100': dict(temperature=100.0),
    '_depth4': dict(blocks=3),
}
NAMES = ('person', 'cat', 'grass', 'sky', 'wall', 'bicycle')
SQUARE = (33, 320, 320)


def cases(golden: Golden) -> Iterator[Case]:
    def gem(picture: tuple, options: dict, backbone: dict) -> Tensor:
        encoder = golden.clip(**backbone)
        images = golden.picture(*picture)
        return rows(encoder.dense(images, attention=dict(type='gem', **options)))

    for name, picture in PICTURES.items():
        for variant, options in VARIANTS.items():
            keys = {f'gem_{name}{variant}', f'gem{variant}_{name}'}
            if name == 'native' and variant:
                keys.add(f'gem{variant}')
            for key in sorted(keys):
                yield gem_case(key, lambda p=picture, o=options: gem(p, o, GEM['backbone']))
        yield gem_case(f'gem_ori_{name}', lambda p=picture: ordinary(golden, p))
    yield gem_case('gem_wide_offsetpos', lambda: gem(PICTURES['wide'], {}, {}))
    yield gem_case('gem_text', lambda: words(golden))
    yield gem_case(
        'gem_heat_native', lambda: heat(gem(PICTURES['native'], {}, GEM['backbone']), golden)
    )

    native = PICTURES['native']
    file, method = 'more_tiny12', 'clip_surgery'
    for key, picture in (('surgery_native', native), ('surgery_320', SQUARE)):
        yield Case(method, file, key, lambda p=picture: surgery(golden, p))
    for key, empty in (('surgery_sim_native', False), ('surgery_sim_redundant_native', True)):
        yield Case(method, file, key, lambda e=empty: scores(golden, native, empty=e))


def gem_case(key: str, run) -> Case:
    return Case('gem', 'gem_tiny12', key, run, 1e-5)


def ordinary(golden: Golden, picture: tuple) -> Tensor:
    encoder = golden.clip(**GEM['backbone'])
    return rows(encoder.dense(golden.picture(*picture), attention='vanilla'))


def words(golden: Golden) -> Tensor:
    prompts = [GEM['template'].format(name) for name in NAMES]
    return normalize(golden.clip().encode_text(prompts), dim=-1)


def heat(features: Tensor, golden: Golden) -> Tensor:
    cosines = (features @ words(golden).T).T.reshape(1, len(NAMES), 14, 14)
    maps = interpolate(cosines, size=(224, 224), mode='bilinear')[0]
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - low) / (high - low))[:, ::8, ::8]


def surgery(golden: Golden, picture: tuple) -> Tensor:
    """With the CLS token of the ordinary path in front."""
    encoder = golden.clip(**SURGERY['backbone'])
    images = golden.picture(*picture)
    cls = normalize(encoder.encode_image(images), dim=-1)
    return torch.cat([cls, rows(encoder.dense(images, attention='clip_surgery'))])


def scores(golden: Golden, picture: tuple, *, empty: bool) -> Tensor:
    text, nothing = (
        torch.from_numpy(golden.array('more_tiny12', key))
        for key in ('text', 'surgery_redundant_text')
    )
    encoder = golden.clip()
    known = Surroundings(text=lambda: text, embed=lambda texts: nothing)
    trunk = encoder.trunk(golden.picture(*picture), surroundings=known)
    features = encoder.features_of(trunk, encoder.method_for('clip_surgery'))
    return feature_surgery(trunk.cosines(features), features, trunk, empty=empty)[0].flatten(1).T
