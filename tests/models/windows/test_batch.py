import pytest
from host_blocking import distant, far_module

from mmseg_siglip.models.backbones.build import build_encoder
from mmseg_siglip.models.windows.batch import MOST, USUAL, window_batch, window_bytes

SLIDE = dict(mode='slide', crop_size=(32, 32), window_batch=None)


@pytest.fixture
def encoder(siglip_folder):
    return build_encoder(siglip_folder)


def test_what_is_set_wins(encoder):
    assert window_batch(dict(SLIDE, window_batch=3), encoder) == 3
    with distant():
        assert window_batch(dict(SLIDE, window_batch=3), far_module(encoder)) == 3


@pytest.mark.parametrize(
    ('share', 'expected'), [(1, USUAL), (40.5, 40), (10**6, MOST)], ids=['little', 'some', 'much']
)
def test_memory_decides_on_a_gpu(encoder, monkeypatch, share, expected):
    assert window_batch(SLIDE, encoder) == USUAL
    held = window_bytes(encoder, (32, 32))
    memory = int(8 * share * held)
    monkeypatch.setattr('mmseg_siglip.models.windows.batch.device_memory', lambda device: memory)
    assert window_batch(SLIDE, encoder) == expected


def test_bytes_grow_with_the_window(encoder):
    small, large, odd = (window_bytes(encoder, size) for size in ((32, 32), (64, 64), (64, 33)))
    assert 4 * small < large < 16 * small + 1 and small < odd < large
    assert window_bytes(encoder, (1, 1)) <= small


def test_what_else_sees_a_batch_keeps_it_small(encoder, monkeypatch):
    """A second model, a compiled graph, images in one piece: their memory is not known here."""
    monkeypatch.setattr('mmseg_siglip.models.windows.batch.device_memory', lambda device: 2**60)
    assert window_batch(SLIDE, encoder) == MOST
    assert window_batch(SLIDE, encoder, alone=False) == USUAL
    assert window_batch(dict(SLIDE, mode='whole'), encoder) == USUAL
