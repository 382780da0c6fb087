"""What the room for second models offers, shown on `ToyGuide`."""

import pytest
import torch
from contracts.dense_method import DenseMethodContract, images
from toy_methods import ToyGuide

from mmseg_siglip.cli.jobs.label import weights_digest
from mmseg_siglip.models.segmentors import CATSegSegmentor, SCLIPSegmentor
from mmseg_siglip.registry import DENSE_METHODS

CONFIG = dict(crop_size=(24, 24), stride=(16, 16), window_batch=4, return_logits=True)


class TestToyGuide(DenseMethodContract):
    cases = [(ToyGuide(), 'clip'), (ToyGuide(), 'siglip'), (ToyGuide(scope='image'), 'clip')]
    finer = 2


@pytest.fixture
def make(siglip_folder):
    def build(attention, **options):
        options = dict(templates='plain', logit_scale=20.0, test_cfg=CONFIG) | options
        backbone = dict(pretrained=siglip_folder)
        return SCLIPSegmentor(backbone, ['cat', 'sky'], attention=attention, **options).eval()

    return build


def predict(model, batch):
    return [sample.seg_logits.data for sample in model.predict(batch)]


@pytest.mark.parametrize('scope', ['window', 'image'])
@pytest.mark.parametrize('mode', ['slide', 'whole'])
def test_a_whole_image_is_prepared_once_whatever_its_windows(make, monkeypatch, scope, mode):
    model = make(ToyGuide(scope=scope), test_cfg=dict(CONFIG, mode=mode, window_batch=2))
    seen, prepare = [], model.method.prepare
    monkeypatch.setattr(
        model.method, 'prepare', lambda pixels: (seen.append(pixels), prepare(pixels))[1]
    )
    raw = [torch.rand(3, 40, 56), torch.rand(3, 24, 24), torch.rand(3, 64, 33)]
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.backbone.mean, model.backbone.std))
    model.predict([(255 * pixels - mean) / std for pixels in raw])
    assert len(seen) == 3
    for pixels, expected in zip(seen, raw, strict=True):
        torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)
    model.extract_feat(images((40, 56)))
    assert len(seen) == 4


def test_what_makes_nothing_is_not_asked(make, monkeypatch):
    model = make('csa')
    monkeypatch.setattr(type(model.method), 'prepares', False)
    monkeypatch.setattr(model.method, 'prepare', None)
    predict(model, images((40, 56)))


def test_its_scope_is_all_windows_of_an_image(make, monkeypatch):
    """In one call, however many; and so a window's result depends on the others."""
    model, batch = make(ToyGuide(scope='image')), images((40, 56), (24, 24), (64, 33))
    calls, forward = [], model.method.forward
    monkeypatch.setattr(
        model.method,
        'forward',
        lambda trunk: (calls.append(trunk.surroundings.views), forward(trunk))[1],
    )
    together = predict(model, batch)
    assert [{view.image for view in views} for views in calls] == [{0}, {1}, {2}]
    assert [len(views) for views in calls] == [6, 1, 8]
    by_window = predict(make(ToyGuide()), batch)
    assert (together[0] - by_window[0]).abs().max() > 1e-4
    torch.testing.assert_close(together[1], by_window[1], atol=1e-5, rtol=1e-4)  # one window


def test_its_weights_stay_out_of_checkpoints_and_move_along(make):
    model, plain = make(ToyGuide()), make('csa')
    assert set(model.state_dict()) == set(plain.state_dict())
    assert len(list(model.parameters())) == len(list(plain.parameters()))
    plain.load_state_dict(model.state_dict())
    guide = model.method.guide.model
    model.train()
    assert not guide.training and not any(p.requires_grad for p in guide.parameters())
    model.to(torch.float64)
    assert all(p.dtype == torch.float64 for p in guide.parameters())
    plain.to('meta').attention = ToyGuide()  # and follows a model that has moved already
    assert all(p.is_meta for p in plain.method.guide.model.parameters())


def test_its_weights_are_in_the_digest_of_predictions(make):
    digests = {weights_digest(make(ToyGuide(seed=seed))) for seed in (0, 0, 1)}
    assert len(digests) == 2 and weights_digest(make('csa')) not in digests


def test_one_registration_makes_it_a_name(make, monkeypatch):
    monkeypatch.setitem(DENSE_METHODS.module_dict, 'toy', ToyGuide)
    batch = images((40, 56))
    (wanted,) = predict(make(ToyGuide(seed=3)), batch)
    model = make(dict(type='toy', seed=3))
    assert torch.equal(predict(model, batch)[0], wanted) and model.attention == 'toy'
    other = make('csa')
    assert other.attention == 'csa' and not torch.equal(predict(other, batch)[0], wanted)
    other.attention = dict(type='toy', seed=3)
    assert torch.equal(predict(other, batch)[0], wanted) and other.attention == 'toy'
    other.method = 'csa'
    assert other.attention == 'csa' and 'attention' not in dict(other.named_children())
    with pytest.raises(ValueError, match="unknown attention 'none'"):
        other.attention = 'none'


def test_who_cannot_have_it_says_so(make, siglip_folder):
    model = make(ToyGuide(scope='image'), compile_backend='eager')
    with pytest.raises(ValueError, match="one window at a time.* found 'ToyGuide'"):
        model.predict(images((40, 56)))
    for method in (ToyGuide(), ToyGuide(scope='image')):
        with pytest.raises(ValueError, match="one window at a time.* found 'ToyGuide'"):
            CATSegSegmentor(
                dict(pretrained=siglip_folder),
                dict(type='CATSegHead'),
                ['cat'],
                templates='plain',
                attention=method,
            )
