"""The wiring: which features go in, which weights train, and how views become labels."""

from __future__ import annotations

import pytest
import torch
from contracts.segmentor import SegmentorContract
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from tiny_encoders import WORDS
from torch.nn.functional import fold, interpolate, unfold
from transformers import SiglipImageProcessorPil

from mmseg_siglip.models.segmentors import CATSegSegmentor, OpenVocabularyTTAModel
from mmseg_siglip.models.segmentors.cat_seg import check_blocks

HEAD = dict(
    type='CATSegHead',
    channels=32,
    num_heads=2,
    window=4,
    guidance_channels=8,
    text_channels=8,
    pad_len=16,
    decoder_widths=(16, 16),
    guidance_widths=(16, 8),
    guidance_proj_widths=(8, 4),
)
EVERYWHERE = dict(
    clip=dict(rank=2, targets=['out_proj', 'c_fc', 'c_proj'], towers=['vision']),
    siglip=dict(rank=2, targets=['q_proj', 'k_proj', 'v_proj', 'out_proj', 'fc1', 'fc2']),
)
NAMES = [f'{a} {b}' for b in WORDS[:2] + WORDS[7:15] for a in ('cat', 'dog', 'sky')]
SLIDE = dict(mode='slide_global', image_size=(40, 40), crop_size=(24, 24), stride=(16, 16))


@pytest.fixture
def build(openai_file, siglip_folder):
    def make(kind='siglip', vocabulary=('cat', 'dog', 'sky'), head=None, **options):
        torch.manual_seed(0)
        backbone = dict(pretrained=openai_file if kind == 'clip' else siglip_folder)
        options = dict(templates='plain') | options
        model = CATSegSegmentor(backbone, {**HEAD, **(head or {})}, list(vocabulary), **options)
        return model.eval()

    return make


class TestContract(SegmentorContract):
    segmentor = CATSegSegmentor
    options = dict(decode_head=HEAD)
    modes = ('whole', 'slide', 'slide_global')

    @staticmethod
    def dense(model, batch, text):
        return model.logits(batch, text)


def images(*sizes):
    torch.manual_seed(1)
    return [torch.randn(3, *size) for size in sizes]


def samples(batch=2, size=32, classes=3):
    labels = torch.randint(0, classes, (batch, 1, size, size))
    return [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]


