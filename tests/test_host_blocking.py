"""On a GPU, the host waits once for a batch, and never for an image of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from host_blocking import DEVICE, Distant, count, distant, far_module, images, near
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny_depth_models import depth_anything, depth_anything_processor, save
from tiny_guides import GUIDES
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmseg_siglip.api import DepthPredictor, OpenVocabSegmenter, System
from mmseg_siglip.api.refer import ENCODED_AT_ONCE
from mmseg_siglip.device import to_host, upload
from mmseg_siglip.evaluation import (
    BoundaryIoUMetric,
    DepthMetric,
    IoUMetric,
    NormalMetric,
    RefSegMetric,
)
from mmseg_siglip.models.backbones.trunk import method_names
from mmseg_siglip.models.postprocessors.pamr import PAMRPostProcessor
from mmseg_siglip.registry import DENSE_METHODS
from mmseg_siglip.vlm.tower import SigLIPVisionTower

WORDS = 'red circle, blue square|azure square, green triangle, background'
MOST = 1
"""Times that the host waits for a batch: for its results, and whether they are numbers."""
ON_THE_HOST = {
    'cliptrase': 'clusters are found on the host',
    'lposs': 'a sparse graph, of which a Distant tensor cannot be made',
    'lposs_plus': 'a sparse graph, of which a Distant tensor cannot be made',
}
FURTHER = {
    'bf16': dict(precision='bf16'),
    'thresholds': dict(prob_thd=0.3, area_thd=0.1, background_index=3),
    'PAMR': dict(postprocessor=dict(type='PAMRPostProcessor', num_iter=2)),
    'whole': dict(test_cfg=dict(mode='whole')),
    'batches': dict(test_cfg=dict(window_batch=5)),
    'framed': dict(method=dict(type='proxyclip', frame=24)),
    'denoising': dict(postprocessor=dict(type='PromptDenoising', threshold=0.1)),
    'propagation': dict(postprocessor=dict(type='PixelPropagation', radius=2, steps=2)),
    'experts': dict(
        score_steps=[
            dict(
                type='TemplateExperts',
                ranking={name: [0] for name in ('red circle', 'blue square', 'green triangle')},
                top_n=1,
            )
        ]
    ),
    'bias': dict(score_steps=[dict(type='GlobalBias')]),
    'AnyUp': dict(upsampler=dict(type='AnyUp')),
}


def methods() -> list[str]:
    """Those that a SigLIP takes and no regions are given to, a name for each."""
    kinds = {}
    for name in method_names():
        kinds.setdefault(DENSE_METHODS.get(name), name)
    left_out = {'value_cls'}  # asks for a CLS token
    return [
        name
        for kind, name in kinds.items()
        if not kind.uses_regions and name not in left_out | set(ON_THE_HOST)
    ]


def segmenter(folder, method: str | dict = 'sclip', **options) -> OpenVocabSegmenter:
    config = dict(type=method) if isinstance(method, str) else dict(method)
    if DENSE_METHODS.get(config['type']).uses_guide:
        torch.manual_seed(0)
        config['guide'] = dict(type='DINOGuide', config=GUIDES['DINOGuide'])
        if config['type'] == 'trident':
            config['sam'] = dict(type='SAMGuide', config=GUIDES['SAMGuide'])
    options = dict(precision='fp32', templates='single', short_side=40) | options
    torch.manual_seed(0)
    return OpenVocabSegmenter.from_pretrained(folder, config, device='cpu', **options)


def check(module, call, batch: list, *, most: int = MOST, results: int, more: int = 1) -> list:
    """Values that `call` gives there, where no number of the batch's images changes how often the
    host waits; one copy an image goes up, `results` come back, and `more` of the batch go or
    come."""
    with distant() as counter:
        far_module(module)
        found = count(lambda: call(batch), counter)
        assert counter.waits <= most, counter.blocking
        assert counter.copies.total() <= len(batch) * (1 + results) + more, counter.copies
        waited = counter.waits
        if len(batch) > 1:
            counter.clear()
            call(batch[:1])
            assert counter.waits == waited, counter.blocking
        return found


@pytest.mark.parametrize('name', [*methods(), *FURTHER])
def test_segmentation(siglip_folder, name):
    """The values are those of the CPU, with attention as it is written."""
    options = FURTHER.get(name, dict(method=name))
    batch = images((40, 48), (40, 72)) if name in FURTHER else images((40, 48))
    system = segmenter(siglip_folder, **options)
    with sdpa_kernel(SDPBackend.MATH):
        expected = system.torch(batch, WORDS)
    found = check(system.model, lambda given: system.torch(given, WORDS), batch, results=2)
    for (labels, scores), (own, likely) in zip(found, expected, strict=True):
        assert labels.dtype == torch.int64 and scores.dtype == torch.float32
        if name == 'bf16':  # autocasts of two devices differ in what they round
            torch.testing.assert_close(scores, likely, atol=0.1, rtol=0)
        else:
            assert torch.equal(labels, own)
            torch.testing.assert_close(scores, likely, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('folder', ['openai_file', 'tips_folder', 'naflex_folder'])
def test_other_encoders(request, folder):
    system, batch = segmenter(request.getfixturevalue(folder)), images((40, 48), (40, 72))
    expected = system.torch(batch, WORDS)
    found = check(system.model, lambda given: system.torch(given, WORDS), batch, results=2)
    for (_, scores), (_, likely) in zip(found, expected, strict=True):
        torch.testing.assert_close(scores, likely, atol=1e-4, rtol=1e-4)


def test_who_waits_more_often_is_named(siglip_folder):
    """Once that is no longer so, it belongs to the others."""
    system = segmenter(siglip_folder, 'cliptrase')
    with distant() as counter:
        far_module(system.model)
        count(lambda: system.torch(images((40, 48)), WORDS), counter)
    assert counter.waits > MOST


@pytest.mark.parametrize(('task', 'prompt', 'results'), [('cat_seg', [WORDS], 2), ('depth', [], 1)])
def test_trained_systems(repository, task, prompt, results):
    folder = repository / 'mmseg_siglip/assets' / f'shapes_{task}'
    system = System.from_pretrained(folder, device='cpu', precision='fp32')
    batch = images((48, 64), (40, 80))
    expected = system.torch(batch, *prompt)
    found = check(system.model, lambda b: system.torch(b, *prompt), batch, results=results)
    for one, own in zip(found, expected, strict=True):
        torch.testing.assert_close(one, own, atol=1e-4, rtol=1e-4)


def test_published_depth(tmp_path):
    """Its processor resizes bytes, which torchvision rounds otherwise on a GPU."""
    folder = save(depth_anything(), depth_anything_processor(), tmp_path / 'model')
    system = DepthPredictor.from_pretrained(folder, device='cpu', precision='fp32')
    batch = images((40, 56), (40, 56), (40, 64))
    expected = system.torch(batch)
    found = check(system.model, system.torch, batch, results=1)
    for one, own in zip(found, expected, strict=True):
        torch.testing.assert_close(one, own, atol=0.01, rtol=0.01)


def test_referring(repository):
    """More images than pass the encoders at once, in three sizes; with each pass go tokens of the
    phrases and which of them are real."""
    folder = repository / 'mmseg_siglip/assets/shapes_refer'
    system = System.from_pretrained(folder, device='cpu', precision='fp32')
    batch = images(*[(48, 64), (40, 80), (56, 40)] * (ENCODED_AT_ONCE // 3 + 1))[
        : ENCODED_AT_ONCE + 1
    ]
    phrases = ['the red circle', 'a square']
    expected = system.torch(batch, phrases)
    found = check(
        system.model, lambda given: system.torch(given, phrases), batch, results=2, more=1 + 2 * 2
    )
    for (masks, scores), (own, likely) in zip(found, expected, strict=True):
        assert masks.dtype == torch.bool and torch.equal(masks, own)
        assert scores == pytest.approx(likely, abs=1e-4)


def test_the_tower():
    tower = SigLIPVisionTower('tiny_siglip_shapes', precision='fp32').eval()
    pixels = torch.rand(3, 3, *tower.image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tower(pixels)
    with distant() as counter:
        far_module(tower)
        there = pixels.to(DEVICE)
        found = count(lambda: tower(there), counter)
        assert not counter.waits and not counter.copies
    torch.testing.assert_close(near(found), expected, atol=1e-5, rtol=1e-5)


def test_kernels_of_pamr_do_not_grow_with_the_words():
    """On a GPU all channels pass at once; on a CPU some at a time, as its caches want it."""
    refine, image = PAMRPostProcessor(num_iter=2), torch.rand(1, 3, 12, 14)
    logits = torch.rand(1, 40, 12, 14)
    with distant() as counter:
        kernels = []
        for words in (8, 40):
            there = image.to(DEVICE), logits[:, :words].to(DEVICE)
            found = count(lambda there=there: refine(*there), counter)
            kernels.append(counter.kernels)
    assert kernels[0] == kernels[1]
    torch.testing.assert_close(near(found), refine(image, logits))


def of_labels(generator):
    return {
        key: torch.randint(0, 4, (1, 20, 30), generator=generator)
        for key in ('pred_sem_seg', 'gt_sem_seg')
    } | dict(seg_logits=torch.rand(4, 20, 30, generator=generator))


def of_masks(generator):
    return {
        key: torch.randint(0, 2, (2, 20, 30), generator=generator).to(torch.uint8)
        for key in ('pred_sem_seg', 'gt_sem_seg')
    }


def of_depth(generator):
    keys = ('pred_depth_map', 'gt_depth_map')
    return {key: 1 + torch.rand(1, 20, 30, generator=generator) for key in keys}


def of_normals(generator):
    keys = ('pred_normal_map', 'gt_normal_map')
    normals = [torch.rand(3, 20, 30, generator=generator) - 0.5 for _ in keys]
    return dict(zip(keys, map(torch.nn.functional.normalize, normals), strict=True))


@pytest.mark.parametrize('truth_too', [False, True])
@pytest.mark.parametrize(
    ('kind', 'options', 'maps'),
    [
        (IoUMetric, {}, of_labels),
        (BoundaryIoUMetric, {}, of_labels),
        (IoUMetric, dict(output_dir='{}'), of_labels),
        (IoUMetric, dict(output_dir='{}', format_only=True), of_labels),
        (RefSegMetric, {}, of_masks),
        (RefSegMetric, dict(output_dir='{}'), of_masks),
        (RefSegMetric, dict(side=16), of_masks),
        (DepthMetric, {}, of_depth),
        (NormalMetric, {}, of_normals),
    ],
)
def test_metrics(kind, options, maps, truth_too, tmp_path):
    """Whether truth is on the device, as MMSeg's preprocessor puts it there, or not; labels are
    fetched as bytes."""
    generator = torch.Generator().manual_seed(0)
    values = [maps(generator) for _ in range(3)]
    folders = [str(tmp_path / name) for name in ('near', 'far')]
    metrics = [
        kind(**options | ({'output_dir': folder} if 'output_dir' in options else {}))
        for folder in folders
    ]
    for metric in metrics:
        metric.dataset_meta = dict(classes=['a', 'b', 'c', 'd'])

    def samples(place) -> list[dict]:
        made = []
        for index, one in enumerate(values):
            sample = SegDataSample(
                metainfo=dict(img_path=f'{index}.png', num_classes=4, text=['a', 'b'])
            )
            for key, value in one.items():
                sample.set_data({key: PixelData(data=place(key, value))})
            made.append(sample.to_dict())
        return made

    metrics[0].process({}, samples(lambda key, value: value))
    with distant() as counter:
        given = samples(lambda k, v: v.to(DEVICE) if truth_too or not k.startswith('gt') else v)
        metrics[1].process({}, given)
        counter.clear()
        metrics[1].results.clear()
        metrics[1].process({}, given)
        assert counter.waits == 1, counter.blocking
        pixels = sum(one['pred_sem_seg'].numel() for one in values) if maps is of_labels else None
        assert pixels is None or counter.fetched <= pixels * (1 + truth_too) + 600
    expected, found = (metric.evaluate(len(values)) for metric in metrics)
    assert expected == found
    if 'output_dir' in options:
        saved, own = (
            {path.name: path.read_bytes() for path in Path(folder).iterdir()} for folder in folders
        )
        assert saved == own and saved


@pytest.mark.parametrize('task', ['segment', 'refer', 'depth'])
def test_what_is_begun_is_waited_for_when_it_is_asked_for(siglip_folder, repository, task):
    """Batches of two pictures, the second of which the first has not to wait for."""
    if task == 'segment':
        system, prompt = segmenter(siglip_folder), WORDS
    else:
        folder = repository / 'mmseg_siglip/assets' / f'shapes_{task}'
        system = System.from_pretrained(folder, device='cpu', precision='fp32')
        prompt = 'the red circle' if task == 'refer' else None
    batches = [images((40, 48), (48, 40)), images((56, 40))]
    expected = [system(batch, prompt) for batch in batches]
    with distant() as counter:
        far_module(system.model)
        later = count(lambda: [system.begin(batch, prompt) for batch in batches], counter)
        assert not counter.waits, counter.blocking
        assert not any(one.ready for one in later)
        found = [one() for one in later]
        assert counter.waits == len(batches), counter.blocking
    values = dict(segment='scores', refer='mask', depth='depth')[task]
    for one, own in zip(sum(found, []), sum(expected, []), strict=True):
        np.testing.assert_allclose(getattr(one, values), getattr(own, values), rtol=1e-4)


def test_a_guide_that_gives_no_numbers_is_named_at_the_end(siglip_folder):
    """With its image, though nobody waited for it."""
    system = segmenter(siglip_folder, 'proxyclip')
    with torch.no_grad():
        next(system.model.method.guide.model.parameters()).fill_(float('nan'))
    batch = images((48, 64))
    with pytest.raises(ValueError, match='the image: expected finite numbers from DINOGuide'):
        system.torch(batch, WORDS)
    with distant():
        far_module(system.model)
        with pytest.raises(ValueError, match='the image: expected finite numbers from DINOGuide'):
            system.torch(batch, WORDS)


class TestCounter:
    """What is counted, so that a test can fail."""

    @pytest.fixture
    def counter(self):
        with distant() as counter:
            yield counter

    @pytest.fixture
    def x(self, counter):
        x = torch.arange(12.0).reshape(3, 4).to(DEVICE)
        counter.clear()
        return x

    @pytest.mark.parametrize(
        'wait',
        [
            lambda x: x.sum().item(),
            lambda x: bool((x > 3).any()),
            lambda x: x.tolist(),
            lambda x: x.cpu(),
            lambda x: x[x > 3],
            lambda x: x.nonzero(),
            lambda x: torch.bincount(x.long().flatten()),
            lambda x: x.unique(),
            lambda x: x + torch.tensor([1.0, 2.0, 3.0, 4.0], device=DEVICE),
            lambda x: x + x.new_tensor([1.0, 2.0, 3.0, 4.0]),
            lambda x: x[[0, 2]],
            lambda x: torch.ones(3).to(DEVICE),
            lambda x: torch.ones(3).to(DEVICE, non_blocking=True),  # out of pageable memory
            lambda x: torch.equal(x, x),
            lambda x: torch.cuda.synchronize(),
        ],
    )
    def test_one_wait(self, counter, x, wait):
        wait(x)
        assert counter.waits == 1, counter.blocking

    @pytest.mark.parametrize(
        'go',
        [
            lambda x: (x + 1).softmax(-1) @ x.T,
            lambda x: x.clone().masked_fill_(x > 3, 0),
            lambda x: x.clone().__setitem__(x > 3, 0.0),
            lambda x: x[torch.tensor(1)],
            lambda x: torch.zeros(3, device=DEVICE) + x.new_zeros(3),
            lambda x: x[1:, 2],
            lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x),
            lambda x: upload(torch.ones(3), DEVICE),
            lambda x: x.to('cpu', non_blocking=True),
        ],
    )
    def test_none(self, counter, x, go):
        go(x)
        assert not counter.waits, counter.blocking

    def test_values_and_places(self, counter, x):
        y = upload(torch.ones(4), DEVICE)
        assert isinstance(x + y, Distant) and (x + y).device == DEVICE
        (found,) = to_host([x + y])
        assert type(found) is torch.Tensor and torch.equal(found, near(x) + 1)
        assert counter.waits == 1 and counter.copies.total() == 2 and counter.kernels
        with pytest.raises(RuntimeError, match='one device'):
            x + torch.ones(4)
        with pytest.raises(TypeError, match='numpy'):
            x.numpy()

    def test_the_place_is_named(self, counter, x):
        x.sum().item()
        ((place, times),) = counter.blocking.items()
        assert times == 1 and '_local_scalar_dense' in place
