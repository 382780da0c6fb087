"""AnyUp, on drawn weights by their published names."""

import math

import pytest
import torch
from mmseg.structures import SegDataSample
from torch.nn.functional import adaptive_avg_pool2d, group_norm, pad, silu
from torch.testing import assert_close

from mmseg_siglip.models.upsamplers import AnyUp, any_up
from mmseg_siglip.registry import MODELS

BLOCKS = {
    f'{name}.{i}.block.{part}': shape
    for name in (
        'image_encoder',
        'key_encoder',
        'query_encoder',
        'key_features_encoder',
        'aggregation',
    )
    for i in (1, 2)
    for part, shape in {
        '0.weight': (128,),
        '0.bias': (128,),
        '2.weight': (128, 128, 1, 1),
        '3.weight': (128,),
        '3.bias': (128,),
        '5.weight': (128, 128, 1, 1),
    }.items()
}
LAYOUT = BLOCKS | {
    'image_encoder.0.weight': (128, 3, 1, 1),
    'key_encoder.0.weight': (128, 128, 1, 1),
    'query_encoder.0.weight': (128, 128, 1, 1),
    'key_features_encoder.0.basis': (128, 1, 5, 5),
    'aggregation.0.weight': (128, 256, 3, 3),
    'rope.freqs': (2, 128),
    'cross_decode.conv2d.weight': (128, 128, 3, 3),
    'cross_decode.cross_attn.norm_q.weight': (128,),
    'cross_decode.cross_attn.norm_k.weight': (128,),
    'cross_decode.cross_attn.attention.in_proj_weight': (384, 128),
    'cross_decode.cross_attn.attention.in_proj_bias': (384,),
    'cross_decode.cross_attn.attention.out_proj.weight': (128, 128),
    'cross_decode.cross_attn.attention.out_proj.bias': (128,),
}
"""As the checkpoints on https://github.com/wimmerth/anyup have them."""


@pytest.fixture(scope='module')
def state():
    generator = torch.Generator().manual_seed(0)
    drawn = {
        name: torch.randn(shape, generator=generator) / math.sqrt(shape[-1] if shape[1:] else 4)
        for name, shape in LAYOUT.items()
    }
    return drawn | {'rope.freqs': 3 * drawn['rope.freqs']}


@pytest.fixture(scope='module')
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp('any_up') / 'any_up.pth'
    torch.save(state, path)
    return str(path)


def draw(grid, size, channels=6, batch=2):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(batch, channels, *grid, generator=generator)
    return features, torch.rand(batch, 3, *size, generator=generator)


def blocks(state, name, x):
    for i in (1, 2):
        y = x
        for norm, conv in ((0, 2), (3, 5)):
            part = f'{name}.{i}.block'
            scale, shift = state[f'{part}.{norm}.weight'], state[f'{part}.{norm}.bias']
            y = silu(group_norm(y, 8, scale, shift))
            y = torch.einsum('oc,nchw->nohw', state[f'{part}.{conv}.weight'][:, :, 0, 0], y)
        x = x + y
    return x


def rms(x, weight):
    return x / (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt() * weight


def unify(state, features):
    basis = state['key_features_encoder.0.basis'][:, 0]
    n, d, h, w = features.shape
    out = features.new_zeros(n, 128, h, w)
    for y in range(h):
        for x in range(w):
            shares = 0
            count = 0
            for dy in range(-2, 3):
                for dx in range(-2, 3):
                    if 0 <= y + dy < h and 0 <= x + dx < w:
                        kernel = basis[:, dy + 2, dx + 2]
                        shares = shares + features[:, :, y + dy, x + dx, None] * kernel
                        count += 1
            out[:, :, y, x] = (shares / count).softmax(-1).mean(1)
    return out


def oracle(state, features, pixels, size):
    """One query after the other, in double precision."""
    state = {name: value.double() for name, value in state.items()}
    features, pixels = features.double(), pixels.double()
    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in any_up.IMAGENET)
    x = torch.einsum(
        'oc,nchw->nohw', state['image_encoder.0.weight'][:, :, 0, 0], (pixels - mean) / std
    )
    x = blocks(state, 'image_encoder', x)
    height, width = pixels.shape[-2:]
    for i in range(height):
        for j in range(width):
            place = torch.tensor([i / max(height - 1, 1), j / max(width - 1, 1)]).double()
            angle = place @ state['rope.freqs']
            old = x[:, :, i, j].clone()
            turned = torch.cat([-old[:, 64:], old[:, :64]], dim=1)
            x[:, :, i, j] = old * angle.cos() + turned * angle.sin()
    q, k = (
        blocks(
            state,
            name,
            torch.einsum('oc,nchw->nohw', state[f'{name}.0.weight'][:, :, 0, 0], x),
        )
        for name in ('query_encoder', 'key_encoder')
    )
    grid = features.shape[-2:]
    q = adaptive_avg_pool2d(q, size)
    unit = features / features.norm(dim=1, keepdim=True)
    unified = blocks(state, 'key_features_encoder', unify(state, unit))
    k = torch.cat([adaptive_avg_pool2d(k, grid), unified], dim=1)
    border = pad(k, (1, 1, 1, 1), mode='reflect' if min(grid) > 1 else 'replicate')
    k = torch.nn.functional.conv2d(border, state['aggregation.0.weight'])
    k = blocks(state, 'aggregation', k)
    q = torch.nn.functional.conv2d(q, state['cross_decode.conv2d.weight'], padding=1)
    part = 'cross_decode.cross_attn'
    weight = state[f'{part}.attention.in_proj_weight']
    bias = state[f'{part}.attention.in_proj_bias']
    q = rms(q.movedim(1, -1), state[f'{part}.norm_q.weight']) @ weight[:128].T + bias[:128]
    k = rms(k.movedim(1, -1), state[f'{part}.norm_k.weight']) @ weight[128:256].T + bias[128:256]
    out = features.new_zeros(len(features), features.shape[1], *size)
    for i in range(size[0]):
        for j in range(size[1]):
            cells = [
                (a, b)
                for a in range(grid[0])
                for b in range(grid[1])
                if near(i, size[0], a, grid[0]) and near(j, size[1], b, grid[1])
            ]
            for n in range(len(features)):
                keys = torch.stack([k[n, a, b] for a, b in cells])
                values = torch.stack([features[n, :, a, b] for a, b in cells])
                heads = [
                    (keys[:, part] @ q[n, i, j, part] / math.sqrt(32)).softmax(0)
                    for part in (slice(f, f + 32) for f in range(0, 128, 32))
                ]
                out[n, :, i, j] = sum(heads) / 4 @ values
    return out


