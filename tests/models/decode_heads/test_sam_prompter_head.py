import pytest
import torch
from tiny_sams import disturb
from torch.nn.functional import conv2d, cross_entropy, gelu, group_norm, interpolate, normalize

from mmseg_siglip.models.decode_heads import SAMPrompterDecodeHead
from mmseg_siglip.models.decode_heads.sam_prompter_head import logit_iou, same_meaning
from mmseg_siglip.models.decode_heads.text_visual_activation import ImageFeatures, TextFeatures
from mmseg_siglip.models.sam import SAMAdapter

C, E, SCALE, BIAS = 12, 32, 9.0, -3.0
PARITY = dict(prompt_mode='conv', down_spatial_times=2, dense='global')


def head(**options):
    torch.manual_seed(0)
    defaults = dict(in_channels=C, text_channels=C, prompt_dim=E, native_grid=(27, 27))
    return SAMPrompterDecodeHead(**defaults, **options)


@pytest.fixture(scope='module')
def sam(sam_config):
    adapter = SAMAdapter(config=sam_config, resize='squash')
    disturb(adapter.model)
    return adapter


def inputs(sam, grid=(27, 27), coverage=(1.0, 1.0)):
    torch.manual_seed(1)
    patches = torch.randn(2, C, *grid)
    image = ImageFeatures(patches, patches, (), coverage)
    tokens = torch.randn(3, 4, C)
    real = torch.arange(4) < torch.tensor([[4], [2], [3]])
    text = TextFeatures(tokens, tokens, real, torch.randn(3, C))
    rows = torch.tensor([0, 1, 1])
    return image, text, rows, sam.encode(torch.rand(2, 3, 40, 56)).take(rows.tolist())


def run(module, sam, grid=(27, 27), **options):
    image, text, rows, features = inputs(sam, grid, **options)
    return module(image, text, rows, features, sam, scale=SCALE, bias=BIAS)[:2]


def rsrefseg(module, sam, v, words, pooled):
    """RSRefSeg written out for one image (1, C, h, w) and one phrase; group norm for batch norm."""
    grid = v.shape[-2:]
    cells = normalize(v, dim=1).flatten(2)
    a = torch.sigmoid(SCALE * normalize(words, dim=-1) @ cells + BIAS).unflatten(2, grid)
    local = (v + (a[:, :, None] * v[:, None]).mean(1)) / 2
    g = (SCALE * normalize(pooled, dim=-1)[:, None] @ cells + BIAS).unflatten(2, grid)
    x = conv2d(torch.cat([local, g.sigmoid() * v, v], 1), module.activation.mix.weight)
    x = gelu(group_norm(x, 32, module.norm.weight, module.norm.bias))
    size = torch.tensor(grid)
    y, xx = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in size), indexing='ij')
    code = sam.model.shared_image_embedding(torch.stack([xx, y], -1)).permute(2, 0, 1)[None]
    x = x + code
    for block in module.prompter.down[:2]:
        x = conv2d(x, block.conv.weight, block.conv.bias, stride=2, padding=1)
        x = gelu(group_norm(x, 32, block.norm.weight, block.norm.bias))
    sparse = module.prompter.down[2](x).flatten(2).transpose(1, 2)
    mask = interpolate(g, size=sam.mask_size, mode='bilinear')
    return sparse, sam.model.prompt_encoder.mask_embed(mask)


