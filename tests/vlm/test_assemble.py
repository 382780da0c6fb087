"""Two checkpoints put together: tokens, embeddings, saving, what does not fit."""

from __future__ import annotations

import pytest
import torch
import transformers
from PIL import Image
from tiny_vlm import write_llm
from transformers import AutoProcessor, Gemma2Config, Gemma2ForCausalLM, PhiConfig, PhiForCausalLM

from mmseg_siglip.vlm import build_llava, load_pretrained_model
from mmseg_siglip.vlm.assemble import context_length, require_gradients
from mmseg_siglip.vlm.processing import prompt_of
from mmseg_siglip.weights.tokenizers import load_tokenizer

PICTURE = Image.new('RGB', (50, 30), 'red')


@pytest.mark.parametrize('size', [None, 48, (32, 48)])
def test_saved_and_loaded_it_gives_the_same_logits(siglip_folder, llm_folder, tmp_path, size):
    vlm = build_llava(siglip_folder, llm_folder, image_size=size)
    vlm.save_pretrained(tmp_path)
    again = load_pretrained_model(tmp_path)
    text = prompt_of(vlm.processor, 'which shape is nearest?')
    assert text == 'USER: <image>\nwhich shape is nearest? ASSISTANT:'
    assert prompt_of(again.processor, 'which shape is nearest?') == text
    inputs = vlm.processor(images=PICTURE, text=text, return_tensors='pt')
    reread = again.processor(images=PICTURE, text=text, return_tensors='pt')
    for name, value in inputs.items():
        assert torch.equal(value, reread[name]), name
    assert torch.equal(vlm.model(**inputs).logits, again.model(**reread).logits)


def test_stock_transformers_loads_it(llava_folder):
    config = transformers.AutoConfig.from_pretrained(llava_folder)
    assert config.architectures == ['LlavaForConditionalGeneration']
    model = transformers.AutoModelForImageTextToText.from_pretrained(llava_folder).eval()
    assert type(model) is transformers.LlavaForConditionalGeneration
    processor = AutoProcessor.from_pretrained(llava_folder)
    message = dict(
        role='user', content=[dict(type='image', image=PICTURE), dict(type='text', text='what?')]
    )
    inputs = processor.apply_chat_template(
        [message], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors='pt'
    )
    ours = load_pretrained_model(llava_folder).model(**inputs).logits
    torch.testing.assert_close(model(**inputs).logits, ours, rtol=1e-5, atol=1e-5)


def test_image_token_and_embeddings(siglip_folder, llm_folder):
    vlm = build_llava(siglip_folder, llm_folder)
    image = vlm.tokenizer.convert_tokens_to_ids('<image>')
    assert image == vlm.model.config.image_token_id == 381
    assert vlm.model.get_input_embeddings().num_embeddings == 382
    assert vlm.model.get_output_embeddings().out_features == 382
    assert vlm.model.config.text_config.vocab_size == 382
    assert vlm.tokenizer('<image>', add_special_tokens=False)['input_ids'] == [image]


def test_only_the_projector_learns(siglip_folder, llm_folder):
    model = build_llava(siglip_folder, llm_folder).model
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(learning) == 4 and all('multi_modal_projector' in name for name in learning)
    learning = require_gradients(model, ('llm',))
    assert {id(p) for p in learning} == {id(p) for p in model.parameters() if p.requires_grad}
    with pytest.raises(ValueError, match="expected some of vision, projector, llm, found 'fusion'"):
        require_gradients(model, ('fusion',))


def test_random_language_model_of_a_configuration(siglip_folder, llama):
    vlm = build_llava(siglip_folder, llama, tokenizer='shapes_questions')
    assert vlm.context_len == 512
    with pytest.raises(ValueError, match='tokenizer: expected one beside a configuration'):
        build_llava(siglip_folder, llama)


