import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import command, parse
from mmengine.config import Config

from mmseg_siglip.cli.jobs import benchmark
from mmseg_siglip.cli.jobs import published as figures
from mmseg_siglip.cli.jobs.benchmark import compose, published, set_options, table

main = command('benchmark')

ROOTS = dict(voc21='VOCdevkit/VOC2012', coco_stuff='coco_stuff164k')
SMALL = ['--cfg-options', 'model.templates=plain', 'test_dataloader.num_workers=0']
SMALL += ['test_dataloader.persistent_workers=False']
WINDOWS = ['--slide-crop', '64', '--slide-stride', '64']


@pytest.fixture(autouse=True)
def data(laid_out, tmp_path, monkeypatch):
    """Three samples of two benchmarks, below ``data`` of the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RANK', raising=False)
    for name, root in ROOTS.items():
        target = tmp_path / 'data' / root
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(laid_out(name))


def failure(capsys, *argv):
    """The one line that a failing command prints on stderr."""
    capsys.readouterr()
    assert main([str(arg) for arg in argv]) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith('error: ')]
    return line


def arguments(**changes):
    given = 'checkpoint num_samples pamr_steps logit_scale slide_crop slide_stride save_vis'.split()
    given += ['use_sam', 'encoder', 'slide_inference']
    defaults = dict.fromkeys([*given, 'cfg_options'])
    return SimpleNamespace(**defaults | dict(launcher='none', work_dir=Path('work')) | changes)


def test_every_option_at_once(openai_file, tmp_path, capsys):
    argv = [openai_file, '--datasets', 'coco-stuff', 'voc21', '--num-samples', '2']
    argv += ['--attention', 'csa', 'naclip', '--pamr-steps', '2', '--logit-scale', '33', *WINDOWS]
    argv += ['--save-vis', 'vis', '--out', 'tables/table.csv', *SMALL]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [line.split(' | ')[:4] for line in lines if line.startswith('| ')]
    names = [('coco_stuff', 'csa'), ('coco_stuff', 'naclip'), ('voc21', 'csa'), ('voc21', 'naclip')]
    assert found[1:] == [[f'| {name}', attention, 'ViT-tiny.pt', '2'] for name, attention in names]
    with open('tables/table.csv') as file:
        rows = list(csv.DictReader(file))
    assert [(row['dataset'], row['attention']) for row in rows] == names
    for row in rows:
        assert row['images'] == '2' and 0 <= float(row['mIoU']) <= 100
        assert row['published_mIoU'] == '' and float(row['images_per_second']) > 0
        settings = [row[k] for k in ('pamr_steps', 'logit_scale', 'slide_crop', 'slide_stride')]
        assert settings == ['2', '33.0', '64', '64']
    for name, attention in names:
        assert len(list((tmp_path / 'vis' / f'{name}-{attention}').rglob('*.png'))) == 2


@pytest.mark.parametrize('refine', [False, True])
def test_sam(openai_file, original_sam_file, tmp_path, refine):
    argv = [openai_file, '--datasets', 'voc21', '--num-samples', '1', *WINDOWS, *SMALL]
    argv += ['--use-sam', original_sam_file, '--sam-points', '4', '--sam-batch', '8']
    argv += ['--sam-label', 'mean_logit', '--out', 'sam.csv', *['--sam-refine'] * refine]
    assert main(argv) == 0
    with open('sam.csv') as file:
        (row,) = csv.DictReader(file)
    assert row['sam'] == original_sam_file and row['sam_points'] == ('' if refine else '4')
    assert row['pamr_steps'] == '0' and 0 <= float(row['mIoU']) <= 100


def test_what_asks_for_sam():
    argv = ['--datasets', 'voc21', '--use-sam', '--sam-points', '8']
    args = parse('benchmark', argv)
    cfg = compose('voc21', args)
    set_options(cfg, 'csa', args)
    grid = cfg.model.postprocessor.proposer
    assert grid.type == 'SAMPointGrid' and grid.sam.checkpoint == 'facebook/sam-vit-base'
    assert (grid.points_per_side, grid.points_per_batch) == (8, 64)
    assert published(cfg) == (None, None)
    set_options(cfg, 'csa', parse('benchmark', [*argv, '--sam-refine']))
    assert cfg.model.postprocessor.proposer.type == 'SAMComponents'


def test_the_scores_are_those_of_tools_test(openai_file, tmp_path, capsys):
    test = command('test')

    assert main([openai_file, '--datasets', 'voc21', '--out', 'a.csv', *WINDOWS, *SMALL]) == 0
    with open('a.csv') as file:
        (row,) = csv.DictReader(file)
    capsys.readouterr()
    windows = ['model.test_cfg.crop_size=(64,64)', 'model.test_cfg.stride=(64,64)']
    assert test([str(benchmark.find_config('voc21')), openai_file, *SMALL, *windows]) == 0
    assert row['images'] == '3'
    output = capsys.readouterr()
    assert f'mIoU: {float(row["mIoU"]):.4f}' in output.out + output.err


def test_siglip_weights_take_the_twin(siglip_folder):
    cfg = compose('voc21', arguments(checkpoint=siglip_folder))
    assert cfg.filename.endswith('voc21_siglip2.py')
    assert cfg.model.backbone == dict(type='SigLIPBackbone', pretrained=siglip_folder)
    assert published(cfg) == (None, None)


def test_a_named_encoder_takes_the_twin_of_its_kind(capsys):
    def found(name):
        cfg = compose('voc21', arguments(encoder=name))
        return Path(cfg.filename).stem, cfg.model.backbone.pretrained

    assert found('siglip2_b16_512') == ('voc21_siglip2', 'google/siglip2-base-patch16-512')
    assert found('clip_l14_336') == ('voc21', 'ViT-L/14@336px')
    siglip = ['--encoder', 'siglip2_b16_512', '--datasets', 'context459']
    assert 'is for a CLIPBackbone, siglip2_b16_512 is a SigLIPBackbone' in failure(capsys, *siglip)
    with pytest.raises(SystemExit):
        main(['weights.pt', *siglip])
    assert '--encoder and CHECKPOINT: expected one of them' in capsys.readouterr().err


def test_published_figures_stand_beside_published_settings_only(openai_file):
    def figure(name='voc21', attention='csa', checkpoint=None, **changes):
        args = arguments(checkpoint=checkpoint, **changes)
        cfg = compose(name, args)
        set_options(cfg, attention, args)
        return published(cfg)[0]

    dataset = 'test_dataloader.dataset'
    assert figure() == 59.63 and figure('coco-stuff') == 22.77
    assert figure(checkpoint='ViT-B-16:openai') == 59.63
    assert figure(num_samples=10, pamr_steps=0, logit_scale=65, slide_crop=224) == 59.63
    assert figure(attention='naclip') is None
    assert figure(logit_scale=40) is None
    assert figure(pamr_steps=10) is None
    assert figure(slide_stride=56) is None
    assert figure(cfg_options={'model.vocabulary': 'voc21'}) is None
    moved = {'data_root': 'data/VOCdevkit/VOC2012', 'data_prefix.img_path': 'JPEGImages'}
    assert figure(cfg_options={f'{dataset}.{key}': at for key, at in moved.items()}) == 59.63
    assert figure(cfg_options={'test_evaluator.output_dir': 'maps'}) == 59.63
    assert figure(cfg_options={f'{dataset}.pipeline.1.scale': (2048, 112)}) is None
    assert figure(cfg_options={f'{dataset}.ann_file': 'ImageSets/Segmentation'}) is None
    assert figure('coco-stuff', cfg_options={f'{dataset}.reduce_zero_label': True}) is None
    assert figure(cfg_options={'test_evaluator.ignore_index': 254}) is None
    assert figure(checkpoint=openai_file) is None
    assert figure(checkpoint='ViT-L/14') is None


def test_a_published_figure_is_marked_as_one():
    row = dict(dataset='voc21', attention='csa', encoder='ViT-B/16', images=9, mIoU=50.123)
    row |= dict(published_mIoU=59.63, published_source='published, https://host', pamr_steps=0)
    other = row | dict(published_mIoU=None, published_source=None)
    lines = table([row | dict(images_per_second=2.5), other | dict(images_per_second=3)]).split(
        '\n'
    )
    assert lines[2:4] == [
        '| voc21 | csa | ViT-B/16 | 9 | 50.12 | 59.63 | 2.5 |',
        '| voc21 | csa | ViT-B/16 | 9 | 50.12 | — | 3 |',
    ]
    assert lines[-1] == 'Published figures are of whole data sets (published, https://host).'


def test_a_file_is_the_published_encoder_by_its_digest(openai_file, monkeypatch):
    import hashlib

    digest = hashlib.sha256(Path(openai_file).read_bytes()).hexdigest()
    assert not figures.is_published_encoder(openai_file)
    url = dict(url=f'https://host/{digest}/ViT-B-16.pt')
    monkeypatch.setattr(figures, 'get_pretrained_cfg', lambda *_: url)
    assert figures.is_published_encoder(openai_file)


def test_synthetic_scenes_have_their_own_count():
    cfg = Config.fromfile(benchmark.find_config('shapes'))
    set_options(cfg, 'csa', arguments(num_samples=3))
    assert cfg.test_dataloader.dataset.num_scenes == 3
    set_options(cfg, 'csa', arguments(num_samples=10_000))
    assert cfg.test_dataloader.dataset.num_scenes == 3


def test_bad_input_is_one_line(openai_file, siglip_folder, capsys):
    line = failure(capsys, '--datasets', 'voc21', 'imagenet')
    assert (
        "unknown dataset 'imagenet'; expected a .py config, or one of" in line
        and 'coco-stuff,' in line
    )
    line = failure(capsys, '--datasets', 'voc21', '--attention', 'csa', 'sharp')
    assert "unknown attention 'sharp'; expected one of clearclip, " in line
    assert 'data/cityscapes is not there' in failure(capsys, '--datasets', 'voc21', 'cityscapes')
    assert 'there is no file none.pt' in failure(capsys, 'none.pt', '--datasets', 'voc21')
    line = failure(capsys, openai_file, '--datasets', 'voc21-siglip2')
    assert 'voc21_siglip2.py is for a SigLIPBackbone' in line and 'is a CLIPBackbone' in line
    argv = (openai_file, '--datasets', 'voc21', '--slide-crop', '64', *SMALL)
    assert 'expected 1 <= stride <= crop_size' in failure(capsys, *argv)


@pytest.mark.parametrize(
    'option',
    [
        ['--num-samples', '0'],
        ['--pamr-steps', '-1'],
        ['--use-sam', 'a.pth', '--pamr-steps', '3'],
        ['--sam-points', '0'],
    ],
)
def test_numbers_out_of_range(option, capsys):
    with pytest.raises(SystemExit):
        main(['--datasets', 'voc21', *option])
    error = capsys.readouterr().err
    assert option[0] in error and 'expected' in error
