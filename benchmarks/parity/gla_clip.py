"""GLA-CLIP."""

from __future__ import annotations

from collections.abc import Iterator

from golden import Case, Golden
from second_models import guide, queries, segmentor, stitched
from torch import Tensor

from mmseg_siglip.models.dense import GLACLIP

FILE = 'glaclip_tiny'
WINDOWS = dict(crop_size=224, stride=112)
OUT = (375, 500)


def cases(golden: Golden) -> Iterator[Case]:
    """The stem of a key says the picture, and its end what of it."""
    for key in golden.keys(FILE):
        stem, _, part = key.rpartition('_')
        if part in ('cos', 'logits'):
            yield Case(
                'gla_clip',
                FILE,
                key,
                lambda stem=stem, part=part: run(golden, stem, part),
                strays=0.01,
                axis=-1 if part == 'cos' else 0,
            )


def run(golden: Golden, stem: str, part: str) -> Tensor:
    method = GLACLIP(guide(golden, 'dino16'), static=stem.endswith('static'))
    model = segmentor(golden, method, test_cfg=WINDOWS)
    size = (336, 448) if stem.startswith('slide') else (224, 336 if 'wide' in stem else 224)
    image = golden.picture(81, *size)
    if part == 'logits':
        out = OUT if stem.startswith('slide') else size
        return stitched(model, image, out)[:, ::8, ::8]
    (seen,) = model._look([image[0]], [None])
    words = seen.cosines.flatten(0, 1).flatten(2).transpose(1, 2)
    assert words.shape[-1] == len(queries(golden))
    return words
