import inspect
import sys

import pytest
from commands import parse
from mmengine.config import Config

from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.benchmark import find_config, published
from mmseg_siglip.cli.jobs.benchmark_config import prepare
from mmseg_siglip.cli.jobs.benchmark_table import BLANK, table
from mmseg_siglip.cli.jobs.protocol import (
    COMMON,
    GEOMETRY,
    NONE_PUBLISHED,
    method_data,
    method_fields,
    method_label,
    protocol_label,
)
from mmseg_siglip.models.backbones.trunk import method_names
from mmseg_siglip.models.dense import DenseMethod
from mmseg_siglip.models.segmentors import SAM3Segmentor, SCLIPSegmentor
from mmseg_siglip.registry import DENSE_METHODS, GUIDES, MODELS


def prepared(name, method, *argv):
    args = parse('benchmark', ['--datasets', name, *argv])
    return prepare(Config.fromfile(find_config(name)), method, args)


@pytest.fixture
def mine(monkeypatch):
    """A method with published settings, in a module of its own."""

    class Mine(DenseMethod):
        def __init__(self, strength=1.0):
            super().__init__()

    module = type(sys)('mine_of_a_test')
    settings = dict(short_side=448, crop_size=448, stride=224, logit_scale=33, prob_thd=0.2)
    step = dict(type='PAMRPostProcessor', num_iter=4)
    module.PUBLISHED = dict(
        voc21=dict(settings, area_thd=None, method=dict(strength=0.5), postprocessor=step),
        voc20=dict(short_side=400, crop_size=None),
    )
    module.PUBLISHED_MIOU, module.SOURCE = dict(voc21=61.5, ade20k=9.0), 'https://paper'
    monkeypatch.setitem(sys.modules, module.__name__, module)
    Mine.__module__ = module.__name__
    monkeypatch.setitem(DENSE_METHODS.module_dict, 'mine', Mine)
    return module


@pytest.mark.parametrize('name', method_names())
def test_what_methods_publish_is_of_data_sets_that_there_are(name):
    """And says what the protocol, the method and the segmentor understand."""
    kind = DENSE_METHODS.get(name)
    settings = method_data(name, 'PUBLISHED', {})
    assert set(method_data(name, 'PUBLISHED_MIOU', {})) <= set(settings)
    known = {*GEOMETRY, 'method', *inspect.signature(SCLIPSegmentor).parameters}
    arguments = {
        argument for base in kind.__mro__ for argument in inspect.signature(base).parameters
    }
    for dataset, given in settings.items():
        assert find_config(dataset).is_file()
        assert set(given) <= known
        assert set(given.get('method', {})) <= arguments | {'type'}


@pytest.fixture
def sam3_file(sam3_folder, tmp_path):
    """A function to a method's file that ships along, with a tiny SAM 3."""

    def write(name):
        path = tmp_path / f'{name}.py'
        text = (config_folder() / f'_base_/methods/{name}.py').read_text()
        path.write_text(text.replace('facebook/sam3', sam3_folder))
        return str(path)

    return write


def scale(cfg):
    return cfg.test_dataloader.dataset.pipeline[1].scale


def test_own_settings(mine):
    cfg = prepared('voc21', 'mine', '--protocol', 'own')
    model = cfg.model
    assert model.attention == dict(type='mine', strength=0.5)
    assert (model.logit_scale, model.prob_thd, model.area_thd) == (33, 0.2, None)
    assert model.test_cfg.crop_size == (448, 448) and model.test_cfg.stride == (224, 224)
    assert scale(cfg) == (2048, 448) and model.postprocessor.num_iter == 4
    assert model.vocabulary == 'voc21_sclip' and model.background_index == 0
    cfg = prepared('voc20', 'mine', '--protocol', 'own')
    assert scale(cfg) == (2048, 400) and cfg.model.test_cfg.mode == 'whole'
    assert cfg.model.attention == 'mine' and cfg.model.logit_scale == 40
    untouched = prepared('cityscapes', 'mine', '--protocol', 'own')
    assert scale(untouched) == (2048, 560)


def test_thresholds_of_clip_stay_with_clip(mine):
    cfg = prepared('voc21-siglip2', 'mine', '--protocol', 'own')
    assert 'logit_scale' not in cfg.model and cfg.model.prob_thd == 0.1
    assert scale(cfg) == (2048, 448) and cfg.model.attention.strength == 0.5


