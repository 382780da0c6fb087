import subprocess
import sys

import numpy as np
import open_clip
import oracles
import pytest
import torch
from mmseg.structures import SegDataSample
from torch._dynamo.testing import CompileCounter
from torch.nn.functional import interpolate

from mmseg_siglip.evaluation import IoUMetric
from mmseg_siglip.models.segmentors.sclip import SCLIPSegmentor
from mmseg_siglip.text.templates import get_templates
from mmseg_siglip.text.vocabulary import Vocabulary

WORDS = ['sky, wall, tree', 'person, person in shirt', 'cat', 'road', 'boat, ship']
SLIDE = dict(mode='slide', crop_size=(32, 32), stride=(16, 16), window_batch=4, return_logits=True)
WHOLE = dict(mode='whole', return_logits=True)
SIZES = [(40, 72), (32, 32), (24, 56), (72, 40)]


@pytest.fixture(autouse=True, scope='module')
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMSEG_SIGLIP_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture
def make(openai_file):
    def build(**options):
        options = dict(vocabulary=WORDS, templates='imagenet8', test_cfg=SLIDE) | options
        backbone = options.pop('backbone', dict(type='CLIPBackbone', pretrained=openai_file))
        return SCLIPSegmentor(backbone, **options).eval()

    return build


def images(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, *size, generator=generator) for size in sizes]


def sample(size, **metainfo):
    return SegDataSample(metainfo=dict(ori_shape=size, **metainfo))


@pytest.mark.parametrize('pamr', [False, True])
@pytest.mark.parametrize('attention', ['csa', 'naclip', 'vanilla'])
@pytest.mark.parametrize('size', SIZES)
@torch.no_grad()
def test_equals_the_reference_arithmetic(make, tiny_clip, attention, size, pamr):
    """Words one at a time, windows one after another, neighbours side by side."""
    options = dict(prob_thd=0.35, area_thd=0.2, background_index=0, logit_scale=65.0)
    post = dict(type='PAMRPostProcessor', num_iter=3, dilations=(2, 4)) if pamr else None
    model = make(attention=attention, postprocessor=post, **options)
    (image,), out = images(size), (61, 90)

    vocabulary = Vocabulary.load(WORDS)
    tokenizer = open_clip.get_tokenizer('ViT-B-16')
    text = oracles.embed_words(tiny_clip, tokenizer, vocabulary.queries, get_templates('imagenet8'))

    def cosines(crop):
        return torch.einsum('dhw,qd->qhw', oracles.clip_features(tiny_clip, crop, attention), text)

    mean = oracles.slide(image, 32, 16, cosines)
    mean = interpolate(mean[None], size=out, mode='bilinear')[0]
    if pamr:
        mean = oracles.pamr(interpolate(image[None], size=out, mode='bilinear')[0], mean, 3, (2, 4))
    probabilities, labels = oracles.classify(
        mean, vocabulary.query_to_class, scale=65.0, prob_thd=0.35, area_thd=0.2, background=0
    )

    (result,) = model.predict([image], [sample(out)])
    torch.testing.assert_close(result.seg_logits.data, probabilities, atol=1e-4, rtol=0)
    equal = result.pred_sem_seg.data[0] == labels
    margin = probabilities.topk(2, dim=0).values.diff(dim=0)[0].abs()
    assert equal[margin > 1e-3].all() and equal.float().mean() > 0.99
    assert (labels == 0).any() and (labels != 0).any()


@pytest.mark.parametrize('config', [SLIDE, WHOLE, dict(SLIDE, window_batch=3)])
def test_batch_of_different_sizes_equals_one_at_a_time(make, config):
    model = make(test_cfg=config, prob_thd=0.3, background_index=0)
    batch = images(*SIZES, (33, 45))
    outs = [(50, 60), (32, 32), (9, 100), (70, 44), (33, 45)]
    together = model.predict(batch, [sample(out) for out in outs])
    for image, out, result in zip(batch, outs, together, strict=True):
        (alone,) = model.predict([image], [sample(out)])
        assert result.pred_sem_seg.data.shape == (1, *out)
        assert result.seg_logits.data.shape == (5, *out)
        torch.testing.assert_close(result.seg_logits.data, alone.seg_logits.data, atol=1e-5, rtol=0)
        assert torch.equal(result.pred_sem_seg.data, alone.pred_sem_seg.data)


def test_windows_of_all_images_share_batches(make, monkeypatch):
    model = make()
    seen = []
    dense = model.backbone.dense
    monkeypatch.setattr(
        model.backbone, 'dense', lambda x, **kw: seen.append(len(x)) or dense(x, **kw)
    )
    model.predict(images((48, 48), (32, 64), (32, 32)))
    assert seen == [4, 4]


