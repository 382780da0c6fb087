"""`SAM3Segmentor` against SAM 3 of transformers, one word and one mask at a time."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from contracts.segmentor import SegmentorContract, images, sample
from largest import Largest
from torch.nn.functional import interpolate

from mmseg_siglip.models.sam import SAM3Adapter
from mmseg_siglip.models.segmentors import OpenVocabularyTTAModel, SAM3Segmentor

WORDS = ['[background] sky, wall, tree', 'person, person in shirt', 'cat', 'road', 'boat, ship']
LOGITS = dict(return_logits=True)


@pytest.fixture(scope='module')
def loaded():
    """Models that were built already, by what they were built of."""
    return {}


def built(loaded, pretrained, *, backbone=None, **options):
    """A segmentor on a copy of one read before, as reading takes most of the time."""
    if pretrained not in loaded:
        loaded[pretrained] = SAM3Adapter(pretrained)
    adapter = deepcopy(loaded[pretrained])
    for name, value in (backbone or {}).items():
        setattr(adapter, name, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            'mmseg_siglip.models.segmentors.open_vocabulary.build_backbone', lambda config: adapter
        )
        return SAM3Segmentor(dict(pretrained=pretrained), **options).eval()


class TestContract(SegmentorContract):
    segmentor = SAM3Segmentor
    modes = ('whole',)

    @pytest.fixture
    def build(self, sam3_folder, loaded):
        """There are neither windows nor templates to set."""

        def build(**options):
            cfg = options.pop('test_cfg', {})
            options = dict(dict(vocabulary=['cat', 'dog', 'sky, grass']), **options)
            cfg = {name: value for name, value in cfg.items() if name == 'return_logits'}
            return built(loaded, sam3_folder, test_cfg=cfg, **options)

        return build

    @staticmethod
    def dense(model, batch, text):
        """The image encoder: transformers' decoder looks into tensors on its way."""
        return model.backbone.encode(batch[0]).fpn_hidden_states[0]

    @pytest.mark.parametrize(
        ('options', 'sentence'),
        [
            (dict(precision='int8'), "precision: expected one of .* found 'int8'"),
            (dict(vocabulary=[]), 'vocabulary is empty'),
            (dict(read='best'), "read: expected one of instances, semantic, both, found 'best'"),
            (dict(prob_thd=0.5), 'prob_thd needs a background: mark a class'),
            (dict(background_index=3), 'background_index: expected 0 to 2, found 3'),
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
        """None is too small: it is stretched."""
        (found,) = build().predict(images((1, 2)))
        assert found.pred_sem_seg.data.shape == (1, 1, 2)


def test_more_bad_options(sam3_folder, siglip_folder):
    with pytest.raises(ValueError, match=r"test_cfg: unknown \['mode'\]; expected return_logits"):
        SAM3Segmentor(dict(pretrained=sam3_folder), WORDS, test_cfg=dict(mode='slide'))
    other = dict(type='SigLIPBackbone', pretrained=siglip_folder)
    with pytest.raises(ValueError, match='expected a SAM3Adapter as backbone, found SigLIPB'):
        SAM3Segmentor(other, WORDS)
    with pytest.raises(ValueError, match="expected model_type sam3, .* found 'siglip'"):
        SAM3Segmentor(dict(pretrained=siglip_folder), WORDS)
    with pytest.raises(ValueError, match='SAM3Segmentor is not trained'):
        SAM3Segmentor(dict(pretrained=sam3_folder), WORDS).loss(None, [])


@pytest.fixture
def make(sam3_folder, loaded):
    def build(**options):
        options = dict(dict(vocabulary=WORDS, test_cfg=LOGITS), **options)
        return built(loaded, sam3_folder, **options)

    return build


@torch.no_grad()
def naive(model, image, word, read, size):
    """Evidence (H, W) for a word, by the whole model of transformers, a query at a time."""
    theirs, adapter = model.backbone.model, model.backbone
    tokens = adapter.tokenizer(word, padding='max_length', max_length=32, return_tensors='pt')
    pixels = image[None]
    if tuple(image.shape[-2:]) != (56, 56):
        pixels = interpolate(pixels, size=(56, 56), mode='bilinear', antialias=True)
    found = theirs(pixel_values=pixels, **tokens)
    presence = float(found.presence_logits.sigmoid())

    total = torch.zeros(16, 16)
    for mask, logit in zip(found.pred_masks[0], found.pred_logits[0], strict=True):
        total += float(logit.sigmoid()) * presence * mask.sigmoid()
    whole = presence * found.semantic_seg[0, 0].sigmoid()
    values = dict(instances=total, semantic=whole, both=torch.maximum(total, whole))[read]
    return interpolate(values[None, None], size=size, mode='bilinear')[0, 0]


@pytest.mark.parametrize('read', ['instances', 'semantic', 'both'])
@pytest.mark.parametrize('size', [(56, 56), (40, 72), (130, 33), (9, 7)])
def test_equals_one_word_and_one_mask_at_a_time(make, read, size):
    model, out = make(read=read), (50, 61)
    image = images(size)[0].clamp(-1, 1)
    words = [naive(model, image, word, read, out) for word in model.vocabulary.queries]
    owner = model.vocabulary.query_to_class
    expected = torch.stack(
        [
            torch.stack([m for m, o in zip(words, owner, strict=True) if o == c]).amax(0)
            for c in range(5)
        ]
    )
    (found,) = model.predict([image], [sample(out)], return_scores=True)
    torch.testing.assert_close(found.seg_logits.data, expected, atol=1e-5, rtol=1e-4)
    labels = found.pred_sem_seg.data[0]
    assert (labels == expected.argmax(0)).float().mean() > 0.99
    assert len(labels.unique()) > 1
    torch.testing.assert_close(
        found.scores.data[0], found.seg_logits.data.amax(0).clamp(max=1), rtol=0, atol=0
    )
    if read == 'instances' and size == (56, 56):
        at_own_size = model([image])[0]
        assert at_own_size.shape == (9, 56, 56)
        own = naive(model, image, 'person', read, size)
        torch.testing.assert_close(at_own_size[3], own, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('batch', [1, 2, 3, 100])
def test_words_in_batches_are_words_together(make, batch):
    (image,) = images((40, 72))
    alone = make(backbone=dict(words_per_batch=batch)).predict([image], [sample((50, 61))])[0]
    four = make().predict([image], [sample((50, 61))])[0]
    torch.testing.assert_close(alone.seg_logits.data, four.seg_logits.data, atol=1e-5, rtol=1e-4)
    same = alone.pred_sem_seg.data == four.pred_sem_seg.data
    assert same.float().mean() > 0.999


def test_doubtful_pixels_become_background(make):
    (image,) = images((40, 72))
    (plain,) = make().predict([image])
    best = plain.seg_logits.data.amax(0)
    middle = float(best.median())
    model = make(prob_thd=middle)
    (found,) = model.predict([image])
    assert torch.equal(found.seg_logits.data, plain.seg_logits.data)
    doubted = best < middle
    labels, before = found.pred_sem_seg.data[0], plain.pred_sem_seg.data[0]
    assert (labels[doubted] == 0).all() and torch.equal(labels[~doubted], before[~doubted])
    assert (before[doubted] != 0).any()
    given = make(vocabulary=WORDS[1:], prob_thd=middle, background_index=2)
    assert given.background_index == 2
    assert (given.predict([image])[0].pred_sem_seg.data == 2).any()
    (merged,) = OpenVocabularyTTAModel(model).merge_preds([model.predict([image])])
    assert torch.equal(merged.pred_sem_seg.data[0], labels)


def test_an_image_is_encoded_once_and_words_once(make, monkeypatch):
    model, seen = make(backbone=dict(words_per_batch=2)), []
    for name in ('get_vision_features', 'get_text_features'):
        theirs = getattr(model.backbone.model, name)

        def spy(*args, name=name, theirs=theirs, **options):
            seen.append(name)
            return theirs(*args, **options)

        monkeypatch.setattr(model.backbone.model, name, spy)
    model.predict(images((40, 72), (20, 20)))
    model.predict(images((40, 72)))
    assert seen == ['get_text_features'] + ['get_vision_features'] * 3
    model.set_vocabulary(['cat'])
    model.predict(images((40, 72)))
    assert seen[4:] == ['get_text_features', 'get_vision_features']


def largest(model, image, out):
    _ = model.text
    with Largest() as spy:
        model.predict([image], [sample(out)])
    return spy.numbers


def test_memory_does_not_grow_with_words(make, monkeypatch):
    """A vocabulary of 847 makes no larger tensor than one of 60, and none of (Q, H, W)."""
    monkeypatch.setattr('mmseg_siglip.models.segmentors.sam3.CHUNK_BYTES', 2**22)
    words = [f'thing {index}' for index in range(847)]
    image, out = images((56, 56))[0], (200, 200)
    model = make(vocabulary=words[:60], test_cfg={}, backbone=dict(words_per_batch=60))
    few = largest(model, image, out)
    model.set_vocabulary(words)
    many = largest(model, image, out)
    assert many == few < 847 * 200 * 200 / 20
    model.test_cfg = dict(LOGITS)
    assert largest(model, image, out) >= 847 * 200 * 200
