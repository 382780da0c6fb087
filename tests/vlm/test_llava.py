"""Transformers' LLaVA: the same at its own size, right at others; depth starts without effect."""

from __future__ import annotations

import pytest
import torch
import transformers
from PIL import Image
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.functional import linear

import mmseg_siglip.vlm
from mmseg_siglip.models.compiled import compile_parts
from mmseg_siglip.vlm import VisionChat, load_pretrained_model
from mmseg_siglip.vlm.llava import DepthLlavaForConditionalGeneration
from mmseg_siglip.vlm.processing import prompt_of

DEPTH = dict(names=('mean', 'min'), mean=(3.0, 2.0), std=(1.0, 0.5), width=5)


@pytest.fixture
def vlm(llava_folder):
    return load_pretrained_model(llava_folder)


@pytest.fixture(scope='module')
def stock(llava_folder):
    return transformers.LlavaForConditionalGeneration.from_pretrained(llava_folder).eval()


def batch(vlm, size=(40, 70), count=2):
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8).numpy()
    text = prompt_of(vlm.processor, 'how many stars?')
    return vlm.processor(
        images=[Image.fromarray(image) for image in pixels],
        text=[text] * count,
        return_tensors='pt',
    )


def test_logits_loss_and_answers_of_the_stock_class(vlm, stock):
    inputs = batch(vlm)
    with torch.no_grad():
        ours, theirs = vlm.model(**inputs), stock(**inputs)
        labels = inputs['input_ids'].clone()
        losses = [model(**inputs, labels=labels).loss for model in (vlm.model, stock)]
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*losses)
    options = dict(max_new_tokens=6, do_sample=False)
    assert torch.equal(vlm.model.generate(**inputs, **options), stock.generate(**inputs, **options))
    last = vlm.model(**inputs, logits_to_keep=1).logits
    torch.testing.assert_close(last, ours.logits[:, -1:], rtol=1e-5, atol=1e-5)


def test_a_batch_of_depth_in_beams(vlm):
    vlm.model.add_depth_fusion(DEPTH)
    torch.nn.init.normal_(vlm.model.depth_fusion.last.weight)
    inputs = batch(vlm)
    options = dict(max_new_tokens=4, num_beams=3, do_sample=False)
    depth = torch.rand(2, 16, 2)
    both = vlm.model.generate(**inputs, depth_statistics=depth, **options)
    one = {name: value[1:] for name, value in inputs.items()}
    alone = vlm.model.generate(**one, depth_statistics=depth[1:], **options)
    assert both[1, : alone.shape[1]].tolist() == alone[0].tolist()


@pytest.mark.parametrize('size', [(64, 64), (48, 24)])
def test_other_sizes_through_the_hooks_that_transformers_has(llava_folder, stock, size):
    """Positions interpolated in ``get_image_features``, the result given as ``inputs_embeds``."""
    vlm = load_pretrained_model(llava_folder, custom_vision_config=dict(image_size=size))
    inputs = batch(vlm)
    assert tuple(inputs['pixel_values'].shape[-2:]) == size
    tokens = (inputs['input_ids'][0] == vlm.model.config.image_token_id).sum()
    assert tokens == size[0] * size[1] // 64 == vlm.model.config.image_seq_length
    with torch.no_grad():
        features = stock.get_image_features(inputs['pixel_values'], interpolate_pos_encoding=True)
        features = torch.stack(features.pooler_output)
        embeds = stock.get_input_embeddings()(inputs['input_ids'])
        mask = (inputs['input_ids'] == stock.config.image_token_id)[..., None]
        embeds = embeds.masked_scatter(mask, features)
        expected = stock(inputs_embeds=embeds, attention_mask=inputs['attention_mask']).logits
        found = vlm.model(**inputs).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    new = vlm.model.generate(**inputs, max_new_tokens=4, do_sample=False)
    answer = stock.generate(
        inputs_embeds=embeds,
        attention_mask=inputs['attention_mask'],
        max_new_tokens=4,
        do_sample=False,
    )
    assert torch.equal(new[:, -4:], answer)


@pytest.mark.parametrize('size', [32, (48, 24)])
def test_depth_does_nothing_before_training_and_something_after(llava_folder, size):
    vlm = load_pretrained_model(llava_folder, custom_vision_config=dict(image_size=size))
    inputs = batch(vlm)
    without = vlm.model(**inputs).logits
    vlm.model.add_depth_fusion(DEPTH)
    tokens = vlm.model.config.image_seq_length
    depth = torch.rand(2, tokens, 2) + 2
    assert torch.equal(vlm.model(**inputs, depth_statistics=depth).logits, without)
    fusion = vlm.model.depth_fusion
    torch.nn.init.normal_(fusion.last.weight)
    with torch.no_grad():
        found = vlm.model.model.get_image_features(inputs['pixel_values'], depth_statistics=depth)
        plain = vlm.model.model.get_image_features(inputs['pixel_values'])
        normed = (depth - torch.tensor([3.0, 2.0])) / torch.tensor([1.0, 0.5])
        hidden = torch.nn.functional.gelu(linear(normed, fusion.first.weight, fusion.first.bias))
        added = linear(hidden, fusion.last.weight, fusion.last.bias)
    expected = torch.stack(plain.pooler_output) + added
    torch.testing.assert_close(torch.stack(found.pooler_output), expected)
    options = dict(max_new_tokens=5, do_sample=False)
    answer = vlm.model.generate(**inputs, depth_statistics=depth, **options)
    step = answer[:, : -5 + 1]
    again = vlm.model.generate(
        input_ids=step,
        attention_mask=torch.ones_like(step),
        pixel_values=inputs['pixel_values'],
        depth_statistics=depth,
        max_new_tokens=4,
        do_sample=False,
    )
    assert torch.equal(answer, again)


