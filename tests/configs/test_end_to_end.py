"""Every benchmark config through ``tools/test.py``, on data in the benchmark's own layout."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import command
from mmengine.config import Config
from PIL import Image

main = command('test')

REPOSITORY = Path(__file__).parents[2]
CONFIGS = sorted((REPOSITORY / 'configs' / 'sclip').glob('*.py'))
ON_DISK = [
    path
    for path in CONFIGS
    if 'data_root' in Config.fromfile(path).test_dataloader.dataset
    and path.stem not in ('camvid', 'coco_mini', 'hugging_face', 'own')
]
BENCHMARKS = (
    'voc20 voc21 context59 context60 coco_object coco_stuff coco_stuff10k cityscapes ade20k'
).split()


def test_the_nine_benchmarks_are_there():
    names = {path.stem for path in ON_DISK}
    assert {name + suffix for name in BENCHMARKS for suffix in ('', '_siglip2')} <= names


def options(data_root):
    """What makes a benchmark small."""
    return [
        f'test_dataloader.dataset.data_root={data_root}',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
        'model.templates=single',
        'model.test_cfg.crop_size=(64,64)',
        'model.test_cfg.stride=(64,64)',
    ]


@pytest.fixture
def evaluate(openai_file, siglip_folder, laid_out, tmp_path):
    """Run ``tools/test.py`` on a config with a tiny encoder; returns the metrics."""

    def run(config, *more, extra=()):
        siglip = Config.fromfile(config).model.backbone.type == 'SigLIPBackbone'
        status = main(
            [
                str(config),
                siglip_folder if siglip else openai_file,
                *('--work-dir', str(tmp_path)),
                *extra,
                '--cfg-options',
                *options(laid_out(re.sub('_(siglip2|segearth)$', '', config.stem))),
                *more,
            ]
        )
        assert status == 0
        (results,) = tmp_path.glob('*/*.json')
        metrics = json.loads(results.read_text())
        results.unlink()
        return metrics

    return run


@pytest.mark.parametrize('config', ON_DISK, ids=lambda path: path.stem)
def test_config(evaluate, config):
    metrics = evaluate(config)
    assert 0 <= metrics['mIoU'] <= 100 and 0 <= metrics['aAcc'] <= 100


@pytest.mark.parametrize('name', ['shapes', 'shapes_pairs', 'shapes_sam'])
def test_shapes_world(tmp_path, name):
    argv = [str(REPOSITORY / f'configs/sclip/{name}.py'), 'tiny_siglip_shapes']
    argv += ['--work-dir', str(tmp_path), '--out', str(tmp_path / 'labels')]
    options = ['test_dataloader.dataset.num_scenes=2', 'test_dataloader.num_workers=0']
    options += ['test_dataloader.persistent_workers=False']
    assert main([*argv, '--cfg-options', *options]) == 0
    assert len(list((tmp_path / 'labels').glob('*.png'))) == 2
    (file,) = tmp_path.glob('*/[0-9]*.json')
    assert json.loads(file.read_text().splitlines()[-1])['mIoU'] > 20


@pytest.mark.parametrize('attention', ['vanilla', 'maskclip', 'clearclip', 'naclip'])
def test_other_attentions_are_one_line(evaluate, attention):
    assert evaluate(CONFIGS[0].with_stem('voc20'), f'model.attention={attention}')['mIoU'] >= 0


def test_batch_size_does_not_show(evaluate):
    config = CONFIGS[0].with_stem('ade20k')
    one, three = (evaluate(config, f'test_dataloader.batch_size={size}') for size in (1, 3))
    assert one['mIoU'] == three['mIoU'] and one['aAcc'] == three['aAcc']


def test_pamr_and_test_time_augmentation(evaluate):
    config = CONFIGS[0].with_stem('voc21')
    assert evaluate(config, 'model.postprocessor.type=PAMRPostProcessor')['mIoU'] >= 0
    assert evaluate(config, extra=['--tta'])['mIoU'] >= 0


WITH_REGIONS = """
_base_ = [{config!r}]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='LoadRegions', folder={folder!r}, suffix='.npy'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in {flips}],
        [dict(type='LoadAnnotations')],
        [dict(type='LoadRegions', folder={folder!r}, suffix='.npy')],
        [dict(type='PackSegInputs')],
    ]),
]
"""


@pytest.mark.parametrize('overlap', [False, True])
def test_regions_of_files_under_test_time_augmentation(openai_file, laid_out, tmp_path, overlap):
    """Each region has one label in each view, so in their mean, if it is mirrored as its view is;
    the image as it is alone gets what it gets without augmentation."""
    root, regions, folder = laid_out('ade20k'), {}, tmp_path / 'regions'
    folder.mkdir()
    for path in root.rglob('*.jpg'):
        width, height = Image.open(path).size
        tiles = np.add.outer(np.arange(height) // 11, 7 * (np.arange(width) // 23)) + 1
        masks = tiles == np.unique(tiles)[:, None, None]
        np.save(folder / f'{path.stem}.npy', masks if overlap else tiles)
        regions[path.stem] = masks

    def labels(flips, *extra):
        config, out = tmp_path / 'regions.py', tmp_path / f'labels{len(flips)}{flips[0]}{extra}'
        base = str(CONFIGS[0].with_stem('ade20k'))
        config.write_text(WITH_REGIONS.format(config=base, flips=flips, folder=str(folder)))
        more = ['model.attention=mask_crop', 'model.test_cfg.mode=whole']
        argv = [str(config), openai_file, '--work-dir', str(tmp_path / 'work'), '--out', str(out)]
        assert main([*argv, *extra, '--cfg-options', *options(root), *more]) == 0
        return {file.stem: np.array(Image.open(file)) for file in out.glob('*.png')}

    plain = labels((0.0,))
    same, mirrored, both = (labels(flips, '--tta') for flips in ((0.0,), (1.0,), (0.0, 1.0)))
    assert set(plain) == set(regions)
    for name, masks in regions.items():
        assert (same[name] == plain[name]).all() and len(np.unique(plain[name])) > 1
        for found in (plain, mirrored, both):
            assert all(len(np.unique(found[name][mask])) == 1 for mask in masks)


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one(evaluate, openai_file, laid_out, tmp_path):
    """Three images do not divide by two: the one that fills up is not counted twice."""
    config = CONFIGS[0].with_stem('ade20k')
    alone = evaluate(config)
    command = ['bash', str(REPOSITORY / 'tools' / 'dist_test.sh'), str(config), openai_file, '2']
    command += ['--work-dir', str(tmp_path), '--cfg-options']
    done = subprocess.run(
        command + options(laid_out('ade20k')),
        env=os.environ | dict(PYTHON=sys.executable),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (results,) = tmp_path.glob('*/*.json')
    shared = json.loads(results.read_text())
    assert {name: shared[name] for name in ('aAcc', 'mIoU', 'mAcc')} == {
        name: alone[name] for name in ('aAcc', 'mIoU', 'mAcc')
    }


def test_predictions_and_pictures(evaluate, tmp_path):
    config = CONFIGS[0].with_stem('ade847')
    out, show = tmp_path / 'out', tmp_path / 'show'
    evaluate(config, extra=['--out', str(out), '--show-dir', str(show)])
    maps = sorted(out.rglob('*.png'))
    assert len(maps) == 3 and np.array(Image.open(maps[0])).dtype in (np.uint16, np.int32)
    assert len(list(show.rglob('*.png'))) == 3


@pytest.mark.parametrize('name', ['coco_mini', 'camvid'])
def test_real_photographs(real_data, openai_file, tmp_path, monkeypatch, name):
    """That real files pass; with random weights the scores mean nothing."""
    small = ['model.templates=single', 'test_dataloader.num_workers=0']
    small += ['test_dataloader.persistent_workers=False', 'test_dataloader.dataset.indices=3']
    config = str(CONFIGS[0].with_stem(name))
    show = tmp_path / 'show'
    arguments = [config, openai_file, '--work-dir', str(tmp_path), '--show-dir', str(show)]
    assert main([*arguments, '--cfg-options', *small]) == 0
    assert len(list(show.rglob('*.png'))) == 3


@pytest.mark.parametrize(
    ('checkpoint', 'message'),
    [
        ('absent.pt', 'there is no file absent.pt'),
        ('siglip', "expected a CLIP checkpoint, found model_type 'siglip'"),
        ('other', 'expected CLIP weights with a ViT'),
        ('partial', r'1 \(first visual.ln_post.bias\) missing'),
    ],
)
def test_wrong_checkpoints(
    capsys, tmp_path, openai_file, siglip_folder, laid_out, checkpoint, message
):
    import torch

    state = torch.load(openai_file, weights_only=True)
    state.pop('visual.ln_post.bias')
    torch.save(state, tmp_path / 'partial.pt')
    torch.save({'fc.weight': torch.ones(2)}, tmp_path / 'other.pt')
    named = dict(siglip=siglip_folder, other=tmp_path / 'other.pt', partial=tmp_path / 'partial.pt')
    root = f'test_dataloader.dataset.data_root={laid_out("voc20")}'
    arguments = [str(CONFIGS[0].with_stem('voc20')), str(named.get(checkpoint, checkpoint))]
    assert main([*arguments, '--work-dir', str(tmp_path), '--cfg-options', root]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('error: ') and re.search(message, error)
