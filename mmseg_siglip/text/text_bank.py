"""Vocabulary + templates + encoder weights -> class-word embeddings, computed once.

Shapes: Q query words, T templates, D joint channels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import normalize

from mmseg_siglip.io.cache import cache_folder
from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.precision import autocast, compute_dtype
from mmseg_siglip.text.templates import SLOT
from mmseg_siglip.weights.remembered_digest import remembered_digest

if TYPE_CHECKING:
    from mmseg_siglip.models.backbones.base import VisionLanguageBackbone

FORMAT = 3
UNIT = 1e-4  # by which a vector's length may differ from 1
ENOUGH = 64  # prompts in a batch that keep the processor busy


@torch.no_grad()
def embed_queries(
    backbone: VisionLanguageBackbone,
    queries: Sequence[str],
    templates: Sequence[str],
    *,
    precision: str = 'fp32',
    batch_size: int = 256,
) -> Tensor:
    """Embed each query word in all templates.

    Each prompt is L2-normalised, the templates are averaged, and the mean is L2-normalised, as in
    CLIP (https://arxiv.org/abs/2103.00020, section 3.1.4), unless the encoder averages otherwise.

    Args:
        backbone: Any encoder with `encode_text`.
        queries: Q words or phrases; those that repeat are encoded once.
        templates: T sentences with one ``{}`` each.
        precision: See `mmseg_siglip.precision`.
        batch_size: Most prompts per forward pass.

    Returns:
        (Q, D) float32, unit length.
    """
    words = list(dict.fromkeys(queries))
    device = next(iter(backbone.text_parameters().values())).device
    total = 0
    for batch in prompt_batches(words, templates, batch_size):
        texts, owners = zip(*batch, strict=True)
        with autocast(precision, device):
            vectors = backbone.encode_prompts(texts).float()
        part = vectors.new_zeros(len(words), vectors.shape[1])
        total = total + part.index_add_(0, torch.tensor(owners, device=device), vectors)
    row = {word: i for i, word in enumerate(words)}
    with autocast(precision, device):
        joint = backbone.from_prompts(total / len(templates)).float()
    return normalize(joint, dim=-1)[[row[query] for query in queries]]


def prompt_batches(
    words: Sequence[str], templates: Sequence[str], batch_size: int
) -> Iterator[list[tuple[str, int]]]:
    """All prompts with the index of their word, in batches that are cheap for a causal tower.

    Such a tower encodes once what a batch has in common, and runs up to the longest prompt: a
    batch holds words of similar length in one template, or in several where words are few.
    """
    by_length = sorted(enumerate(words), key=lambda item: len(item[1]))
    joined = max(1, ENOUGH // len(words))
    for first in range(0, len(templates), joined):
        group = templates[first : first + joined]
        prompts = [(t.replace(SLOT, word), i) for i, word in by_length for t in group]
        for start in range(0, len(prompts), batch_size):
            yield prompts[start : start + batch_size]


def embed_each(
    backbone: VisionLanguageBackbone,
    queries: Sequence[str],
    templates: Sequence[str],
    *,
    precision: str = 'fp32',
) -> Tensor:
    """Like `embed_queries`, but each template by itself: (Q, T, D) float32, unit length."""
    alone = (embed_queries(backbone, queries, [t], precision=precision) for t in templates)
    return torch.stack(list(alone), dim=1)


def text_bank(
    backbone: VisionLanguageBackbone,
    queries: Sequence[str],
    templates: Sequence[str],
    *,
    precision: str = 'fp32',
    each: bool = False,
) -> Tensor:
    """`embed_queries`, or of each template `embed_each`, kept on disk under a key that changes with
    all that it depends on.

    Returns:
        (Q, D) or (Q, T, D) float32 on the backbone's device, unit length.
    """
    device = next(iter(backbone.text_parameters().values())).device
    dtype = compute_dtype(precision, device)
    key = bank_key(backbone, queries, templates, dtype, each=each)
    path = cache_folder('text_bank') / f'{key}.safetensors'
    if path.is_file():
        shape = (len(queries), *[len(templates)] * each, backbone.embed_dim)
        try:
            return read_bank(path, shape).to(device)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            print_log(f'{path}: unusable, embedding the words again ({error})', 'current')
    embed = embed_each if each else embed_queries
    embeddings = embed(backbone, queries, templates, precision=precision)
    try:
        write_atomically(save(dict(embeddings=embeddings.cpu())), path)
    except OSError as error:
        print_log(f'{path}: word embeddings cannot be kept ({error})', 'current')
    return embeddings


def read_bank(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The word embeddings in a file.

    Raises:
        OSError, SafetensorError, KeyError: They cannot be read.
        ValueError: They are not float32 of `shape`, or not of unit length.
    """
    found = load_file(path)['embeddings']
    if found.shape != shape or found.dtype != torch.float32:
        raise ValueError(
            f'expected float32 of {shape}, found {found.dtype} of {tuple(found.shape)}'
        )
    lengths = found.norm(dim=-1)
    if not torch.allclose(lengths, torch.ones(()), atol=UNIT):  # no NaN is close to anything
        raise ValueError('expected vectors of unit length')
    return found


def bank_key(
    backbone: VisionLanguageBackbone,
    queries: Sequence[str],
    templates: Sequence[str],
    dtype: torch.dtype,
    *,
    each: bool = False,
) -> str:
    """Hexadecimal digest of words, templates, number format, and the text tower as it is set up."""
    digest = hashlib.sha256()
    header = [FORMAT, type(backbone).__name__, list(queries), list(templates), str(dtype)]
    header += [backbone.text_settings(), backbone.tokenizer_state(), *['each'] * each]
    digest.update(json.dumps(header, sort_keys=True).encode())
    digest.update(remembered_digest(backbone, backbone.text_parameters()).encode())
    return digest.hexdigest()
