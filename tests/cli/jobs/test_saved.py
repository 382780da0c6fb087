from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmseg_siglip.api.load import read_config
from mmseg_siglip.api.shipped import SHIPPED, build_shipped
from mmseg_siglip.api.system import System
from mmseg_siglip.cli.common import config_folder
from mmseg_siglip.cli.jobs.config import load_config
from mmseg_siglip.cli.jobs.saved import is_hub_id
from mmseg_siglip.cli.jobs.test import place_weights
from mmseg_siglip.cli.main import main, parser_of
from mmseg_siglip.weights.source import bundled

CONFIGS = dict(
    shapes_cat_seg='cat_seg/shapes.py',
    shapes_refer='refer_sam/shapes.py',
    shapes_depth='dpt/shapes_frozen.py',
    shapes_chat='vlm/shapes.py',
)


def run(source, tmp_path, *options, config=None):
    config = config_folder() / (config or CONFIGS[source])
    small = 'num_questions=3' if source == 'shapes_chat' else 'num_scenes=1'
    fields = [f'test_dataloader.dataset.{small}', 'test_dataloader.num_workers=0']
    fields += ['test_dataloader.persistent_workers=False', *options]
    argv = ['test', config, source, '--work-dir', tmp_path / 'work', '--cfg-options', *fields]
    return main([*map(str, argv)])


def test_each_trained_one_that_ships_along_has_a_config():
    assert CONFIGS.keys() == SHIPPED.keys() - {'tiny_siglip_shapes'}


@pytest.mark.parametrize('source', CONFIGS)
def test_it_is_scored_on_the_data_of_a_config(source, tmp_path, capsys):
    assert run(source, tmp_path) == 0, capsys.readouterr().err
    assert 'Iter(test)' in capsys.readouterr().out


def test_the_model_is_the_saved_one(tmp_path, capsys):
    """Other weights in the same folder score otherwise."""
    folder = tmp_path / 'depth'
    shutil.copytree(bundled('shapes_depth'), folder)

    def score():
        assert run('shapes_depth', tmp_path) == 0
        first = capsys.readouterr().out.split('delta1: ')[-1].split()[0]
        argv = ['test', str(config_folder() / CONFIGS['shapes_depth']), str(folder)]
        fields = ['test_dataloader.dataset.num_scenes=1', 'test_dataloader.num_workers=0']
        fields.append('test_dataloader.persistent_workers=False')
        work = ['--work-dir', str(tmp_path / 'other')]
        assert main([*argv, *work, '--cfg-options', *fields]) == 0
        return first, capsys.readouterr().out.split('delta1: ')[-1].split()[0]

    first, same = score()
    assert first == same
    path = folder / 'model.safetensors'
    state = {name: torch.zeros_like(value) for name, value in load_file(path).items()}
    save_file(state, path, metadata=dict(format='pt'))
    first, other = score()
    assert first != other


def test_another_kind_of_model(tmp_path, capsys):
    assert run('shapes_depth', tmp_path, config=CONFIGS['shapes_refer']) == 1
    assert 'expected a ReferringSegmentor, which' in capsys.readouterr().err


def test_a_llava_of_other_parts(tmp_path, capsys):
    options = ['model.llm.num_hidden_layers=3']
    assert run('shapes_chat', tmp_path, *options) == 1
    assert 'shapes_chat: expected the LLaVA of the config, with ' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('option', 'difference'),
    [
        ('select_layer=1', r'vision_feature_layer (1,), found (5,)'),
        ('image_size=128', r'image_processor.crop_size.height 128, found 64'),
        ('projector=mlp2x_relu', "projector_hidden_act 'relu', found 'gelu'"),
        ('llm.rms_norm_eps=0.1', 'text_config.rms_norm_eps 0.1, found 1e-06'),
    ],
)
def test_a_llava_of_other_settings(option, difference, tmp_path, capsys):
    """Its weights fit, and it would be scored as it does not answer."""
    assert run('shapes_chat', tmp_path, f'model.{option}') == 1
    assert f'shapes_chat: expected the LLaVA of the config, with {difference}' in (
        capsys.readouterr().err
    )


