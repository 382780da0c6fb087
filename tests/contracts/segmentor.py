"""What every open-vocabulary segmentor keeps to.

A segmentor's test is a subclass that names it.
"""

from __future__ import annotations

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_siglip.evaluation import IoUMetric
from mmseg_siglip.models.segmentors import OpenVocabularyTTAModel
from mmseg_siglip.text.vocabulary import Vocabulary

WORDS = ['cat', 'dog', 'sky, grass']
SIZES = [(40, 72), (32, 32), (24, 56), (72, 40), (33, 45)]
OUTS = [(50, 60), (32, 32), (9, 100), (70, 44), (33, 45)]
WINDOWS = dict(crop_size=(32, 32), stride=(16, 16), window_batch=4, return_logits=True)


def images(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, *size, generator=generator) for size in sizes]


def sample(size, **metainfo):
    return SegDataSample(metainfo=dict(ori_shape=size, **metainfo))


def probabilities(model, image):
    return model.predict([image])[0].seg_logits.data


class DensePath(nn.Module):
    """A model without its windows."""

    def __init__(self, model, dense):
        super().__init__()
        self.model, self.dense, self.text = model, dense, model.text

    def forward(self, batch):
        return self.dense(self.model, batch, self.text)


class SegmentorContract:
    """Tests of one segmentor, on two encoders.

    Attributes:
        segmentor: Its class.
        options: What its constructor needs beside encoder and words.
        modes: Of ``test_cfg``.
    """

    segmentor: type
    options: dict = {}
    modes: tuple[str, ...] = ()

    @pytest.fixture(params=['clip', 'siglip'])
    def build(self, request, openai_file, siglip_folder):
        """A function from options of the constructor to a model in eval mode."""
        pretrained = dict(clip=openai_file, siglip=siglip_folder)[request.param]
        defaults = dict(backbone=dict(pretrained=pretrained), vocabulary=WORDS, templates='plain')

        def build(**options):
            torch.manual_seed(0)
            return self.segmentor(**(defaults | self.options | options)).eval()

        return build

    @staticmethod
    def dense(model, batch, text):
        """What `model` makes of a batch of images of one size."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc):
        if 'mode' in metafunc.fixturenames:
            metafunc.parametrize('mode', metafunc.cls.modes)

    def test_a_batch_equals_its_images_and_itself(self, build, mode):
        """Of any sizes, and however many windows pass at once."""
        model = build(test_cfg=dict(WINDOWS, mode=mode))
        batch = images(*SIZES)

        def predict(chosen, window_batch=4):
            model.test_cfg['window_batch'] = window_batch
            found = model.predict([batch[i] for i in chosen], [sample(OUTS[i]) for i in chosen])
            return [(x.seg_logits.data, x.pred_sem_seg.data) for x in found]

        together, again, fewer = predict(range(5)), predict(range(5)), predict(range(5), 3)
        for i, (logits, labels) in enumerate(together):
            assert logits.shape == (3, *OUTS[i]) and labels.shape == (1, *OUTS[i])
            assert torch.equal(again[i][0], logits) and torch.equal(again[i][1], labels)
            for found, same in (predict([i])[0], fewer[i]):
                torch.testing.assert_close(found, logits, atol=1e-5, rtol=1e-4)
                assert (same == labels).float().mean() > 0.999

    def test_what_a_prediction_holds(self, build):
        model = build(test_cfg=WINDOWS)
        (found,) = model.predict(images((40, 72)), return_scores=True)
        logits, labels = found.seg_logits.data, found.pred_sem_seg.data
        assert labels.dtype == torch.int64 and logits.dtype == torch.float32
        assert torch.equal(labels[0], logits.argmax(0))
        torch.testing.assert_close(found.scores.data, logits.gather(0, labels))
        assert found.metainfo['num_classes'] == 3
        model.test_cfg['return_logits'] = False
        (found,) = model.predict(images((40, 72)))
        assert 'seg_logits' not in found and 'scores' not in found
        assert torch.equal(found.pred_sem_seg.data, labels)
        assert model.predict([]) == []

    @pytest.mark.parametrize(
        ('direction', 'axes'), [('horizontal', (2,)), ('vertical', (1,)), ('diagonal', (1, 2))]
    )
    def test_flips_are_undone(self, build, direction, axes):
        model, (image,) = build(test_cfg=dict(WINDOWS, mode='whole')), images((40, 72))
        flipped = [sample((40, 72), flip=True, flip_direction=direction)]
        (one,) = model.predict([image], flipped, return_scores=True)
        same = [sample((40, 72), flip=False, flip_direction=None)]
        (other,) = model.predict([image], same, return_scores=True)
        for name in ('seg_logits', 'pred_sem_seg', 'scores'):
            assert torch.equal(one.get(name).data.flip(axes), other.get(name).data)

    def test_words_change_at_run_time(self, build):
        model, (image,) = build(test_cfg=WINDOWS), images((40, 40))
        first = probabilities(model, image)
        state = {name: value.clone() for name, value in model.state_dict().items()}
        others = ['road', 'person, star', 'red', 'tree']
        model.set_vocabulary(others)
        changed = probabilities(model, image)
        assert changed.shape[0] == 4
        fresh = build(**{model.words_option: others}, test_cfg=WINDOWS)
        torch.testing.assert_close(changed, probabilities(fresh, image))
        model.set_vocabulary(Vocabulary.load(WORDS))
        assert torch.equal(probabilities(model, image), first)
        assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
        with pytest.raises(ValueError, match='vocabulary is empty'):
            model.set_vocabulary([])

    def test_state_makes_the_round_trip_and_reaches_the_text(self, build):
        model, twin, (image,) = build(test_cfg=WINDOWS), build(test_cfg=WINDOWS), images((40, 40))
        old = twin.text.clone()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
        twin.load_state_dict(model.state_dict(), strict=True)
        model.load_state_dict(model.state_dict())
        assert torch.equal(model.text, twin.text) and not torch.equal(model.text, old)
        assert torch.equal(probabilities(model, image), probabilities(twin, image))
        assert set(model.state_dict()) == set(build(test_cfg=WINDOWS).state_dict())

    @pytest.mark.parametrize('precision', ['bf16', 'fp16', 'auto'])
    def test_lower_precision_agrees(self, build, precision):
        (image,) = images((40, 56))
        expected = probabilities(build(test_cfg=WINDOWS), image)
        found = probabilities(build(test_cfg=WINDOWS, precision=precision), image)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0)

    def test_inference_mode_poisons_nothing(self, build):
        model, (image,) = build(test_cfg=WINDOWS), images((40, 40))
        with torch.inference_mode():
            first = probabilities(model, image)
        assert not model.text.is_inference()
        assert torch.equal(probabilities(model, image), first)

    @torch.no_grad()
    def test_the_dense_path_exports_and_its_eager_form_survives(self, build):
        path, batch = DensePath(build(), self.dense), torch.stack(images((40, 72), (40, 72)))
        expected = path(batch)
        exported = torch.export.export(path, (batch,))
        torch.testing.assert_close(exported.module()(batch), expected)
        again = path(batch)
        assert type(again) is torch.Tensor and torch.equal(again, expected)

    def test_a_mean_over_one_view_changes_nothing(self, build):
        model, (image,) = build(test_cfg=WINDOWS), images((40, 40))
        (alone,) = model.predict([image])
        (merged,) = OpenVocabularyTTAModel(model).merge_preds([model.predict([image])])
        assert torch.equal(merged.pred_sem_seg.data, alone.pred_sem_seg.data)

    @pytest.mark.parametrize('classes', [2, 4])
    def test_metric_notices_a_dataset_of_another_size(self, build, classes):
        metric = IoUMetric()
        metric.dataset_meta = dict(classes=[''] * classes)
        (found,) = build(test_cfg=WINDOWS).predict(images((32, 32)), [sample((32, 32))])
        found.gt_sem_seg = PixelData(data=torch.zeros_like(found.pred_sem_seg.data))
        sentence = f'vocabulary has 3 classes, the dataset {classes}'
        with pytest.raises(ValueError, match=sentence):
            metric.process({}, [found.to_dict()])

    @pytest.mark.parametrize(
        ('options', 'sentence'),
        [
            (dict(precision='int8'), "precision: expected one of .* found 'int8'"),
            (dict(attention='none'), "unknown attention 'none'; expected one of .*vanilla"),
            (dict(vocabulary=[]), 'vocabulary is empty'),
            (dict(templates='none'), "unknown templates 'none'; expected one of imagenet80"),
            (dict(backbone=dict()), 'backbone: expected type or pretrained, found neither'),
            (dict(test_cfg=dict(mode='tile')), "test_cfg.mode: expected .* found 'tile'"),
            (dict(test_cfg=dict(crop=3)), r"test_cfg: unknown \['crop'\]; expected mode, "),
            (dict(test_cfg=dict(stride=(40, 8), crop_size=(32, 32))), '1 <= stride <= crop_size'),
            (dict(test_cfg=dict(crop_size=(32,))), r'crop_size: expected .* found \(32,\)'),
            (dict(test_cfg=dict(window_batch=0)), 'window_batch: expected 1 or more, found 0'),
            (
                dict(data_preprocessor=dict(type='ImageListPreProcessor', mean=[99.0] * 3)),
                'data_preprocessor.mean: expected .* as in the checkpoint, found',
            ),
        ],
    )
    def test_bad_options_get_one_sentence(self, build, options, sentence):
        with pytest.raises(ValueError, match=sentence):
            build(**options)

    def test_an_image_smaller_than_a_patch_is_named(self, build):
        named = SegDataSample(metainfo=dict(img_path='small.png'))
        sentence = r'small.png: expected at least one patch \(8x8 pixels\), found 7x40'
        with pytest.raises(ValueError, match=sentence):
            build().predict(images((7, 40)), [named])

    def test_an_image_whose_prediction_is_no_number_is_named(self, build, mode):
        """Not all of it need be: one patch is enough."""
        model = build(test_cfg=dict(WINDOWS, mode=mode))
        batch = images((40, 72), (40, 40))
        named = [sample((40, 72), img_path='a.png'), sample((40, 40), img_path='b.png')]
        assert len(model.predict(batch, named)) == 2
        batch[1][0, 0, 0] = float('nan')
        sentence = r"^b\.png: expected a prediction of finite numbers, .* for precision='fp32'\?"
        for options in ({}, dict(return_scores=True)):
            with pytest.raises(ValueError, match=sentence):
                model.predict(batch, named, **options)
