import pytest
import torch
from segment_anything import sam_model_registry
from tiny_sams import disturb

from mmseg_siglip.models.adapters.segment_anything import sam_config, to_transformers
from mmseg_siglip.models.sam import SAMAdapter
from mmseg_siglip.models.sam.geometry import content_size


@torch.no_grad()
def answers(adapter, images, points, labels):
    features = adapter.encode(images)
    return adapter.decode(features, adapter.prompt_points(points, labels, features), multimask=True)


def check(sam, file, side, sizes, tolerance):
    """Our batch of images and prompts against the package, which takes one image at a time."""
    adapter = SAMAdapter(file, kind='segment_anything')
    generator = torch.Generator().manual_seed(2)
    images = [torch.rand(3, *size, generator=generator) for size in sizes]
    points = torch.rand(len(sizes), 3, 2, 2, generator=generator) * min(min(s) for s in sizes)
    labels = torch.tensor([[1, 0], [1, 1], [0, 1]]).expand(len(sizes), 3, 2)
    with torch.no_grad():
        masks, iou = answers(adapter, images, points, labels)
    for i, image in enumerate(images):
        scale = side / max(image.shape[-2:])
        resized = torch.nn.functional.interpolate(
            image[None],
            size=content_size(tuple(image.shape[-2:]), (side, side), 'pad'),
            mode='bilinear',
            antialias=True,
        )[0]
        expected = sam(
            [
                dict(
                    image=resized * 255,
                    original_size=tuple(image.shape[-2:]),
                    point_coords=points[i] * scale,
                    point_labels=labels[i],
                )
            ],
            multimask_output=True,
        )[0]
        torch.testing.assert_close(
            masks[i], expected['low_res_logits'], atol=tolerance, rtol=tolerance
        )
        torch.testing.assert_close(iou[i], expected['iou_predictions'], atol=1e-4, rtol=1e-3)
        assert expected['low_res_logits'].std() > 10 * tolerance
    return adapter, (images, points, labels), (masks, iou)


def test_equals_the_package(original_sam, original_sam_file, tmp_path):
    sizes = [(64, 32), (24, 48)]  # sides for which long-side scaling has no rounding
    adapter, prompt, found = check(original_sam, original_sam_file, 64, sizes, 1e-4)
    adapter.model.save_pretrained(tmp_path)
    same = SAMAdapter(str(tmp_path), kind='sam')
    for one, other in zip(answers(same, *prompt), found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_vit_b_equals_the_package_and_transformers(tmp_path):
    sam = disturb(sam_model_registry['vit_b']())
    file, folder = tmp_path / 'sam_vit_b_random.pth', tmp_path / 'transformers'
    torch.save(sam.state_dict(), file)
    adapter, prompt, found = check(sam, str(file), 1024, [(128, 256)], 1e-3)
    assert adapter.model.config.vision_config.global_attn_indexes == [2, 5, 8, 11]
    assert adapter.embedding_size == (64, 64)
    adapter.model.save_pretrained(folder)
    del sam, adapter
    with torch.no_grad():
        for one, other in zip(answers(SAMAdapter(str(folder)), *prompt), found, strict=True):
            assert torch.equal(one, other)


def test_reads_the_configuration_out_of_the_shapes(original_sam):
    config = sam_config(original_sam.state_dict())
    assert config.vision_config.global_attn_indexes == [1]
    assert config.vision_config.window_size == 3
    assert config.vision_config.num_attention_heads == 2
    assert config.mask_decoder_config.attention_downsample_rate == 2
    assert config.prompt_encoder_config.image_size == 64


def test_every_tensor_is_carried_over(original_sam):
    state = original_sam.state_dict()
    renamed = to_transformers(state)
    assert len(renamed) == len(state) + 1  # the position code goes by two names
    assert {id(value) for value in renamed.values()} == {id(value) for value in state.values()}


@pytest.mark.parametrize('change', ['missing', 'unknown', 'shape'])
def test_refuses_what_does_not_fit(original_sam, tmp_path, change):
    state = dict(original_sam.state_dict())
    name = 'mask_decoder.transformer.norm_final_attn.weight'
    if change == 'missing':
        del state[name]
    elif change == 'unknown':
        state['mask_decoder.extra.weight'] = torch.zeros(1)
    else:
        state[name] = torch.zeros(3)
    torch.save(state, tmp_path / 'sam.pth')
    expected = dict(missing=r'final_attn.weight\) missing', unknown='unknown', shape='shape')[
        change
    ]
    with pytest.raises(ValueError, match=expected):
        SAMAdapter(str(tmp_path / 'sam.pth'))


def test_names_a_tensor_that_is_not_there(tmp_path):
    state = {'image_encoder.patch_embed.proj.weight': torch.zeros(8, 3, 4, 4)}
    torch.save(state, tmp_path / 'sam.pth')
    with pytest.raises(ValueError, match='image_encoder.blocks'):
        SAMAdapter(str(tmp_path / 'sam.pth'))
