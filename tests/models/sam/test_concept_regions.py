"""SAM 3's instances as regions, and their vote over a dense prediction."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.structures import SegDataSample
from torch import nn
from torch.nn.functional import interpolate

from mmseg_siglip.models.backbones.tokens import Tokens
from mmseg_siglip.models.dense import DenseMethod
from mmseg_siglip.models.postprocessors import SAM3Vote
from mmseg_siglip.models.postprocessors.context import Context
from mmseg_siglip.models.sam import SAM3Regions
from mmseg_siglip.models.sam.generator import nearest
from mmseg_siglip.models.sam.proposals import Proposals, propose
from mmseg_siglip.registry import MODELS
from mmseg_siglip.text.vocabulary import Vocabulary

WORDS, OWNER = ('cat', 'dog', 'sky', 'grass', 'road'), (0, 1, 2, 2, 3)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_siglip')


@pytest.fixture(scope='module')
def sam(sam3_folder):
    return dict(type='SAM3Adapter', pretrained=sam3_folder)


@pytest.fixture(scope='module')
def middle(sam):
    """A score that some of the masks have."""
    init_default_scope('mmseg_siglip')
    return float(instances(MODELS.build(sam))[1].median())


@pytest.fixture
def pixels():
    return torch.rand(3, 40, 72, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def instances(adapter):
    """Masks, scores and classes of all words and queries, a word at a time."""
    pixels = torch.rand(3, 40, 72, generator=torch.Generator().manual_seed(0))
    seen, parts = adapter.encode(pixels), []
    for word, owner in zip(WORDS, OWNER, strict=True):
        found = adapter.find(seen, adapter.encode_text([word]))
        parts.append((found.masks[0], found.scores[0], torch.full((5,), owner)))
    return [torch.cat(values) for values in zip(*parts, strict=True)]


def test_equals_a_word_at_a_time(sam, pixels, middle):
    regions = SAM3Regions(sam, min_score=middle)
    regions.sam.words_per_batch = 2
    found = regions(pixels, words=WORDS, query_to_class=OWNER)
    masks, scores, labels = instances(regions.sam)
    kept = (scores > middle) & (masks > 0).flatten(1).any(1)
    order = scores[kept].argsort(descending=True)
    assert 2 < len(found) < 25
    torch.testing.assert_close(found.scores, scores[kept][order])
    assert found.labels.tolist() == labels[kept][order].tolist()
    torch.testing.assert_close(found.logits, masks[kept][order], atol=1e-4, rtol=1e-4)
    (whole,) = [masks for _, masks in found.masks((40, 72))]
    expected = interpolate(masks[kept][order][None], size=(40, 72), mode='bilinear')[0] > 0
    assert (whole == expected).float().mean() > 0.999
    alone = regions(pixels, words=WORDS)
    assert set(alone.labels.tolist()) <= set(range(5))


def test_only_the_best_are_kept(sam, pixels):
    every = SAM3Regions(sam, min_score=0)(pixels, words=WORDS)
    best = SAM3Regions(sam, min_score=0, max_masks=7)(pixels, words=WORDS)
    assert len(best) == 7 < len(every)
    assert torch.equal(best.scores, every.scores[:7])
    none = SAM3Regions(sam, min_score=1)(pixels, words=WORDS)
    assert len(none) == 0 and list(none.masks((4, 5))) == []


def test_words_are_encoded_once_and_anew_for_new_weights(sam, pixels, monkeypatch):
    regions, calls = SAM3Regions(sam), []
    encode = regions.sam.encode_text
    monkeypatch.setattr(
        regions.sam, 'encode_text', lambda words: calls.append(words) or encode(words)
    )
    with torch.inference_mode():
        regions(pixels, words=WORDS)
    assert not regions.text_of(WORDS).is_inference()
    regions(pixels.flip(-1), words=list(WORDS))
    assert len(calls) == 1
    regions(pixels, words=WORDS[:2])
    assert len(calls) == 2
    nn.ModuleList([regions]).load_state_dict(nn.ModuleList([regions]).state_dict())
    regions(pixels, words=WORDS[:2])
    assert len(calls) == 3


def test_regions_of_a_segmentor_follow_its_words(sam, pixels, middle):
    regions, vocabulary = SAM3Regions(sam, min_score=middle), Vocabulary.load(['cat', 'sky, grass'])
    masks = propose(regions, pixels, vocabulary)
    assert masks.shape[1:] == (40, 72) and masks.dtype == torch.bool and len(masks)
    found = regions(pixels, words=('cat', 'sky', 'grass'))
    assert torch.equal(masks, torch.cat([part for _, part in found.masks((40, 72))]))
    regions.min_score = 1
    assert propose(regions, pixels, vocabulary).shape == (0, 40, 72)


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(min_score=2), r'expected min_score in \[0, 1\], found 2'),
        (dict(max_masks=0), 'expected max_masks of 1 or more, found 0'),
        (dict(precision='int8'), "precision: expected one of .* found 'int8'"),
    ],
)
def test_refusals(sam, pixels, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        SAM3Regions(sam, **options)
    with pytest.raises(ValueError, match='expected words to look for, found none'):
        SAM3Regions(sam)(pixels)


@MODELS.register_module()
class FixedRegions(nn.Module):
    """What words find, decided before, for tests."""

    def __init__(self, found):
        super().__init__()
        self.found, self.told = found, []

    def forward(self, pixels, *, words, query_to_class):
        self.told.append((words, query_to_class))
        return self.found


def voted(logits, found, **options):
    module = SAM3Vote(dict(type='FixedRegions', found=found), **options)
    context = Context(
        query_to_class=OWNER,
        logit_scale=20.0,
        pixels=lambda: [torch.zeros(3, 4, 4)] * len(logits),
        features=list,
        text=lambda: torch.zeros(0),
        words=WORDS,
    )
    result = module(torch.zeros(len(logits), 3, *logits.shape[-2:]), logits, context)
    assert module.regions.told == [(WORDS, OWNER)] * len(logits)
    return result


@pytest.fixture
def dense():
    return torch.rand(2, 5, 12, 20, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def found():
    """A large thing, a small one inside it of a higher score, an empty one, and one apart."""
    masks = torch.full((4, 12, 20), -1.0)
    masks[0, :8, :10] = masks[1, 2:5, 2:6] = masks[3, 9:, 15:] = 1
    scores = torch.tensor([0.6, 0.9, 1.0, 0.7])
    return Proposals(masks, scores, nearest, torch.tensor([0, 2, 3, 2]))


def test_regions_vote_and_the_rest_stays_dense(dense, found):
    result = voted(dense, found)
    classes = torch.tensor(OWNER)[result.argmax(1)]
    inside = (found.logits > 0).any(0)
    for image in range(2):
        assert torch.equal(result[image][:, ~inside], dense[image][:, ~inside])
        assert (classes[image][9:, 15:] == 2).all() and (classes[image][2:5, 2:6] == 2).all()
        rest = found.logits[0] > 0
        rest &= found.logits[1] < 0
        assert (classes[image][rest] == 0).all()
    buried = torch.tensor(OWNER)[voted(dense, found, order='large_on_top').argmax(1)]
    assert (buried[:, :8, :10] == 0).all()


def test_synonyms_share_a_class(dense, found):
    """The vote goes to the word of the class that the dense scores prefer under the region."""
    dense[:, 3] += 1
    result = voted(dense, found)
    assert (result[:, :, 9:, 15:].argmax(1) == 3).all()


def test_weights_and_nothing_found(dense, found):
    assert torch.equal(voted(dense, found, alpha=0.0), dense)
    half, whole = voted(dense, found, alpha=0.5), voted(dense, found)
    torch.testing.assert_close(half, (dense + whole) / 2)
    none = found.take(torch.zeros(4, dtype=torch.bool))
    assert torch.equal(voted(dense, none), dense)
    empty = found.take(torch.tensor([2]))
    assert torch.equal(voted(dense, empty), dense)


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        (dict(order='area'), "expected order score, .* found 'area'"),
        (dict(alpha=2), r'expected alpha in \[0, 1\], found 2'),
    ],
)
def test_refusals_of_the_vote(found, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        SAM3Vote(dict(type='FixedRegions', found=found), **options)


class Seeing(DenseMethod):
    """The encoder's own tokens; notes which regions it was given."""

    sites, uses_regions = ('trunk',), True

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, trunk):
        self.seen += trunk.regions
        return Tokens(trunk.output(-1), trunk.grid, trunk.prefix)