@pytest.mark.parametrize('chunk', [1, 5000, 2**40])
def test_row_chunks_do_not_show(make, monkeypatch, chunk):
    model = make(area_thd=0.1, background_index=0)
    expected = model.predict(images((40, 72)))[0]
    monkeypatch.setattr('mmseg_siglip.models.labelling.CHUNK_BYTES', chunk)
    result = model.predict(images((40, 72)))[0]
    torch.testing.assert_close(result.seg_logits.data, expected.seg_logits.data)
    assert torch.equal(result.pred_sem_seg.data, expected.pred_sem_seg.data)


def test_logits_only_on_request(make):
    result = make(test_cfg=dict(SLIDE, return_logits=False)).predict(images((40, 72)))[0]
    assert 'seg_logits' not in result and 'scores' not in result
    assert result.pred_sem_seg.data.dtype == torch.int64


@pytest.mark.parametrize(
    ('direction', 'axis'), [('horizontal', (2,)), ('vertical', (1,)), ('diagonal', (1, 2))]
)
def test_flips_are_undone(make, direction, axis):
    model = make(test_cfg=WHOLE)
    (image,) = images((40, 72))
    plain = model.predict([image], [sample((40, 72), flip=True, flip_direction=direction)])[0]
    other = model.predict([image], [sample((40, 72), flip=False, flip_direction=None)])[0]
    assert torch.equal(plain.seg_logits.data.flip(axis), other.seg_logits.data)
    assert torch.equal(plain.pred_sem_seg.data.flip(axis), other.pred_sem_seg.data)


def test_scores_are_the_labels_probabilities(make):
    model = make(logit_scale=20.0)
    (result,) = model.predict(images((40, 72)), return_scores=True)
    probabilities = result.seg_logits.data.gather(0, result.pred_sem_seg.data)
    torch.testing.assert_close(result.scores.data, probabilities)


def test_words_can_change_at_run_time(make):
    model = make()
    model.predict(images((32, 32)))
    model.set_vocabulary(['road', 'cat'])
    changed = model.predict(images((32, 32)))[0].seg_logits.data
    torch.testing.assert_close(
        changed, make(vocabulary=['road', 'cat']).predict(images((32, 32)))[0].seg_logits.data
    )


def test_loaded_weights_reach_the_text(make):
    model = make()
    before = model.text.clone()
    state = model.state_dict()
    state['backbone.model.text_projection'] = state['backbone.model.text_projection'].flip(1)
    model.load_state_dict(state)
    assert not torch.equal(model.text, before)


def test_loaded_weights_reach_the_logit_scale(make):
    own, given = make(), make(logit_scale=33)
    for model in (own, given):
        state = model.state_dict()
        state['backbone.model.logit_scale'] = torch.tensor(5.0).log()
        model.load_state_dict(state)
    assert own.logit_scale == own.labeller.logit_scale == pytest.approx(5)
    assert given.logit_scale == given.labeller.logit_scale == 33


def test_test_step_normalises_as_the_checkpoint_says(make):
    """uint8 BGR as MMSeg's pipeline delivers it, through the model's own data preprocessor."""
    model = make()
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 72), dtype=np.uint8)
    data = dict(inputs=[torch.from_numpy(pixels)], data_samples=[sample((40, 72))])
    (result,) = model.test_step(data)
    rgb = torch.from_numpy(pixels).flip(0).float()
    mean = torch.tensor([122.771, 116.746, 104.094]).view(3, 1, 1)
    std = torch.tensor([68.501, 66.632, 70.323]).view(3, 1, 1)
    (expected,) = model.predict([(rgb - mean) / std])
    torch.testing.assert_close(result.seg_logits.data, expected.seg_logits.data, atol=1e-4, rtol=0)


@pytest.mark.parametrize('precision', ['bf16', 'fp16', 'auto'])
def test_lower_precision_agrees(make, precision):
    expected = make().predict(images((40, 72)))[0].seg_logits.data
    result = make(precision=precision).predict(images((40, 72)))[0].seg_logits.data
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, atol=0.05, rtol=0)


def test_compiled_once_for_all_batches_of_windows(make):
    counter = CompileCounter()
    model = make(compile_backend=counter, test_cfg=dict(SLIDE, window_batch=4))
    batch = images((40, 72), (64, 64), (32, 100))
    found = [model.predict([image])[0].seg_logits.data for image in batch]
    graphs = counter.frame_count
    found.append(model.predict(images((50, 90)))[0].seg_logits.data)
    assert graphs == counter.frame_count > 0
    plain = make(test_cfg=dict(SLIDE, window_batch=4))
    for image, result in zip([*batch, *images((50, 90))], found, strict=True):
        torch.testing.assert_close(result, plain.predict([image])[0].seg_logits.data)


def test_whole_images_are_not_compiled(make):
    with pytest.raises(ValueError, match="expected test_cfg.mode 'slide', found 'whole'"):
        make(compile_backend='eager', test_cfg=WHOLE)


