from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import command
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.models.segmentors import EncoderDecoder
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from mmseg_siglip.cli.jobs.test import (
    place_checkpoint,
    save_predictions,
    use_classes,
    use_pamr,
    use_windows,
)
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights import checkpoint, state

main = command('test')


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RANK', raising=False)
    SegLocalVisualizer._instance_dict.clear()


@pytest.fixture
def weights(tiny_config, tmp_path):
    """A checkpoint, as MMEngine lays it out, of an untrained tiny model."""
    torch.manual_seed(0)
    init_default_scope('mmseg_siglip')
    model = MODELS.build(Config.fromfile(tiny_config).model)
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=1)), path)
    return path


def failure(capsys, *argv):
    """The one line that a failing command prints on stderr."""
    capsys.readouterr()
    assert main([str(arg) for arg in argv]) == 1
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith('error: ')]
    assert lines[-1:] == errors
    return errors[0]


def test_a_model_is_evaluated_drawn_and_its_maps_saved(tiny_config, weights, tmp_path):
    out, show = tmp_path / 'out', tmp_path / 'show'
    argv = [str(tiny_config), str(weights), '--work-dir', str(tmp_path / 'run')]
    assert main([*argv, '--out', str(out), '--show-dir', str(show)]) == 0
    maps = sorted(out.glob('*.png'))
    assert [file.stem for file in maps] == list('0123456')
    assert np.asarray(Image.open(maps[0])).shape == (16, 16)
    assert len(list(show.rglob('*.png'))) == 7
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'mIoU' in log and 'products in fp32, on ' in log
    assert 'PyTorch compiling details' in log


def test_images_of_one_name_are_all_saved(tiny_config, weights, tmp_path):
    for folder, suffix in (('images', 'jpg'), ('labels', 'png')):
        (tmp_path / 'data' / folder / 'more').mkdir()
        for i in (5, 6):
            place = tmp_path / 'data' / folder
            (place / f'{i}.{suffix}').rename(place / 'more' / f'{i - 5}.{suffix}')
    out, show = tmp_path / 'out', tmp_path / 'show'
    options = ['--cfg-options', 'test_evaluator.type=IoUMetric']
    argv = [str(tiny_config), str(weights), '--out', str(out), '--show-dir', str(show)]
    assert main([*argv, *options]) == 0
    names = ['0', '1', '2', '3', '4', 'more_0', 'more_1']
    assert sorted(file.stem for file in out.glob('*.png')) == names
    pictures = sorted(file.stem.removeprefix('test_') for file in show.rglob('*.png'))
    assert pictures == [f'{name}_0' for name in names]


class Killed(BaseException):
    """Nothing of ours catches it."""


@pytest.fixture
def predicted(monkeypatch):
    """Paths of the images that a model predicts; it is killed before the one that `last` names."""
    predict, paths = EncoderDecoder.predict, []

    def note(self, inputs, data_samples=None):
        names = [Path(sample.img_path).stem for sample in data_samples]
        if note.last in names:
            raise Killed
        paths.extend(names)
        return predict(self, inputs, data_samples)

    note.last, note.paths = None, paths
    monkeypatch.setattr(EncoderDecoder, 'predict', note)
    return note


def scores_in(folder):
    (file,) = [file for file in folder.glob('*/*.json') if file.stem == file.parent.name]
    scores = json.loads(file.read_text())
    return {name: value for name, value in scores.items() if 'time' not in name}


@pytest.mark.parametrize('kind', ['IoUMetric', 'mmseg.IoUMetric'])
def test_a_test_goes_on_where_it_was_killed(
    tiny_config, weights, tmp_path, predicted, capsys, kind
):
    argv = [str(tiny_config), str(weights), '--cfg-options', f'test_evaluator.type={kind}']
    assert main([*argv, '--out', 'whole', '--work-dir', 'of_whole']) == 0
    predicted.paths.clear()
    predicted.last = '4'
    argv += ['--out', 'out']
    with pytest.raises(Killed):
        main([*argv, '--work-dir', 'killed'])
    assert predicted.paths == list('0123')
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / 'out').glob('*.png')}
    assert len(kept) == 4
    predicted.last = None
    predicted.paths.clear()
    assert main([*argv, '--continue', '--work-dir', 'rest']) == 0
    assert predicted.paths == list('456')
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items())
    assert scores_in(tmp_path / 'rest') == scores_in(tmp_path / 'of_whole')
    for file in (tmp_path / 'whole').glob('*.png'):
        assert (tmp_path / 'out' / file.name).read_bytes() == file.read_bytes()
    predicted.paths.clear()
    assert main([*argv, '--continue', '--work-dir', 'nothing']) == 0
    assert predicted.paths == []
    assert scores_in(tmp_path / 'nothing') == scores_in(tmp_path / 'of_whole')
    assert main([*argv, '--work-dir', 'afresh']) == 0
    assert predicted.paths == list('0123456')


