"""SCLIP against a plain implementation of the same formulas, in one run.

    python benchmarks/sclip.py

ViT-B/16 with random weights, the 171 classes of COCO-Stuff in 80 templates, one picture of 448 x
597 pixels in 15 windows, PAMR with 10 iterations at 480 x 640. The plain side is tests/oracles.py
on open_clip's own modules: one word at a time at the full context, one window after another on a
full canvas, all PAMR neighbours side by side. It embeds a sample of the words, which is scaled up.

Each result stands beside a floor: the operations that cannot be avoided over the measured rate of
matrix products, or the bytes over the measured rate of copies.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from measure import Rates, measure, report, write_csv
from mmseg.structures import SegDataSample
from torch import Tensor

from mmseg_siglip.datasets.shapes_world.scene import generate, scene_seed
from mmseg_siglip.models.backbones import CLIPBackbone
from mmseg_siglip.models.postprocessors import PAMRPostProcessor
from mmseg_siglip.models.segmentors import SCLIPSegmentor
from mmseg_siglip.text.templates import get_templates
from mmseg_siglip.text.text_bank import text_bank
from mmseg_siglip.text.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tests'))
import oracles  # noqa: E402

ARCH = 'ViT-B-16-quickgelu'
TEMPLATES = get_templates('imagenet80')


def row(stage: str, plain, ours, floor: float, agreement: str, bar: str) -> dict:
    """One line; `plain` and `ours` are (seconds, peak bytes)."""
    return {
        'stage': stage,
        'plain s': plain[0],
        'ours s': ours[0],
        'times faster': plain[0] / ours[0],
        'wanted': bar,
        'floor s': floor,
        'floor / ours': floor / ours[0],
        'plain MB': plain[1] / 2**20,
        'ours MB': ours[1] / 2**20,
        'agreement': agreement,
    }


def block_weights(model: torch.nn.Module) -> int:
    """Weights that every token is multiplied with."""
    return sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2)


def stock_of(backbone: CLIPBackbone) -> open_clip.CLIP:
    """open_clip's own model with the weights of `backbone`."""
    stock = open_clip.create_model(ARCH).eval()
    state = backbone.state_dict()
    stock.load_state_dict({name.removeprefix('model.'): state[name] for name in state})
    return stock


