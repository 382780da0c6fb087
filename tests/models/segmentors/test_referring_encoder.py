import pytest
import torch
from open_clip import SimpleTokenizer
from transformers import AutoModel

from mmseg_siglip.models.backbones import CLIPBackbone, SigLIPBackbone
from mmseg_siglip.models.lora import lora_layers
from mmseg_siglip.models.segmentors import referring_encoder
from mmseg_siglip.models.segmentors.referring_encoder import ReferringEncoder

PHRASES = ['the red star', 'a large cat in the grass', 'dog']


@pytest.fixture(params=['siglip', 'naflex'])
def folder(request):
    return request.getfixturevalue(f'{request.param}_folder')


def test_equals_transformers_own_towers(siglip_folder):
    """`tower`: what transformers' model calls last hidden states, and its pooled text."""
    model = AutoModel.from_pretrained(siglip_folder).eval()
    encoder = ReferringEncoder(SigLIPBackbone(siglip_folder), similarity='tower', taps=(0, -2))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        image = encoder.encode_images(images, (32, 32))
        vision = model.vision_model(2 * images - 1, output_hidden_states=True)
    expected = vision.last_hidden_state.transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(image.patches, expected, atol=1e-5, rtol=1e-4)
    assert image.similar is image.patches and image.coverage == (1.0, 1.0)
    for tap, layer in zip(image.taps, (1, 2), strict=True):
        hidden = vision.hidden_states[layer].transpose(1, 2).unflatten(2, (4, 4))
        torch.testing.assert_close(tap, hidden, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        text = encoder.encode_text(PHRASES)
        ids, real = encoder.backbone.tokenize(PHRASES)
        output = model.text_model(input_ids=ids)
    torch.testing.assert_close(text.tokens, output.last_hidden_state)
    torch.testing.assert_close(text.pooled, output.pooler_output)
    assert torch.equal(text.real, real)


def test_joint_space_is_the_one_the_encoder_compares_in(siglip_folder):
    backbone = SigLIPBackbone(siglip_folder)
    encoder = ReferringEncoder(backbone)
    with torch.no_grad():
        images = torch.rand(1, 3, 32, 32)
        found = encoder.encode_images(images, (32, 32)).similar
        expected = backbone.dense(2 * images - 1, attention='vanilla', readout='value')
        text = encoder.encode_text(PHRASES)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    # the last token, pad or not, is what the text tower pools
    torch.testing.assert_close(text.similar[:, -1], text.pooled, atol=1e-5, rtol=1e-4)


def test_a_phrase_does_not_depend_on_its_neighbours(folder):
    encoder = ReferringEncoder(SigLIPBackbone(folder))
    with torch.no_grad():
        together = encoder.encode_text(PHRASES * 2)
        for i, phrase in enumerate(PHRASES * 2):
            alone = encoder.encode_text([phrase])
            for part in ('tokens', 'similar', 'pooled'):
                torch.testing.assert_close(
                    getattr(alone, part)[0], getattr(together, part)[i], atol=1e-5, rtol=1e-4
                )
            assert torch.equal(alone.real[0], together.real[i])


@torch.no_grad()
@pytest.mark.parametrize('side', ['left', 'right'])
def test_parity_pads_to_the_longest_on_the_tokenizer_s_side(siglip_folder, side):
    """And takes case and punctuation as they come."""
    encoder = ReferringEncoder(SigLIPBackbone(siglip_folder), similarity='tower', parity=True)
    tokenizer, phrases = encoder.backbone.tokenizer, ['Dog.', *PHRASES]
    tokenizer.padding_side, tokenizer.model_input_names = side, ['input_ids']
    text = encoder.encode_text(phrases)
    ids = tokenizer(phrases, padding=True, return_tensors='pt')['input_ids']
    expected = encoder.backbone.model.text_model(input_ids=ids)
    assert ids.shape[1] == 6 and (ids[0, 0] == tokenizer.pad_token_id) == (side == 'left')
    torch.testing.assert_close(text.tokens, expected.last_hidden_state)
    torch.testing.assert_close(text.pooled, expected.pooler_output)
    assert text.real.all()  # padding is read like words
    assert (text.pooled[0] - text.pooled[3]).abs().max() > 1e-3  # "Dog." is no "dog"


@pytest.fixture
def clip(openai_file):
    return CLIPBackbone(openai_file)


def test_joint_space_of_a_clip(clip, tiny_clip):
    """What open_clip's own text tower pools is the projected token at the end of the phrase."""
    encoder = ReferringEncoder(clip)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        found = encoder.encode_images(images, (32, 32)).similar
        pixels = (images - encoder.mean) / encoder.std
        expected = clip.dense(pixels, attention='vanilla')
        text = encoder.encode_text(PHRASES)
        pooled = tiny_clip.encode_text(SimpleTokenizer()(PHRASES))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(text.pooled, pooled, atol=1e-5, rtol=1e-4)
    ends = text.real.sum(1) - 1
    assert ends.tolist() == [4, 7, 2]
    last = text.similar[torch.arange(3), ends]
    torch.testing.assert_close(last, text.pooled, atol=1e-5, rtol=1e-4)
    assert encoder.space_channels == found.shape[1] == text.similar.shape[2] == 48


def test_phrases_of_a_clip_in_parts_of_several_lengths(clip, monkeypatch):
    """Its tower runs up to the longest phrase of a part."""
    encoder = ReferringEncoder(clip)
    with torch.no_grad():
        whole = encoder.encode_text(PHRASES)
        monkeypatch.setattr(referring_encoder, 'PHRASES_AT_ONCE', 1)
        parts = encoder.encode_text(PHRASES)
    assert torch.equal(parts.real, whole.real) and parts.tokens.shape == whole.tokens.shape
    for name in ('tokens', 'similar', 'pooled'):
        one, other = (getattr(found, name) for found in (whole, parts))
        if name != 'pooled':
            one, other = one[whole.real], other[whole.real]
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_towers_of_a_clip(clip, clip_config):
    with pytest.raises(
        ValueError, match=r"'tower' compares .* widths \(128, 64, 48\) differ; expec"
    ):
        ReferringEncoder(clip, similarity='tower')
    narrow = dict(layers=2, width=64, patch_size=8, image_size=32)
    torch.manual_seed(0)
    arch = clip_config | dict(embed_dim=64, vision_cfg=narrow)
    encoder = ReferringEncoder(CLIPBackbone(arch=arch), similarity='tower', finetune='all')
    image = encoder.encode_images(torch.rand(1, 3, 32, 32), (32, 32))
    text = encoder.encode_text(PHRASES)
    assert image.similar is image.patches and torch.equal(text.similar, text.tokens)
    outputs = (image.patches, text.tokens, text.pooled)
    sum(part.square().sum() for part in outputs).backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    frozen = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    assert frozen == {'backbone.model.visual.proj', 'backbone.model.logit_scale'}


def test_padding_is_on_the_right_whatever_the_tokenizer_says(siglip_folder):
    backbone = SigLIPBackbone(siglip_folder)
    expected = backbone.tokenize(PHRASES)
    backbone.tokenizer.padding_side = 'left'
    for one, other in zip(backbone.tokenize(PHRASES), expected, strict=True):
        assert torch.equal(one, other)
    assert expected[1].sum(1).tolist() == [3, 6, 1]
    assert all(row[0] for row in expected[1])


@pytest.mark.parametrize('parity', [False, True])
def test_too_many_tokens_is_an_error(siglip_folder, parity):
    encoder = ReferringEncoder(SigLIPBackbone(siglip_folder), parity=parity)
    with pytest.raises(ValueError, match='at most 16 tokens, found 17'):
        encoder.encode_text(['red ' * 17])


@pytest.mark.parametrize(
    ('wanted', 'image', 'expected'),
    [(None, (100, 50), (32, 32)), (40, (100, 50), (40, 40)), ((24, 48), (9, 9), (24, 48)),
     (dict(max_patches=32), (100, 50), (64, 32))],
)  # fmt: skip
def test_sizes(siglip_folder, wanted, image, expected):
    encoder = ReferringEncoder(SigLIPBackbone(siglip_folder), image_size=wanted)
    assert encoder.size_for(image) == expected
    features = encoder.encode_images([torch.rand(3, *image)], expected)
    assert features.patches.shape[-2:] == tuple(-(-side // 8) for side in expected)


def test_naflex_keeps_the_aspect_by_default(naflex_folder):
    encoder = ReferringEncoder(SigLIPBackbone(naflex_folder))
    assert encoder.size_for((100, 50)) == (40, 24)  # 5 x 3 of 16 patches
    assert encoder.encode_images([torch.rand(3, 100, 50)], (40, 24)).patches.shape[-2:] == (5, 3)


def test_a_grid_that_covers_less_or_more_than_the_image_says_so(siglip_folder):
    encoder = ReferringEncoder(SigLIPBackbone(siglip_folder))
    image = encoder.encode_images([torch.rand(3, 36, 32)], (36, 32))
    assert image.coverage == (40 / 36, 1.0)


def test_each_training_batch_gets_one_of_the_sizes(siglip_folder):
    encoder = ReferringEncoder(SigLIPBackbone(siglip_folder), train_sizes=[24, (32, 48)])
    encoder.train()
    drawn = {tuple(encoder.draw_sizes([(9, 9), (5, 7)])) for _ in range(30)}
    assert drawn == {((24, 24),) * 2, ((32, 48),) * 2}
    assert encoder.eval().draw_sizes([(9, 9)]) == [(32, 32)]


def test_adapters_of_a_resolution(siglip_folder):
    finetune = dict(type='lora', rank=2, resolutions=[24, 48])
    encoder = ReferringEncoder(SigLIPBackbone(siglip_folder), finetune=finetune)
    for name, parameter in encoder.named_parameters():
        if 'lora_B' in name and 'size_48x48' in name:
            torch.nn.init.normal_(parameter)
    image, phrases = torch.rand(1, 3, 64, 64), ['a cat', 'the red star']
    plain = ReferringEncoder(SigLIPBackbone(siglip_folder))
    for size, same in ((24, True), (32, True), (40, False), (64, False), (24, True)):
        encoder.select((size, size))
        found = encoder.encode_images(image, (size, size)).patches
        expected = plain.encode_images(image, (size, size)).patches
        assert torch.allclose(found, expected, atol=1e-4) == same, size
        words, usual = (one.encode_text(phrases).tokens for one in (encoder, plain))
        assert torch.allclose(words, usual, atol=1e-4) == same, size
    names = {name for layer in lora_layers(encoder).values() for name in layer.lora_A}
    assert names == {'size_24x24', 'size_48x48'}
    assert all(p.requires_grad for n, p in encoder.named_parameters() if 'lora_' in n)


def test_pooling_head_never_trains(siglip_folder):
    encoder = ReferringEncoder(SigLIPBackbone(siglip_folder), finetune='all')
    head = encoder.backbone.model.vision_model.head
    assert not any(parameter.requires_grad for parameter in head.parameters())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(similarity='cosine'), 'similarity: expected one of'),
        (dict(taps=(3,)), 'taps: expected blocks of -3 to 2'),
        (dict(image_size=(1, 2, 3)), 'expected a side or'),
        (dict(image_size=dict(patches=3)), 'image_size: expected a size or'),
        (dict(finetune='some'), 'finetune'),
    ],
)
def test_refusals(siglip_folder, options, message):
    with pytest.raises(ValueError, match=message):
        ReferringEncoder(SigLIPBackbone(siglip_folder), **options)