@pytest.mark.parametrize('least', ['middle', 1.0])
def test_as_the_regions_of_a_method(siglip_folder, sam, middle, least):
    """Also where nothing is found."""
    least = middle if least == 'middle' else least
    method = Seeing()
    model = MODELS.build(
        dict(
            type='SCLIPSegmentor',
            backbone=dict(type='SigLIPBackbone', pretrained=siglip_folder),
            vocabulary=['cat', 'dog', 'sky, grass'],
            templates='plain',
            regions=dict(type='SAM3Regions', sam=sam, min_score=least),
            test_cfg=dict(crop_size=(32, 32), stride=(32, 32)),
        )
    ).eval()
    model.method = method
    model.predict([torch.randn(3, 32, 64)])
    assert [tuple(regions.shape[-2:]) for regions in method.seen] == [(32, 32)] * 2
    assert all(regions.dtype == torch.bool for regions in method.seen)
    assert all(bool(len(regions)) == (least == middle) for regions in method.seen)


def test_in_a_segmentor(siglip_folder, sam, middle):
    """Batches equal single images; words follow the segmentor's; as its regions, too."""
    regions = dict(type='SAM3Regions', sam=sam, min_score=middle)

    def build(**options):
        return MODELS.build(
            dict(
                type='SCLIPSegmentor',
                backbone=dict(type='SigLIPBackbone', pretrained=siglip_folder),
                vocabulary=['cat', 'dog', 'sky, grass', 'red star'],
                templates='plain',
                logit_scale=100.0,
                test_cfg=dict(crop_size=(32, 32), stride=(16, 16), return_logits=True),
                **options,
            )
        ).eval()

    def predict(model, images):
        samples = [SegDataSample(metainfo=dict(ori_shape=(50, 70))) for _ in images]
        return [sample.seg_logits.data for sample in model.predict(images, samples)]

    images = [torch.randn(3, 40, 56), torch.randn(3, 64, 33)]
    dense = predict(build(), images)
    model = build(postprocessor=dict(type='SAM3Vote', regions=regions))
    both = predict(model, images)
    for index, image in enumerate(images):
        (alone,) = predict(model, [image])
        torch.testing.assert_close(alone, both[index], atol=1e-4, rtol=1e-3)
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(both, dense, strict=True))
    model.set_vocabulary(['road', 'boat'])
    assert predict(model, images)[0].shape == (2, 50, 70)
    assert model.postprocessors[0].regions._words == ('road', 'boat')
    proposals = dict(type='SAMProposals', proposer=regions, min_purity=0.0)
    assert predict(build(postprocessor=proposals), images)[0].shape == (4, 50, 70)


def test_sam_3_is_supervised(sam, sam3_folder):
    regions = dict(type='SAM3Regions', sam=sam)
    backbone = dict(pretrained=sam3_folder)
    segmentor = dict(type='SAM3Segmentor', backbone=backbone, vocabulary=['cat'])
    for config in (regions, dict(type='SAM3Vote', regions=regions), segmentor):
        assert MODELS.build(config).supervised
