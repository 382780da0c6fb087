"""What a configuration names that lies elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmseg_siglip.api.description import check_data
from mmseg_siglip.api.load import read_config
from mmseg_siglip.api.origins import Origin, as_description, commit_of, put_back, settle
from mmseg_siglip.text.vocabulary import Vocabulary

GUIDED = dict(
    type='SCLIPSegmentor',
    backbone=dict(pretrained='google/siglip2-base-patch16-224', readout='value'),
    vocabulary='voc21',
    attention=dict(type='proxyclip', guide='facebook/dino-vitb8'),
    postprocessor=[dict(type='PAMRPostProcessor', dilations=(1, 2))],
)


def test_what_lies_elsewhere_has_a_place():
    plain, sources = as_description(GUIDED)
    assert sources == {
        'backbone.pretrained': ('google/siglip2-base-patch16-224', None),
        'attention.guide': ('facebook/dino-vitb8', None),
    }
    assert plain['backbone'] == dict(pretrained=None, readout='value')
    assert plain['postprocessor'][0]['dilations'] == [1, 2]
    assert plain['vocabulary'] == 'voc21'
    assert json.loads(json.dumps(plain)) == plain
    origins = {place: Origin.of(*source) for place, source in sources.items()}
    assert put_back(plain, origins, Path('x')) == json.loads(json.dumps(GUIDED))


def test_words_of_a_file_are_written_out(tmp_path):
    (tmp_path / 'words.txt').write_text('[background] sky, wall\ncat\ndog, hound\n')
    plain, _ = as_description(dict(GUIDED, vocabulary=str(tmp_path / 'words.txt')))
    assert plain['vocabulary'] == ['[background] sky, wall', 'cat', 'dog, hound']
    assert Vocabulary.load(plain['vocabulary']) == Vocabulary.load(tmp_path / 'words.txt')


def test_words_that_only_a_file_can_say(tmp_path):
    (tmp_path / 'words.txt').write_text('#! duplicates: bed\nbed\nsofa, bed\n')
    with pytest.raises(ValueError, match="'bed' is there already"):
        as_description(dict(GUIDED, vocabulary=str(tmp_path / 'words.txt')))


def test_a_file_of_no_weights(tmp_path):
    with pytest.raises(ValueError, match=r'^regions.folder: expected no file of this machine'):
        as_description(dict(GUIDED, regions=dict(folder=str(tmp_path))))


def test_every_config_can_be_told_as_data(repository):
    """But for words that lie in a user's own file."""
    models = {}
    for path in sorted(repository.glob('configs/*/*.py')):
        model = read_config(path).get('model')
        if model and not str(model.get('vocabulary')).endswith('.txt'):
            models[path] = model
    assert len(models) > 80
    for path, model in models.items():
        plain, sources = as_description(model.to_dict())
        check_data(json.loads(json.dumps(plain)), path)
        for place, source in sources.items():
            Origin.read(Origin.of(*source).to_dict(), place)


def test_files_of_this_machine_are_copied(siglip_folder, tmp_path):
    (tmp_path / 'sam.pth').write_bytes(b'weights')
    sources = {
        'backbone.pretrained': (siglip_folder, None),
        'sam.checkpoint': (str(tmp_path / 'sam.pth'), None),
    }
    origins = settle(sources, tmp_path / 'saved')
    assert origins['sam.checkpoint'] == Origin('folder', 'sam-checkpoint/sam.pth')
    assert (tmp_path / 'saved/weights/sam-checkpoint/sam.pth').read_bytes() == b'weights'
    copied = {path.name for path in (tmp_path / 'saved/weights/backbone-pretrained').iterdir()}
    assert {'config.json', 'model.safetensors'} <= copied


def test_a_file_keeps_its_name_and_what_describes_it(tmp_path):
    """Releases are told apart by their names; other texts of the folder are no affair of it."""
    folder = tmp_path / 'release'
    folder.mkdir()
    described = {'config.json', 'preprocessor_config.json', 'tokenizer.json', 'merges.txt'}
    for name in (*described, 'api_token.txt', 'notes.txt', 'aws_config.json', 'other.pth'):
        (folder / name).write_text('{}')
    (folder / '..vit s (1).pth').write_bytes(b'weights')
    origins = settle({'x.pretrained': (str(folder / '..vit s (1).pth'), None)}, tmp_path / 'saved')
    assert origins['x.pretrained'] == Origin('folder', 'x-pretrained/__vit_s__1_.pth')
    copied = tmp_path / 'saved/weights/x-pretrained'
    assert {path.name for path in copied.iterdir()} == described | {'__vit_s__1_.pth'}
    assert Origin.read(origins['x.pretrained'].to_dict(), 'x') == origins['x.pretrained']


def test_of_a_folder_one_form_of_weights_is_copied(tmp_path):
    (tmp_path / 'a').mkdir()
    for name in ('model.safetensors', 'pytorch_model.bin', 'optimizer.pt', 'config.json'):
        (tmp_path / 'a' / name).write_bytes(b'{}')
    settle({'x.pretrained': (str(tmp_path / 'a'), None)}, tmp_path / 'saved')
    copied = (tmp_path / 'saved/weights/x-pretrained').iterdir()
    assert {path.name for path in copied} == {'model.safetensors', 'config.json'}