def test_parity_with_rsrefseg(sam):
    module = head(**PARITY)
    sparse, dense = run(module, sam)
    assert sparse.shape == (3, 49, E)  # 27 -> 14 -> 7
    image, text, rows, _ = inputs(sam)
    for r, b in enumerate(rows.tolist()):
        expected = rsrefseg(
            module,
            sam,
            image.patches[b : b + 1],
            text.similar[r, text.real[r]][None],
            text.pooled[r : r + 1],
        )
        torch.testing.assert_close(sparse[r], expected[0][0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(dense[r], expected[1][0], atol=1e-4, rtol=1e-4)


def test_parity_output_stays_what_it_is(sam):
    """Golden: sums of what the formulas above give for this seed."""
    module = head(**PARITY)
    image, text, rows, _ = inputs(sam)
    oracle = rsrefseg(
        module, sam, image.patches[:1], text.similar[0, text.real[0]][None], text.pooled[:1]
    )
    sparse, dense = run(module, sam)
    for one, other in zip((sparse[0], dense[0]), oracle, strict=True):
        assert one.double().sum().item() == pytest.approx(other.double().sum().item(), abs=1e-2)
        assert one.abs().double().sum().item() == pytest.approx(
            other.abs().double().sum().item(), rel=1e-5
        )


GRIDS = [(14, 14), (16, 16), (24, 24), (27, 27), (32, 32), (7, 20), (33, 17)]


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('mode', ['query', 'cascade', 'pool', 'conv'])
def test_any_grid_and_every_mode(sam, mode, grid):
    module = head(prompt_mode=mode)
    sparse, dense = run(module, sam, grid)
    rows, columns = module.prompt_grid(grid)
    assert sparse.shape == (3, rows * columns, E)
    assert dense.shape == (3, E, *sam.embedding_size)
    if mode in ('query', 'cascade'):
        assert rows * columns == 9
    if mode == 'pool' and grid[0] == grid[1]:
        assert rows * columns == 49


@pytest.mark.parametrize(
    ('target', 'native', 'steps'),
    [(None, (27, 27), 2), (None, (32, 32), 3), (4, (27, 27), 3), (14, (27, 27), 1),
     (None, (14, 14), 1), ((4, 7), (16, 32), 3), (None, (7, 7), 0)],
)  # fmt: skip
def test_target_spatial_dim_sets_the_steps(target, native, steps):
    module = SAMPrompterDecodeHead(
        in_channels=C,
        text_channels=C,
        prompt_dim=E,
        native_grid=native,
        prompt_mode='conv',
        target_spatial_dim=target,
    )
    assert module.steps == steps


def test_begins_with_the_similarity_as_mask(sam):
    expected = run(head(prompt_mode='pool', dense='global'), sam)[1]
    for dense in ('refined', 'matched'):
        torch.testing.assert_close(run(head(prompt_mode='pool', dense=dense), sam)[1], expected)
    assert run(head(prompt_mode='pool', dense=None), sam)[1] is None


def test_positions_follow_what_the_grid_covers(sam):
    """27 patches of 14 pixels see 378 of 384 pixels; their places shrink with them."""
    image, text, rows, features = inputs(sam, coverage=(378 / 384, 378 / 384))
    module, seen = head(**PARITY), {}
    module.prompter.register_forward_pre_hook(lambda _, args: seen.update(position=args[1]))
    module(image, text, rows, features, sam, scale=SCALE, bias=BIAS)
    centre = torch.tensor([(26.5 / 27) * 378 / 384, (0.5 / 27) * 378 / 384])  # x, y
    expected = sam.model.shared_image_embedding(centre)
    torch.testing.assert_close(seen['position'][0, :, 0, 26], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('dense', ['refined', 'matched'])
@pytest.mark.parametrize('mode', ['query', 'pool', 'conv'])
def test_every_parameter_gets_a_gradient(sam, mode, dense):
    module = head(prompt_mode=mode, dense=dense)
    sparse, mask = run(module, sam)
    (sparse.mul(torch.randn_like(sparse)).sum() + mask.square().sum()).backward()
    assert not [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]


def test_matched_is_the_similarity_of_what_was_refined(sam):
    module = head(prompt_mode='cascade', dense='matched')
    disturb(module.refine, scale=0.3)
    module.calibration.data = torch.tensor([0.2, -0.7])
    seen = {}
    module.prompter.register_forward_hook(lambda _, args, found: seen.update(cells=found.cells))
    image, text, rows, features = inputs(sam, (5, 8))
    dense = module(image, text, rows, features, sam, scale=SCALE, bias=BIAS)[1]
    patches = normalize(image.similar[rows] + module.refine(seen['cells']), dim=1)
    cosines = (patches * normalize(text.pooled, dim=1)[..., None, None]).sum(1, keepdim=True)
    logits = SCALE * torch.tensor(0.2).exp() * cosines + BIAS - 0.7
    mask = interpolate(logits, size=sam.mask_size, mode='bilinear')
    expected = sam.model.prompt_encoder.mask_embed(mask)
    torch.testing.assert_close(dense, expected, atol=1e-4, rtol=1e-3)


def test_matched_begins_as_the_similarity_under_autocast():
    module = head(prompt_mode='pool', dense='matched')
    similar, pooled = torch.randn(2, C, 5, 8), torch.randn(2, C)
    expected = module._match(similar, torch.randn(2, E, 5, 8), pooled)
    with torch.autocast('cpu', torch.bfloat16):
        found = module._match(similar, torch.randn(2, E, 5, 8), pooled)
    torch.testing.assert_close(found, expected)


def test_which_phrases_mean_the_same():
    one, other = torch.eye(2).byte(), torch.ones(2, 2).byte()
    texts = [['the car', 'the red car', 'a tree'], ['a tree']]
    masks = [torch.stack([one, one, other]), other[None]]
    assert same_meaning(masks, texts).int().tolist() == [
        [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]
    ]  # fmt: skip
    masks[0][1, 0, 1] = 255  # what does not count tells masks apart
    assert same_meaning(masks, texts).int()[0].tolist() == [1, 0, 0, 0]


def test_losses_of_aspects_by_hand():
    torch.manual_seed(0)
    module = head(prompt_mode='cascade', overlap_loss_weight=2.0, contrast_loss_weight=3.0)
    texts = [['the car', 'a tree'], ['a dog']]
    patches = [(torch.randn(C, 2, 2), (1.0, 1.0)), (torch.randn(C, 2, 2), (1.0, 1.0))]
    masks = [torch.zeros(2, 4, 4).byte(), torch.zeros(1, 4, 4).byte()]
    masks[0][0, :2, :2], masks[0][1, 2:], masks[1][0, :, 2:] = 1, 1, 1
    aspects = [torch.randn(2, 2, E), torch.randn(1, 2, E)]
    found = module.aspect_losses(aspects, patches, masks, texts)
    said = torch.cat(aspects)
    cosines = [float(one @ other / one.norm() / other.norm()) for one, other in said]
    assert found['loss_overlap'].item() == pytest.approx(2 * sum(c * c for c in cosines) / 3)
    (v, _), (w, _) = patches
    pooled = torch.stack([v[:, 0, 0], v[:, 1].mean(1), w[:, :, 1].mean(1)])
    logits = normalize(module.region(pooled), dim=1) @ normalize(said[:, 1], dim=1).T / 0.07
    wanted = (cross_entropy(logits, torch.arange(3)) + cross_entropy(logits.T, torch.arange(3))) / 2
    assert found['loss_contrast'].item() == pytest.approx(3 * wanted.item(), rel=1e-5)
    masks[0][0] = 0  # nothing to see: not compared
    found = module.aspect_losses(aspects, patches, masks, texts)
    logits = logits[1:, 1:]
    wanted = (cross_entropy(logits, torch.arange(2)) + cross_entropy(logits.T, torch.arange(2))) / 2
    assert found['loss_contrast'].item() == pytest.approx(3 * wanted.item(), rel=1e-5)


def test_aspects_without_a_region_train_nothing_and_break_nothing():
    module = head(prompt_mode='cascade')
    aspects = [torch.randn(1, 2, E, requires_grad=True)]
    patches, masks = [(torch.randn(C, 2, 2), (1.0, 1.0))], [torch.zeros(1, 4, 4).byte()]
    found = module.aspect_losses(aspects, patches, masks, [['a car']])
    found['loss_contrast'].backward()
    assert found['loss_contrast'] == 0 and not module.region.weight.grad.any()


def test_losses_are_means_over_phrases():
    module = head()
    logits = [torch.randn(2, 8, 8), torch.randn(1, 5, 6)]
    masks = [(torch.rand(2, 8, 8) > 0.5).byte(), (torch.rand(1, 5, 6) > 0.5).byte()]
    iou = [torch.tensor([0.3, 0.4]), torch.tensor([0.9])]
    found = module.loss(logits, masks, iou)
    for name, loss in zip(('MaskBCELoss', 'MaskDiceLoss'), module.losses, strict=True):
        each = [
            loss(z[i : i + 1], y[i : i + 1]).item()
            for z, y in zip(logits, masks, strict=True)
            for i in range(len(z))
        ]
        assert found[f'loss_{name}'].item() == pytest.approx(sum(each) / 3, rel=1e-5)
    actual = torch.cat([logit_iou(z, y) for z, y in zip(logits, masks, strict=True)])
    error = (torch.cat(iou) - actual).square().mean()
    assert found['loss_iou'].item() == pytest.approx(error.item(), rel=1e-5)
    assert found['train_iou'].item() == pytest.approx(actual.mean().item())


def test_logit_iou_by_hand():
    logits = torch.tensor([[[1.0, 1.0], [-1.0, 1.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    masks = torch.tensor([[[1, 0], [1, 255]], [[0, 0], [0, 0]]])
    assert logit_iou(logits, masks).tolist() == pytest.approx([1 / 3, 1.0])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(prompt_mode='box'), 'prompt_mode: expected one of'),
        (dict(dense='some'), 'dense: expected one of'),
        (
            dict(num_prompts=4, prompt_mode='pool'),
            'num_prompts is an option of prompt_mode query, cascade, rsrefseg2, found',
        ),
        (
            dict(overlap_loss_weight=1.0),
            'overlap_loss_weight is an option of prompt_mode cascade, rs',
        ),
        (
            dict(target_spatial_dim=7),
            'target_spatial_dim is an option of prompt_mode conv, pool',
        ),
        (
            dict(prompt_mode='conv', target_spatial_dim=7, down_spatial_times=2),
            'expected one, found both',
        ),
        (dict(prompt_mode='pool', target_spatial_dim=(0, 3)), 'expected 1 or more'),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        head(**options)
