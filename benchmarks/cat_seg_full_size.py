"""One training step and one evaluation of full-size models with random weights.

    python benchmarks/cat_seg_full_size.py siglip2_b16_384

One training step: a 384 x 384 crop, the 171 classes of COCO-Stuff encoded with gradients, blocks
recomputed, AdamW, bfloat16 where that is faster. One evaluation: a 640 x 640 image by four windows
and the whole, words encoded before. Without the published tokenizer at hand, words go through the
one of the shipped encoder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from measure import measure, report, write_csv
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_siglip.cli.jobs.encoders import apply_encoder
from mmseg_siglip.engine import AmpOptimWrapper
from mmseg_siglip.models.segmentors import CATSegSegmentor
from mmseg_siglip.registry import MODELS
from mmseg_siglip.weights.source import bundled

CONFIG = Path(__file__).resolve().parents[1] / 'configs/cat_seg/coco_stuff.py'


def siglip(width: int, hidden: int, layers: int, heads: int, patch: int) -> dict:
    """A SigLIP 2 of these sizes, at 384 pixels."""
    tower = dict(
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
    )
    text = dict(tower, vocab_size=256000, max_position_embeddings=64, projection_size=width)
    return dict(
        type='SigLIPBackbone',
        config=dict(
            model_type='siglip',
            text_config=text | dict(bos_token_id=2, eos_token_id=1),
            vision_config=dict(tower, image_size=384, patch_size=patch),
        ),
        tokenizer=bundled('tiny_siglip_shapes'),
    )


ENCODERS = dict(
    siglip2_b16_384=siglip(768, 3072, 12, 12, 16),
    siglip2_l16_384=siglip(1024, 4096, 24, 16, 16),
    siglip2_so400m14_384=siglip(1152, 4304, 27, 16, 14),
    clip_b16_384=dict(type='CLIPBackbone', arch='ViT-B-16-quickgelu', position_offset=0.0),
    clip_l14_336=dict(type='CLIPBackbone', arch='ViT-L-14-336-quickgelu', position_offset=0.0),
)


def build(name: str, precision: str, test: str | None) -> CATSegSegmentor:
    """The model of a config, its encoder with random weights."""
    config = Config.fromfile(CONFIG)
    apply_encoder(config, name)
    cfg = config.model
    cfg.backbone = ENCODERS[name] | dict(with_cp=True)
    cfg.decode_head.with_cp = True
    cfg.precision = precision
    if test is not None:
        cfg.test_vocabulary = test
    return MODELS.build(cfg)


def train_step(model: CATSegSegmentor) -> float:
    weights = [p for p in model.parameters() if p.requires_grad]
    wrapper = AmpOptimWrapper(optimizer=torch.optim.AdamW(weights, 2e-4), dtype='bfloat16')
    labels = torch.randint(0, 171, (1, 384, 384))
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
    with wrapper.optim_context(model):
        loss = model.loss(torch.randn(1, 3, 384, 384), [sample])['loss_sem_seg']
    wrapper.update_params(loss)
    return loss.item()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('encoder', choices=ENCODERS, nargs='+')
    parser.add_argument('--precision', default='auto', help='of the evaluation')
    parser.add_argument('--test-vocabulary', help='evaluate with these classes instead of the 171')
    parser.add_argument('--no-train', action='store_true')
    parser.add_argument('--no-test', action='store_true')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks/cat_seg_full.csv'))
    args = parser.parse_args(argv)
    init_default_scope('mmseg_siglip')
    rows = []
    for name in args.encoder:
        torch.manual_seed(0)
        model = build(name, args.precision, args.test_vocabulary)
        row = {
            'encoder': name,
            'weights, M': sum(p.numel() for p in model.parameters()) / 1e6,
            'trained, M': sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6,
        }
        print(row, flush=True)
        if not args.no_train:
            step = measure(lambda model=model: train_step(model.train()))
            row |= {
                'step s': step.seconds,
                'step CPU s': step.cpu,
                'step GB': (step.held + step.peak) / 2**30,
            }
            print(row, flush=True)
            model.zero_grad(set_to_none=True)
        rows.append(row)
        if args.no_test:
            continue
        model.eval()
        with torch.no_grad():
            text = measure(lambda model=model: model.text)
        found = measure(lambda model=model: model.predict([torch.randn(3, 640, 640)]))
        row |= {
            'classes': len(model.vocabulary),
            'words s': text.seconds,
            'image s': found.seconds,
            'image CPU s': found.cpu,
            'image GB': (found.held + found.peak) / 2**30,
        }
        print(row, flush=True)
    write_csv(rows, args.out)
    report(rows)


if __name__ == '__main__':
    main()
