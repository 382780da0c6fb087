import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny_sams import SAM2_CONFIG, SAM_CONFIG, disturb

from mmseg_siglip.models.lora import lora_layers
from mmseg_siglip.registry import MODELS, SCOPE

TEXTS = [['the red star', 'the cat'], ['a dog in the grass'], ['the sky', 'the road', 'a person']]
SIZES = [(40, 56), (64, 30), (40, 56)]
FINETUNE = dict(
    encoder=dict(finetune=dict(type='lora', rank=2, targets=['q_proj', 'out_proj'])),
    sam_finetune='lora',
)


def build(folder, *, sam=SAM_CONFIG, head=None, scale=0.2, **options):
    torch.manual_seed(0)
    config = dict(
        type='ReferringSegmentor',
        backbone=dict(pretrained=folder),
        sam=dict(config=sam),
        decode_head=head or {},
        **options,
    )
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(config)
    for part in (model.sam.model, model.decode_head):  # each parameter keeps its requires_grad
        trains = [parameter.requires_grad for parameter in part.parameters()]
        disturb(part, scale=scale)
        for parameter, value in zip(part.parameters(), trains, strict=True):
            parameter.requires_grad_(value)
    return model


def batch(model, chosen=(0, 1, 2), training=False):
    generator = torch.Generator().manual_seed(3)
    images, samples = [], []
    for text, size in zip(TEXTS, SIZES, strict=True):
        images.append(torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8))
        sample = SegDataSample(metainfo=dict(text=text, ori_shape=(size[0] // 2, size[1] + 3)))
        masks = torch.randint(0, 2, (len(text), *size), generator=generator, dtype=torch.uint8)
        masks[:, :3] = 255
        sample.gt_sem_seg = PixelData(data=masks)
        samples.append(sample)
    data = dict(inputs=[images[i] for i in chosen], data_samples=[samples[i] for i in chosen])
    return model.data_preprocessor(data, training)


@pytest.fixture(params=['siglip_folder', 'naflex_folder', 'openai_file'])
def folder(request):
    """A checkpoint, whose kind no config names."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize('sam', [SAM_CONFIG, SAM2_CONFIG])
def test_a_batch_equals_its_images_and_its_phrases(folder, sam):
    model = build(folder, sam=sam, test_cfg=dict(return_logits=True, phrase_batch=2)).eval()
    together = model.predict(**batch(model))
    for i in range(3):
        (alone,) = model.predict(**batch(model, [i]))
        torch.testing.assert_close(
            together[i].seg_logits.data, alone.seg_logits.data, atol=1e-4, rtol=1e-3
        )
        for j, phrase in enumerate(TEXTS[i]):
            data = batch(model, [i])
            data['data_samples'][0].set_metainfo(dict(text=[phrase]))
            (one,) = model.predict(**data)
            torch.testing.assert_close(
                together[i].seg_logits.data[j], one.seg_logits.data[0], atol=1e-4, rtol=1e-3
            )
            assert together[i].scores[j] == pytest.approx(one.scores[0], abs=1e-4)


def test_parity_has_batch_norms_and_needs_a_siglip(siglip_folder, openai_file):
    head = dict(prompt_mode='conv', down_spatial_times=1)
    model = build(siglip_folder, head=head, parity=True)
    assert isinstance(model.decode_head.norm, torch.nn.SyncBatchNorm)
    assert isinstance(model.decode_head.prompter.down[0].bn, torch.nn.SyncBatchNorm)
    named = dict(head, norm_cfg=dict(type='BN'))
    named = build(siglip_folder, head=named, parity=True)
    assert type(named.decode_head.norm) is torch.nn.BatchNorm2d
    with pytest.raises(ValueError, match='parity: expected a SigLIP, found a CLIPBackbone'):
        build(openai_file, parity=True)


def test_what_a_prediction_holds(folder):
    model = build(folder).eval()
    samples = model.predict(**batch(model))
    for sample, text in zip(samples, TEXTS, strict=True):
        masks = sample.pred_sem_seg.data
        assert masks.shape == (len(text), *sample.ori_shape) and masks.dtype == torch.uint8
        assert set(masks.unique().tolist()) <= {0, 1}
        assert len(sample.scores) == len(text) and 'seg_logits' not in sample
    model.test_cfg['return_logits'] = True
    (sample,) = model.predict(**batch(model, [0]))
    assert torch.equal(sample.pred_sem_seg.data.bool(), sample.seg_logits.data > 0)
    model.test_cfg['threshold'] = 0.9
    (stricter,) = model.predict(**batch(model, [0]))
    probabilities = sample.seg_logits.data.sigmoid()
    assert torch.equal(stricter.pred_sem_seg.data.bool(), probabilities > 0.9)


@pytest.mark.parametrize('sizes', [(), [(24, 40)]])
def test_aspects_of_a_batch_equal_those_of_its_images(folder, sizes):
    head = dict(prompt_mode='cascade', dense='matched')
    model = build(folder, head=head, encoder=dict(train_sizes=sizes)).eval()
    data = batch(model, training=True)
    answers, _ = model.answer(data['inputs'], TEXTS)
    for i, answer in enumerate(answers):
        (alone,), _ = model.answer(data['inputs'][i : i + 1], TEXTS[i : i + 1])
        assert answer.aspects.shape == (len(TEXTS[i]), 2, model.sam.prompt_dim)
        for name in ('logits', 'iou', 'aspects', 'patches'):
            torch.testing.assert_close(
                getattr(answer, name), getattr(alone, name), atol=1e-4, rtol=1e-3
            )
    losses = model.loss(**data)
    expected = model.decode_head.aspect_losses(
        [answer.aspects for answer in answers],
        [(answer.patches, answer.coverage) for answer in answers],
        [sample.gt_sem_seg.data for sample in data['data_samples']],
        TEXTS,
    )
    assert set(expected) == {'loss_overlap', 'loss_contrast'}
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, atol=1e-4, rtol=1e-3)


def test_adapters_of_a_size_serve_phrases_as_well(folder):
    """In any order, and beside images of another size, an answer is the same."""
    finetune = dict(type='lora', rank=2, resolutions=[24, 48])
    model = build(folder, encoder=dict(finetune=finetune, image_size=48)).eval()
    for name, parameter in model.named_parameters():
        if 'lora_B' in name:
            torch.nn.init.normal_(parameter, std=0.3)
    sizes = {(40, 56): (48, 48), (64, 30): (24, 24)}
    model.encoder.size_for = sizes.__getitem__
    inputs = batch(model)['inputs']
    with torch.no_grad():
        together, _ = model.answer(inputs, TEXTS)
        for i in (1, 0, 2, 1):
            (alone,), _ = model.answer(inputs[i : i + 1], TEXTS[i : i + 1])
            torch.testing.assert_close(alone.logits, together[i].logits, atol=1e-4, rtol=1e-3)


def test_the_text_matters(siglip_folder):
    model = build(siglip_folder, test_cfg=dict(return_logits=True)).eval()
    (sample,) = model.predict(**batch(model, [0]))
    one, other = sample.seg_logits.data
    assert (one - other).abs().max() > 0.05 * one.abs().max()


def test_encoders_run_once_an_image_whatever_the_number_of_phrases(siglip_folder, monkeypatch):
    model = build(siglip_folder).eval()
    calls = []
    for name, module in (('sam', model.sam), ('siglip', model.siglip)):
        method = 'encode' if name == 'sam' else 'forward_intermediates'
        original = getattr(module, method)
        monkeypatch.setattr(
            module, method,
            lambda images, *args, name=name, original=original: (
                calls.append((name, len(images))), original(images, *args))[1],
        )  # fmt: skip
    model.predict(**batch(model, [2]))
    assert sorted(calls) == [('sam', 1), ('siglip', 1)]


MODES = [
    dict(prompt_mode='query'),
    dict(prompt_mode='cascade', dense='matched'),
    dict(prompt_mode='pool', target_spatial_dim=3, dense='global'),
    dict(prompt_mode='conv', dense=None, iou_loss_weight=0.0),
]


@pytest.mark.parametrize('sam', [SAM_CONFIG, SAM2_CONFIG])
@pytest.mark.parametrize('head', MODES)
@pytest.mark.parametrize(
    'finetune', [{}, FINETUNE, dict(encoder=dict(finetune='all', taps=[0, 1]), sam_finetune='all')]
)
def test_every_trainable_parameter_gets_a_gradient(siglip_folder, sam, head, finetune):
    model = build(siglip_folder, sam=sam, head=head, **finetune)
    trains_what_it_says(model)
    assert bool(lora_layers(model)) == (finetune is FINETUNE)


@pytest.mark.parametrize('parity', [False, True])
@pytest.mark.parametrize('finetune', [{}, FINETUNE, dict(encoder=dict(finetune='all'))])
def test_every_trainable_parameter_of_rsrefseg2_gets_a_gradient(siglip_folder, parity, finetune):
    """On images of several sizes, several phrases each, whose prompter sees them as they are."""
    head = dict(prompt_mode='rsrefseg2')
    model = build(siglip_folder, sam=SAM2_CONFIG, head=head, parity=parity, **finetune)
    assert [weight.requires_grad for weight in model.siglip.logit_weights()] == [True] * 2
    trains_what_it_says(model)


@pytest.mark.parametrize('head', MODES)
@pytest.mark.parametrize('finetune', ['none', 'qv', 'lora', 'all'])
def test_every_trainable_parameter_of_a_clip_gets_a_gradient(openai_file, head, finetune):
    model = build(openai_file, head=head, encoder=dict(finetune=finetune))
    assert model.siglip.hidden_size != model.siglip.text_width != model.siglip.embed_dim
    trains_what_it_says(model)


def trains_what_it_says(model):
    for name, parameter in model.train().named_parameters():
        if 'lora_B' in name:
            torch.nn.init.normal_(parameter, std=0.1)
    losses = model.loss(**batch(model, training=True))
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    dead = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert not dead
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert all(parameter.grad is None for parameter in frozen)


@pytest.mark.parametrize('size', [(32, 32), (24, 40), (64, 16)])
def test_trains_at_any_resolution_with_one_head(folder, size):
    model = build(folder, encoder=dict(image_size=size)).train()
    losses = model.loss(**batch(model, training=True))
    assert all(torch.isfinite(value) for value in losses.values())


def test_checkpointing_changes_nothing(siglip_folder):
    gradients = []
    for with_cp in (False, True):
        model = build(
            siglip_folder, encoder=dict(finetune='all', image_size=(24, 40)), sam_finetune='all'
        ).train()
        model.siglip.with_cp = with_cp
        if with_cp:
            model.sam.model.gradient_checkpointing_enable(dict(use_reentrant=False))
        losses = model.loss(**batch(model, training=True))
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-3)


def test_overfits_one_image(siglip_folder):
    model = build(
        siglip_folder, scale=0.0, encoder=dict(finetune='all'), sam_finetune='all'
    ).train()
    data = batch(model, [0], training=True)
    masks = torch.zeros(2, *SIZES[0], dtype=torch.uint8)
    masks[0, :20, :28], masks[1, 20:, 28:] = 1, 1
    data['data_samples'][0].gt_sem_seg = PixelData(data=masks)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    first = None
    for _ in range(100):
        losses = model.loss(**data)
        first = losses['train_iou'] if first is None else first
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimizer.step()
    assert first < 0.4 and losses['train_iou'] > 0.6


def test_what_finetune_says_is_what_trains(openai_file):
    counts = {}
    for finetune in ('none', 'qv', 'lora', 'all'):
        model = build(openai_file, encoder=dict(finetune=finetune))
        counts[finetune] = sum(p.requires_grad for p in model.siglip.parameters())
        assert bool(lora_layers(model)) == (finetune == 'lora')
    # queries and values of 3 + 2 blocks; two matrices for each of 3 * 3 + 2 * 2 layers
    assert (counts['none'], counts['qv'], counts['lora']) == (0, 10, 26) and counts['all'] > 26


def test_precision_of_prediction(siglip_folder):
    exact = build(siglip_folder, test_cfg=dict(return_logits=True)).eval()
    half = build(siglip_folder, precision='bf16', test_cfg=dict(return_logits=True)).eval()
    (one,), (other,) = (model.predict(**batch(model, [0])) for model in (exact, half))
    difference = (one.seg_logits.data - other.seg_logits.data).abs().max()
    assert 0 < difference < 0.1 * one.seg_logits.data.abs().max()
    assert other.seg_logits.data.dtype == torch.float32


def test_images_reach_each_encoder_normalised_its_own_way(siglip_folder):
    model = build(siglip_folder).eval()
    (image,) = model.data_preprocessor(
        dict(inputs=[torch.arange(3, dtype=torch.uint8).view(3, 1, 1).expand(3, 40, 56) * 100])
    )['inputs']
    torch.testing.assert_close(image[:, 0, 0] * 255, torch.tensor([200.0, 100.0, 0.0]))  # RGB
    seen = {}
    model.sam.model.vision_encoder.register_forward_pre_hook(
        lambda _, args: seen.update(sam=args[0])
    )
    model.siglip.model.vision_model.embeddings.patch_embedding.register_forward_pre_hook(
        lambda _, args: seen.update(siglip=args[0])
    )
    model.answer([image], [['a cat']])
    rgb = torch.tensor([200.0, 100.0, 0.0]) / 255
    imagenet = (rgb - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen['sam'][0, :, 5, 5], imagenet, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen['siglip'][0, :, 5, 5], 2 * rgb - 1, atol=1e-4, rtol=1e-4)
    assert seen['siglip'].shape[-2:] == (32, 32) and seen['sam'].shape[-2:] == (64, 64)


def test_a_trace_needs_no_phrase_but_a_prediction_does(siglip_folder):
    model = build(siglip_folder).eval()
    inputs = batch(model, [0])['inputs']
    with torch.no_grad():
        (logits,) = model(inputs, None, mode='tensor')
    assert logits.shape == (1, *model.sam.mask_size)
    with pytest.raises(ValueError, match='expected text'):
        model.predict(inputs)


@pytest.mark.parametrize('text', [None, [], 'a cat', [3]])
def test_phrases_of_another_form_are_refused(siglip_folder, text):
    model = build(siglip_folder).eval()
    data = batch(model, [0])
    data['data_samples'][0].set_metainfo(dict(text=text))
    with pytest.raises(ValueError, match='image 0 of the batch: expected text'):
        model.predict(**data)


def test_masks_that_do_not_fit_are_refused(siglip_folder):
    model = build(siglip_folder)
    data = batch(model, [0], training=True)
    data['data_samples'][0].gt_sem_seg = PixelData(data=torch.zeros(1, *SIZES[0]))
    with pytest.raises(ValueError, match='one for each phrase'):
        model.loss(**data)


def test_windows_and_mirrors_are_refused_with_the_reason(siglip_folder):
    with pytest.raises(ValueError, match=r"expected 'whole', found 'slide'; a phrase such as"):
        build(siglip_folder, test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(16, 16)))
    with pytest.raises(ValueError, match='flip is refused: a phrase such as'):
        build(siglip_folder, test_cfg=dict(flip=True))
    model = build(siglip_folder)
    data = batch(model, [0])
    data['data_samples'][0].set_metainfo(dict(flip=True, flip_direction='horizontal'))
    with pytest.raises(ValueError, match='flipped images are refused'):
        model.predict(**data)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(test_cfg=dict(stride=3)), 'unknown'),
        (dict(test_cfg=dict(threshold=1.5)), 'threshold'),
        (dict(precision='fp8'), 'precision'),
        (dict(sam_finetune='some'), 'sam_finetune'),
    ],
)
def test_refusals(siglip_folder, options, message):
    with pytest.raises(ValueError, match=message):
        build(siglip_folder, **options)


def test_an_image_whose_masks_are_no_numbers_is_named(siglip_folder):
    """An empty mask would be the right answer to a phrase that fits nothing."""
    model = build(siglip_folder).eval()
    data = batch(model)
    for name, each in zip('abc', data['data_samples'], strict=True):
        each.set_metainfo(dict(img_path=f'{name}.png'))
    data['inputs'][1][0, 0, 0] = float('nan')
    with pytest.raises(ValueError, match=r'^b\.png: expected a prediction of finite numbers'):
        model.predict(**data)