@torch.no_grad()
def test_clip_features_are_the_value_path_with_the_cls_residual(build, tiny_clip):
    """v = out(W_v ln(x)) + x_cls; v + mlp(ln(v)); ln_post; proj: with stock open_clip modules."""
    model, (image,) = build('clip'), images((32, 32))
    visual, taps = tiny_clip.visual, []
    x = visual.conv1(image[None]).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(1, 1, -1), x], 1) + visual.positional_embedding
    x = visual.ln_pre(x)
    *body, last = visual.transformer.resblocks
    for block in body:
        x = block(x)
        taps.append(x[:, 1:].transpose(1, 2).unflatten(2, (4, 4)))
    attention = last.attn
    weight, bias = attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2]
    v = attention.out_proj(torch.nn.functional.linear(last.ln_1(x), weight, bias)) + x[:, :1]
    v = visual.ln_post(v + last.mlp(last.ln_2(v))) @ visual.proj
    features, found = model.extract_feat(image[None])
    wanted = v[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(features, wanted, atol=1e-4, rtol=1e-4)
    assert model.guidance_blocks == (0, 1)
    for tap, expected in zip(found, taps, strict=True):
        torch.testing.assert_close(tap, expected, atol=1e-4, rtol=1e-4)
    for other in ('value', 'value_residual', 'vanilla'):
        assert not torch.allclose(
            build('clip', attention=other).extract_feat(image[None])[0], wanted
        )


@torch.no_grad()
def test_siglip_features_are_the_pooling_head_on_each_patch(build):
    model, (image,) = build(), images((32, 32))
    tokens = model.backbone.model.vision_model(image[None]).last_hidden_state
    head = model.backbone.model.vision_model.head
    alone = tokens.flatten(0, 1)[:, None]  # each patch as an image of one token
    wanted = head(alone).unflatten(0, (1, 16)).transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(model.extract_feat(image[None])[0], wanted, atol=1e-4, rtol=1e-4)
    raw = build(readout='raw').extract_feat(image[None])[0]
    torch.testing.assert_close(
        raw, tokens.transpose(1, 2).unflatten(2, (4, 4)), atol=1e-4, rtol=1e-4
    )
    taps = model.extract_feat(image[None])[1]
    states = model.backbone.model.vision_model(image[None], output_hidden_states=True).hidden_states
    for tap, block in zip(taps, model.guidance_blocks, strict=True):
        wanted = states[block + 1].transpose(1, 2).unflatten(2, (4, 4))
        torch.testing.assert_close(tap, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('kind', ['clip', 'siglip'])
@pytest.mark.parametrize('size', [(32, 32), (24, 56), (37, 50)])
@torch.no_grad()
def test_any_size_gives_four_times_its_grid(build, kind, size):
    model = build(kind)
    grid = tuple(-(-side // 8) for side in size)
    (logits,) = model(images(size), mode='tensor')
    assert logits.shape == (3, 4 * grid[0], 4 * grid[1])
    assert build(kind, encoder_size=(32, 32))(images(size))[0].shape == (3, 16, 16)


@pytest.mark.parametrize('size', [(70, 90), (20, 24)])
@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
def test_resizing_equals_the_image_processors(build, mode, size):
    """Pillow's filter on bytes and ours on normalised floats: one step of 255 apart at most."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, 6, 7)
    pixels = (interpolate(coarse, size=size, mode='bilinear')[0] * 255).round().byte()
    model = build(encoder_size=(32, 32), interpolation=mode, antialias=True)
    resample = dict(bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC)[mode]
    processor = SiglipImageProcessorPil(size=dict(height=32, width=32), resample=resample)
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    wanted = processor(picture, return_tensors='pt')['pixel_values']
    data = dict(inputs=[pixels.flip(0)], data_samples=[SegDataSample()])  # files load as BGR
    (image,) = model.data_preprocessor(data)['inputs']
    found = model.resize(image[None]).clamp(-1, 1)  # bytes do not overshoot
    assert found.shape == wanted.shape == (1, 3, 32, 32)
    assert (found - wanted).abs().max() < 2.1 / 127.5
    if size == (70, 90):
        plain = build(encoder_size=(32, 32), interpolation=mode).resize(image[None])
        assert not torch.allclose(plain, found, atol=1e-3)


@torch.no_grad()
def test_slide_and_global_equal_the_published_protocol(build):
    """By unfold and fold: four windows and the whole image, sigmoid, averaged, averaged again."""
    model, (image,) = build(test_cfg=dict(SLIDE, return_logits=True)), images((30, 50))
    squashed = interpolate(image[None], size=(40, 40), mode='bilinear')
    patches = unfold(squashed, 24, stride=16)
    views = patches[0].T.unflatten(1, (3, 24, 24))
    views = torch.cat([views, interpolate(image[None], size=(24, 24), mode='bilinear')])
    logits = torch.stack(model(list(views)))
    views = interpolate(logits, size=(24, 24), mode='bilinear').sigmoid()
    whole = interpolate(views[-1:], size=(40, 40), mode='bilinear')
    count = fold(unfold(torch.ones(1, 1, 40, 40), 24, stride=16), (40, 40), 24, stride=16)
    total = fold(views[:-1].flatten(1).T[None], (40, 40), 24, stride=16)
    wanted = interpolate((total / count + whole) / 2, size=(33, 21), mode='bilinear')[0]
    (sample,) = model.predict([image], [SegDataSample(metainfo=dict(ori_shape=(33, 21)))])
    torch.testing.assert_close(sample.seg_logits.data, wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(sample.pred_sem_seg.data[0], wanted.argmax(0))
    assert sample.metainfo['num_classes'] == 3


@torch.no_grad()
def test_whole_takes_the_sigmoid_before_it_resizes(build):
    model, (image,) = build(test_cfg=dict(return_logits=True)), images((32, 40))
    wanted = interpolate(model([image])[0].sigmoid()[None], size=(32, 40), mode='bilinear')[0]
    (sample,) = model.predict([image])
    torch.testing.assert_close(sample.seg_logits.data, wanted)
    assert sample.pred_sem_seg.data.shape == (1, 32, 40)


@pytest.mark.parametrize('mode', ['whole', 'slide_global'])
@torch.no_grad()
def test_alone_equals_in_a_batch_whose_images_look_at_other_words(build, mode):
    cfg = dict(SLIDE, mode=mode, return_logits=True, window_batch=3)
    model = build(vocabulary=NAMES, test_cfg=cfg)
    batch = images((30, 50), (64, 24), (32, 32))
    together = model.predict(batch)
    for image, sample in zip(batch, together, strict=True):
        (alone,) = model.predict([image])
        torch.testing.assert_close(sample.seg_logits.data, alone.seg_logits.data)
        assert torch.equal(sample.pred_sem_seg.data, alone.pred_sem_seg.data)
    if mode == 'whole':
        looked = [sample.seg_logits.data.flatten(1).any(1) for sample in together]
        assert all(found.sum() == HEAD['pad_len'] for found in looked)
        assert not all(torch.equal(found, looked[0]) for found in looked)


@torch.no_grad()
def test_labels_need_no_full_size_probabilities(build, monkeypatch):
    names = NAMES
    (image,) = images((30, 50))
    full = build(vocabulary=names, test_cfg=dict(SLIDE, return_logits=True)).predict([image])[0]
    assert full.seg_logits.data.shape == (30, 30, 50)
    assert torch.equal(full.seg_logits.data.argmax(0), full.pred_sem_seg.data[0])
    monkeypatch.setattr('mmseg_siglip.models.labelling.CHUNK_BYTES', 1)
    (lean,) = build(vocabulary=names, test_cfg=SLIDE).predict([image], return_scores=True)
    chosen = full.seg_logits.data.gather(0, lean.pred_sem_seg.data)  # two words may tie
    torch.testing.assert_close(chosen[0], full.seg_logits.data.amax(0))
    torch.testing.assert_close(lean.scores.data, chosen)
    assert 'seg_logits' not in lean and 'scores' not in full
    dropped = build(vocabulary=names, test_cfg=dict(return_logits=True, max_classes=4))
    probabilities = dropped.predict([image])[0].seg_logits.data
    assert (probabilities.flatten(1).amax(1) > 0).sum() == 4


@torch.no_grad()
def test_classes_change_at_run_time_and_text_is_kept(build, monkeypatch):
    model, (image,) = build(test_cfg=dict(return_logits=True), finetune='none'), images((32, 32))
    first = model.predict([image])[0].seg_logits.data
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    model.set_classes(['grass', 'cat, sky', 'star', 'road', 'person'])
    assert model.predict([image])[0].seg_logits.data.shape[0] == 5
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    model.set_vocabulary(['cat', 'dog', 'sky'])
    monkeypatch.setattr(type(model.backbone), 'encode_text', None)  # the bank has them
    assert torch.equal(model.predict([image])[0].seg_logits.data, first)


def test_text_follows_the_weights(build):
    """Kept in evaluation, with gradients in training, forgotten when training goes on."""
    model = build()
    before = model.text
    assert model.text is before and not before.requires_grad or before.grad_fn is not None
    model.train()
    live = model.train_text
    assert live.requires_grad
    with torch.no_grad():
        model.backbone.model.text_model.encoder.layers[0].self_attn.v_proj.weight += 0.5
    model.eval()
    assert (model.text - before).abs().max() > 1e-4
    model.load_state_dict(model.state_dict())
    assert model._text is None
    frozen = build(towers=['vision']).train()
    assert frozen.train_text is frozen.train_text and not frozen.train_text.requires_grad


def losing(model):
    """The model after one backward pass."""
    model.train()
    model.loss(torch.stack(images((32, 32), (32, 32))), samples())['loss_sem_seg'].backward()
    return model


@pytest.mark.parametrize('kind', ['clip', 'siglip'])
@pytest.mark.parametrize('finetune', ['none', 'qv', 'lora', 'all'])
def test_what_trains_gets_gradients_and_nothing_else(build, kind, finetune):
    model = losing(build(kind, finetune=finetune))
    wanted = {name for name, p in model.named_parameters() if p.requires_grad}
    found = {name for name, p in model.named_parameters() if p.grad is not None}
    assert found == wanted and {name.split('.')[0] for name in found} == (
        {'decode_head'} if finetune == 'none' else {'backbone', 'decode_head'}
    )
    if finetune == 'qv' and kind == 'clip':  # a value path has no use for queries
        last = model.backbone.model.visual.transformer.resblocks[-1].attn
        assert not last.parametrizations.in_proj_weight.original0.grad.any()


@pytest.mark.parametrize(
    ('kind', 'readout'),
    [('clip', 'project'), ('siglip', 'map'), ('siglip', 'value'), ('siglip', 'raw')],
)
@pytest.mark.parametrize(
    'attention',
    ['value_residual', 'value', 'vanilla', 'maskclip', 'csa', 'clearclip', 'naclip'],
)
def test_what_attention_and_readout_do_not_read_does_not_train(build, kind, readout, attention):
    """For DDP, which waits for the gradient of all that requires one."""
    for finetune in ('qv', 'all', dict(type='lora', rank=2), dict(type='lora', **EVERYWHERE[kind])):
        model = losing(build(kind, finetune=finetune, attention=attention, readout=readout))
        for name, p in model.named_parameters():
            assert (p.grad is not None) == p.requires_grad, (finetune, name)


def test_recomputing_blocks_changes_no_gradient(build):
    gradients = []
    for with_cp in (False, True):
        model = build(head=dict(with_cp=with_cp)).train()
        model.backbone.with_cp = with_cp
        torch.manual_seed(3)
        model.loss(torch.stack(images((32, 32), (32, 32))), samples())['loss_sem_seg'].backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_every_synonym_counts_for_its_class(build):
    """PAS-20b: many words for the background; whichever wins, the class is the same."""
    words = ['cat', 'dog', '[background] sky, grass, road']
    model = build(vocabulary=words, synonyms='max', test_cfg=dict(return_logits=True))
    (image,) = images((32, 32))
    (sample,) = model.predict([image])
    flat = build(
        vocabulary=['cat', 'dog', 'sky', 'grass', 'road'], test_cfg=dict(return_logits=True)
    )
    every = flat.predict([image])[0]
    assert torch.equal(sample.pred_sem_seg.data, every.pred_sem_seg.data.clamp(max=2))
    wanted = torch.stack([*every.seg_logits.data[:2], every.seg_logits.data[2:].amax(0)])
    torch.testing.assert_close(sample.seg_logits.data, wanted)
    assert sample.metainfo['num_classes'] == 3
    with pytest.raises(ValueError, match="found 'sky' and 2 more, .* synonyms='first' leaves out"):
        build(vocabulary=words)


@torch.no_grad()
def test_flipped_views_average(build):
    model = build(test_cfg=SLIDE)
    (image,) = images((40, 40))
    tta = OpenVocabularyTTAModel(model)
    views = [
        model.predict([image])[0],
        model.predict(
            [image.flip(-1)],
            [SegDataSample(metainfo=dict(flip=True, flip_direction='horizontal'))],
        )[0],
    ]
    wanted = (views[0].seg_logits.data + views[1].seg_logits.data).argmax(0)
    (merged,) = tta.merge_preds([views])
    assert torch.equal(merged.pred_sem_seg.data[0], wanted)


def test_one_verb_for_words_and_no_background_that_does_nothing(build):
    assert CATSegSegmentor.set_classes is CATSegSegmentor.set_vocabulary
    with pytest.raises(ValueError, match='background_index: expected None, found 0; a CATSeg'):
        build().set_vocabulary(['cat', 'dog'], 0)


def test_guidance_blocks():
    assert [check_blocks(None, n) for n in (12, 24, 27)] == [(3, 7), (7, 15), (8, 17)]
    with pytest.raises(ValueError, match='expected two of 0 to 11, found .3, 12.'):
        check_blocks([3, 12], 12)


@pytest.mark.parametrize(
    'options, message',
    [
        (
            dict(attention='value_cls'),
            "'value_cls' needs a CLS token, which SigLIPBackbone has not",
        ),
        (dict(attention='ssa'), "unknown attention 'ssa'"),
        (dict(readout='cls'), "unknown readout 'cls'; expected one of map, value, raw"),
        (dict(interpolation='nearest'), 'interpolation: expected one of bilinear, bicubic'),
        (dict(synonyms='all'), "synonyms: expected one of first, mean, max, found 'all'"),
        (dict(test_cfg=dict(mode='tile')), 'test_cfg.mode: expected one of whole, slide'),
        (dict(test_cfg=dict(max_classes=0)), 'max_classes: expected 1 or more, found 0'),
    ],
)
def test_refusals(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_labels_that_are_no_class_are_refused(build):
    bad = samples(classes=9)
    with pytest.raises(ValueError, match='found label [3-8] in the masks, expected a class from 0'):
        build().train().loss(torch.stack(images((32, 32), (32, 32))), bad)
