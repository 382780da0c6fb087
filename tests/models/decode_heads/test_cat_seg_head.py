"""The head against the reference's formulas, written plainly in `cat_seg_oracle`."""

from __future__ import annotations

import pytest
import torch
from cat_seg_oracle import PlainAggregator, plain_loss

from mmseg_siglip.models.adapters.cat_seg import head_weights
from mmseg_siglip.models.decode_heads import CATSegHead
from mmseg_siglip.models.decode_heads.cat_seg_head import DROPPED

D, N = 24, 20

RECORDED = {
    True: [[4.29513, 7.0532], [4.2611, 7.00093], [4.1891, 6.98872]],
    False: [[4.29348, 7.01186], [4.26392, 6.99385], [4.17572, 6.95178]],
}
"""Logits of three classes at two places, of the plain formulas in float64, with the published
pooling by 2 (training) and with none."""


def pair(pad_len=16, prompts=1, heads=4, window=4, **options):
    """The plain aggregator and our head with the same weights."""
    torch.manual_seed(0)
    plain = PlainAggregator(D, prompts=prompts, dim=64, heads=heads, window=window, pad_len=pad_len)
    for parameter in plain.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    head = CATSegHead(
        in_channels=N,
        embed_dim=D,
        num_prompts=prompts,
        channels=64,
        num_heads=heads,
        window=window,
        guidance_channels=64,
        text_channels=64,
        pad_len=pad_len,
        **options,
    )
    state = head_weights(plain.state_dict())
    state |= {k: v for k, v in head.state_dict().items() if k.startswith('upsample')}
    head.load_state_dict(state)
    return plain.eval(), head.eval()


def inputs(batch=2, grid=(8, 8), classes=5, prompts=1):
    torch.manual_seed(1)
    taps = [torch.randn(batch, N, *grid) for _ in range(2)]
    return torch.randn(batch, D, *grid), taps, torch.randn(classes, prompts, D)


def expected(plain, head, features, taps, text, **options):
    guidance = [head.upsample1(taps[0]), head.upsample2(taps[1])]
    return plain(features, text, guidance, **options)