def text(
    backbone: CLIPBackbone, stock: open_clip.CLIP, words: Sequence[str], sample: int, rates: Rates
) -> Iterator[dict]:
    """Embedding all words in all templates."""
    tokenizer = open_clip.get_tokenizer('ViT-B-16')
    part = words[:: max(1, len(words) // sample)][:sample]
    plain = measure(lambda: oracles.embed_words(stock, tokenizer, part, TEMPLATES))
    plain_cost = plain.seconds * len(words) / len(part), plain.peak

    tokens: list[int] = []
    layers = backbone.layers_of('text')
    first = layers[0].ln_1
    hook = first.register_forward_pre_hook(lambda _, args: tokens.append(args[0][..., 0].numel()))
    operations = 2 * block_weights(layers)

    for precision, bar in (('fp32', ''), ('auto', '20')):
        with tempfile.TemporaryDirectory() as folder:
            os.environ['MMSEG_SIGLIP_CACHE'] = folder
            tokens.clear()
            cold = measure(lambda p=precision: text_bank(backbone, words, TEMPLATES, precision=p))
            warm = measure(lambda p=precision: text_bank(backbone, words, TEMPLATES, precision=p))
        same = (cold.result[[words.index(word) for word in part]] * plain.result).sum(1).min()
        floor = operations * sum(tokens) / rates.of(precision)
        ours = cold.seconds, cold.peak
        yield row(f'text, cold, {precision}', plain_cost, ours, floor, f'cosine >= {same:.5f}', bar)
    hook.remove()
    floor = warm.result.nbytes / rates.copy
    yield row('text, warm', plain_cost, (warm.seconds, warm.peak), floor, 'same', '< 1 s')


def picture(size: tuple[int, int], backbone: CLIPBackbone) -> Tensor:
    """A drawn scene (3, H, W), normalised for the backbone."""
    pixels = torch.from_numpy(generate(scene_seed('test', 0), size=size).image).permute(2, 0, 1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
    return (pixels - mean) / std


def plain_prediction(stock: open_clip.CLIP, image: Tensor, text: Tensor, scale: float) -> Tensor:
    def cosines(crop: Tensor) -> Tensor:
        return torch.einsum('dhw,qd->qhw', oracles.clip_features(stock, crop), text)

    maps = oracles.slide(image, 224, 112, cosines)
    return oracles.classify(maps, list(range(len(text))), scale=scale)[1]


def prediction(
    backbone: CLIPBackbone, stock: open_clip.CLIP, vocabulary: Vocabulary, rates: Rates
) -> Iterator[dict]:
    """One picture in 15 windows, from normalised pixels to labels."""
    image = picture((448, 597), backbone)
    model = SCLIPSegmentor(
        dict(type='CLIPBackbone', arch=ARCH),
        vocabulary,
        templates='single',
        test_cfg=dict(mode='slide', crop_size=(224, 224), stride=(112, 112)),
    ).eval()
    model.backbone = backbone
    text = model.text
    plain = measure(
        lambda: plain_prediction(stock, image, text, model.labeller.logit_scale), repeat=2
    )
    tokens = 1 + 14 * 14
    attention = 4 * tokens**2 * backbone.hidden_size * backbone.num_layers
    operations = 15 * (tokens * 2 * block_weights(backbone.layers_of('vision')) + attention)

    def ours() -> Tensor:
        return model.predict([image], [SegDataSample()])[0].pred_sem_seg.data[0]

    for precision, bar in (('fp32', '1.5'), ('auto', '4')):
        model.precision = precision
        ours()
        fast = measure(ours, repeat=4)
        equal = 100 * (fast.result == plain.result).float().mean()
        yield row(
            f'prediction, {precision}',
            (plain.seconds, plain.peak),
            (fast.seconds, fast.peak),
            operations / rates.of(precision),
            f'{equal:.2f} % of pixels',
            bar,
        )


def trained_agreement(images: int) -> float:
    """Per cent of pixels that automatic precision labels as float32 does, on trained weights."""
    from mmseg_siglip.api import OpenVocabSegmenter

    segmenters = [
        OpenVocabSegmenter.from_pretrained('tiny_siglip_shapes', precision=p, short_side=128)
        for p in ('fp32', 'auto')
    ]
    scenes = [generate(scene_seed('test', i)).image for i in range(images)]
    labels = [
        np.stack([result.labels for result in segmenter(scenes, 'shapes')])
        for segmenter in segmenters
    ]
    return 100 * float((labels[0] == labels[1]).mean())


def pamr(backbone: CLIPBackbone, channels: int, rates: Rates) -> dict:
    """10 iterations over the logits of one picture of 480 x 640."""
    image, logits = picture((480, 640), backbone), torch.randn(channels, 480, 640)
    refine = PAMRPostProcessor(num_iter=10, dilations=(8, 16))
    plain = measure(lambda: oracles.pamr(image, logits, 10, (8, 16)))
    ours = measure(lambda: refine(image[None], logits[None])[0], repeat=3)
    difference = (plain.result - ours.result).abs().max()
    moved = 10 * (2 * channels + 16) * 480 * 640 * 4
    return row(
        'PAMR',
        (plain.seconds, plain.peak),
        (ours.seconds, ours.peak),
        moved / rates.copy,
        f'difference <= {difference:.0e}',
        '25; a tenth of the memory',
    )


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--words', type=int, default=8, help='words that the plain side embeds')
    parser.add_argument('--images', type=int, default=50, help='scenes for the agreement')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench/sclip.csv'))
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    vocabulary = Vocabulary.load('coco_stuff')
    words = [names[0] for names in vocabulary.classes]
    backbone = CLIPBackbone(arch=ARCH)
    stock = stock_of(backbone)
    rates = Rates.of_this_machine()
    rows = [
        *text(backbone, stock, words, args.words, rates),
        *prediction(backbone, stock, Vocabulary.load(words), rates),
        pamr(backbone, len(words), rates),
    ]
    write_csv(rows, args.out)
    print(f'\n{rates}')
    report(rows)
    agreement = trained_agreement(args.images)
    print(
        f'\nOn trained weights (tiny_siglip_shapes, {args.images} held-out scenes) automatic '
        f'precision labels {agreement:.2f} % of pixels as float32 does.'
    )


if __name__ == '__main__':
    main()