def test_clip_counts_its_patches(clip_folder, llm_folder, tmp_path):
    for feature, tokens in ((None, 16), ('cls_patch', 17)):
        vlm = build_llava(clip_folder, llm_folder, select_feature=feature)
        text = prompt_of(vlm.processor, 'what?')
        inputs = vlm.processor(images=PICTURE, text=text, return_tensors='pt')
        assert (inputs['input_ids'] == vlm.model.config.image_token_id).sum() == tokens
        vlm.save_pretrained(tmp_path)
        stock = transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(
            vlm.model(**inputs).logits, stock(**inputs).logits, rtol=1e-5, atol=1e-5
        )


def test_tied_embeddings(siglip_folder, tmp_path):
    write_llm(tmp_path / 'llm', tie_word_embeddings=True)
    vlm = build_llava(siglip_folder, str(tmp_path / 'llm'))
    assert vlm.model.lm_head.weight is vlm.model.get_input_embeddings().weight
    vlm.save_pretrained(tmp_path / 'llava')
    said = (tmp_path / 'llava/config.json').read_text()
    assert siglip_folder not in said and str(tmp_path) not in said  # nobody's folders
    again = load_pretrained_model(tmp_path / 'llava').model
    assert torch.equal(again.lm_head.weight, again.get_input_embeddings().weight)
    ids = torch.arange(5)[None]
    assert torch.equal(again(input_ids=ids).logits, vlm.model(input_ids=ids).logits)


SMALL = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=1,
    num_attention_heads=2,
    vocab_size=381,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)


@pytest.mark.parametrize(
    ('kind', 'config'),
    [
        (PhiForCausalLM, PhiConfig(**SMALL)),
        (
            Gemma2ForCausalLM,
            Gemma2Config(**SMALL, num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.1),
        ),
    ],
)
def test_heads_that_llava_has_no_place_for(siglip_folder, tmp_path, kind, config):
    """Transformers' LLaVA would load their weights and compute something else."""
    kind(config).save_pretrained(tmp_path)
    load_tokenizer('shapes_questions').save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f'a {kind.__name__} computes its logits in a way'):
        build_llava(siglip_folder, str(tmp_path))


def test_template_of_the_language_model(siglip_folder, tmp_path):
    write_llm(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
        '{% if add_generation_prompt %}[model]{% endif %}'
    )
    tokenizer.save_pretrained(tmp_path)
    processor = build_llava(siglip_folder, str(tmp_path)).processor
    assert prompt_of(processor, 'why?') == '[user] <image>\nwhy?\n[model]'
    assert prompt_of(processor, 'why?', image=False) == '[user] why?\n[model]'


def test_context_is_never_guessed(llava_folder):
    vlm = load_pretrained_model(llava_folder)
    assert context_length(vlm.model, vlm.tokenizer) == 512
    vlm.model.config.text_config.max_position_embeddings = 0
    assert context_length(vlm.model, vlm.tokenizer) == 1024
    vlm.tokenizer.model_max_length = 10**30
    with pytest.raises(ValueError, match='llama: expected max_position_embeddings .* neither'):
        context_length(vlm.model, vlm.tokenizer)


def test_bad_input(siglip_folder, naflex_folder, llm_folder):
    with pytest.raises(ValueError, match="expected 'mlp2x_gelu' .* found 'qformer'"):
        build_llava(siglip_folder, llm_folder, projector='qformer')
    with pytest.raises(ValueError, match='expected at least the patch of 8 pixels, found 4x40'):
        build_llava(naflex_folder, llm_folder, image_size=(4, 40))
    with pytest.raises(ValueError, match='multiples of the patch of 8 pixels, or 32, found 30x30'):
        build_llava(siglip_folder, llm_folder, image_size=30)
    with pytest.raises(ValueError, match="a causal language model, found model_type 'siglip'"):
        build_llava(siglip_folder, siglip_folder)
    with pytest.raises(ValueError, match='expected -4 to 3, found -9'):
        build_llava(siglip_folder, llm_folder, select_layer=-9)
    with pytest.raises(ValueError, match="expected 'full' for SigLIP, found 'default'"):
        build_llava(siglip_folder, llm_folder, select_feature='default')
