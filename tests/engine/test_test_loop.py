"""A test whose images reach the model together counts, saves and keeps what one alone does."""

from __future__ import annotations

import json
import logging
import weakref
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import command
from mmengine.model import BaseTTAModel
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from PIL import Image
from torch import nn
from torch._dynamo.testing import CompileCounter

from mmseg_siglip.engine import TestLoop
from mmseg_siglip.models.compiled import compilable
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.models.segmentors.depth_model import DepthModel

main = command('test')
SCLIP = """
_base_ = {base!r}
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(4096, 64), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline), num_workers=1)
test_evaluator = dict(_delete_=True, type='IoUMetric', iou_metrics=['mIoU'])
model = dict(
    _delete_=True,
    type='SCLIPSegmentor',
    backbone=dict(pretrained='tiny_siglip_shapes'),
    vocabulary=['black square', 'white square', 'red square'],
    templates='single',
    precision='fp32',
    test_cfg=dict(crop_size=32, stride=16, window_batch=7),
)
"""


class Sizes:
    """Notes how many images each prediction has; it fails where `fails` is among them."""

    def __init__(self, monkeypatch) -> None:
        self.found, self.fails = [], None
        predict = SCLIPSegmentor.predict

        def note(model, inputs, data_samples=None, **options):
            names = [Path(sample.img_path).stem for sample in data_samples]
            self.found.append(len(names))
            assert model.held.on, 'a test holds weights'
            if self.fails in names:
                raise ValueError(f'{self.fails}: no such thing')
            return predict(model, inputs, data_samples, **options)

        monkeypatch.setattr(SCLIPSegmentor, 'predict', note)