@pytest.mark.parametrize('grid', [(8, 8), (4, 4), (3, 3), (7, 7), (9, 5), (2, 11)])
@torch.no_grad()
def test_equals_the_plain_formulas_on_any_grid(grid):
    plain, head = pair()
    data = inputs(grid=grid)
    logits = head(*data)
    assert logits.shape == (2, 5, 4 * grid[0], 4 * grid[1])
    torch.testing.assert_close(logits, expected(plain, head, *data), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('classes', [1, 15, 16])
@torch.no_grad()
def test_padding_tokens_count_as_often_as_they_occur(classes):
    plain, head = pair()
    data = inputs(classes=classes)
    torch.testing.assert_close(head(*data), expected(plain, head, *data), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_training_pools_by_two_and_upsamples():
    plain, head = pair()
    data = inputs()
    wanted = expected(plain, head, *data, pooling=2)
    torch.testing.assert_close(head.train()(*data), wanted, atol=1e-4, rtol=1e-4)
    assert (wanted - head.eval()(*data)).abs().max() > 1e-3
    assert head.train()(*inputs(grid=(7, 5))).shape == (2, 5, 28, 20)


def waves(module):
    """Weights by a formula."""
    for i, parameter in enumerate(module.parameters()):
        n = torch.arange(parameter.numel(), dtype=torch.float64)
        is_matrix = parameter.dim() > 1
        wave = 0.3 * torch.sin(0.37 * n * n + i) if is_matrix else 0.3 * torch.sin(n + i) + 0.7
        parameter.data.copy_(wave.view_as(parameter))


@torch.no_grad()
def test_training_pooling_gives_the_recorded_numbers():
    plain, head = pair()
    waves(plain)
    head.load_state_dict(head.state_dict() | head_weights(plain.state_dict()))
    waves(head.upsample1)
    waves(head.upsample2)
    shapes = (1, D, 4, 4), (1, N, 4, 4), (1, N, 4, 4), (3, 1, D)
    features, *taps, text = (
        torch.cos(1.3 * torch.arange(torch.Size(shape).numel()) ** 1.1 + i).view(shape)
        for i, shape in enumerate(shapes)
    )
    for training, recorded in RECORDED.items():
        logits = head.train(training)(features, taps, text)
        found = logits[0, :, 5, [2, 9]]
        torch.testing.assert_close(found, torch.tensor(recorded), atol=1e-3, rtol=0)


@torch.no_grad()
def test_several_prompts():
    plain, head = pair(prompts=3)
    data = inputs(prompts=3)
    torch.testing.assert_close(head(*data), expected(plain, head, *data), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match='expected 3 prompts a class .* found 1'):
        head(*inputs(prompts=1))


@torch.no_grad()
def test_too_many_classes_are_dropped_for_each_image_on_its_own():
    plain, head = pair(pad_len=16)
    data = inputs(classes=40)
    logits = head(*data)
    torch.testing.assert_close(logits, expected(plain, head, *data), atol=1e-4, rtol=1e-4)
    kept = (logits > DROPPED).flatten(2).any(2)
    assert (kept.sum(1) == 16).all() and (kept[0] != kept[1]).any()
    fewer = (head(*data, max_classes=7) > DROPPED).flatten(2).any(2)
    assert (fewer.sum(1) == 7).all()
    cosines = torch.einsum(
        'bdn,td->btn',
        torch.nn.functional.normalize(data[0].flatten(2), dim=1),
        torch.nn.functional.normalize(data[2][:, 0], dim=1),
    )
    best = cosines.amax(2)
    for row, chosen in zip(best, fewer, strict=True):
        assert row[chosen].min() >= row[~chosen].max()


@torch.no_grad()
def test_no_limit_without_pad_len():
    _, head = pair()
    unlimited = CATSegHead(in_channels=N, embed_dim=D, channels=64, window=4, pad_len=0).eval()
    assert (unlimited(*inputs(classes=40)) > DROPPED).all()
    assert (head(*inputs(classes=40)) == DROPPED).any()


@pytest.mark.parametrize('classes', [5, 40])
@torch.no_grad()
def test_an_image_alone_equals_itself_in_a_batch(classes):
    _, head = pair()
    features, taps, text = inputs(batch=3, classes=classes)
    together = head(features, taps, text)
    for i in range(3):
        one = slice(i, i + 1)
        alone = head(features[one], [tap[one] for tap in taps], text)
        torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_class_among_others_is_seen_by_attention_and_order_does_not_matter():
    _, head = pair()
    features, taps, text = inputs()
    order = [3, 0, 4, 1, 2]
    torch.testing.assert_close(
        head(features, taps, text[order]),
        head(features, taps, text)[:, order],
        atol=1e-5,
        rtol=1e-4,
    )


def test_recomputing_changes_no_gradient():
    gradients = []
    for with_cp in (False, True):
        _, head = pair(with_cp=with_cp)
        features, taps, text = inputs()
        text.requires_grad_(True)
        loss = head.train()(features, taps, text).square().mean()
        loss.backward()
        gradients.append([text.grad, *(p.grad for p in head.parameters())])
    assert all(grad is not None for grad in gradients[0])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-6, rtol=1e-4)


def test_gradients_equal_those_of_the_plain_formulas():
    plain, head = (module.double() for module in pair())
    features, taps, text = inputs()
    features, taps, text = features.double(), [tap.double() for tap in taps], text.double()
    found, wanted = text.clone().requires_grad_(True), text.clone().requires_grad_(True)
    head(features, taps, found).square().mean().backward()
    expected(plain, head, features, taps, wanted).square().mean().backward()
    torch.testing.assert_close(found.grad, wanted.grad)
    weights = head_weights({name: p.grad for name, p in plain.named_parameters()})
    for name, parameter in head.named_parameters():
        if name in weights:
            torch.testing.assert_close(parameter.grad, weights[name])


@torch.no_grad()
def test_chunks_change_nothing(monkeypatch):
    _, head = pair()
    data = inputs(classes=7)
    whole = head(*data)
    for module in ('cat_seg_swin', 'cat_seg_class_attention', 'cat_seg_decoder'):
        monkeypatch.setattr(f'mmseg_siglip.models.decode_heads.{module}.CHUNK', 1)
    torch.testing.assert_close(head(*data), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_without_a_decoder_logits_come_at_the_grid():
    head = CATSegHead(in_channels=N, embed_dim=D, channels=64, window=4, decoder=False).eval()
    features, _, text = inputs(grid=(7, 5))
    assert head(features, (), text).shape == (2, 5, 7, 5) and head.scale == 1
    assert not any(name.startswith(('upsample', 'decoder')) for name in head.state_dict())


def test_parameter_counts_are_the_published():
    """2,308,961 and 2,636,641 of aggregator and decoder, 2,359,680 and 3,146,112 of upsampling."""
    for width, joint, counts in ((768, 512, (2308961, 2359680)), (1024, 768, (2636641, 3146112))):
        with torch.device('meta'):
            head = CATSegHead(in_channels=width, embed_dim=joint)
        sizes = {name: p.numel() for name, p in head.named_parameters()}
        upsampling = sum(n for name, n in sizes.items() if name.startswith('upsample'))
        assert (sum(sizes.values()) - upsampling, upsampling) == counts


@pytest.mark.parametrize('ignore_as_negative', [True, False])
def test_loss_is_binary_cross_entropy_at_the_size_of_the_labels(ignore_as_negative):
    head = pair(loss_decode=dict(type='DenseBCELoss', ignore_as_negative=ignore_as_negative))[1]
    torch.manual_seed(2)
    logits, labels = torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 30, 26))
    labels[:, :7] = 255
    found = head.loss(logits, labels)
    wanted = plain_loss(logits, labels, ignore_as_negative=ignore_as_negative)
    torch.testing.assert_close(found['loss_sem_seg'], wanted)
    assert 0 < found['acc_seg'] < 100


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(pooling=0), 'expected pooling of 1 or more'),
        (dict(channels=30), 'divisible by num_heads, found 30 and 4'),
        (dict(channels=32), 'expected guidance_proj_widths below'),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        CATSegHead(in_channels=N, embed_dim=D, **options)
