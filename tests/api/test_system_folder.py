"""Every system saved as a folder and made again; folders that a stranger wrote."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoders import CLIP_CONFIG

from mmseg_siglip.api import SYSTEMS, OpenVocabSegmenter, ReferringSegmenter
from mmseg_siglip.api.system import System
from mmseg_siglip.api.system_folder import SystemFolder
from mmseg_siglip.models.segmentors import SCLIPSegmentor

PROMPTS = dict(segment=['red star', 'ground'], refer='the ring', depth=None)
SAVED = ('segment', 'refer', 'depth')


@pytest.fixture(scope='module')
def photo():
    rows, columns = np.mgrid[:40, :56]
    return np.stack([4 * columns, 6 * rows, 2 * (rows + columns)], -1).astype(np.uint8)


@pytest.fixture(scope='module')
def saved(system_files, tmp_path_factory):
    """A trained system by task, and its folder."""
    found = {}
    for task in SAVED:
        system = SYSTEMS[task].from_config(*system_files[task], device='cpu', precision='fp32')
        folder = tmp_path_factory.mktemp(task) / 'saved'
        system.save_pretrained(folder)
        found[task] = system, folder
    return found


def arrays(result) -> list[np.ndarray]:
    return [value for value in vars(result).values() if isinstance(value, np.ndarray)]


def again(folder, **change):
    """The config of a folder, changed."""
    path = folder / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.fixture
def copied(saved, tmp_path):
    """A folder to damage."""
    return shutil.copytree(saved['segment'][1], tmp_path / 'copied')


@pytest.mark.parametrize('task', SAVED)
def test_a_saved_system_answers_the_same(saved, photo, task):
    system, folder = saved[task]
    made = System.from_pretrained(folder, device='cpu', precision='fp32')
    assert type(made) is type(system)
    assert made.settings == system.settings
    assert made.model.state_dict().keys() == system.model.state_dict().keys()
    expected, found = (each(photo, PROMPTS[task]) for each in (system, made))
    for ours, theirs in zip(arrays(found), arrays(expected), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize('task', SAVED)
def test_only_what_was_trained_is_written(saved, task):
    system, folder = saved[task]
    written = load_file(folder / 'model.safetensors')
    own = system.model.state_dict()
    assert set(written) < set(own)
    encoder = [name for name in own if 'backbone.model.' in name]
    if task != 'segment':
        assert encoder and not set(encoder) & set(written)
    assert all(torch.equal(own[name], value) for name, value in written.items())


def test_saved_once_more(saved, photo, tmp_path):
    """A system made of a folder is one to save, in fewer bits, over a folder of its kind."""
    _, folder = saved['depth']
    made = System.from_pretrained(folder, device='cpu', precision='fp32')
    for dtype in ('float32', 'float16'):
        made.save_pretrained(tmp_path / 'again', dtype=dtype)
        last = System.from_pretrained(tmp_path / 'again', device='cpu', precision='fp32')
        error = np.abs(last(photo).depth - made(photo).depth).max()
        assert error <= (0 if dtype == 'float32' else 0.05)
    stored = load_file(tmp_path / 'again' / 'model.safetensors').values()
    assert {value.dtype for value in stored if value.is_floating_point()} == {torch.float16}
    with pytest.raises(ValueError, match="dtype: expected one of float32, .* found 'int8'"):
        made.save_pretrained(tmp_path / 'again', dtype='int8')


def test_without_training(photo, openai_file, tmp_path):
    """An encoder's own file comes along, words and method are told."""
    options = dict(templates='plain', precision='fp32', device='cpu', background_index=1)
    system = OpenVocabSegmenter.from_pretrained(openai_file, 'naclip', **options)
    system.save_pretrained(tmp_path / 'saved')
    openai_name = json.loads((tmp_path / 'saved/config.json').read_text())['origins']
    assert openai_name['backbone.pretrained'].keys() == {'folder'}
    made = OpenVocabSegmenter.from_pretrained(tmp_path / 'saved', device='cpu', precision='fp32')
    assert made.model.attention == system.model.attention
    assert made.background_index == 1
    expected, found = (each(photo, ['cat', 'dog']) for each in (system, made))
    assert np.array_equal(found.scores, expected.scores)
    other = OpenVocabSegmenter.from_pretrained(tmp_path / 'saved', device='cpu', short_side=32)
    assert other.short_side == 32


