import pytest
import torch
from tiny_sams import disturb
from torch.nn.functional import interpolate
from transformers import Sam2Model, SamModel

from mmseg_siglip.models.sam import SAMAdapter


@pytest.fixture(scope='module', params=['sam', 'sam2'])
def adapter(request):
    adapter = SAMAdapter(config=request.getfixturevalue(f'{request.param}_config'))
    disturb(adapter.model)
    return adapter


@pytest.fixture(scope='module')
def images():
    return torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0))


def prompts(adapter, b, p, n=3):
    generator = torch.Generator().manual_seed(1)
    shape = (adapter.prompt_dim, *adapter.embedding_size)
    return (
        torch.randn(b, p, n, adapter.prompt_dim, generator=generator),
        torch.randn(b, p, *shape, generator=generator),
    )


@pytest.mark.parametrize('multimask', [False, True])
def test_equals_transformers_own_forward(adapter, multimask):
    model = adapter.model
    assert isinstance(model, Sam2Model if adapter.is_sam2 else SamModel)
    side = adapter.image_size[0]
    images = torch.rand(2, 3, side, side)
    points = torch.rand(2, 3, 2, 2) * side
    labels = torch.tensor([[[1, 0], [1, 1], [0, 1]]] * 2)
    features = adapter.encode(images)
    masks, iou = adapter.decode(
        features, adapter.prompt_points(points, labels, features), multimask=multimask
    )
    pixels = (images - adapter.mean) / adapter.std
    expected = model(
        pixel_values=pixels, input_points=points, input_labels=labels, multimask_output=multimask
    )
    torch.testing.assert_close(masks, expected.pred_masks, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(iou, expected.iou_scores, atol=1e-5, rtol=1e-4)
    assert masks.shape == (2, 3, 3 if multimask else 1, *adapter.mask_size)
    assert masks.std() > 1e-3


def test_boxes_and_masks_equal_transformers_own(adapter):
    side = adapter.image_size[0]
    images = torch.rand(1, 3, side, side)
    boxes = torch.tensor([[[3.0, 5.0, 30.0, 41.0]]])
    logits = torch.randn(1, 1, *adapter.mask_size)
    features = adapter.encode(images)
    masks, _ = adapter.decode(
        features, adapter.prompt_boxes(boxes, features), adapter.prompt_masks(logits)
    )
    pixels = (images - adapter.mean) / adapter.std
    expected = adapter.model(
        pixel_values=pixels,
        input_boxes=boxes,
        input_masks=logits[0][:, None],
        multimask_output=False,
    )
    torch.testing.assert_close(masks, expected.pred_masks, atol=1e-4, rtol=1e-4)


def test_batch_of_images_and_prompts_equals_one_at_a_time(adapter, images):
    sparse, dense = prompts(adapter, 2, 4)
    together = adapter.decode(adapter.encode(images), sparse, dense, multimask=True)
    for i in range(2):
        features = adapter.encode(images[i : i + 1])
        for j in range(4):
            alone = adapter.decode(
                features, sparse[i : i + 1, j : j + 1], dense[i : i + 1, j : j + 1], multimask=True
            )
            for one, many in zip(alone, together, strict=True):
                torch.testing.assert_close(one[0, 0], many[i, j], atol=1e-4, rtol=1e-4)


def test_features_of_one_image_out_of_a_batch_of_sizes(adapter):
    images = [torch.rand(3, 40, 48), torch.rand(3, 70, 30)]
    features = adapter.encode(images)
    sparse, _ = prompts(adapter, 2, 1)
    together, _ = adapter.decode(features, sparse)
    for i, image in enumerate(images):
        assert features[i].sizes == (tuple(image.shape[-2:]),)
        alone, _ = adapter.decode(adapter.encode(image[None]), sparse[i : i + 1])
        torch.testing.assert_close(together[i], alone[0], atol=1e-4, rtol=1e-4)
        assert adapter.to_image(together[i][None], features[i]).shape[-2:] == image.shape[-2:]
    assert features[-1].sizes == features[1].sizes
    with pytest.raises(ValueError, match='one size'):
        adapter.to_image(together, features)


def test_no_sparse_prompt_and_no_mask_is_the_bare_decoder(adapter, images):
    features = adapter.encode(images)
    none = torch.zeros(2, 1, 0, adapter.prompt_dim)
    masks, _ = adapter.decode(features, none)
    assert masks.shape == (2, 1, 1, *adapter.mask_size)
    explicit, _ = adapter.decode(features, none, adapter.no_mask(2, 1))
    assert torch.equal(masks, explicit)


def test_single_mask_does_not_depend_on_training_mode(sam2_config, images):
    adapter = SAMAdapter(config=sam2_config)
    disturb(adapter.model)
    sparse, dense = prompts(adapter, 2, 2)
    evaluated, _ = adapter.decode(adapter.encode(images), sparse, dense)
    adapter.train()
    trained, _ = adapter.decode(adapter.encode(images), sparse, dense)
    torch.testing.assert_close(evaluated, trained, atol=1e-5, rtol=1e-4)


def test_position_is_transformers_own_and_rectangular(adapter):
    own = adapter.model.get_image_wide_positional_embeddings()
    torch.testing.assert_close(adapter.position(adapter.embedding_size), own)
    wide = adapter.position((2, 6))
    assert wide.shape == (1, adapter.prompt_dim, 2, 6)
    left = adapter.position((2, 3), torch.tensor([[1.0, 0.5]]))
    torch.testing.assert_close(left, wide[..., :3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('size', [(64, 128), (96, 32)])
def test_other_input_sizes(adapter, sam_config, sam2_config, size):
    config = sam2_config if adapter.is_sam2 else sam_config
    other = SAMAdapter(config=config, image_size=size)
    disturb(other.model)
    image = torch.rand(1, 3, size[0] // 2, size[1] // 2)
    features = other.encode(image)
    assert features.embeddings.shape[-2:] == other.embedding_size
    assert features.contents == (size,)
    point = torch.tensor([[[[4.0, 5.0]]]])
    sparse = other.prompt_points(point, torch.ones(1, 1, 1), features)
    code = other.model.shared_image_embedding((point * 2 + 0.5) / torch.tensor([size[1], size[0]]))
    labelled = sparse[:, :, :1] - (
        other.model.prompt_encoder.point_embed.weight[1]
        if other.is_sam2
        else other.model.prompt_encoder.point_embed[1].weight
    )
    torch.testing.assert_close(labelled, code, atol=1e-4, rtol=1e-4)
    masks, _ = other.decode(features, sparse)
    assert other.to_image(masks, features).shape == (1, 1, 1, *image.shape[-2:])


def test_position_embeddings_are_resampled_from_the_checkpoint(sam_config, tmp_path):
    model = disturb(SAMAdapter(config=sam_config).model)
    model.save_pretrained(tmp_path)
    native = SAMAdapter(str(tmp_path)).model.vision_encoder.pos_embed
    smaller = SAMAdapter(str(tmp_path), image_size=(32, 64)).model.vision_encoder.pos_embed
    expected = interpolate(native.permute(0, 3, 1, 2), size=(4, 8), mode='bicubic')
    torch.testing.assert_close(smaller, expected.permute(0, 2, 3, 1))


@pytest.mark.parametrize('attention', ['sdpa', 'eager'])
def test_random_weights_can_learn(sam_config, attention):
    torch.manual_seed(0)
    adapter = SAMAdapter(config=sam_config, attention=attention, with_cp=True).train()
    images = torch.rand(2, 3, 64, 64)
    sparse, dense = prompts(adapter, 2, 2)
    masks, iou = adapter.decode(adapter.encode(images), sparse, dense)
    (masks.square().sum() + iou.square().sum()).backward()
    weights = adapter.model.vision_encoder.layers[0].attn.qkv.weight
    assert weights.std() > 0.01 and weights.grad.abs().max() > 0
    assert not adapter.model.shared_image_embedding.positional_embedding.requires_grad
    assert adapter.model.shared_image_embedding.positional_embedding.abs().max() < 6


def test_mmengine_does_not_draw_weights_anew(sam_config):
    adapter = SAMAdapter(config=sam_config)
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    adapter.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in adapter.state_dict().items())


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda a: a.encode(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), 'float RGB'),
        (lambda a: a.encode(torch.zeros(1, 4, 8, 8)), 'float RGB'),
        (lambda a: a.decode(a.encode(torch.zeros(1, 3, 8, 8)), torch.zeros(2, 1, 1, 32)), 'sparse'),
        (
            lambda a: a.decode(
                a.encode(torch.zeros(1, 3, 8, 8)), torch.zeros(1, 1, 1, 32), torch.zeros(1, 1, 32)
            ),
            'dense',
        ),
    ],
)
def test_refusals(adapter, call, message):
    with pytest.raises(ValueError, match=message):
        call(adapter)


