"""SAM 3 against transformers' own model and processor, word by word."""

import json
import shutil
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from safetensors.torch import load_file, save_file
from tiny_sams import SAM3_CONFIGS, SAM_CONFIG, disturb, write_sam3_processor
from torch._dynamo.testing import CompileCounter
from transformers import (
    AutoModel,
    Sam3LiteTextModel,
    Sam3Model,
    Sam3Processor,
    Sam3VideoConfig,
    Sam3VideoModel,
)

from mmseg_siglip.models.compiled import compile_parts
from mmseg_siglip.models.sam import SAM3Adapter

WORDS = ('cat', 'a red star on the grass', 'road', 'sky')


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


@pytest.fixture(params=['sam3', 'sam3_lite_text'])
def folder(request, sam3_folder, sam3_lite_folder):
    return dict(sam3=sam3_folder, sam3_lite_text=sam3_lite_folder)[request.param]


def picture(height, width):
    rng = np.random.default_rng(height * width)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def as_pixels(image):
    return torch.from_numpy(image).permute(2, 0, 1) / 255


@cache
def theirs(folder):
    return AutoModel.from_pretrained(folder), Sam3Processor.from_pretrained(folder)


@cache
def ours(folder):
    return SAM3Adapter(folder)


def outputs(folder, image, word):
    """What transformers' model says of a word, alone."""
    model, processor = theirs(folder)
    inputs = processor(images=image, text=word, return_tensors='pt')
    with torch.no_grad():
        names = 'pixel_values', 'input_ids', 'attention_mask'
        return model(**{name: inputs[name] for name in names}), processor


@torch.no_grad()
def found_by(adapter, pixels, words):
    return adapter.find(adapter.encode(pixels), adapter.encode_text(words))


def check(concepts, index, expected, *, atol):
    presence = expected.presence_logits.sigmoid()
    for name, value in dict(
        masks=expected.pred_masks[0],
        scores=(expected.pred_logits.sigmoid() * presence)[0],
        semantic=expected.semantic_seg[0, 0],
        presence=presence[0, 0],
    ).items():
        found = getattr(concepts, name)[index]
        torch.testing.assert_close(found, value, atol=atol, rtol=1e-4, msg=name)


def test_a_word_is_found_as_transformers_finds_it(folder):
    adapter, image = ours(folder), picture(56, 56)
    kind = Sam3Model if 'lite' not in folder else Sam3LiteTextModel
    assert type(adapter.model) is kind and adapter.image_size == (56, 56)
    concepts = found_by(adapter, as_pixels(image), WORDS)
    for index, word in enumerate(WORDS):
        expected, processor = outputs(folder, image, word)
        check(concepts, index, expected, atol=1e-5)
        middle = float(concepts.scores[index].mean())
        (found,) = processor.post_process_instance_segmentation(
            expected, threshold=middle, mask_threshold=0.5, target_sizes=[(61, 47)]
        )
        kept = concepts.scores[index] > middle
        masks = torch.nn.functional.interpolate(
            concepts.masks[index][None].sigmoid(), size=(61, 47), mode='bilinear'
        )[0, kept]
        torch.testing.assert_close(concepts.scores[index][kept], found['scores'])
        assert ((masks > 0.5) == found['masks'].bool()).float().mean() > 0.999
    assert concepts.scores.std() > 0.003 and concepts.masks.std() > 0.5
    assert not torch.allclose(concepts.masks[0], concepts.masks[2], atol=0.1)


@pytest.mark.parametrize('size', [(40, 90), (133, 61), (2, 5)])
def test_an_image_is_stretched_as_transformers_stretches_it(sam3_folder, size):
    """But for their rounding to bytes afterwards."""
    adapter, image = ours(sam3_folder), picture(*size)
    model, processor = theirs(sam3_folder)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    square = dict(size=dict(height=56, width=56), return_tensors='pt', do_rescale=False)
    plain = processor.image_processor(batch, do_normalize=False, **square)['pixel_values']
    inputs = processor(text='cat', return_tensors='pt')
    with torch.no_grad():
        expected = model(pixel_values=plain / 127.5 - 1, **inputs)
    check(found_by(adapter, as_pixels(image), ['cat']), 0, expected, atol=2e-4)
    rounded = processor.image_processor(image, return_tensors='pt')['pixel_values']
    assert (rounded - (plain / 127.5 - 1)).abs().max() < 1.1 / 127.5