def test_common_settings_are_the_same_for_all(mine):
    for name in ('voc21', 'cityscapes', 'coco_stuff', 'voc21-siglip2'):
        cfg = prepared(name, 'mine', '--protocol', 'common')
        assert scale(cfg) == (2048, COMMON['short_side'])
        assert cfg.model.test_cfg.crop_size == (224, 224) and cfg.model.attention == 'mine'
        assert not cfg.model.prob_thd and cfg.model.area_thd is None is cfg.model.logit_scale
        assert not cfg.model.vocabulary.endswith('_sclip')
    cfg = prepared('shapes', 'mine', '--protocol', 'common')
    assert cfg.model.test_cfg.crop_size == (48, 48)


def test_an_option_outdoes_the_protocol(mine):
    options = ['--logit-scale', '7', '--slide-crop', '64', '--pamr-steps', '0']
    cfg = prepared('voc21', 'mine', '--protocol', 'own', *options)
    assert cfg.model.logit_scale == 7 and cfg.model.test_cfg.crop_size == (64, 64)
    assert cfg.model.postprocessor is None
    options = ['--cfg-options', 'model.prob_thd=0.7', 'model.attention=naclip']
    model = prepared('voc21', 'mine', '--protocol', 'own', *options).model
    assert model.prob_thd == 0.7 and model.attention.type == 'mine'
    assert prepared('voc21', 'csa', '--use-pamr').model.postprocessor.num_iter == 10


def test_a_papers_figure_stands_beside_its_own_settings_only(mine):
    def figure(name, *argv, protocol='own', method='mine'):
        return published(prepared(name, method, '--protocol', protocol, *argv))

    assert figure('voc21') == (61.5, 'published, https://paper')
    assert figure('voc21', protocol='common') == (None, None)
    assert figure('voc21', '--logit-scale', '40')[0] is None
    assert figure('voc21', '--pamr-steps', '0')[0] is None
    assert figure('voc20')[0] is None and figure('voc21-siglip2')[0] is None
    assert published(prepared('voc21', 'mine')) == (None, None)
    assert figure('voc21', method='csa')[0] == 59.63
    assert figure('voc21', method='naclip')[0] == 58.9
    assert figure('voc21', method='clearclip')[0] is None
    mine.PUBLISHED_ENCODER = ('ViT-B-16', 'laion2b_s34b_b88k')
    assert figure('voc21')[0] is None


def test_a_file_of_settings(tmp_path):
    path = tmp_path / 'naclip_pamr.py'
    path.write_text(
        "attention = dict(type='naclip')\n"
        "postprocessor = dict(type='PAMRPostProcessor', num_iter=3)\n"
        'test_cfg = dict(window_batch=2)\n'
    )
    assert method_label(str(path)) == 'naclip_pamr' and method_label('csa') == 'csa'
    cfg = prepared('voc21', str(path))
    assert cfg.model.attention.type == 'naclip' and cfg.model.postprocessor.num_iter == 3
    assert cfg.model.test_cfg.window_batch == 2 and cfg.model.test_cfg.crop_size == (224, 224)
    assert cfg.model.prob_thd == 0.1 and 'naclip_pamr' in cfg.experiment_name


FILES = sorted((config_folder() / '_base_/methods').rglob('*.py'))