def test_what_a_test_cannot_go_on_from(tiny_config, weights, tmp_path, capsys):
    argv = [tiny_config, weights, '--out', 'out']
    assert main(list(map(str, argv))) == 0
    other = torch.load(weights)
    other['state_dict']['decode_head.conv_seg.bias'] += 1e-3
    torch.save(other, tmp_path / 'other.pth')
    line = failure(capsys, tiny_config, 'other.pth', '--out', 'out', '--continue')
    assert 'out/.evaluation was filled with other settings (weights' in line
    options = ['--cfg-options', 'test_evaluator.ignore_index=254']
    assert 'other settings (evaluator' in failure(capsys, *argv, '--continue', *options)
    options = ['--cfg-options', 'test_dataloader.dataset.test_mode=True']
    assert 'other settings (data' in failure(capsys, *argv, '--continue', *options)
    (tmp_path / 'data/images/7.jpg').write_bytes((tmp_path / 'data/images/6.jpg').read_bytes())
    (tmp_path / 'data/labels/7.png').write_bytes((tmp_path / 'data/labels/6.png').read_bytes())
    assert 'other settings (images' in failure(capsys, *argv, '--continue')
    with pytest.raises(SystemExit):
        main([str(tiny_config), str(weights), '--continue'])
    assert '--continue needs --out' in capsys.readouterr().err
    text = tiny_config.read_text() + 'test_evaluator = dict(type="mmseg.DepthMetric")\n'
    tiny_config.write_text(text)
    line = failure(capsys, *argv, '--continue')
    assert 'metrics that count image by image (IoUMetric, DepthMetric, RefSegMetric), found' in line


def test_the_checkpoint_may_come_from_the_config(tiny_config, weights):
    tiny_config.write_text(tiny_config.read_text() + f'load_from = {str(weights)!r}\n')
    assert main([str(tiny_config)]) == 0


def test_test_time_augmentation(tiny_config, weights):
    augmented = """
tta_model = dict(type='mmseg.SegTTAModel')
tta_pipeline = [
    dict(type='mmseg.LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
        [dict(type='mmseg.LoadAnnotations')],
        [dict(type='mmseg.PackSegInputs')],
    ]),
]
"""
    tiny_config.write_text(tiny_config.read_text() + augmented)
    assert main([str(tiny_config), str(weights), '--tta']) == 0


def test_bad_input_is_one_line(tiny_config, weights, tmp_path, capsys):
    assert 'has to be trained: give its CHECKPOINT' in failure(capsys, tiny_config)
    assert 'there is no file none.pth' in failure(capsys, tiny_config, 'none.pth')
    assert 'there is no file google/siglip' in failure(capsys, tiny_config, 'google/siglip')
    assert 'config not found' in failure(capsys, 'none.py')
    assert 'is a folder' in failure(capsys, tiny_config, tmp_path)
    assert 'has no tta_model' in failure(capsys, tiny_config, weights, '--tta')
    options = ('--cfg-options', 'model.type=NoSuchModel')
    assert 'no model type NoSuchModel' in failure(capsys, tiny_config, weights, *options)
    options = ('--cfg-options', 'model.backbone.depht=3')
    assert 'UNet has no setting depht' in failure(capsys, tiny_config, weights, *options)
    (tmp_path / 'junk.pth').write_text('<html>')
    assert 'junk.pth is not a checkpoint' in failure(capsys, tiny_config, tmp_path / 'junk.pth')


