"""The settings of prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmseg_siglip.models.sizes import pair

SIDES = ('image_size', 'crop_size', 'stride')
COUNTS = ('window_batch', 'max_classes', 'phrase_batch')


def window_defaults(image_size: tuple[int, int], *, mode: str = 'slide') -> dict:
    """Windows of an encoder's own size, half a window apart."""
    return dict(
        mode=mode,
        crop_size=image_size,
        stride=tuple(max(side // 2, 1) for side in image_size),
        window_batch=16,
        return_logits=False,
    )


def check_test_cfg(
    config: Mapping, defaults: Mapping, *, modes: Sequence[str] = ('slide', 'whole'), why: str = ''
) -> dict:
    """`test_cfg` with what was left out.

    Args:
        config: What a user gave.
        defaults: All that there is to set; what is None there may be None.
        modes: Values of ``mode``.
        why: Reason that there are no others.

    Raises:
        ValueError: A key is unknown, or a value is out of range.
    """
    merged = {**defaults, **config}
    if merged['mode'] not in modes:
        allowed = f'one of {", ".join(modes)}' if len(modes) > 2 else ' or '.join(map(repr, modes))
        reason = f'; {why}' if why else ''
        raise ValueError(f'test_cfg.mode: expected {allowed}, found {merged["mode"]!r}{reason}')
    unknown = set(config) - set(defaults)
    if unknown:
        raise ValueError(f'test_cfg: unknown {sorted(unknown)}; expected {", ".join(defaults)}')
    given = {
        name: value
        for name, value in merged.items()
        if value is not None or defaults[name] is not None
    }
    for name in given.keys() & set(SIDES):
        given[name] = merged[name] = pair(given[name], f'test_cfg.{name}', least=0)
    if 'stride' in given and any(map(_apart, given['stride'], given['crop_size'])):
        raise ValueError(
            f'test_cfg: expected 1 <= stride <= crop_size, '
            f'found stride {given["stride"]} and crop_size {given["crop_size"]}'
        )
    for name in given.keys() & set(COUNTS):
        if not isinstance(given[name], int) or given[name] < 1:
            raise ValueError(f'test_cfg.{name}: expected 1 or more, found {given[name]!r}')
    if 'threshold' in given and not 0 < given['threshold'] < 1:
        raise ValueError(
            f'test_cfg.threshold: expected a value in (0, 1), found {given["threshold"]!r}'
        )
    return merged


def _apart(stride: int, crop: int) -> bool:
    return not 1 <= stride <= crop