def test_refuses_sizes_and_options(sam_config, sam2_config):
    with pytest.raises(ValueError, match='multiples of 8'):
        SAMAdapter(config=sam_config, image_size=60)
    with pytest.raises(ValueError, match='multiples of 32'):
        SAMAdapter(config=sam2_config, image_size=48)
    with pytest.raises(ValueError, match='unknown resize'):
        SAMAdapter(config=sam_config, resize='crop')


@pytest.mark.parametrize('size', [48, (48, 80)])
def test_a_checkpoint_of_another_input_size_loads(tmp_path, sam_config, size):
    adapter = SAMAdapter(config=sam_config, image_size=size)
    disturb(adapter.model)
    native = tuple(side // adapter.patch_size for side in adapter.native_size)
    position = adapter.model.vision_encoder.pos_embed
    expected = interpolate(position.permute(0, 3, 1, 2), size=native, mode='bicubic')
    adapter.save_pretrained(tmp_path)
    again = SAMAdapter(str(tmp_path))
    assert again.image_size == adapter.native_size
    found = again.model.vision_encoder.pos_embed.permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    others = dict(again.model.named_parameters())
    for name, parameter in adapter.model.named_parameters():
        if 'pos_embed' not in name:
            assert torch.equal(others[name], parameter), name
    SAMAdapter(str(tmp_path), image_size=size)
