import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmseg_siglip.api.load import load_trained
from mmseg_siglip.api.segment import METHODS, OpenVocabSegmenter
from mmseg_siglip.api.segmentation import Segmentation
from mmseg_siglip.io.image import check_tensor, read_image
from mmseg_siglip.models.dense.guided import Guided
from mmseg_siglip.models.segmentors import CATSegSegmentor
from mmseg_siglip.registry import DENSE_METHODS

WORDS = ['sky', 'cat, kitten', 'road']


@pytest.fixture(scope='module')
def segmenter(openai_file):
    return OpenVocabSegmenter.from_pretrained(openai_file, templates='single', precision='fp32')


@pytest.fixture(scope='module')
def photo():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_all_forms_of_an_image_give_the_same(segmenter, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    tensor = torch.from_numpy(photo).permute(2, 0, 1)
    forms = [tmp_path / 'photo.png', str(tmp_path / 'photo.png'), Image.fromarray(photo)]
    expected = segmenter(photo, WORDS)
    assert expected.labels.shape == expected.scores.shape == (40, 60)
    assert expected.classes == ('sky', 'cat', 'road')
    for form in [*forms, tensor, tensor.float() / 255]:
        result = segmenter(form, WORDS)
        assert np.array_equal(result.labels, expected.labels)
        np.testing.assert_allclose(result.scores, expected.scores, atol=1e-5)


def test_list_equals_singles(segmenter, photo):
    images = [photo, photo[:20], photo[:, 10:30]]
    together = segmenter(images, WORDS)
    for image, result in zip(images, together, strict=True):
        alone = segmenter(image, WORDS)
        assert (
            np.array_equal(result.labels, alone.labels) and result.labels.shape == image.shape[:2]
        )


def test_numpy_and_tensor_twins(segmenter, photo):
    batch = torch.from_numpy(photo).permute(2, 0, 1)[None]
    ((labels, scores),) = segmenter.segment_torch(batch, WORDS)
    result = segmenter(photo, WORDS)
    assert np.array_equal(labels.numpy(), result.labels)
    assert scores.min() >= 1 / 4 and scores.max() <= 1


def test_words_may_change_from_call_to_call(segmenter, photo):
    assert segmenter(photo, ['boat', 'tree']).classes == ('boat', 'tree')
    assert len(segmenter(photo, 'voc20').classes) == 20


def test_fifty_words(segmenter, photo):
    fifty = [f'word number {i}' for i in range(50)]
    assert segmenter(photo, fifty).classes == tuple(fifty)
    assert segmenter(photo, ', '.join(fifty)).classes == tuple(fifty)


def test_a_text_is_words(segmenter, photo):
    found = segmenter(photo, 'sky, cat|kitten, road')
    assert found.classes == ('sky', 'cat', 'road')
    np.testing.assert_array_equal(found.labels, segmenter(photo, WORDS).labels)
    np.testing.assert_array_equal(found.scores, segmenter(photo, WORDS).scores)
    assert segmenter(photo, 'cat').classes == ('cat',)
    one = segmenter.compute_dense_similarity(photo, 'cat, dog')
    torch.testing.assert_close(one, segmenter.compute_dense_similarity(photo, ['cat', 'dog']))


def test_a_background_has_one_name_in_what_is_found(segmenter, photo):
    marked = segmenter(photo, ['road', '[background] sky, cat, kitten'])
    assert marked.classes == ('road', 'background')
    plain = segmenter(photo, ['road', 'sky, cat, kitten'])
    np.testing.assert_array_equal(marked.labels, plain.labels)
    np.testing.assert_array_equal(marked.scores, plain.scores)
    assert {entry['category'] for entry in marked.to_coco_rle()} <= {'road', 'background'}
    assert segmenter(photo, 'voc21').classes[0] == 'background'


@pytest.mark.parametrize('words', [5, None, {'cat': 1}])
def test_what_are_no_words(segmenter, photo, words):
    with pytest.raises(ValueError, match="words: expected a list such as .'cat', 'dog'., or the"):
        segmenter(photo, words)


def options(openai_file, **given):
    return OpenVocabSegmenter.from_pretrained(openai_file, templates='plain', **given)


@pytest.mark.parametrize('given', [dict(prob_thd=0.99), dict(area_thd=1.0)])
def test_thresholds_send_pixels_to_the_background(openai_file, photo, given):
    """The one that the words mark, or that is given by its index."""
    segmenter = options(openai_file, **given)
    assert (segmenter(photo, ['cat', '[background] sky', 'road']).labels == 1).all()
    assert (segmenter(photo, ['[background] sky', 'road']).labels == 0).all()
    with pytest.raises(ValueError, match='prob_thd and area_thd need a background: mark a class'):
        segmenter(photo, WORDS)
    segmenter = options(openai_file, **given, background_index=2)
    assert (segmenter(photo, WORDS).labels == 2).all()
    assert (segmenter(photo, ['boat', 'tree', 'sea', 'sand']).labels == 2).all()
    with pytest.raises(ValueError, match='background_index: expected 0 to 1, found 2'):
        segmenter(photo, ['boat', 'tree'])


@pytest.mark.parametrize(
    ('background', 'word'), [('ceiling', 'ceiling'), (True, 'background'), (['a', 'b'], 'a, b')]
)
def test_a_background_of_a_call_is_a_class_that_is_marked(segmenter, photo, background, word):
    found = segmenter(photo, WORDS, background=background)
    assert found.classes == ('background', 'sky', 'cat', 'road')
    marked = segmenter(photo, [f'[background] {word}', *WORDS])
    np.testing.assert_array_equal(found.labels, marked.labels)
    np.testing.assert_array_equal(found.scores, marked.scores)
    assert segmenter(photo, WORDS).classes == ('sky', 'cat', 'road')


def test_a_threshold_of_a_call(openai_file, segmenter, photo):
    """It does what prob_thd does, for this call alone."""
    plain = segmenter(photo, WORDS, background=True)
    middle = float(np.median(plain.scores))
    found = segmenter(photo, WORDS, background=True, threshold=middle)
    np.testing.assert_array_equal(found.labels, np.where(plain.scores < middle, 0, plain.labels))
    assert (found.labels != plain.labels).any()
    np.testing.assert_array_equal(segmenter(photo, WORDS, background=True).labels, plain.labels)
    strict = options(openai_file, prob_thd=1.0)
    assert (strict(photo, WORDS, background=True).labels == 0).all()
    assert (strict(photo, WORDS, background=True, threshold=0).labels != 0).any()
    assert len(strict(photo, WORDS, threshold=0).found) > 1
    assert (strict(photo, WORDS, background='wall').labels == 0).all()


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(threshold=0.5), 'threshold: expected a background, which gets the pixels below it'),
        (dict(threshold=7, background=True), 'expected a probability, 0 to 1, found 7'),
        (dict(threshold='half', background=True), "expected a probability, 0 to 1, found 'half'"),
        (dict(background='cat'), "expected other words than those to look for, found 'cat'"),
    ],
)
def test_background_and_threshold_that_cannot_be(segmenter, photo, given, message):
    expected = segmenter(photo, WORDS)
    with pytest.raises(ValueError, match=message):
        segmenter(photo, WORDS, **given)
    np.testing.assert_array_equal(segmenter(photo, WORDS).labels, expected.labels)


