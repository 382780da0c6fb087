"""Write a new, untrained SigLIP with a tokenizer learnt from ShapesWorld captions.

The folder is in the transformers format; its configuration and tokenizer are what
``configs/siglip/tiny_shapes.py`` trains from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

from mmseg_siglip.datasets.shapes_world.captions import Captioner, observe
from mmseg_siglip.datasets.shapes_world.scene import generate
from mmseg_siglip.models.pretrainers.tokenizer import train_tokenizer
from mmseg_siglip.text.vocabulary import BUNDLED, Vocabulary


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='folder to write')
    parser.add_argument('--image-size', type=int, default=64)
    parser.add_argument('--patch-size', type=int, default=8)
    parser.add_argument('--width', type=int, default=128)
    parser.add_argument('--heads', type=int, default=4)
    parser.add_argument('--vision-layers', type=int, default=6)
    parser.add_argument('--text-width', type=int, default=128)
    parser.add_argument('--text-heads', type=int, default=2)
    parser.add_argument('--text-layers', type=int, default=3)
    parser.add_argument('--context-length', type=int, default=24)
    parser.add_argument('--vocab-size', type=int, default=2048)
    parser.add_argument('--scenes', type=int, default=500, help='whose captions are read')
    return parser.parse_args()


def sentences(scenes: int, captions: int = 20) -> list[str]:
    """Captions of the first training scenes, the prompt templates, the bundled vocabularies."""
    captioner, rng = Captioner(), np.random.default_rng(0)
    texts = [template('') for template in OPENAI_IMAGENET_TEMPLATES] * 20
    for path in sorted(BUNDLED.glob('*.txt')):
        texts += Vocabulary.load(path).queries
    for seed in range(scenes):
        observation = observe(generate(seed, size=(64, 96)))
        texts += [captioner(observation, rng).text for _ in range(captions)]
    return texts


def main() -> None:
    args = parse_args()
    tokenizer = train_tokenizer(
        sentences(args.scenes), vocab_size=args.vocab_size, context_length=args.context_length
    )
    config = SiglipConfig(
        text_config=dict(
            hidden_size=args.text_width,
            intermediate_size=4 * args.text_width,
            num_attention_heads=args.text_heads,
            projection_size=args.width,
            vocab_size=len(tokenizer),
            num_hidden_layers=args.text_layers,
            max_position_embeddings=args.context_length,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        ),
        vision_config=dict(
            hidden_size=args.width,
            intermediate_size=4 * args.width,
            num_attention_heads=args.heads,
            num_hidden_layers=args.vision_layers,
            image_size=args.image_size,
            patch_size=args.patch_size,
        ),
    )
    torch.manual_seed(0)
    model = SiglipModel(config)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    SiglipImageProcessor(size=dict(height=args.image_size, width=args.image_size)).save_pretrained(
        args.out
    )
    print(
        f'{args.out}: {sum(p.numel() for p in model.parameters()):,} parameters, '
        f'{len(tokenizer)} tokens'
    )


if __name__ == '__main__':
    main()