def parts(value):
    """All configurations of modules within one, outermost first."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from parts(item)
    elif isinstance(value, dict):
        if 'type' in value:
            yield value
        for item in value.values():
            yield from parts(item)


def settings_of(kind):
    """Names of its arguments, and of those that it hands on to its bases."""
    names = set()
    for base in kind.__mro__:
        given = inspect.signature(base).parameters.values()
        names |= {one.name for one in given}
        if not any(one.kind is one.VAR_KEYWORD for one in given):
            return names
    return names


@pytest.mark.parametrize('path', FILES, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_every_file_that_ships_along(path, openai_file):
    """Its parts are there and take what it says; what needs no other weights is built, too."""
    shapes = path.parent.name == 'shapes'
    cfg = prepared('shapes' if shapes else 'voc21', str(path))
    assert method_label(str(path)) == path.stem
    fields = method_fields(str(path))
    if isinstance(fields.get('attention'), str):
        fields['attention'] = dict(type=fields['attention'])
    assert fields.get('type') or fields['attention']['type'] in method_names()
    found = list(parts({key: value for key, value in fields.items() if key != 'type'}))
    for part in found:
        name = part['type']
        kind = DENSE_METHODS.get(name) or GUIDES.get(name) or MODELS.get(name)
        assert set(part) - {'type'} <= settings_of(kind), part
    names = [part[key] for part in found for key in ('pretrained', 'checkpoint') if key in part]
    assert not (shapes and any('/' in name for name in names))
    if shapes or path.stem in ('csa_pamr', 'naclip_pamr', 'segearth'):
        if not shapes:
            cfg.model.backbone.pretrained = openai_file
        model = MODELS.build(cfg.model)
        assert model.attention == fields['attention']['type']


def test_a_file_has_the_published_settings_of_its_method():
    cfg = prepared('voc20', 'naclip_pamr', '--protocol', 'own')
    assert cfg.model.test_cfg.mode == 'whole' and cfg.model.postprocessor.num_iter == 10
    assert published(cfg) == (None, None)
    cfg = prepared('voc20', 'naclip_pamr', '--protocol', 'own', '--pamr-steps', '0')
    assert published(cfg)[0] == 79.7


def test_own_doubts_of_the_refinement():
    for name, expected in dict(voc21=0.2, coco_stuff=0.05, potsdam=None).items():
        (step,) = prepared(name, 'trident_refine', '--protocol', 'own').model.label_steps
        assert step.get('coarse_thd') == expected
    (step,) = prepared('coco_stuff', 'trident_refine', '--protocol', 'common').model.label_steps
    assert 'coarse_thd' not in step


def test_a_row_says_that_its_method_has_no_published_settings():
    cfg = prepared('voc21', 'gem', '--protocol', 'own')
    found = {
        name: protocol_label(cfg, name, 'own')
        for name in ('csa', 'naclip', 'naclip_pamr', 'gem', 'clip_surgery', 'cliptrase', 'scra')
    }
    assert [name for name, label in found.items() if label == 'own'] == list(found)[:3]
    assert {*found.values()} == {'own', NONE_PUBLISHED}
    assert protocol_label(cfg, 'gem', None) == 'config'
    row = dict(BLANK, dataset='voc21', attention='gem', encoder='', images=1)
    assert 'settings: gem.' in table([dict(row, protocol=NONE_PUBLISHED)])
    assert 'settings: gem.' not in table([dict(row, protocol='own')])


def test_a_file_of_another_segmentor(tmp_path, monkeypatch):
    class Other:
        def __init__(self, vocabulary, test_cfg=None, prob_thd=0.0, size=3):
            pass

    monkeypatch.setitem(MODELS.module_dict, 'OtherOfATest', Other)
    path = tmp_path / 'other.py'
    path.write_text("type = 'OtherOfATest'\nsize = 5\n")
    model = prepared('voc21', str(path)).model
    assert model == dict(type='OtherOfATest', vocabulary='voc21_sclip', size=5)


@pytest.mark.parametrize('protocol', [[], ['--protocol', 'own'], ['--protocol', 'common']])
@pytest.mark.parametrize('name', ['voc21', 'ade20k', 'voc21-siglip2', 'shapes'])
def test_sam3_is_a_row(sam3_file, name, protocol):
    """With the words of the others, on images as they are."""
    cfg = prepared(name, sam3_file('sam3'), *protocol, '--slide-crop', '64', '--logit-scale', '9')
    assert 'Resize' not in [step.type for step in cfg.test_dataloader.dataset.pipeline]
    model = MODELS.build(cfg.model)
    assert type(model) is SAM3Segmentor and model.test_cfg == dict(return_logits=False)
    assert model.prob_thd == (0.5 if name.startswith('voc21') else 0)
    assert len(model.vocabulary) == dict(ade20k=150, shapes=13).get(name, 21)
    assert published(cfg) == (None, None)


def test_sam3_has_no_postprocessors(sam3_file):
    with pytest.raises(ValueError, match='with postprocessors, found SAM3Segmentor of sam3'):
        prepared('voc21', sam3_file('sam3'), '--use-pamr')
    assert prepared('voc21', sam3_file('sam3'), '--pamr-steps', '0')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'there is no file'),
        ('attention = (', 'cannot be read'),
        ('vocabulary = "a"', 'unknown vocabulary; expected settings of SCLIPSegmentor: area_thd'),
        ('type = "Nothing"', 'there is no model type Nothing'),
    ],
)
def test_files_that_do_not_fit(tmp_path, text, message):
    path = tmp_path / 'x.py'
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        method_fields(str(path))