def test_a_damaged_one(tmp_path, capsys):
    folder = tmp_path / 'depth'
    shutil.copytree(bundled('shapes_depth'), folder)
    fields = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(fields | dict(digest='0' * 64)))
    argv = ['test', str(config_folder() / CONFIGS['shapes_depth']), str(folder)]
    assert main([*argv, '--work-dir', str(tmp_path / 'work')]) == 1
    assert f'error: {folder}: expected the ' in capsys.readouterr().err


def test_the_shipped_ones_are_systems():
    for source in CONFIGS.keys() - {'shapes_chat'}:
        assert System.from_pretrained(source, device='cpu').task == SHIPPED[source].task


def placed(config, source, *argv):
    args = parser_of('test')[0].parse_args([str(config_folder() / config), source, *argv])
    cfg = load_config(args)
    place_weights(cfg, args)
    return cfg


def test_settings_of_the_user_count_for_it():
    options = ['--cfg-options', 'model.test_cfg.stride=(8,8)', 'train_cfg.max_iters=3']
    cfg = placed('cat_seg/shapes.py', 'shapes_cat_seg', *options)
    assert cfg.model.test_cfg.stride == (8, 8)
    with pytest.raises(ValueError, match='--encoder: expected none beside a saved system'):
        placed('cat_seg/shapes.py', 'shapes_cat_seg', '--encoder', 'siglip2_b16_256')


def test_words_are_those_of_the_data():
    assert placed('cat_seg/ade150.py', 'shapes_cat_seg').model.test_vocabulary == 'ade20k'
    own = placed('cat_seg/coco_stuff.py', 'shapes_cat_seg').model.test_vocabulary
    assert own == read_config(config_folder() / 'cat_seg/coco_stuff.py').model.vocabulary


def test_a_training_free_one(tmp_path, capsys):
    segmenter = build_shipped('tiny_siglip_shapes', device='cpu', method='naclip')
    segmenter.use('circle, grass')
    segmenter.save_pretrained(tmp_path / 'own')
    cfg = placed('sclip/shapes.py', str(tmp_path / 'own'))
    assert cfg.model.attention == 'naclip' and cfg.model.vocabulary == 'shapes'
    model = placed('sclip/voc21.py', str(tmp_path / 'own')).model
    assert (model.vocabulary, model.background_index) == ('voc21_sclip', 0)
    assert run(str(tmp_path / 'own'), tmp_path, config='sclip/shapes.py') == 0
    assert 'mIoU' in capsys.readouterr().out


def test_no_more_weights_are_built_than_its_files_can_fill(tmp_path, capsys):
    folder = tmp_path / 'depth'
    shutil.copytree(bundled('shapes_depth'), folder)
    fields = json.loads((folder / 'config.json').read_text())
    fields['model']['decode_head']['channels'] = 30_000
    (folder / 'config.json').write_text(json.dumps(fields))
    argv = ['test', str(config_folder() / CONFIGS['shapes_depth']), str(folder)]
    assert main([*argv, '--work-dir', str(tmp_path / 'work')]) == 1
    assert f'error: {folder}: expected a model of at most ' in capsys.readouterr().err


def test_elsewhere_a_folder_is_refused(tmp_path, capsys):
    """What is published, compared or ranked has the settings of its config."""
    argv = ['benchmark', 'NAME', '--referring', 'shapes', '--out', str(tmp_path / 'table.csv')]
    argv[1] = bundled('shapes_refer')
    assert main(argv) == 1
    assert 'is a folder, expected a checkpoint file' in capsys.readouterr().err


def test_what_may_be_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id('me/depth') and is_hub_id('me/depth_v1.0')
    for name in ('depth', 'me/iter_9.pth', 'me/model.safetensors', 'a/b/c', '/me/depth', 'me/'):
        assert not is_hub_id(name)
    (tmp_path / 'me').mkdir()
    assert not is_hub_id('me/depth')
