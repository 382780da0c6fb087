"""What a GPU makes of this package, in one command that is meant to take 25 minutes.

    make gpu

Figures are ratios in one run: to tests/oracles.py on open_clip's own modules, to transformers' own
tower, to the same step in float32, and of the systems that ship along to themselves on the CPU;
weights of the others are random. The result is
benchmarks/RESULTS_GPU.md, with the device's name in it.

Without a GPU, `--device cpu --small` runs every line in small; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from gpu_family import family_rows
from gpu_files import labelled_files
from gpu_training import training_rows
from measure import markdown
from torch import Tensor
from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipVisionModel

from mmseg_siglip.api import OpenVocabSegmenter, System
from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
from mmseg_siglip.models.postprocessors import PAMRPostProcessor
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.models.windows.batch import window_batch
from mmseg_siglip.precision import compute_dtype
from mmseg_siglip.text.vocabulary import Vocabulary
from mmseg_siglip.vlm.tower import SigLIPVisionTower

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tests'))
import oracles  # noqa: E402

ASSETS = ROOT / 'mmseg_siglip/assets'
RESULTS = ROOT / 'benchmarks/RESULTS_GPU.md'
SYSTEMS = dict(shapes_cat_seg=['shapes'], shapes_depth=[], shapes_refer=[['the red heart']])


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        arch: open_clip's name of the encoder.
        images: Pictures to label.
        size: (H, W) of each.
        words: How many of COCO-Stuff's.
        at_once: Pictures of a call.
        repeat: Of everything else.
        matrix: Side of the product by which the device's rate is measured.
        pamr: (H, W) of PAMR's picture.
        seconds: That labelling may take in memory, and again from files.
        systems: Those that ship along, to compare with the CPU.
        tower: Fields of the tower's configuration.
    """

    arch: str = 'ViT-B-16-quickgelu'
    images: int = 5000
    size: tuple[int, int] = (448, 597)
    words: int = 171
    at_once: int = 32
    repeat: int = 5
    matrix: int = 8192
    pamr: tuple[int, int] = (480, 640)
    seconds: float = 240.0
    systems: tuple = ('shapes_cat_seg', 'shapes_depth', 'shapes_refer')
    tower: tuple = ()


SMALL = Scale(
    arch='tiny-vit-32',
    images=2,
    size=(64, 96),
    words=4,
    at_once=1,
    repeat=1,
    matrix=64,
    pamr=(24, 32),
    seconds=5.0,
    systems=('shapes_cat_seg', 'shapes_depth'),
    tower=(('hidden_size', 32), ('num_hidden_layers', 2), ('num_attention_heads', 2)),
)


TINY = dict(
    embed_dim=32,
    vision_cfg=dict(image_size=224, layers=2, width=64, head_width=32, patch_size=32),
    text_cfg=dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=2),
)


def register_tiny() -> None:
    """Make the encoder of `SMALL` known to open_clip."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / f'{SMALL.arch}.json'
        file.write_text(json.dumps(TINY), encoding='utf-8')
        open_clip.add_model_config(file)


class Clock:
    """Times calls on a device, which is waited for.

    Attributes:
        device: The device.
        repeat: Calls of which the best counts, after one that does not.
    """

    def __init__(self, device: torch.device, repeat: int) -> None:
        self.device, self.repeat = device, repeat

    def wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def __call__(self, call: Callable[[], Any], repeat: int | None = None) -> float:
        call()
        best = float('inf')
        for _ in range(repeat or self.repeat):
            self.wait()
            started = time.perf_counter()
            call()
            self.wait()
            best = min(best, time.perf_counter() - started)
        return best

    def peak(self, call: Callable[[], Any]) -> str:
        """GB at once during a call, weights included; nothing where it is not counted."""
        if self.device.type != 'cuda':
            return ''
        torch.cuda.reset_peak_memory_stats(self.device)
        call()
        return f'{torch.cuda.max_memory_allocated(self.device) / 1e9:.1f}'


def row(part: str, ours: float, plain: float, note: str = '') -> dict:
    """One line, by seconds."""
    return {'part': part, 'plain / ours': plain / ours, 'ours s': ours, 'note': note}


def pictures(scale: Scale) -> list[Tensor]:
    """A few drawn scenes, (3, H, W) uint8 on the CPU."""
    scenes = [generate(scene_seed('test', i), size=scale.size) for i in range(scale.at_once)]
    return [torch.from_numpy(scene.image).permute(2, 0, 1) for scene in scenes]


def segmenter(scale: Scale, device: torch.device, method: str = 'csa', **test_cfg: Any):
    words = [names[0] for names in Vocabulary.load('coco_stuff').classes[: scale.words]]
    sides = dict(mode='slide', crop_size=(224, 224), stride=(112, 112)) | test_cfg
    model = SCLIPSegmentor(
        dict(type='CLIPBackbone', arch=scale.arch),
        words,
        templates='single',
        attention=method,
        precision='auto',
        test_cfg=sides,
    )
    return OpenVocabSegmenter(model.to(device), short_side=None), words


def stock_of(system: OpenVocabSegmenter, scale: Scale, device: torch.device):
    """open_clip's own model with the same weights."""
    stock = open_clip.create_model(scale.arch).eval().to(device)
    state = system.model.backbone.state_dict()
    stock.load_state_dict({name.removeprefix('model.'): state[name] for name in state})
    return stock