def test_weights_that_do_not_fit_are_refused(tiny_config, weights, tmp_path, capsys):
    checkpoint = torch.load(weights)
    name = next(iter(checkpoint['state_dict']))
    del checkpoint['state_dict'][name]
    torch.save(checkpoint, tmp_path / 'less.pth')
    line = failure(capsys, tiny_config, tmp_path / 'less.pth')
    assert f'1 of its tensors are missing and 0 have another shape ({name})' in line
    checkpoint['state_dict'][name] = torch.zeros(1)
    state = checkpoint['state_dict']  # as of a model wrapped for several GPUs
    checkpoint['state_dict'] = {f'module.{key}': value for key, value in state.items()}
    torch.save(checkpoint, tmp_path / 'shape.pth')
    line = failure(capsys, tiny_config, tmp_path / 'shape.pth')
    assert f'0 of its tensors are missing and 1 have another shape ({name})' in line
    torch.save({'visual.proj': torch.ones(2)}, tmp_path / 'clip.pt')
    assert 'does not fit EncoderDecoder' in failure(capsys, tiny_config, tmp_path / 'clip.pt')


def test_where_the_checkpoint_of_a_training_free_model_goes(tiny_config, weights, tmp_path):
    @MODELS.register_module(force=True)
    class TrainingFree(EncoderDecoder):
        training_free = True

    def place(checkpoint):
        cfg = Config(dict(model=dict(type='TrainingFree', backbone=dict(pretrained='own'))))
        place_checkpoint(cfg, checkpoint)
        return cfg.model.backbone.pretrained, cfg.get('load_from')

    torch.save({'visual.proj': torch.ones(2)}, tmp_path / 'clip.pt')
    assert place(None) == ('own', None)
    assert place(str(weights)) == ('own', str(weights))
    assert place(str(tmp_path / 'clip.pt')) == (str(tmp_path / 'clip.pt'), None)
    assert place(str(tmp_path)) == (str(tmp_path), None)
    assert place('google/siglip2-base-patch16-224') == ('google/siglip2-base-patch16-224', None)
    with pytest.raises(ValueError, match=r'there is no file none\.safetensors'):
        place('none.safetensors')


def test_the_file_of_an_encoder_is_read_once(openai_file, weights, monkeypatch):
    """Who saved it, what it is and its weights are one question to the disk."""
    read = []
    load = state.load_checkpoint_file
    monkeypatch.setattr(
        state, 'load_checkpoint_file', lambda path: (read.append(path), load(path))[1]
    )
    monkeypatch.setattr(checkpoint, 'load_checkpoint_file', read.append)
    init_default_scope('mmseg_siglip')

    def place(path):
        model = dict(type='SCLIPSegmentor', vocabulary=['cat'], backbone=dict(attention='csa'))
        cfg = Config(dict(model=model))
        place_checkpoint(cfg, str(path))
        return cfg

    model = MODELS.build(place(openai_file).model)
    assert read == [Path(openai_file)] and type(model.backbone).__name__ == 'CLIPBackbone'
    read.clear()
    assert place(weights).load_from == str(weights) and not read


def test_classes_go_where_the_model_takes_them(tmp_path):
    (tmp_path / 'words.txt').write_text('cat\ndog, hound\n')
    for kind, key in (('SCLIPSegmentor', 'vocabulary'), ('CATSegSegmentor', 'test_vocabulary')):
        cfg = Config(dict(model=dict(type=kind)))
        use_classes(cfg, 'voc20')
        assert cfg.model[key] == 'voc20'
        use_classes(cfg, str(tmp_path / 'words.txt'))
        assert cfg.model[key] == str(tmp_path / 'words.txt')
        use_classes(cfg, 'cat, traffic light')
        assert cfg.model[key] == ['cat', 'traffic light']
        fifty = [f'word number {i}' for i in range(50)]  # longer than any file name may be
        use_classes(cfg, ', '.join(fifty))
        assert cfg.model[key] == fifty
        with pytest.raises(ValueError, match="'cat' is there already"):
            use_classes(cfg, 'cat, cat')
    with pytest.raises(ValueError, match='the classes of a EncoderDecoder are fixed'):
        use_classes(Config(dict(model=dict(type='EncoderDecoder'))), 'cat')