@pytest.fixture
def test_of(tiny_config, tmp_path, monkeypatch):
    """A function that runs a test of SCLIP into a folder, and what it notes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('RANK', raising=False)
    SegLocalVisualizer._instance_dict.clear()
    for i, side in ((1, 24), (4, 40)):  # images of several sizes
        for folder, kind in (('images', 'jpg'), ('labels', 'png')):
            path = tmp_path / 'data' / folder / f'{i}.{kind}'
            Image.open(path).resize((side, 16), Image.Resampling.NEAREST).save(path)
    config = tmp_path / f'sclip_{tmp_path.name}.py'
    config.write_text(SCLIP.format(base=str(tiny_config)))
    sizes = Sizes(monkeypatch)

    def run(folder, pixels, *more, code=0):
        sizes.found.clear()
        argv = [str(config), '--out', folder, '--work-dir', f'{folder}_{len(more)}_log', *more]
        argv += ['--cfg-options', f'test_cfg.pixels_at_once={pixels}']
        assert main(argv) == code

    return run, sizes


def scores_in(folder: Path) -> dict:
    (file,) = [file for file in folder.glob('*/*.json') if file.stem == file.parent.name]
    return {k: v for k, v in json.loads(file.read_text()).items() if 'time' not in k}


def kept_in(folder: Path) -> list[dict]:
    (file,) = folder.glob('.evaluation/journal/*.jsonl')
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_together_as_alone(test_of, tmp_path):
    """Scores, saved maps, and what is kept of each image, in its order."""
    run, sizes = test_of
    run('alone', 0)
    assert sizes.found == [1] * 7
    run('together', 3 * 64 * 64)
    assert sizes.found == [2, 2, 1, 2]  # of 64 x 64 pixels, but 64 x 96 and 64 x 160
    assert scores_in(tmp_path / 'together_0_log') == scores_in(tmp_path / 'alone_0_log')
    maps = sorted((tmp_path / 'alone').glob('*.png'))
    assert len(maps) == 7
    for path in maps:
        assert path.read_bytes() == (tmp_path / 'together' / path.name).read_bytes()
    kept = kept_in(tmp_path / 'together')
    assert kept == kept_in(tmp_path / 'alone') and [one['index'] for one in kept] == [*range(7)]


def test_an_image_that_fails(test_of, tmp_path, capfd):
    """Those before it are counted, and a test goes on from there."""
    run, sizes = test_of
    run('alone', 0)
    sizes.fails = '4'
    run('out', 10**6, code=1)
    assert sizes.found == [7, 1, 1, 1, 1, 1]
    assert [one['index'] for one in kept_in(tmp_path / 'out')] == [*range(4)]
    assert '7 images at once: ValueError: 4: no such thing' in ''.join(capfd.readouterr())
    sizes.fails = None
    run('out', 10**6, '--continue')
    assert sizes.found == [3]
    assert scores_in(tmp_path / 'out_1_log') == scores_in(tmp_path / 'alone_0_log')


class Model(nn.Module):
    """Gives back the samples, and notes how many there were."""

    takes_many = True

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.sizes = nn.Parameter(torch.zeros(1)), []

    def test_step(self, data):
        self.sizes.append(len(data['inputs']))
        assert not torch.is_grad_enabled()
        return data['data_samples']


class Loader(list):
    """Batches, and of how many samples."""


def loop_of(sizes, *, model=None, per_batch=1, **options):
    """A loop over images that come in at 8 x 8 and are labelled at (height, width)."""
    samples = [SegDataSample(metainfo=dict(ori_shape=s, name=i)) for i, s in enumerate(sizes)]
    batches = [
        dict(inputs=[torch.zeros(3, 8, 8)] * len(some), data_samples=some)
        for some in (samples[i : i + per_batch] for i in range(0, len(samples), per_batch))
    ]
    seen = []

    def hook(name, **known):
        if name == 'after_test_iter':
            assert known['outputs'] == known['data_batch']['data_samples']
            seen.append((known['batch_idx'], [sample.name for sample in known['outputs']]))

    runner = SimpleNamespace(
        model=Model() if model is None else model,
        visualizer=SimpleNamespace(),
        call_hook=hook,
        build_evaluator=lambda found: found,
    )
    counted = []
    evaluator = SimpleNamespace(
        process=lambda data_samples, data_batch: counted.extend(s.name for s in data_samples),
        evaluate=lambda size: dict(size=len(counted)),
    )
    loader = Loader(batches)
    loader.dataset = Sized(len(samples))
    return TestLoop(runner, loader, evaluator, **options), seen, counted


class Sized:
    def __init__(self, count: int) -> None:
        self.count, self.metainfo = count, {}

    def __len__(self) -> int:
        return self.count


@pytest.mark.parametrize(
    ('sizes', 'per_batch', 'pixels', 'expected'),
    [
        ([(10, 10)] * 5, 1, 300, [3, 2]),
        ([(10, 10)] * 5, 1, 299, [2, 2, 1]),
        ([(10, 10)] * 5, 1, 10**9, [5]),
        ([(10, 10)] * 40, 1, 10**9, [16, 16, 8]),
        ([(10, 10)] * 5, 1, 0, [1] * 5),
        ([(10, 10)] * 5, 1, None, [1] * 5),
        ([(10, 10)] * 7, 2, 450, [4, 3]),
        ([(2, 2)] * 5, 1, 128, [2, 2, 1]),
        ([(3000, 4000)] * 60, 1, 8_000_000, [1] * 60),
        ([(100, 100), (3000, 4000), (100, 100), (100, 100)], 1, 8_000_000, [1, 1, 2]),
        ([], 1, 100, []),
    ],
    ids=str,
)
def test_what_is_taken_together(sizes, per_batch, pixels, expected):
    """Every image once, in order, however many there are at once; never more than fits."""
    loop, seen, counted = loop_of(sizes, per_batch=per_batch, pixels_at_once=pixels)
    for _ in range(2):
        seen.clear()
        counted.clear()
        loop.runner.model.sizes.clear()
        assert loop.run()['size'] == len(sizes)
        assert loop.runner.model.sizes == expected
        assert counted == [*range(len(sizes))]
        assert [index for index, _ in seen] == [*range(-(-len(sizes) // per_batch))]
        assert [name for _, names in seen for name in names] == counted


def test_after_a_run_that_was_cut_off():
    """Nothing is left of it."""
    loop, _, counted = loop_of([(10, 10)] * 4, pixels_at_once=1000)
    loop.run_iter(0, loop.dataloader[0])
    loop.run_iter(1, loop.dataloader[1])
    assert loop.run() == dict(size=4) and counted == [0, 1, 2, 3]


def test_of_images_that_do_not_fit_nothing_is_left_in_memory():
    class Full(Model):
        def test_step(self, data):
            if len(data['inputs']) > 1:
                held = torch.zeros(1)
                self.held = weakref.ref(held)
                raise torch.OutOfMemoryError('CUDA out of memory.')
            assert self.held() is None
            return super().test_step(data)

    loop, seen, counted = loop_of([(10, 10)] * 6, model=Full(), pixels_at_once=300)
    loop.runner.logger = logging.getLogger('full')
    loop.run()
    assert loop.runner.model.sizes == [1] * 6 and counted == [*range(6)] and len(seen) == 6
    assert loop.limit == 0


def test_what_all_would_meet_is_raised_at_once():
    class Broken(Model):
        def test_step(self, data):
            self.sizes.append(len(data['inputs']))
            raise RuntimeError('CUDA error: device-side assert triggered')

    loop, *_ = loop_of([(10, 10)] * 4, model=Broken(), pixels_at_once=10**6)
    with pytest.raises(RuntimeError, match='device-side'):
        loop.run()
    assert loop.runner.model.sizes == [4]


def test_a_loader_that_gives_less_than_it_says():
    loop, *_ = loop_of([(10, 10)] * 4, pixels_at_once=10**6)
    loop.dataloader = type('Long', (Loader,), dict(__len__=lambda self: 5))(loop.dataloader)
    loop.dataloader.dataset = Sized(5)
    with pytest.raises(RuntimeError, match='expected 5 batches of test_dataloader, found fewer: 4'):
        loop.run()


def test_by_the_memory_of_a_gpu(monkeypatch):
    loop, *_ = loop_of([(3000, 4000)] * 3)
    monkeypatch.setattr('mmseg_siglip.device.device_memory', lambda _: 80 * 2**30)
    assert loop.limit == 80 * 2**30 // 2048
    loop.run()
    assert loop.runner.model.sizes == [3]


def test_who_takes_several(monkeypatch):
    monkeypatch.setattr('mmseg_siglip.device.device_memory', lambda _: 80 * 2**30)
    for logits, proposer, regions in product((False, True), (None, 'sam'), (False, True)):
        own = SCLIPSegmentor.__new__(SCLIPSegmentor)
        own.__dict__.update(test_cfg=dict(return_logits=logits), proposer=proposer)
        own.__dict__.update(method=SimpleNamespace(uses_regions=regions))
        assert own.takes_many is not (logits or proposer is not None or regions)
    assert not hasattr(DepthModel, 'takes_many') and not hasattr(BaseTTAModel, 'takes_many')
    model = Model()
    model.takes_many = False
    assert loop_of([], model=model, pixels_at_once=100)[0].limit == 0


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match='pixels_at_once: expected 0 or more, found -1'):
        loop_of([], pixels_at_once=-1)


class Doubles(Model):
    @compilable
    def forward(self, x):
        return 2 * x


def test_what_a_test_compiles():
    model, counter = Doubles().eval(), CompileCounter()
    loop_of([], model=model, compile=dict(backend=counter))
    with torch.no_grad():
        assert model(torch.ones(2)).tolist() == [2, 2] and counter.frame_count == 1
    loop_of([], model=model)
    with torch.no_grad():
        model(torch.ones(2, 3, 4))
    assert counter.frame_count == 1


def test_nothing_to_compile():
    with pytest.raises(ValueError, match='depth, referring or SAM 3, found Model; training-free'):
        loop_of([], compile=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'system'),
    [
        ('dpt/shapes_frozen.py', 'shapes_depth'),
        ('refer_sam/shapes.py', 'shapes_refer'),
        ('cat_seg/shapes.py', 'shapes_cat_seg'),
    ],
)
def test_compiled_as_it_is_written(repository, tmp_path, monkeypatch, config, system):
    monkeypatch.delenv('RANK', raising=False)
    graphs, compile_function = [], torch.compile

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(
        torch, 'compile', lambda function, **options: compile_function(function, backend=count)
    )
    found = []
    for wanted in (False, True):
        SegLocalVisualizer._instance_dict.clear()
        argv = [
            str(repository / 'configs' / config),
            system,
            '--work-dir',
            str(tmp_path / f'{wanted}'),
        ]
        argv += ['--cfg-options', f'test_cfg.compile={wanted}']
        argv += ['test_dataloader.dataset.num_scenes=3', 'test_dataloader.num_workers=0']
        assert main([*argv, 'test_dataloader.persistent_workers=False']) == 0
        found.append(scores_in(tmp_path / f'{wanted}'))
        assert len(graphs) > 0 if wanted else not graphs
    assert found[0] == pytest.approx(found[1], rel=1e-4, nan_ok=True)