def plain_labels(stock, image: Tensor, text: Tensor, method: str, scale: float) -> Tensor:
    def cosines(crop: Tensor) -> Tensor:
        return torch.einsum('dhw,qd->qhw', oracles.clip_features(stock, crop, method), text)

    with image.device:
        maps = oracles.slide(image, 224, 112, cosines)
        return oracles.classify(maps, list(range(len(text))), scale=scale)[1]


def labelling(scale: Scale, clock: Clock) -> Iterator[dict]:
    """Pictures to labels, in memory and from files to files; and the encoder alone."""
    system, words = segmenter(scale, clock.device)
    images, model = pictures(scale), system.model
    stock = stock_of(system, scale, clock.device)
    (prepared,) = [system._prepare(image) for image in images[:1]]
    text, factor = model.text, model.logit_scale
    plain = clock(lambda: plain_labels(stock, prepared, text, 'csa', factor).cpu(), repeat=2)

    system.torch(images, words)
    clock.wait()
    started, done = time.perf_counter(), 0
    while done < scale.images and time.perf_counter() - started < scale.seconds:
        system.torch(images, words)
        done += len(images)
    ours = (time.perf_counter() - started) / done
    yield row('labelling, an image', ours, plain, f'{done} images, {1 / ours:.1f} a second')
    most = min(scale.images, max(len(images), int(scale.seconds / ours)))
    ours, done = labelled_files(system, words, images, most, scale.at_once)
    note = f'{done} images, {1 / ours:.1f} a second; plain without files'
    yield row('labelling, JPEG to PNG, an image', ours, plain, note)

    count = window_batch(model.test_cfg, model.backbone)
    windows = torch.randn(count, 3, 224, 224, device=clock.device)
    seconds = clock(lambda: model.encode(windows))
    tokens = 1 + model.backbone.native_grid[0] * model.backbone.native_grid[1]
    layers = model.backbone.layers_of('vision')
    weights = sum(p.numel() for p in layers.parameters() if p.ndim == 2)
    pairs = 4 * tokens**2 * model.backbone.hidden_size * model.backbone.num_layers
    dtype = compute_dtype('auto', clock.device)
    factors = torch.randn(2, scale.matrix, scale.matrix, device=clock.device).to(dtype)
    rate = 2 * scale.matrix**3 / clock(lambda: factors[0] @ factors[1])
    part = count * (2 * tokens * weights + pairs) / seconds / rate
    whole = clock(lambda: [oracles.clip_features(stock, one) for one in windows[:4]], 2) / 4
    note = f'{part:.0%} of the matrix rate, {rate / 1e12:.3g} TFLOP/s in {dtype}'
    yield row(f'encoder, a window of {count}', seconds / count, whole, note)


def family(scale: Scale, clock: Clock) -> Iterator[dict]:
    """Each method."""
    system, words = segmenter(scale, clock.device)
    images, model = pictures(scale)[:4], system.model
    stock = stock_of(system, scale, clock.device)
    prepared = system._prepare(images[0])
    vanilla = clock(
        lambda: plain_labels(stock, prepared, model.text, 'vanilla', model.logit_scale).cpu(), 1
    )
    for name, ours, note in family_rows(system, words, images, clock, small=scale is SMALL):
        note = f'to plain vanilla, {note}' if note else 'to plain vanilla'
        yield row(f'{name}, an image', ours, vanilla, note)


def refinement(scale: Scale, clock: Clock) -> Iterator[dict]:
    """PAMR of all words at full size."""
    image = torch.rand(3, *scale.pamr, device=clock.device)
    logits = torch.randn(scale.words, *scale.pamr, device=clock.device)
    refine = PAMRPostProcessor(num_iter=10, dilations=(8, 16))
    ours = clock(lambda: refine(image[None], logits[None]))
    with clock.device:
        few = logits[:8]  # of all it would not fit
        plain = clock(lambda: oracles.pamr(image, few, 10, (8, 16)), 1) * len(logits) / len(few)
    yield row(f'PAMR of {scale.words} words', ours, plain)