def near(i, count, a, cells):
    centre = (i + 0.5) / count
    return (a + 1) / cells > centre - 0.1 and a / cells < centre + 0.1


@pytest.mark.parametrize(
    ('grid', 'size', 'out'), [((4, 6), (16, 24), (9, 13)), ((1, 1), (5, 7), (5, 7))]
)
def test_the_formulas_one_cell_at_a_time(state, file, grid, size, out):
    features, pixels = draw(grid, size)
    expected = oracle(state, features, pixels, out)
    found = AnyUp(file, size=out)(features, pixels)
    assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_published_names(state, file):
    own = AnyUp(file).model.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], value) for name, value in state.items())


@pytest.mark.parametrize('change', [dict(lost='rope.freqs'), dict(added='head.weight')])
def test_weights_are_neither_invented_nor_ignored(state, tmp_path, change):
    state = dict(state)
    state.pop(change.get('lost'), None)
    state.update({change['added']: torch.ones(1)} if 'added' in change else {})
    torch.save(state, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=next(iter(change.values()))):
        AnyUp(str(tmp_path / 'x.pth'))


@pytest.mark.parametrize('grid', [(1, 1), (1, 7), (3, 1), (5, 4)])
def test_any_grid_alone_and_in_a_batch(file, grid):
    features, pixels = draw(grid, (20, 28), batch=3)
    upsampler = AnyUp(file, scale=2)
    found = upsampler(features, pixels)
    assert found.shape == (3, 6, 2 * grid[0], 2 * grid[1])
    singles = [upsampler(f[None], p[None]) for f, p in zip(features, pixels, strict=True)]
    assert_close(found, torch.cat(singles))


def test_an_average_of_cells_nearby(file):
    features, pixels = draw((10, 10), (40, 40))
    found = AnyUp(file)(features, pixels)
    assert found.shape[-2:] == (40, 40)
    low, high = features.amin((-2, -1))[..., None, None], features.amax((-2, -1))[..., None, None]
    assert (found >= low - 1e-5).all() and (found <= high + 1e-5).all()
    assert_close(AnyUp(file)(torch.ones_like(features), pixels), torch.ones_like(found))
    far = features.clone()
    far[..., 6:] = 0
    assert_close(AnyUp(file)(2 * far, pixels)[..., 28:], torch.zeros(2, 6, 40, 12))
    assert_close(AnyUp(file)(3 * features, pixels), 3 * found)


def test_what_no_feature_tells_is_even(file):
    """Features of zeros, and a picture of one colour, have defined results."""
    features, pixels = draw((4, 5), (16, 20))
    assert not AnyUp(file)(0 * features, pixels).any()
    assert AnyUp(file)(features, 0 * pixels).isfinite().all()


def test_chunks(file, monkeypatch):
    features, pixels = draw((5, 6), (20, 24))
    whole = AnyUp(file)(features, pixels)
    monkeypatch.setattr(any_up, 'CHUNK_BYTES', 1)
    sizes = []
    softmax = torch.Tensor.softmax

    def spy(x, dim):
        sizes.append(x.numel())
        return softmax(x, dim)

    monkeypatch.setattr(torch.Tensor, 'softmax', spy)
    assert_close(AnyUp(file)(features, pixels), whole)
    assert len(sizes) == 6 + 20
    assert max(sizes) == 2 * max(128 * 30, 4 * 24 * 30)


def test_sizes(file):
    features, pixels = draw((2, 3), (8, 12))
    assert AnyUp(file, size=5)(features, pixels).shape[-2:] == (5, 5)
    assert AnyUp(file, scale=1.5)(features, pixels).shape[-2:] == (3, 4)
    for wrong in (dict(size=4, scale=2.0), dict(size=(0, 3)), dict(scale=-1.0)):
        with pytest.raises(ValueError, match='AnyUp: expected'):
            AnyUp(**wrong)


def test_in_a_segmentor(file, clip_config):
    torch.manual_seed(0)
    config = dict(
        type='SCLIPSegmentor',
        backbone=dict(type='CLIPBackbone', arch=clip_config),
        vocabulary=['cat', 'sky', 'grass'],
        templates='plain',
        test_cfg=dict(mode='slide', crop_size=32, stride=16),
    )
    plain = MODELS.build(config)
    finer = MODELS.build(dict(config, upsampler=dict(type='AnyUp', pretrained=file, scale=3)))
    finer.backbone.load_state_dict(plain.backbone.state_dict())
    assert finer.state_dict().keys() == plain.state_dict().keys()
    image, sample = torch.randn(3, 32, 48), SegDataSample()
    with torch.no_grad():
        (a,), (b,) = (model._forward([image], [sample]) for model in (plain, finer))
    assert a.shape == b.shape and not torch.allclose(a, b, atol=1e-3)
    assert b.abs().max() <= 1 + 1e-5