def test_background_and_threshold_of_a_cat_seg(cat_seg_files, photo):
    segmenter = OpenVocabSegmenter.from_config(*cat_seg_files, precision='fp32')
    found = segmenter(photo, 'red star, ring', background='ground')
    marked = segmenter(photo, ['[background] ground', 'red star', 'ring'])
    np.testing.assert_array_equal(found.labels, marked.labels)
    assert found.classes == ('background', 'red star', 'ring')
    sentence = 'threshold: expected none, found 0.5; a CATSegSegmentor sends no doubtful pixels'
    with pytest.raises(ValueError, match=sentence):
        segmenter(photo, 'red star', background='ground', threshold=0.5)
    sentence = "background: expected one word, found 'grass' and 1 more, which a CATSegSegmentor"
    with pytest.raises(ValueError, match=sentence):
        segmenter(photo, 'red star', background='grass, sand')
    segmenter.model.synonyms = 'max'
    assert segmenter(photo, 'red star', background='grass, sand').classes[0] == 'background'


def test_words_are_no_option(openai_file):
    with pytest.raises(ValueError, match="vocabulary: expected words .* call, found 'voc21' here"):
        options(openai_file, vocabulary='voc21')


def test_dense_similarity(segmenter, photo):
    cosines = segmenter.compute_dense_similarity(photo, WORDS)
    assert cosines.shape == (3, 6, 9) and cosines.abs().max() <= 1
    alone = segmenter.compute_dense_similarity(photo, ['sky'])
    torch.testing.assert_close(cosines[:1], alone)


