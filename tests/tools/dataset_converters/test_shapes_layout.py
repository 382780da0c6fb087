from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from layouts import LAYOUTS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_siglip.datasets.shapes_world.scene import CLASSES, generate, scene_seed
from mmseg_siglip.registry import DATASETS


@pytest.fixture(scope='module')
def tool(repository):
    path = repository / 'tools/dataset_converters/shapes_layout.py'
    spec = importlib.util.spec_from_file_location('shapes_layout', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('name', LAYOUTS)
def test_class_ids_are_classes(tool, name):
    ids = tool.class_ids(name)
    assert len(ids) == len(CLASSES)
    assert 0 <= min(ids) and max(ids) < LAYOUTS[name].classes
    if name == 'ade847':
        assert max(ids) > 255 and len(set(ids)) == len(CLASSES)


@pytest.mark.parametrize('name', ['voc21', 'ade847'])
def test_config_reads_the_scenes_back(tool, repository, tmp_path, capsys, name):
    init_default_scope('mmseg_siglip')
    tool.main([name, str(tmp_path), '--num', '2', '--size', '48', '64'])
    assert capsys.readouterr().out == f'2 pictures in {tmp_path}\n'
    config = Config.fromfile(repository / f'configs/_base_/datasets/{name}.py')
    dataset = DATASETS.build(dict(config.test_dataloader.dataset, data_root=str(tmp_path)))
    assert len(dataset) == 2
    scene = generate(scene_seed('test', 1), size=(48, 64))
    labels = dataset[1]['data_samples'].gt_sem_seg.data[0].numpy()
    assert np.array_equal(labels, np.asarray(tool.class_ids(name))[scene.classes])


def test_bad_arguments(tool, tmp_path, capsys):
    with pytest.raises(SystemExit, match='error: --num 0, expected at least 1'):
        tool.main(['voc21', str(tmp_path), '--num', '0'])
    with pytest.raises(SystemExit):
        tool.main(['voc22', str(tmp_path)])
    assert "invalid choice: 'voc22'" in capsys.readouterr().err