def tower(scale: Scale, clock: Clock) -> Iterator[dict]:
    """The vision tower of a language model."""
    fields = dict(scale.tower)
    model = SiglipModel(SiglipConfig(text_config=fields, vision_config=fields)).eval()
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        SiglipImageProcessor(size=dict(height=224, width=224)).save_pretrained(folder)
        ours = SigLIPVisionTower(folder, precision='auto').eval().to(clock.device)
        stock = SiglipVisionModel.from_pretrained(folder, trust_remote_code=False)  # nosec B615
    stock = stock.eval().to(clock.device)
    images = torch.randn(scale.at_once, 3, 224, 224, device=clock.device)
    fast, plain = clock(lambda: ours(images)), clock(lambda: stock(images))
    yield row(f'tower, {scale.at_once} images', fast, plain, 'to all of it in float32')


def agreement(scale: Scale, clock: Clock) -> Iterator[dict]:
    """Shipped systems there and on the CPU, and how often the host waited."""
    images = pictures(scale)[:2]
    for name in scale.systems:
        prompt = SYSTEMS[name]
        outputs = []
        for device in (torch.device('cpu'), clock.device):
            system = System.from_pretrained(ASSETS / name, device=device, precision='fp32')
            system.torch(images, *prompt)
            started = time.perf_counter()
            outputs.append((system.torch(images, *prompt), time.perf_counter() - started))
        waits = waits_of(partial(system.torch, images, *prompt), clock.device)
        (expected, slow), (there, fast) = outputs
        same = [
            torch.isclose(first(one).float(), first(own).float(), rtol=1e-3).float().mean()
            for one, own in zip(there, expected, strict=True)
        ]
        note = f'{100 * float(min(same)):.2f} % of pixels equal, the host waited {waits} times'
        yield row(f'{name}, to the CPU', fast, slow, note)


def waits_of(call: Callable[[], Any], device: torch.device) -> int:
    """How often CUDA says that the host waited."""
    if device.type != 'cuda':
        return 0
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode('default')
    return sum('synchroniz' in str(one.message) for one in found)


def first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


PARTS = dict(
    labelling=labelling,
    family=family,
    refinement=refinement,
    tower=tower,
    agreement=agreement,
    training=lambda scale, clock: training_rows(scale.arch, clock, small=scale is SMALL),
)


def document(results: dict[str, list[dict]], device: torch.device, minutes: float) -> str:
    """The page, of what is measured so far."""
    name = 'a CPU, in small: no figures'
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    head = (
        f'# On a GPU: {name}\n\nMade by `make gpu` in {minutes:.1f} minutes, torch '
        f'{torch.__version__}. How many times faster this package is than a plain implementation '
        'in the same run, or than what a part names; see `benchmarks/gpu.py`.\n'
    )
    return head + ''.join(f'\n## {part}\n\n{markdown(rows)}\n' for part, rows in results.items())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', default='cuda', help='cuda, cuda:1, ..., or cpu with --small')
    parser.add_argument('--small', action='store_true', help='every line, in small')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    parser.add_argument('--out', type=Path, help='the page; benchmarks/RESULTS_GPU.md of a GPU')
    args = parser.parse_args(argv)
    device = torch.device(args.device)
    if device.type == 'cuda' and not torch.cuda.is_available():
        parser.error('expected a GPU, found none; --device cpu --small runs every line in small')
    if device.type != 'cuda' and not args.small:
        parser.error(f'expected --small with --device {device}, whose figures mean nothing here')
    out = args.out or (ROOT / 'work_dirs/bench/gpu_small.md' if args.small else RESULTS)
    out.parent.mkdir(parents=True, exist_ok=True)

    scale = Scale()
    if args.small:
        scale = SMALL
        register_tiny()
    clock, failed = Clock(device, scale.repeat), 0
    results: dict[str, list[dict]] = {}
    started = time.perf_counter()
    for part in args.parts:
        torch.manual_seed(0)
        results[part] = []
        try:
            with torch.set_grad_enabled(part == 'training'):
                for found in PARTS[part](scale, clock):
                    results[part].append(found)
        except Exception as error:  # one part does not cost the others
            traceback.print_exc()
            failed += 1
            results[part].append(row('failed', float('nan'), float('nan'), str(error)[:200]))
        minutes = (time.perf_counter() - started) / 60
        out.write_text(document(results, device, minutes), encoding='utf-8')
        print(f'\n{part}, {minutes:.1f} min\n\n{markdown(results[part])}', flush=True)
    print(f'\n{out}')
    return failed


if __name__ == '__main__':
    sys.exit(main())