GUIDED = [name for name in METHODS if issubclass(DENSE_METHODS.get(name), Guided)]
"""Methods with a second model, whose published weights no test downloads."""


@pytest.mark.parametrize('method', [name for name in METHODS if name not in GUIDED])
def test_methods(openai_file, photo, method):
    regions = dict(type='SAMRegions', sam=dict(type='SAMAdapter', checkpoint='tiny_sam_shapes'))
    options = dict(regions=regions) if DENSE_METHODS.get(method).uses_regions else {}
    segmenter = OpenVocabSegmenter.from_pretrained(
        openai_file, method, templates='plain', **options
    )
    assert DENSE_METHODS.get(segmenter.model.attention) is DENSE_METHODS.get(method)
    assert segmenter(photo, WORDS).labels.max() < 3


def test_a_trained_cat_seg(cat_seg_files, photo):
    config, checkpoint = cat_seg_files
    segmenter = OpenVocabSegmenter.from_config(config, checkpoint, precision='fp32')
    model = load_trained(CATSegSegmentor, config, checkpoint)
    result = segmenter([photo, photo[:, :40]], ['red star', 'ground', 'ring'])
    model.set_classes(['red star', 'ground', 'ring'])
    for image, found in zip([photo, photo[:, :40]], result, strict=True):
        bgr = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
        inputs = model.data_preprocessor(dict(inputs=[bgr]))['inputs']
        (sample,) = model.predict(inputs, return_scores=True)
        assert np.array_equal(found.labels, sample.pred_sem_seg.data[0].numpy())
        np.testing.assert_allclose(found.scores, sample.scores.data[0].numpy(), atol=1e-5)
        assert found.classes == ('red star', 'ground', 'ring')
    assert len({*np.unique(result[0].labels), *np.unique(result[1].labels)}) > 1
    with pytest.raises(ValueError, match='expected a segmenter made by from_pretrained'):
        segmenter.compute_dense_similarity(photo, ['red star'])


def test_the_short_side_of_a_config(cat_seg_files, photo):
    config = Config.fromfile(cat_seg_files[0])
    resize = dict(type='Resize', scale=(2048, 64), keep_ratio=True)
    config.test_dataloader.dataset.pipeline.insert(0, resize)
    segmenter = OpenVocabSegmenter.from_config(config, cat_seg_files[1])
    assert segmenter.short_side == 64 and segmenter.model.precision == 'auto'
    assert segmenter(photo, ['red star']).labels.shape == (40, 60)
    assert OpenVocabSegmenter.from_config(*cat_seg_files[:2]).short_side is None


def test_configs_and_weights_that_do_not_fit(cat_seg_files, repository, tmp_path):
    with pytest.raises(ValueError, match='config not found: there is no file none.py'):
        OpenVocabSegmenter.from_config('none.py', cat_seg_files[1])
    with pytest.raises(ValueError, match='checkpoint not found: there is no file none.pth'):
        OpenVocabSegmenter.from_config(cat_seg_files[0], 'none.pth')
    other = repository / 'configs/dpt/shapes_frozen.py'
    sentence = 'expected an OpenVocabularySegmentor, found SigLIPDepthEstimator'
    with pytest.raises(ValueError, match=sentence):
        OpenVocabSegmenter.from_config(other, cat_seg_files[1])


def test_a_config_of_a_training_free_model(siglip_folder, photo, repository):
    """It needs no checkpoint; one of an encoder takes the place of the config's own."""
    config = repository / 'configs/sclip/shapes.py'
    segmenter = OpenVocabSegmenter.from_config(config, precision='fp32')
    assert segmenter(photo, ['red star', 'ground']).labels.shape == photo.shape[:2]
    other = OpenVocabSegmenter.from_config(config, siglip_folder)
    assert segmenter.model.backbone.image_size != other.model.backbone.image_size == (32, 32)
    with pytest.raises(ValueError, match='none.pth: no such file'):
        OpenVocabSegmenter.from_config(config, './none.pth')