@pytest.mark.parametrize('name', ['voc21', 'context60', 'coco_object'])
def test_the_first_word_is_not_the_background(repository, monkeypatch, name):
    """These configs call class 0 of their own vocabulary the background."""
    config = repository / 'configs/sclip' / f'{name}.py'
    cfg = Config.fromfile(config)
    said = []
    monkeypatch.setattr('mmseg_siglip.cli.jobs.test.print_log', lambda text, _: said.append(text))
    use_classes(cfg, 'cat, dog, sky')
    assert not {'background_index', 'prob_thd', 'area_thd'} & set(cfg.model)
    (line,) = said
    assert 'no class is marked [background]' in line and 'without prob_thd=0.1' in line
    for words in ('cat, [background] grass', 'voc21'):
        own = Config.fromfile(config).model
        cfg = Config.fromfile(config)
        use_classes(cfg, words)
        assert 'background_index' not in cfg.model
        assert (cfg.model.prob_thd, cfg.model.get('area_thd')) == (0.1, own.get('area_thd'))
    assert len(said) == 1


def test_other_classes_than_the_datas_are_found_without_a_score(
    repository, tmp_path, capsys, monkeypatch
):
    config = repository / 'configs/sclip/shapes.py'
    fewer = ('test_dataloader.dataset.num_scenes=2', 'test_dataloader.num_workers=0')
    options = ('--cfg-options', *fewer, 'test_dataloader.persistent_workers=False')
    argv = (config, '--classes', 'red star, a grey thing', '--work-dir', tmp_path / 'run', *options)
    line = failure(capsys, *argv)
    assert '2 classes cannot be scored by labels of 13; give --out or --show-dir' in line
    out, show = tmp_path / 'out', tmp_path / 'show'
    drawn = []
    draw = SegLocalVisualizer._draw_sem_seg
    monkeypatch.setattr(
        SegLocalVisualizer,
        '_draw_sem_seg',
        lambda self, *args: drawn.append(args[2]) or draw(self, *args),
    )
    for save in (['--show-dir', str(show)], ['--out', str(out)]):
        SegLocalVisualizer._instance_dict.clear()
        assert main([*map(str, argv), *save]) == 0
    assert drawn == [('red star', 'a grey thing')] * 2  # and no labels beside them
    assert len(list(show.rglob('*.png'))) == 2
    maps = [np.asarray(Image.open(file)) for file in sorted(out.glob('*.png'))]
    assert len(maps) == 2 and {*np.unique(maps)} <= {0, 1}
    log = max((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'they are looked for without a score' in log and 'mIoU' not in log.split('without a')[-1]
    assert 'empty' not in log and 'holds what an earlier run' not in log
    assert main([*map(str, argv), *save]) == 0
    log = max((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'out holds what an earlier run saved: this one replaces files of the same name' in log


def test_a_metric_that_saves_nothing():
    cfg = Config(dict(test_evaluator=[dict(type='IoUMetric'), dict(type='AnswerAccuracy')]))
    with pytest.raises(ValueError, match='--out: expected metrics that save .* AnswerAccuracy'):
        save_predictions(cfg, 'out')
    del cfg.test_evaluator[1]
    save_predictions(cfg, 'out')
    assert cfg.test_evaluator[0].output_dir == 'out'


def test_what_others_call_their_options(repository, tmp_path):
    """``--use-pamr``, ``--slide-inference`` and ``--save-vis`` without a folder."""
    shapes = Config.fromfile(repository / 'configs/sclip/shapes.py')
    pamr, denoising = dict(type='PAMRPostProcessor', num_iter=3), dict(type='PromptDenoising')
    use_pamr(shapes, wanted=True)
    assert shapes.model.postprocessor == [dict(type='PAMRPostProcessor', num_iter=10)]
    shapes.model.postprocessor = [denoising, pamr]
    use_pamr(shapes, wanted=True)
    assert shapes.model.postprocessor == [denoising, pamr]
    use_pamr(shapes, wanted=False)
    assert shapes.model.postprocessor == [denoising]
    shapes.model.test_cfg = dict(mode='whole')
    use_windows(shapes)
    assert shapes.model.test_cfg.mode == 'slide'
    argv = [str(repository / 'configs/sclip/shapes.py'), '--save-vis', '--no-use-pamr']
    options = ['test_dataloader.dataset.num_scenes=1', 'test_dataloader.num_workers=0']
    options += ['test_dataloader.persistent_workers=False', 'model.templates=plain']
    assert main([*argv, '--slide-inference', '--cfg-options', *options]) == 0
    assert len(list(Path('work_dirs/shapes/vis').rglob('*.png'))) == 1


def test_options_about_what_a_model_has_not_are_refused(tiny_config, weights, capsys):
    line = failure(capsys, tiny_config, weights, '--use-pamr')
    assert line.endswith('--use-pamr: expected a model with postprocessor, found EncoderDecoder')