def test_saved_over_the_folder_that_it_was_made_of(photo, siglip_folder, tmp_path):
    """Which holds the weights that it adds to; words asked meanwhile are none of the system's."""
    folder = tmp_path / 'saved'
    system = OpenVocabSegmenter.from_pretrained(siglip_folder, templates='plain', device='cpu')
    system.save_pretrained(folder)
    (folder / 'weights/stale').write_text('of an older one')
    made = System.from_pretrained(folder, device='cpu')
    expected = made(photo, ['cat', 'dog'])
    made.save_pretrained(folder)
    assert not (folder / 'weights/stale').exists()
    for source in (folder, tmp_path / 'elsewhere'):
        made.save_pretrained(source)
        made = System.from_pretrained(source, device='cpu')
        assert np.array_equal(made(photo, ['cat', 'dog']).scores, expected.scores)


def test_what_cannot_be_saved_leaves_the_folder(saved, copied, monkeypatch):
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    made = System.from_pretrained(copied, device='cpu')
    weight = next(made.model.decode_head.parameters())
    weight.data.view(-1)[0] = 1e6
    with pytest.raises(ValueError, match='the model as float16: expected finite weights, found 1'):
        made.save_pretrained(copied, dtype='float16')
    weight.data.view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match='the model as float32: expected finite weights, found 1'):
        made.save_pretrained(copied)
    weight.data.view(-1)[0] = 0

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmseg_siglip.api.system_folder.save_file', killed)
    with pytest.raises(KeyboardInterrupt):
        made.save_pretrained(copied)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before
    assert list(copied.parent.iterdir()) == [copied]


def test_no_random_numbers_of_the_callers_are_drawn(saved, tmp_path, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, 'manual_seed_all', seeded.append)
    state = torch.get_rng_state()
    saved['depth'][0].save_pretrained(tmp_path / 'x')
    assert torch.equal(torch.get_rng_state(), state) and not seeded


def test_another_encoder_than_the_configs(siglip_folder, photo, tmp_path):
    config = tmp_path / 'config.py'
    model = dict(
        type='SCLIPSegmentor', backbone=dict(pretrained='tiny_siglip_shapes'), vocabulary=['a', 'b']
    )
    config.write_text(f'model = {model!r}\ntest_dataloader = dict(dataset=dict(pipeline=[]))\n')
    system = OpenVocabSegmenter.from_config(config, siglip_folder, device='cpu')
    system.save_pretrained(tmp_path / 'saved')
    made = System.from_pretrained(tmp_path / 'saved', device='cpu')
    expected, found = (each(photo, ['cat', 'dog']) for each in (system, made))
    assert np.array_equal(found.scores, expected.scores)


def test_a_small_folder_gets_little_memory(saved, tmp_path):
    folder = shutil.copytree(saved['depth'][1], tmp_path / 'wide')
    model = json.loads((folder / 'config.json').read_text())['model']
    model['decode_head']['channels'] = 8192
    again(folder, model=model)
    with pytest.raises(ValueError, match='as many as its files can fill, found more'):
        System.from_pretrained(folder, device='cpu')


@pytest.mark.parametrize('name', ['model.safetensors', 'weights/notes.txt', 'weights/a'])
def test_a_link_out_of_the_folder(copied, tmp_path, name):
    """Saved or uploaded once more, the copy would hold what the link leads to."""
    (tmp_path / 'private').mkdir()
    (copied / 'weights').mkdir()
    (copied / name).unlink(missing_ok=True)
    (copied / name).symlink_to(tmp_path / 'private')
    with pytest.raises(ValueError, match=rf'{name}: expected a file of the folder, found a link'):
        System.from_pretrained(copied)