def test_unknown_method(openai_file):
    with pytest.raises(ValueError, match="unknown method 'sam'; expected one of .*sclip, .*naclip"):
        OpenVocabSegmenter.from_pretrained(openai_file, 'sam')


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(method='clear_clip'), "unknown method 'clear_clip'; .*; did you mean 'clearclip'?"),
        (dict(templates='imagenet_80'), "unknown templates .*; did you mean 'imagenet80'?"),
        (dict(precision='fp_16'), "precision: .* found 'fp_16'; did you mean 'fp16'?"),
        (dict(prob_thr=0.4), "from_pretrained: unknown option 'prob_thr'; .* mean 'prob_thd'?"),
        (dict(shortside=448), "unknown option 'shortside'; .*; did you mean 'short_side'?"),
        (dict(attention='naclip'), "unknown option 'attention'; expected one of method, guide, "),
        (dict(method=dict(type='na_clip')), "unknown attention .*; did you mean 'naclip'?"),
        (
            dict(method='proxyclip', guide=dict(type='DinoGuide')),
            "unknown guide 'DinoGuide'; .*; did you mean 'DINOGuide|DINOv[23]Guide'?",
        ),
    ],
)
def test_what_is_misspelt_gets_the_nearest(openai_file, given, message):
    with pytest.raises(ValueError, match=message):
        OpenVocabSegmenter.from_pretrained(openai_file, **given)


def test_photographs_are_turned_upright(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(tmp_path / 'turned.png', exif=exif)
    assert np.array_equal(read_image(tmp_path / 'turned.png'), np.rot90(photo, -1))


@pytest.mark.parametrize('mode', ['I;16', 'I;16B', 'RGBA', 'LA', 'P', 'L', '1', 'CMYK'])
def test_a_pil_image_is_its_file(photo, tmp_path, mode):
    if mode.startswith('I;16'):
        wide = np.linspace(0, 65535, 24 * 36).reshape(24, 36)
        image = Image.fromarray(wide.astype('<u2' if mode == 'I;16' else '>u2'))
    else:
        image = Image.fromarray(photo).convert(mode)
    if mode in ('RGBA', 'LA'):
        image.putalpha(Image.fromarray(photo[..., 0]))
    assert image.mode == mode
    image.save(tmp_path / 'photo.tif')
    from_file = read_image(tmp_path / 'photo.tif')
    assert len(np.unique(from_file)) > 1
    assert np.array_equal(read_image(image), from_file)
    with Image.open(tmp_path / 'photo.tif') as opened:
        assert np.array_equal(read_image(opened), from_file)


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        ('absent.jpg', 'absent.jpg: no such image file'),
        ('/', '/ is a folder: expected an image file, or a list of them'),
        (np.zeros((4, 4), np.uint8), r'expected an RGB array .* found \(4, 4\) of uint8'),
        (np.zeros((4, 4, 3)), 'of float64'),
        (Image.new('F', (4, 4)), 'the image has 32-bit grey values, whose range is unknown'),
        (Image.new('I', (4, 4)), 'the image has 32-bit grey values, whose range is unknown'),
        (torch.zeros(4, 4, 3), r'expected an RGB tensor \(3, H, W\), found \(4, 4, 3\)'),
        (torch.full((3, 4, 4), 255.0), r'float in \[0, 1\]; found torch.float32 in \[255, 255\]'),
    ],
)
def test_unusable_images(image, message):
    with pytest.raises(ValueError, match=message):
        read_image(image)


def test_a_thread_of_an_image_is_refused(segmenter, tmp_path):
    """One pixel by 20 000 would be enlarged to 48 by 960 000."""
    image = np.zeros((1, 20000, 3), np.uint8)
    with pytest.raises(
        ValueError, match='an image has 20000 x 1 pixels, expected .* at most 32 to 1'
    ):
        segmenter(image, WORDS)
    Image.fromarray(image).save(tmp_path / 'thread.png')
    with pytest.raises(ValueError, match='thread.png has 20000 x 1 pixels'):
        segmenter(tmp_path / 'thread.png', WORDS)


def test_check_tensor_keeps_what_is_good():
    image = torch.rand(3, 4, 5)
    assert check_tensor(image) is image


def test_result_type(segmenter, photo):
    assert isinstance(segmenter(photo, WORDS), Segmentation)
