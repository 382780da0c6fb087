"""The Python interface: factory, trained models, photographs in and depth out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_siglip.api import DepthPredictor, create_depth_model, load_depth_model, predict_depth

CONFIG = dict(
    model_type='siglip',
    vision_config=dict(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=24,
        num_attention_heads=4,
        patch_size=16,
        image_size=32,
    ),
    text_config=dict(
        hidden_size=32, intermediate_size=8, num_hidden_layers=1, num_attention_heads=4,
        vocab_size=8, projection_size=32, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    ),
)  # fmt: skip
TAPS = (-18, -12, -6, -2)


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return create_depth_model(CONFIG, image_size=96, tap_layers=TAPS, decoder_channels=16)


def test_the_factory(model):
    assert model.taps.layers == (6, 12, 18, 22)
    assert model.decode_head.channels == 16 and not model.training
    untrained = 'decoder on tiny_siglip_shapes is untrained: its depths mean nothing yet'
    with pytest.warns(UserWarning, match=untrained):
        assert create_depth_model('tiny_siglip_shapes').image_size == 896
    with pytest.raises(ValueError, match='expected blocks from -6 to 5, found -18'):
        create_depth_model('tiny_siglip_shapes', tap_layers=TAPS)


def test_images_of_every_kind_and_size(model, tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / 'p.png')
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    kinds = [tmp_path / 'p.png', str(tmp_path / 'p.png'), Image.fromarray(rgb), rgb, tensor]
    depths = [predict_depth(model, image) for image in kinds]
    for depth in depths:
        assert depth.shape == (50, 80) and depth.dtype == np.float32
        np.testing.assert_array_equal(depth, depths[0])
    assert 0 < depths[0].min() and depths[0].max() < 10
    tall = np.zeros((33, 20, 3), np.uint8)
    both = predict_depth(model, [rgb, tall])
    assert [depth.shape for depth in both] == [(50, 80), (33, 20)]
    np.testing.assert_allclose(both[0], depths[0], rtol=1e-4)


def test_the_longer_side_is_resized(model, monkeypatch):
    sizes = []
    inner = model.encode_decode
    monkeypatch.setattr(model, 'encode_decode', lambda x: (sizes.append(x.shape), inner(x))[1])
    predict_depth(model, np.zeros((50, 80, 3), np.uint8))
    monkeypatch.setattr(model, 'image_size', None)
    predict_depth(model, np.zeros((50, 80, 3), np.uint8))
    assert [tuple(size) for size in sizes] == [(1, 3, 60, 96), (1, 3, 50, 80)]


def test_floats_and_bytes_mean_the_same(model):
    image = torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8)
    torch.testing.assert_close(
        model.predict_depth([image])[0], model.predict_depth([image / 255])[0]
    )
    with pytest.raises(ValueError, match=r'expected uint8, or float in \[0, 1\]; found'):
        model.predict_depth([image.float()])
    with pytest.raises(ValueError, match=r'expected an RGB tensor \(3, H, W\), found \(1, 4, 4\)'):
        model.predict_depth(torch.zeros(1, 1, 4, 4))


def test_channels_are_red_green_blue(model):
    """The data preprocessor of training turns BGR into RGB; here images are RGB already."""
    image = torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8)
    got = model._prepare(image)
    data = model.data_preprocessor(dict(inputs=[image.flip(0)]))
    model.image_size, before = None, model.image_size
    try:
        torch.testing.assert_close(model._prepare(image), data['inputs'][0])
    finally:
        model.image_size = before
    assert got.shape == (3, 64, 96)


def test_options_in_common(tmp_path):
    for options, message in (
        (dict(device='gpu'), "device: expected a name such as cuda:0 or cpu, found 'gpu'"),
        (dict(precision='half'), "unknown precision 'half'; expected one of auto, fp32"),
    ):
        with pytest.raises(ValueError, match=message):
            DepthPredictor.from_pretrained(tmp_path, **options)


def test_trained_models_load_whole_or_not_at_all(repository, tmp_path):
    config = repository / 'configs/dpt/shapes_frozen.py'
    with pytest.raises(ValueError, match='there is no file None'):
        load_depth_model(config)
    trained = create_depth_model('tiny_siglip_shapes', max_depth=16.0)
    state = {name: value + 0.01 for name, value in trained.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'w.pth')
    model = load_depth_model(config, tmp_path / 'w.pth', device='cpu')
    trained.load_state_dict(state)
    image = torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8)
    trained.image_size = None
    assert torch.equal(model.predict_depth([image])[0], trained.predict_depth([image])[0])
    state.pop('decode_head.conv3.bias')
    torch.save(dict(state_dict=state), tmp_path / 'part.pth')
    with pytest.raises(ValueError, match='part.pth does not fit .*decode_head.conv3.bias'):
        load_depth_model(config, tmp_path / 'part.pth')
