"""A new, untrained SigLIP with a tokenizer learnt from ShapesWorld captions.

The folder is in the transformers format; its configuration and tokenizer are what
``configs/siglip/tiny_shapes.py`` trains from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

from mmseg_siglip.datasets.shapes_world.captions import Captioner, observe
from mmseg_siglip.datasets.shapes_world.scene import generate
from mmseg_siglip.models.pretrainers.tokenizer import train_tokenizer
from mmseg_siglip.text.vocabulary import BUNDLED, Vocabulary
from mmseg_siglip.weights.transformers_model import save_model


def caption_sentences(scenes: int, captions: int = 20) -> list[str]:
    """Captions of the first training scenes, the prompt templates, the bundled vocabularies."""
    captioner, rng = Captioner(), np.random.default_rng(0)
    texts = [template('') for template in OPENAI_IMAGENET_TEMPLATES] * 20
    for path in sorted(BUNDLED.glob('*.txt')):
        texts += Vocabulary.load(path).queries
    for seed in range(scenes):
        observation = observe(generate(seed, size=(64, 96)))
        texts += [captioner(observation, rng).text for _ in range(captions)]
    return texts


def convert(
    out: str | Path,
    *,
    image_size: int,
    patch_size: int,
    width: int,
    heads: int,
    vision_layers: int,
    text_width: int,
    text_heads: int,
    text_layers: int,
    context_length: int,
    vocab_size: int,
    scenes: int,
) -> str:
    """Write the folder.

    Args:
        out: Its place.
        image_size: Pixels of a side.
        patch_size: Pixels of a patch's side.
        width: Channels of the vision tower and of the joint space.
        heads: Attention heads of the vision tower.
        vision_layers: Its blocks.
        text_width: Channels of the text tower.
        text_heads: Its attention heads.
        text_layers: Its blocks.
        context_length: Tokens of a text.
        vocab_size: Tokens that the tokenizer knows, at most.
        scenes: How many scenes' captions it is learnt from.
    """
    tokenizer = train_tokenizer(
        caption_sentences(scenes), vocab_size=vocab_size, context_length=context_length
    )
    config = SiglipConfig(
        text_config=dict(
            hidden_size=text_width,
            intermediate_size=4 * text_width,
            num_attention_heads=text_heads,
            projection_size=width,
            vocab_size=len(tokenizer),
            num_hidden_layers=text_layers,
            max_position_embeddings=context_length,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        ),
        vision_config=dict(
            hidden_size=width,
            intermediate_size=4 * width,
            num_attention_heads=heads,
            num_hidden_layers=vision_layers,
            image_size=image_size,
            patch_size=patch_size,
        ),
    )
    torch.manual_seed(0)
    model = SiglipModel(config)
    save_model(model, out)
    tokenizer.save_pretrained(out)
    SiglipImageProcessor(size=dict(height=image_size, width=image_size)).save_pretrained(out)
    count = sum(p.numel() for p in model.parameters())
    return f'{out}: {count:,} parameters, {len(tokenizer)} tokens'