def test_adapters_of_weights_on_this_machine(siglip_folder, tmp_path):
    config = dict(peft_type='LORA', base_model_name_or_path=siglip_folder)
    (tmp_path / 'adapter_config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match='expected adapters of weights on the Hub'):
        settle({'backbone.pretrained': (str(tmp_path), None)}, tmp_path / 'saved')


@pytest.mark.parametrize(
    ('source', 'kind'),
    [('ViT-B/16', 'open_clip'), ('ViT-B-16:laion2b_s34b_b88k', 'open_clip'), ('a/b-c_d.e', 'hub')],
)
def test_forms_of_names(source, kind):
    origin = Origin.of(source)
    assert origin == Origin(kind, source)
    assert Origin.read(origin.to_dict(), 'x') == origin


def test_the_commit_of_what_lies_in_the_cache(tmp_path, monkeypatch):
    assert commit_of('someone/nothing') is None
    snapshot = tmp_path / 'models--someone--model/snapshots' / ('a' * 40)
    snapshot.mkdir(parents=True)
    (snapshot / 'config.json').write_text('{}')
    (snapshot.parents[1] / 'refs').mkdir()
    (snapshot.parents[1] / 'refs/main').write_text('a' * 40)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr('huggingface_hub.file_download.constants.HF_HUB_CACHE', str(tmp_path))
    assert commit_of('someone/model') == 'a' * 40


@pytest.mark.parametrize(
    'data',
    [
        'google/siglip',
        dict(hub='siglip'),
        dict(hub='../siglip'),
        dict(hub='a/..'),
        dict(hub='/a/b'),
        dict(hub='a/b/c'),
        dict(hub='http://a/b'),
        dict(hub='a/b', folder='c'),
        dict(hub='a/b', revision='../x'),
        dict(open_clip='../ViT'),
        dict(open_clip='ViT-B-16', revision='x'),
        dict(open_clip='work_dirs/siglip'),
        dict(open_clip='siglip'),
        dict(folder='a/b/c'),
        dict(folder='/a'),
        dict(folder='./a'),
        dict(folder='..'),
        dict(folder=''),
        dict(),
    ],
)
def test_a_strangers_origin(data):
    with pytest.raises(ValueError, match='^here: expected a Hub id, a name of open_clip or a file'):
        Origin.read(data, 'here')


@pytest.mark.parametrize('place', ['', 'backbone', 'backbone.readout', 'x.pretrained', 'a.0.b'])
def test_a_place_that_is_none(place):
    plain, _ = as_description(GUIDED)
    with pytest.raises(ValueError, match='expected a place for weights in the model'):
        put_back(plain, {place: Origin('hub', 'a/b')}, Path('x'))


def test_a_commit_is_asked_for():
    plain, _ = as_description(GUIDED)
    origins = {
        'backbone.pretrained': Origin('hub', 'a/b', 'abc'),
        'attention.guide': Origin('hub', 'c/d', 'def'),
    }
    found = put_back(plain, origins, Path('x'))
    assert found['backbone'] == dict(pretrained='a/b', readout='value', revision='abc')
    assert found['attention'] == dict(type='proxyclip', guide='c/d')
    plain['backbone'] = dict(type='CLIPBackbone', pretrained=None)
    assert 'revision' not in put_back(plain, origins, Path('x'))['backbone']


def test_a_commit_that_was_asked_for_is_kept():
    settings = dict(GUIDED, backbone=dict(revision='abc', pretrained='a/b', readout='value'))
    plain, sources = as_description(settings)
    assert sources['backbone.pretrained'] == ('a/b', 'abc')
    assert plain['backbone'] == dict(pretrained=None, readout='value')
    assert Origin.of('a/b', 'abc') == Origin('hub', 'a/b', 'abc')


def test_a_name_of_the_hub_is_no_folder_here(tmp_path, monkeypatch):
    """What a stranger's system names would else be read from where the user happens to be."""
    plain, _ = as_description(GUIDED)
    (tmp_path / 'a/b').mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='expected a/b to be a name of the Hub alone, found a fi'):
        put_back(plain, {'backbone.pretrained': Origin('hub', 'a/b')}, Path('x'))


@pytest.mark.parametrize('base', ['/etc', '..', 'work_dirs/siglip'])
def test_a_strangers_adapters(tmp_path, monkeypatch, base):
    plain, _ = as_description(GUIDED)
    (tmp_path / 'work_dirs/siglip').mkdir(parents=True)
    (tmp_path / 'weights/a').mkdir(parents=True)
    config = dict(peft_type='LORA', base_model_name_or_path=base)
    (tmp_path / 'weights/a/adapter_config.json').write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='weights/a: .*expected (a Hub id|adapters of weights on)'):
        put_back(plain, {'backbone.pretrained': Origin('folder', 'a')}, tmp_path)


def test_a_strangers_origin_is_told_shortly():
    deep: dict = {}
    for _ in range(3000):
        deep = dict(x=deep)
    with pytest.raises(ValueError, match='expected a Hub id') as caught:
        Origin.read(deep, 'here')
    assert len(str(caught.value)) < 300
