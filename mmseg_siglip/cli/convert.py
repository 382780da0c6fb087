"""Bring checkpoints into another layout: published ones into ours, trained ones into folders."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmseg_siglip.lazy import resolve

JOBS = 'mmseg_siglip.cli.jobs.conversions'
DTYPES = ('float32', 'float16', 'bfloat16')


def argument(help: str, **options: Any) -> dict[str, Any]:
    return dict(options, help=help)


CONFIG = argument('config that the model was trained by', metavar='CONFIG')
CHECKPOINT = argument('its checkpoint', metavar='CHECKPOINT')
OUT = argument('folder to write', metavar='OUT')
DTYPE = argument('number format of the weights [%(default)s]', choices=DTYPES, default='float32')
FITS = argument('check that every weight fits the model of this config', metavar='CONFIG')
SEVERAL = dict(action='append', default=[], metavar='TEXT')


@dataclass(frozen=True)
class Conversion:
    """A kind of conversion.

    Attributes:
        what: A line for the overview.
        job: ``module:function`` below `JOBS`; called with the arguments, it says what it has done.
        arguments: Of its parser, by name or flag.
        more: What its help says beside that.
    """

    what: str
    job: str
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    more: str = ''


CONVERSIONS = {
    'system': Conversion(
        'a trained model of any config into a folder for from_pretrained and the Hub',
        'system:convert',
        {
            'config': CONFIG,
            'checkpoint': CHECKPOINT,
            'out': OUT,
            '--dtype': DTYPE,
            '--evaluate': argument(
                "measure it on the config's test set, for the card", action='store_true'
            ),
            '--name': argument('what the card calls it', default=''),
            '--licence': argument("the Hub's name of its licence, such as apache-2.0"),
            '--data': argument('a data set that it was trained on; may be repeated', **SEVERAL),
            '--limit': argument('a sentence on what it cannot do; may be repeated', **SEVERAL),
            '--push': argument('also upload it to this repository', metavar='OWNER/NAME'),
        },
        'OUT holds config.json, model.safetensors with what was trained, and a model card.',
    ),
    'cat-seg': Conversion(
        'a published CAT-Seg (Detectron2) into a saved system, or a .pth for configs/cat_seg',
        'cat_seg:convert',
        {
            'checkpoint': argument('model_base.pth or model_large.pth', metavar='CHECKPOINT'),
            'out': argument('folder, or file that ends in .pth, to write', metavar='OUT'),
            '--config': FITS,
        },
        'A folder goes to OpenVocabSegmenter.from_pretrained and to `mmseg-siglip segment '
        '--encoder`, and needs nothing else. A .pth goes to `mmseg-siglip test`, of the large '
        'model with `--encoder clip_l14_336`.',
    ),
    'rsrefseg': Conversion(
        "a checkpoint of RSRefSeg's or RSRefSeg 2's code into one for configs/refer_sam",
        'rsrefseg:convert',
        {
            'checkpoint': argument(
                "MMEngine's .pth, the folder that DeepSpeed makes, or Lightning's .ckpt",
                metavar='CHECKPOINT',
            ),
            'out': argument('.pth to write', metavar='OUT'),
            '--config': FITS,
        },
        'What the checkpoint holds says which of the two it is. With --config the model is built, '
        'for which its SigLIP and SAM must be at hand.',
    ),
    'llava': Conversion(
        "a checkpoint in the original LLaVA's layout into a folder of transformers'",
        'llava:convert',
        {
            'checkpoint': argument('folder or Hub id', metavar='CHECKPOINT'),
            'out': OUT,
            '--vision': argument(
                'folder or Hub id of the vision tower [where CHECKPOINT says]', metavar='TOWER'
            ),
            '--dtype': DTYPE,
        },
        'Of LLaVA, LLaVA-NeXT, LLaVA-OneVision and dense MoE-LLaVA.',
    ),
    'encoder': Conversion(
        "the encoder of a trained model into a folder of transformers'",
        'encoder:convert',
        {'config': CONFIG, 'checkpoint': CHECKPOINT, 'out': OUT, '--dtype': DTYPE},
        'It loads with AutoModel, AutoTokenizer and AutoImageProcessor, and as an encoder here.',
    ),
    'vlm': Conversion(
        "a trained LlavaTrainer into a folder of transformers'",
        'vlm:convert',
        {'config': CONFIG, 'checkpoint': CHECKPOINT, 'out': OUT},
        'It loads with `mmseg-siglip ask` and, less the depth fusion, with transformers.',
    ),
    'lengthen-text': Conversion(
        'a SigLIP of few text positions into one of 64, to which stock transformers pads',
        'lengthen_text:convert',
        {
            'source': argument('folder, or name of a checkpoint that ships along'),
            'out': OUT,
        },
        'Scores are equal. It loads in the zero-shot-image-classification pipeline.',
    ),
    'new-encoder': Conversion(
        'a new, untrained SigLIP with a tokenizer learnt from ShapesWorld captions',
        'new_encoder:convert',
        {
            'out': OUT,
            **{
                f'--{name}': dict(type=int, default=value, metavar='N', help='[%(default)s]')
                for name, value in {
                    'image-size': 64,
                    'patch-size': 8,
                    'width': 128,
                    'heads': 4,
                    'vision-layers': 6,
                    'text-width': 128,
                    'text-heads': 2,
                    'text-layers': 3,
                    'context-length': 24,
                    'vocab-size': 2048,
                    'scenes': 500,
                }.items()
            },
        },
        'It is what configs/siglip/tiny_shapes.py trains from.',
    ),
    'new-tokenizer': Conversion(
        "a small tokenizer in Llama's manner, learnt from ShapesWorld questions",
        'new_tokenizer:convert',
        {
            'out': OUT,
            '--vocab-size': dict(type=int, default=400, metavar='N', help='[%(default)s]'),
            '--context': dict(type=int, default=1024, metavar='N', help='tokens [%(default)s]'),
        },
        'It is what configs/_base_/models/llava_tiny.py reads and writes.',
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest='kind', metavar='KIND', required=True)
    for name, conversion in CONVERSIONS.items():
        description = f'{conversion.what[0].upper()}{conversion.what[1:]}. {conversion.more}'
        part = kinds.add_parser(name, help=conversion.what, description=description)
        for flag, options in conversion.arguments.items():
            part.add_argument(flag, **options)


def kept(args: argparse.Namespace) -> str:
    return f'{args.out} is not complete; the same command begins anew'


def run(args: argparse.Namespace) -> None:
    given = vars(args).copy()
    convert = resolve(f'{JOBS}.{CONVERSIONS[given.pop("kind")].job}')
    print(convert(**given))
