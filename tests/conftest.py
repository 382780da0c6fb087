"""Every test runs offline, on one thread, with a cache of its own, and without a GPU unless
``MMSEG_SIGLIP_TEST_GPU=1`` leaves it in sight for whatever picks its own device."""

from __future__ import annotations

import gc
import os
import socket
import tempfile
from pathlib import Path

os.environ['OMP_NUM_THREADS'] = '1'
os.environ['HF_HUB_OFFLINE'] = '1'
os.environ['TRANSFORMERS_OFFLINE'] = '1'
os.environ['TOKENIZERS_PARALLELISM'] = 'false'
if os.environ.get('MMSEG_SIGLIP_TEST_GPU') != '1':
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
_CACHE = tempfile.TemporaryDirectory(prefix='mmseg_siglip-tests-')
os.environ['MMSEG_SIGLIP_CACHE'] = _CACHE.name

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from layouts import LAYOUTS, write_layout  # noqa: E402
from mmengine.config import Config, config  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from PIL import Image  # noqa: E402

from mmseg_siglip.registry import MODELS, SCOPE  # noqa: E402

pytest.register_assert_rewrite('contracts')
pytest_plugins = ['tiny_encoders', 'tiny_dinos', 'tiny_sams', 'tiny_vlm', 'tiny_systems']
REPOSITORY = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)

# Laying out a config's text takes longer than a tiny training: it stays as it is.
config.FormatCode = lambda text, **_: (text, True)

# A busy machine is no reason for a property test to fail, and every run tries the same.
settings.register_profile(
    'busy', deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile('busy')


def pytest_collection_finish():
    """What was imported is not looked through by each collection of garbage."""
    gc.freeze()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Only this machine can be reached."""
    connect = socket.socket.connect

    def connect_locally(self, address):
        host = address[0] if isinstance(address, tuple) else 'localhost'
        if host not in ('localhost', '127.0.0.1', '::1'):
            raise OSError(f'a test tried to reach {host}')
        return connect(self, address)

    monkeypatch.setattr(socket.socket, 'connect', connect_locally)


@pytest.fixture(scope='session')
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture
def pretend_cpu(monkeypatch):
    """A function that gives this CPU the units of another kind, and those below it."""
    probes = {
        'AMX': '_is_amx_tile_supported',
        'AVX512-BF16': '_is_avx512_bf16_supported',
        'AVX512': '_is_avx512_supported',
        'AVX2': '_is_avx2_supported',
    }

    def pretend(kind: str) -> None:
        monkeypatch.setattr('platform.machine', lambda: kind)
        there = False
        for name, probe in probes.items():
            there = there or name == kind
            monkeypatch.setattr(torch.cpu, probe, lambda found=there: found)

    return pretend


@pytest.fixture(scope='session')
def cat_seg_files(tmp_path_factory, repository) -> tuple[Path, Path]:
    """A config of CAT-Seg and a checkpoint, of a head that nothing has trained."""
    path = repository / 'configs/cat_seg/shapes.py'
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(Config.fromfile(path).model)
    torch.manual_seed(0)
    for parameter in model.decode_head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    file = tmp_path_factory.mktemp('cat_seg') / 'iter_1.pth'
    torch.save(dict(state_dict=model.state_dict()), file)
    return path, file


@pytest.fixture(scope='session')
def real_data() -> Path:
    """The folder of real photographs, given by ``MMSEG_SIGLIP_DATA``."""
    folder = os.environ.get('MMSEG_SIGLIP_DATA')
    if not folder or not Path(folder).is_dir():
        pytest.skip('MMSEG_SIGLIP_DATA names no folder')
    return Path(folder)


TINY_CONFIG = """
_base_ = {runtime!r}
data_root = {root!r}
metainfo = dict(classes=('dark', 'light', 'red'), palette=[[0, 0, 0], [255] * 3, [255, 0, 0]])
pipeline = [
    dict(type='mmseg.LoadImageFromFile'),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=metainfo,
    reduce_zero_label=False,
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    pipeline=pipeline,
)
train_dataloader = dict(
    batch_size=2, sampler=dict(type='InfiniteSampler', shuffle=True), dataset=dataset
)
val_dataloader = test_dataloader = dict(
    batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset
)
val_evaluator = test_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[128.0] * 3, std=[64.0] * 3, pad_val=0, seg_pad_val=255,
        size=(16, 16),
    ),
    backbone=dict(
        type='UNet', base_channels=4, num_stages=2, strides=(1, 1), enc_num_convs=(1, 1),
        dec_num_convs=(1,), downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,),
        norm_cfg=dict(type='BN'),
    ),
    decode_head=dict(
        type='FCNHead', in_channels=4, in_index=1, channels=4, num_convs=0, concat_input=False,
        dropout_ratio=0, num_classes=3, norm_cfg=dict(type='BN'),
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, end=20, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=8, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=-1),
)
randomness = dict(seed=3, deterministic=True)
"""


@pytest.fixture
def tiny_config(tmp_path) -> Path:
    """A config of a real, small MMSegmentation model and seven pictures of three classes."""
    rng = np.random.default_rng(0)
    colours = np.array([[20, 20, 20], [230, 230, 230], [220, 30, 30]])
    for folder in ('images', 'labels'):
        (tmp_path / 'data' / folder).mkdir(parents=True)
    for i in range(7):
        label = rng.integers(0, 3, (4, 4)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
        image = (colours[label] + rng.normal(0, 20, (16, 16, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / 'data' / 'images' / f'{i}.jpg')
        Image.fromarray(label).save(tmp_path / 'data' / 'labels' / f'{i}.png')
    runtime = str(REPOSITORY / 'configs/_base_/default_runtime.py')
    config = tmp_path / f'tiny_{tmp_path.name}.py'
    config.write_text(TINY_CONFIG.format(runtime=runtime, root=str(tmp_path / 'data')))
    return config


@pytest.fixture(scope='session')
def laid_out(tmp_path_factory):
    """A function from a benchmark's name to a data root that holds three samples of it."""
    roots: dict[str, Path] = {}

    def write(name: str) -> Path:
        if name not in roots:
            classes = min(LAYOUTS[name].classes, 13)
            samples = (rectangles(index, classes) for index in range(3))
            roots[name] = write_layout(name, tmp_path_factory.mktemp(name), samples)
        return roots[name]

    return write


def rectangles(seed: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """An RGB image (48, 64 + 8 * seed, 3) of flat rectangles and its class indices, -1 at a rim."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, classes, (6, 8 + seed)), np.ones((8, 8), int))
    image = rng.integers(0, 256, (classes, 3), dtype=np.uint8)[labels]
    labels[:2] = -1
    return image, labels
