"""Transforms of images with phrases. Shapes: P phrases, images and masks of (H, W).

A sample's masks are ``gt_ref_masks``, (P, H, W) uint8: 0, 1, and 255 where nothing counts. They
have a key of their own so that a transform that would not move them, or leave ``left`` in a phrase
whose object is now on the right, is noticed when the sample is packed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform, Pad, Resize
from mmengine.structures import PixelData
from mmseg.datasets.transforms import PackSegInputs

from mmseg_siglip.datasets.referring_masks import decode_source
from mmseg_siglip.datasets.transforms.loading import read_bytes, refuse_late
from mmseg_siglip.registry import TRANSFORMS

MASKS = 'gt_ref_masks'
IGNORED = 255
PLACES = ('top', 'bottom', 'upper', 'lower', 'far', 'mid', 'middle')
ENDS = ('most', 'est', 'hand', 'handed', 'side', 'handside', 'corner', 'ward', 'wards', 'y', 'ish')
SIDES = (
    *(
        (f'{before}left{after}', f'{before}right{after}')
        for before in ('', *PLACES)
        for after in ('', *ENDS, *PLACES, 'center', 'centre', 'front', 'back')
    ),
    *(
        (f'{before}west{after}', f'{before}east{after}')
        for before in ('', 'north', 'south')
        for after in ('', 'ern', 'ernmost', 'ward', 'wards')
    ),
    ('lft', 'rght'),
    ('lhs', 'rhs'),
)
SHORT = (('lt', 'rt'), ('l', 'r'))
"""Words that are parts of others: of "l'homme" and "r2"."""
MIRRORED = {a: b for pair in (*SIDES, *SHORT) for a, b in (pair, pair[::-1])}


def _any_of(pairs: Sequence[tuple[str, str]]) -> str:
    return '|'.join(word for pair in pairs for word in pair)


_SIDE = re.compile(
    rf"(?<![^\W\d_])({_any_of(SIDES)})(?![^\W\d_])|(?<!['’])\b({_any_of(SHORT)})\b(?!['’]\w)",
    re.IGNORECASE,
)


def swap_sides(text: str) -> str:
    """Exchange left and right, and west and east, in a phrase; whole words, their case kept.

    A misspelt side ("rigth"), a turn ("clockwise") and an hour ("at 3 o'clock") stay.
    """
    return _SIDE.sub(lambda match: _like(match[0], MIRRORED[match[0].lower()]), text)


def _like(example: str, word: str) -> str:
    if example.isupper():
        return word.upper()
    return word.capitalize() if example[0].isupper() else word


@TRANSFORMS.register_module()
class LoadReferringMasks(BaseTransform):
    """Make the mask of each phrase from its source (see `referring_masks`).

    Adds ``gt_ref_masks``, at the size of the image as it was stored, so before resizing the image
    in training, and before or behind it in a test; always before what mirrors or cuts it.

    Args:
        backend_args: Arguments of MMEngine's file backend.
    """

    def __init__(self, *, backend_args: dict | None = None) -> None:
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        refuse_late(results, results['img_path'], type(self).__name__)
        if results.get('sides_swapped'):
            raise ValueError(
                f'{results["img_path"]}: expected LoadReferringMasks before RandomReferringFlip, '
                'which could not mirror masks that were not loaded yet'
            )
        size, read = results['ori_shape'], partial(read_bytes, backend_args=self.backend_args)
        masks = {
            target: decode_source(
                results['mask_sources'][target], size, results['img_path'], read=read
            )
            for target in set(results['targets'])
        }
        results[MASKS] = np.stack([masks[target] for target in results['targets']])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(backend_args={self.backend_args})'


@TRANSFORMS.register_module()
class ResizeReferring(Resize):
    """MMCV's resizing, which takes masks along, by their nearest pixels."""

    def _resize_seg(self, results: dict) -> None:
        if MASKS in results:
            height, width = results['img_shape']
            results[MASKS] = np.stack(
                [
                    mmcv.imresize(mask, (width, height), interpolation='nearest')
                    for mask in results[MASKS]
                ]
            )


@TRANSFORMS.register_module()
class PadReferring(Pad):
    """MMCV's padding at the bottom and the right, which takes masks along: there nothing counts."""

    def _pad_seg(self, results: dict) -> None:
        if MASKS in results:
            down, right = (
                new - old
                for new, old in zip(results['img_shape'], results[MASKS].shape[1:], strict=True)
            )
            results[MASKS] = np.pad(
                results[MASKS], ((0, 0), (0, down), (0, right)), constant_values=IGNORED
            )


@TRANSFORMS.register_module()
class RandomReferringFlip(BaseTransform):
    """Mirror an image left to right, its masks, and the sides in its phrases.

    Words with several meanings are swapped as well ("right behind"), and letters within the image
    are mirrored, so this is for training only.

    Args:
        prob: How often.

    Raises:
        ValueError: `prob` is no probability.
    """

    def __init__(self, *, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'RandomReferringFlip: expected prob in [0, 1], found {prob}')
        self.prob = prob

    def transform(self, results: dict) -> dict:
        if np.random.rand() >= self.prob:
            return results
        results['img'] = np.ascontiguousarray(results['img'][:, ::-1])
        if MASKS in results:
            results[MASKS] = np.ascontiguousarray(results[MASKS][..., ::-1])
        results['text'] = [swap_sides(text) for text in results['text']]
        results['sides_swapped'] = not results.get('sides_swapped', False)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob})'


@TRANSFORMS.register_module()
class PackReferringInputs(PackSegInputs):
    """MMSeg's packing, with the phrases as ``text`` and masks (P, H, W) uint8 as ``gt_sem_seg``.

    Args:
        meta_keys: What else goes along.

    Raises:
        ValueError: The masks fit neither the image nor, if that was merely resized, its original;
            the image was mirrored without its phrases, or their numbers differ.
    """

    def __init__(
        self,
        *,
        meta_keys: tuple[str, ...] = (
            'img_path',
            'ori_shape',
            'img_shape',
            'pad_shape',
            'scale_factor',
        ),
    ) -> None:
        super().__init__(meta_keys=(*meta_keys, 'text', 'first_phrase'))

    def transform(self, results: dict) -> dict:
        name = results.get('img_path', 'a sample')
        if results.get('flip'):
            raise ValueError(
                f'{name} was mirrored, its phrases were not: use RandomReferringFlip instead of '
                'RandomFlip'
            )
        packed = super().transform(results)
        masks = results.get(MASKS)
        if masks is None:
            return packed
        sizes = {tuple(results['img'].shape[:2])}
        if merely_resized(results):
            sizes.add(tuple(results['ori_shape'][:2]))
        if len(masks) != len(results['text']) or masks.shape[1:] not in sizes:
            raise ValueError(
                f'{name}: expected {len(results["text"])} masks of one of the sizes '
                f'{sorted(sizes)}, found {masks.shape}; a transform has left them behind'
            )
        packed['data_samples'].gt_sem_seg = PixelData(
            data=torch.from_numpy(np.ascontiguousarray(masks))
        )
        return packed


def merely_resized(results: dict) -> bool:
    """Whether an image has its original size but for ``scale_factor`` (width, height)."""
    factors = results.get('scale_factor', (1.0, 1.0))
    return all(
        round(side * factor) == now
        for side, factor, now in zip(
            results['ori_shape'][:2], factors[::-1], results['img'].shape[:2], strict=True
        )
    )
