"""Which size an encoder wants its images at, whatever form its checkpoint says it in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches

from mmseg_siglip.models.sizes import check_size_asked

Size = tuple[int, int]


def resolve_image_size(processor: Any, config: Any) -> Size:
    """(height, width) in pixels that an encoder was trained at.

    The model's own configuration comes first: ``vision_config.image_size``, an int or a pair; or,
    of NaFlex, the square of ``num_patches`` patches. Where it has neither, the image processor's
    ``crop_size`` and ``size`` are read: an int, a pair, or something with ``height`` and
    ``width``, ``shortest_edge`` or ``longest_edge``, be it a dict or transformers' `SizeDict`;
    a processor of NaFlex has ``patch_size`` and ``max_num_patches`` instead.

    Args:
        processor: transformers' image processor, or None.
        config: transformers' configuration of the model or of its vision tower, or None.

    Raises:
        ValueError: Neither tells, or what it tells is no size.
    """
    vision = getattr(config, 'vision_config', config)
    sizes = [getattr(vision, 'image_size', None)]
    sizes += [_of_patches(vision, 'num_patches')]
    sizes += [getattr(processor, name, None) for name in ('crop_size', 'size')]
    sizes += [_of_patches(processor, 'max_num_patches')]
    for size in sizes:
        found = _pair(size)
        if found is not None:
            return check_size_asked(found, 'image size')
    raise ValueError(
        'expected an image size in vision_config.image_size or in the image processor, found '
        f'none in {type(config).__name__} and {type(processor).__name__}'
    )


def _of_patches(source: Any, name: str) -> int | None:
    count, patch = getattr(source, name, None), getattr(source, 'patch_size', None)
    return int(count**0.5) * patch if isinstance(count, int) and isinstance(patch, int) else None


def _pair(size: Any) -> Size | None:
    if size is None or isinstance(size, int):
        return None if not size else (size, size)
    if isinstance(size, (tuple, list)):
        return tuple(size) if len(size) == 2 else None
    try:
        fields: Mapping[str, int] = dict(size)  # SizeDict has no values()
    except (TypeError, ValueError):
        return None
    if 'height' in fields and 'width' in fields:
        return fields['height'], fields['width']
    side = fields.get('shortest_edge') or fields.get('longest_edge')
    return None if side is None else (side, side)


def fitting_size(size: Size, patch: int, max_patches: int) -> Size:
    """The largest (height, width) of whole patches, in about the aspect of `size`, as NaFlex has
    it: at most `max_patches` patches."""
    return get_image_size_for_max_num_patches(*size, patch, max_patches)