def test_links_of_the_hubs_cache(saved, photo, tmp_path):
    snapshot = shutil.copytree(saved['depth'][1], tmp_path / 'models--a--b/snapshots/abc')
    (tmp_path / 'models--a--b/blobs').mkdir()
    for path in list(snapshot.iterdir()):
        shutil.move(path, tmp_path / 'models--a--b/blobs')
        path.symlink_to(f'../../blobs/{path.name}')
    assert System.from_pretrained(snapshot, device='cpu').task == 'depth'


def test_what_is_no_system_to_save(saved, tmp_path):
    model = SCLIPSegmentor(dict(type='CLIPBackbone', arch=CLIP_CONFIG), ['a', 'b'])
    with pytest.raises(ValueError, match='expected a system of from_pretrained or from_config'):
        OpenVocabSegmenter(model, short_side=32).save_pretrained(tmp_path / 'x')
    (tmp_path / 'config.json').write_text('{"model_type": "siglip"}')
    with pytest.raises(ValueError, match='expected a folder to fill, found another model'):
        saved['depth'][0].save_pretrained(tmp_path)


def test_another_task(saved):
    with pytest.raises(ValueError, match="expected a system of the task refer, found 'depth'"):
        ReferringSegmenter.from_pretrained(saved['depth'][1])


def test_other_weights_than_it_was_saved_with(copied):
    """A tensor that is missing would be random, one of another encoder wrong."""
    path = copied / 'model.safetensors'
    state = load_file(path)
    name = next(name for name in state if 'decode_head' in name)
    save_file({key: value for key, value in state.items() if key != name}, path)
    with pytest.raises(ValueError, match='to be those that it was saved with .* found others'):
        System.from_pretrained(copied)
    save_file(state | {name: torch.ones(1, 2, 3)}, path)
    with pytest.raises(ValueError, match=rf'model.safetensors: expected .*, found {name} \(1, 2'):
        System.from_pretrained(copied)
    save_file(state | {name: torch.full_like(state[name], torch.nan)}, path)
    with pytest.raises(ValueError, match='expected finite weights'):
        System.from_pretrained(copied)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(version=2), 'expected version 1 of the format, found 2'),
        (dict(run='rm'), "expected format, version, .* found a difference in 'run'"),
        (dict(task='play'), "expected a system of the task segment or .* found 'play'"),
        (dict(origins=[]), 'expected origins to be a dict'),
        (dict(model=dict(type='os.system', command='x')), 'expected the bare name of a class'),
        (
            dict(model=dict(type='PAMRPostProcessor')),
            'expected a OpenVocabularySegmentor, found a PAMRPost',
        ),
        (dict(settings=dict(mode='x')), 'as settings of a OpenVocabSegmenter short_side and back'),
        (dict(settings=dict(short_side=0, background_index=None)), 'short_side: .* 1 to 4096 or n'),
        (dict(settings=dict(short_side='9' * 9999, background_index=None)), "none, found '999"),
        (dict(settings=dict(short_side=8, background_index=True)), 'background_index: .* found Tr'),
        (dict(task='ask', model=dict(type='LlavaTrainer')), 'a VisionChat in the layout of tran'),
        (dict(origins={'backbone.pretrained': dict(hub='../x/y')}), 'expected a Hub id'),
        (dict(origins={'backbone.pretrained': dict(hub='/etc/passwd')}), 'expected a Hub id'),
        (dict(origins={'backbone.pretrained': dict(folder='../../x')}), 'expected a Hub id'),
        (dict(origins={'decode_head': dict(hub='a/b')}), 'expected a place for weights'),
        (dict(origins={'vocabulary': dict(folder='x')}), 'expected a place for weights'),
    ],
)
def test_a_strangers_config(copied, change, message):
    again(copied, **change)
    with pytest.raises(ValueError, match=message) as caught:
        System.from_pretrained(copied)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 1000


def test_other_folders_are_none(siglip_folder, openai_file):
    assert SystemFolder.find(siglip_folder) is None
    assert SystemFolder.find(openai_file) is None
    assert SystemFolder.find('ViT-B/16') is None