def test_siglip_and_kind_from_contents(make, siglip_folder, openai_file):
    model = make(backbone=dict(pretrained=siglip_folder), attention='maskclip')
    assert type(model.backbone).__name__ == 'SigLIPBackbone'
    assert model.attention == 'maskclip'
    assert model.test_cfg['crop_size'] == (32, 32)
    assert model.predict(images((40, 72)))[0].seg_logits.data.shape == (5, 40, 72)
    assert model.data_preprocessor.mean.flatten().tolist() == [127.5] * 3
    assert model.logit_scale == pytest.approx(model.backbone.logit_scale)
    kind = make(backbone=dict(pretrained=openai_file)).backbone
    assert type(kind).__name__ == 'CLIPBackbone'


def test_tensor_mode_gives_mean_cosines(make):
    model = make()
    (cosines,) = model(images((40, 72)), mode='tensor')
    assert cosines.shape == (9, 40, 72) and cosines.abs().max() <= 1


def test_features_of_whole_images(make):
    assert [f.shape for f in make().extract_feat(images((40, 72), (32, 32)))] == [
        (48, 5, 9),
        (48, 4, 4),
    ]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(prob_thd=0.1), 'need a background'),
        (dict(area_thd=0.1), 'need a background'),
        (dict(background_index=5), 'background_index: expected 0 to 4, found 5'),
        (dict(precision='int8'), "precision: expected one of .* found 'int8'"),
        (dict(attention='none'), "unknown attention 'none'"),
        (dict(vocabulary=[]), 'vocabulary is empty'),
        (dict(backbone=dict()), 'backbone: expected type or pretrained, found neither'),
        (dict(test_cfg=dict(mode='windows')), "expected 'slide' or 'whole', found 'windows'"),
        (dict(test_cfg=dict(stride=(40, 8), crop_size=(32, 32))), 'expected 1 <= stride <= crop'),
        (dict(test_cfg=dict(crop_size=(32,))), r'crop_size: expected .* found \(32,\)'),
        (dict(test_cfg=dict(stride=[8, 8, 8])), r'stride: expected .* found \[8, 8, 8\]'),
        (dict(test_cfg=dict(stride=1.5)), 'stride: expected a side or .* found 1.5'),
        (dict(test_cfg=dict(crop_size='32')), "crop_size: expected a side or .* found '32'"),
        (dict(test_cfg=dict(window_batch=0)), 'window_batch: expected 1 or more, found 0'),
        (dict(test_cfg=dict(crop=3)), r"unknown \['crop'\]; expected mode, crop_size"),
        (
            dict(data_preprocessor=dict(type='ImageListPreProcessor', mean=[127.5] * 3)),
            'data_preprocessor.mean: expected .* as in the checkpoint, found',
        ),
    ],
)
def test_refusals(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_side_is_a_square(make):
    config = make(test_cfg=dict(crop_size=32, stride=16)).test_cfg
    assert (config['crop_size'], config['stride']) == ((32, 32), (16, 16))


def test_marked_background_is_found(make):
    model = make(vocabulary=['cat', '[background] sky, wall'], prob_thd=0.2)
    assert model.background_index == 1


def test_image_smaller_than_a_patch(make):
    with pytest.raises(ValueError, match=r'at least one patch \(8x8 pixels\), found 7x40'):
        make().predict(images((7, 40)))


def test_training_is_refused(make):
    with pytest.raises(ValueError, match='training-free: use tools/test.py'):
        make()(images((32, 32)), [sample((32, 32))], mode='loss')


@pytest.mark.slow
def test_memory_of_847_classes_on_a_large_image(openai_file):
    """Under 2 GB above the weights at 2048 x 1024: no (Q, H, W) tensor, which alone is 7 GB."""
    script = f"""
import resource, torch
torch.set_num_threads(2)
from mmseg.structures import SegDataSample
from mmseg_siglip.models.segmentors import SCLIPSegmentor
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
config = dict(crop_size=(224, 224), stride=(112, 112), window_batch=4)
words = [f'word {{i}}' for i in range(847)]
model = SCLIPSegmentor(dict(pretrained={openai_file!r}), words, templates='plain', test_cfg=config)
model.text
before = peak()
(result,) = model.predict(
    [torch.randn(3, 560, 1120)], [SegDataSample(metainfo=dict(ori_shape=(1024, 2048)))]
)
assert result.pred_sem_seg.shape == (1024, 2048)
print((peak() - before) / 2**20)
"""
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 2


@pytest.mark.parametrize('classes', [4, 6])
def test_metric_notices_a_dataset_of_another_size(make, classes):
    metric = IoUMetric()
    metric.dataset_meta = dict(classes=[''] * classes)
    (found,) = make().predict(images((32, 32)), [sample((32, 32))])
    found.pred_sem_seg.data.zero_()
    found.gt_sem_seg = found.pred_sem_seg
    with pytest.raises(ValueError, match=f'vocabulary has 5 classes, the dataset {classes}'):
        metric.process({}, [found.to_dict()])