def test_depth_is_saved_and_found_again(vlm, tmp_path):
    vlm.model.add_depth_fusion(DEPTH)
    torch.nn.init.normal_(vlm.model.depth_fusion.last.weight)
    inputs, depth = batch(vlm), torch.rand(2, 16, 2)
    expected = vlm.model(**inputs, depth_statistics=depth).logits
    vlm.save_pretrained(tmp_path)
    again = load_pretrained_model(tmp_path)
    assert torch.equal(again.model(**inputs, depth_statistics=depth).logits, expected)
    assert tuple(again.model.config.depth_fusion['names']) == DEPTH['names']
    half = load_pretrained_model(tmp_path, precision='bf16').model
    assert half.dtype == torch.bfloat16 and half.depth_fusion.mean.dtype == torch.float32
    half(**inputs, depth_statistics=depth)


def test_blocks_above_the_layer_are_not_run(vlm):
    ran = []
    for i, block in enumerate(vlm.model.model.vision_tower.encoder.layers):
        block.mlp.register_forward_hook(lambda *_, i=i: ran.append(i))
    vlm.model(**batch(vlm))
    assert ran == [0, 1]


def test_a_compiled_encoder_gives_the_same(vlm):
    inputs = batch(vlm)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend('aot_eager')
    with torch.no_grad():
        expected = vlm.model(**inputs).logits
        names = compile_parts(vlm.model, dict(backend=counter), 'prediction')
        assert names == ['DepthLlavaModel._projected']
        torch.testing.assert_close(vlm.model(**inputs).logits, expected)
    assert counter.frame_count == 1
    compile_parts(vlm.model, False, 'prediction')


def test_several_layers(vlm, stock, siglip_folder, llm_folder):
    from mmseg_siglip.vlm import build_llava

    several = build_llava(siglip_folder, llm_folder, select_layer=(-3, -1))
    inputs = batch(several)
    config = several.model.config
    assert config.vision_feature_layer == [-3, -1]
    twin = transformers.LlavaForConditionalGeneration(config).eval()
    twin.load_state_dict(several.model.state_dict())
    torch.testing.assert_close(
        several.model(**inputs).logits, twin(**inputs).logits, rtol=1e-5, atol=1e-5
    )


def test_the_former_name_of_the_class():
    assert mmseg_siglip.vlm.LlavaForConditionalGeneration is DepthLlavaForConditionalGeneration


def test_bad_input(vlm, llava_folder):
    inputs = batch(vlm)
    with pytest.raises(ValueError, match='this model has no depth fusion'):
        vlm.model(**inputs, depth_statistics=torch.rand(2, 16, 2))
    with pytest.raises(ValueError, match='this model fuses depth|no depth fusion'):
        VisionChat(vlm)(Image.new('RGB', (9, 9)), 'what?', depths=torch.ones(9, 9))
    short = dict(inputs, input_ids=inputs['input_ids'][:, 3:])
    short['attention_mask'] = inputs['attention_mask'][:, 3:]
    with pytest.raises(ValueError, match='expected 2 x 16 image tokens in the prompts, found'):
        vlm.model(**(short | dict(input_ids=short['input_ids'].clamp(max=300))))
    for other in (
        dict(vision_feature_layer=-1),
        dict(vision_feature_select_strategy='default'),
    ):
        with pytest.raises(ValueError, match='as in the configuration, found'):
            vlm.model(**inputs, **other)
        with pytest.raises(ValueError, match='as in the configuration, found'):
            vlm.model.get_image_features(inputs['pixel_values'], **other)
    with pytest.raises(ValueError, match='expected floats, normalised by .*, found torch.uint8'):
        vlm.model.get_image_features(inputs['pixel_values'].byte())
    with pytest.raises(ValueError, match='expected pixel_values beside them, found none'):
        vlm.model(input_ids=inputs['input_ids'], depth_statistics=torch.rand(2, 16, 2))
    vlm.model.add_depth_fusion(DEPTH)
    with pytest.raises(ValueError, match=r'expected \(2, 16, 2\) beside .* found \(2, 9, 2\)'):
        vlm.model(**inputs, depth_statistics=torch.rand(2, 9, 2))
    model = DepthLlavaForConditionalGeneration.from_pretrained(llava_folder)
    model.config.vision_feature_select_strategy = 'default'
    with pytest.raises(ValueError, match="expected 'full' for SigLIP, found 'default'"):
        model(**inputs)