def test_words_together_are_words_alone(folder):
    adapter, pixels = ours(folder), as_pixels(picture(70, 50))
    together = found_by(adapter, pixels, WORDS)
    for index, word in enumerate(WORDS):
        alone = found_by(adapter, pixels, [word])
        for name in ('masks', 'scores', 'semantic', 'presence'):
            values = getattr(together, name)[index]
            torch.testing.assert_close(values, getattr(alone, name)[0], atol=1e-5, rtol=1e-4)


def test_words_are_zero_past_their_last_token(folder):
    adapter = ours(folder)
    with torch.no_grad():
        text = adapter.encode_text(WORDS)
        many = adapter.encode_text([WORDS[0], *(f'word {n}' for n in range(70))])
    lengths = torch.tensor([len(ids) for ids in adapter.tokenizer(list(WORDS))['input_ids']])
    assert text.shape == (4, int(lengths.max()), 32)
    assert torch.equal(text.ne(0).any(-1).sum(1), lengths)
    torch.testing.assert_close(many[0, :3], text[0, :3])


def test_image_size_is_a_choice(sam3_folder):
    adapter, native = (SAM3Adapter(sam3_folder, image_size=side) for side in (84, None))
    pixels = as_pixels(picture(70, 50))
    assert adapter.image_size == (84, 84)
    assert found_by(adapter, pixels, ['cat']).masks.shape == (1, 5, 24, 24)
    assert found_by(native, pixels, ['cat']).masks.shape == (1, 5, 16, 16)


