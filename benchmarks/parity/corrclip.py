"""CorrCLIP, first version (https://github.com/zdk258/CorrCLIP at 103bc18)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from golden import Case, Golden, rows
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from second_models import guide, queries, segmentor
from torch import Tensor
from torch.nn.functional import interpolate

from mmseg_siglip.models.backbones.trunk import Surroundings, View
from mmseg_siglip.models.dense.corrclip import CorrCLIP

FILE, SLIDE = 'corrclip_tiny', 'corrclip_slide_tiny'
NAMES = ('native', 'wide', 'tiles', 'empty', 'dino8', 'six')
SIZE, ORIGINAL, STEP = (336, 448), (375, 500), 8


def cases(golden: Golden) -> Iterator[Case]:
    for name in NAMES:
        if golden.has(FILE, f'{name}_up'):
            yield from one(golden, name)

    @cache
    def found(field: str) -> Tensor:
        return slide(golden)[field]

    yield Case('corrclip', SLIDE, 'logits', lambda: found('logits')[:, ::STEP, ::STEP])
    for field in ('raw', 'pred'):
        yield Case('corrclip', SLIDE, field, lambda field=field: found(field))


def one(golden: Golden, name: str) -> Iterator[Case]:
    seed, layers, patch = (
        int(golden.array(FILE, f'{name}_{field}')) for field in ('seed', 'layers', 'patch')
    )
    size = tuple(16 * n for n in golden.array(FILE, f'{name}_up').shape[1:])
    encoder = golden.clip(layers)

    @cache
    def dense() -> Tensor:
        regions = label_map(golden, name if name in ('tiles', 'empty') else 'blobs', size)
        known = Surroundings([View(0, (0, 0, *size), regions=regions)])
        picture = golden.picture(seed, *size)
        method = CorrCLIP(guide(golden, f'dino{patch}', 'q+k'), parity=True)
        return encoder.dense(picture, attention=method, surroundings=known)

    def cosines() -> Tensor:
        return rows(dense()) @ queries(golden).T

    def up() -> Tensor:
        plane = cosines().T.unflatten(1, dense().shape[-2:])[None]
        return interpolate(plane, size=size, mode='bilinear')[0, :, ::16, ::16]

    def features() -> Tensor:
        found = rows(dense())
        return found[:: 4 if len(found) > 400 else 1]

    for field, run in dict(cos=cosines, feat=features, up=up).items():
        yield Case('corrclip', FILE, f'{name}_{field}', run)


def slide(golden: Golden) -> dict[str, Tensor]:
    """Mean cosines at the original size, their labels, and the vote of regions."""
    model = segmentor(
        golden,
        CorrCLIP(guide(golden, 'dino16', 'q+k'), parity=True),
        layers=12,
        logit_scale=40.0,
        label_steps=[dict(type='RegionVote', parity=True)],
        test_cfg=dict(crop_size=224, stride=112),
    )
    picture, sample = golden.picture(65, *SIZE), SegDataSample(metainfo=dict(ori_shape=ORIGINAL))
    regions = label_map(golden, 'blobs', ORIGINAL)
    sample.regions = PixelData(data=regions[None])
    (seen,) = model._look(picture, [sample])
    logits = model._stitch(seen.cosines, seen.windows, ORIGINAL).rows(0, ORIGINAL[0])
    (labelled,) = model.predict(picture, [sample])
    return dict(logits=logits, raw=logits.argmax(0), pred=labelled.pred_sem_seg.data[0])


def label_map(golden: Golden, kind: str, size: tuple[int, int]) -> Tensor:
    """Seeded regions, (H, W) int64."""
    return golden.module('guided/tiny_guide.py').masks(kind, *size).long()