def test_statistics_are_the_checkpoints_own(sam3_folder, tmp_path):
    shutil.copytree(sam3_folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / 'processor_config.json'
    config = json.loads(file.read_text())
    config['image_processor'] |= dict(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    file.write_text(json.dumps(config))
    adapter, image = SAM3Adapter(str(tmp_path)), picture(56, 56)
    assert adapter.mean == pytest.approx((102, 127.5, 153))
    concepts = found_by(adapter, as_pixels(image), ['cat'])
    expected = outputs(str(tmp_path), image, 'cat')[0].pred_masks
    torch.testing.assert_close(concepts.masks, expected, atol=1e-5, rtol=1e-4)
    normalised = (
        torch.from_numpy(image).permute(2, 0, 1) - torch.tensor(adapter.mean)[:, None, None]
    )
    normalised = normalised / torch.tensor(adapter.std)[:, None, None]
    torch.testing.assert_close(adapter.to_pixels(normalised), as_pixels(image))


def same(one, other):
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(value, states[1][name]) for name, value in states[0].items()
    )


def test_folder_bare_file_and_config(folder, tmp_path):
    adapter, file = ours(folder), Path(folder) / 'model.safetensors'
    assert same(adapter, SAM3Adapter(str(file)))
    kind = adapter.model.config.model_type
    save_file(load_file(file), tmp_path / 'bare.safetensors')
    options = dict(config=SAM3_CONFIGS[kind], tokenizer=folder)
    bare = SAM3Adapter(str(tmp_path / 'bare.safetensors'), **options)
    assert same(adapter, bare) and bare.mean == adapter.mean == (127.5,) * 3
    torch.testing.assert_close(bare.encode_text(WORDS), adapter.encode_text(WORDS))
    assert not same(adapter, SAM3Adapter(**options))


def test_the_video_model_as_published(sam3_folder, tmp_path):
    """The image model is its detector; the tracker is left out."""
    detector = deepcopy(SAM3_CONFIGS['sam3'])
    memory = 'memory_attention_hidden_size memory_attention_feed_forward_hidden_size'
    memory += ' memory_encoder_hidden_size memory_fuser_embed_dim memory_fuser_intermediate_dim'
    tracker = dict(
        dict.fromkeys([*memory.split(), 'mask_downsampler_embed_dim'], 32),
        vision_config=deepcopy(detector['vision_config']),
        prompt_encoder_config=dict(hidden_size=32, image_size=56, patch_size=14),
        mask_decoder_config=dict(hidden_size=32, mlp_dim=48, iou_head_hidden_dim=32),
        memory_attention_num_layers=1,
        memory_encoder_output_channels=16,
    )
    config = Sam3VideoConfig(detector_config=detector, tracker_config=tracker)
    video = disturb(Sam3VideoModel(config))
    video.save_pretrained(tmp_path)
    write_sam3_processor(tmp_path)
    assert json.loads((tmp_path / 'config.json').read_text())['model_type'] == 'sam3_video'
    for source in (tmp_path, tmp_path / 'model.safetensors'):
        adapter = SAM3Adapter(str(source))
        assert type(adapter.model) is Sam3Model and same(adapter.model, video.detector_model)
    state = load_file(tmp_path / 'model.safetensors')
    lost = next(name for name in state if name.startswith('detector_model.mask_decoder'))
    save_file(
        {name: value for name, value in state.items() if name != lost},
        tmp_path / 'less.safetensors',
    )
    with pytest.raises(ValueError, match='expected all weights .*, 1 are missing'):
        SAM3Adapter(str(tmp_path / 'less.safetensors'))


def test_refusals(sam3_folder, sam_config, tmp_path):
    with pytest.raises(ValueError, match='expected pretrained or config, found neither'):
        SAM3Adapter()
    with pytest.raises(ValueError, match='drop config'):
        SAM3Adapter(sam3_folder, config=SAM3_CONFIGS['sam3'])
    with pytest.raises(ValueError, match="expected model_type sam3, .* found 'sam'"):
        SAM3Adapter(config=SAM_CONFIG)
    with pytest.raises(ValueError, match='found None, as no config.json can be read there'):
        SAM3Adapter(str(tmp_path))
    with pytest.raises(ValueError, match='no such file or folder'):
        SAM3Adapter(str(tmp_path / 'nowhere' / 'sam3.pth'))
    with pytest.raises(ValueError, match='multiples of 14 pixels, found 60'):
        SAM3Adapter(sam3_folder, image_size=60)
    with pytest.raises(ValueError, match='words_per_batch of 1 or more, found 0'):
        SAM3Adapter(sam3_folder, words_per_batch=0)
    adapter = ours(sam3_folder)
    with pytest.raises(ValueError, match='expected words to look for, found none'):
        adapter.encode_text([])
    with pytest.raises(ValueError, match="at most 32 tokens, found 82: 'cat cat"):
        adapter.encode_text(['dog', ' '.join(['cat'] * 40)])
    with pytest.raises(ValueError, match='expected a tokenizer to read words, found none'):
        SAM3Adapter(config=SAM3_CONFIGS['sam3']).encode_text(['cat'])
    for wrong in (torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match='expected a float RGB image'):
            adapter.encode(wrong)
    for name, sentence in (
        ('tokenizer.json', 'expected a tokenizer of 1024 tokens, found 2'),
        ('processor_config.json', 'expected tokenizer and preprocessor files'),
    ):
        shutil.copytree(sam3_folder, tmp_path / name)
        (tmp_path / name / name).unlink()
        with pytest.raises(ValueError, match=sentence):
            SAM3Adapter(str(tmp_path / name))
    other = tmp_path / 'other.safetensors'
    save_file(dict(weight=torch.zeros(2)), other)
    with pytest.raises(ValueError, match='expected all weights of a sam3 model'):
        SAM3Adapter(str(other), config=SAM3_CONFIGS['sam3'], tokenizer=sam3_folder)


def test_the_image_encoder_compiled(sam3_folder):
    adapter, pixels = SAM3Adapter(sam3_folder).eval(), as_pixels(picture(40, 56))
    expected = found_by(adapter, pixels, ['cat'])
    counter = CompileCounter()
    assert compile_parts(adapter, dict(backend=counter), 'prediction') == ['SAM3Adapter._see']
    found = found_by(adapter, pixels, ['cat'])
    assert counter.frame_count > 0
    torch.testing.assert_close(found.masks, expected.masks, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=1e-4)
