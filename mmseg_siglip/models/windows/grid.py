"""The windows that slide over an image, and the settings that say where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from mmseg_siglip.models.sizes import pair


@dataclass(frozen=True)
class Windows:
    """Where the windows of one image lie: first rows, first columns, and their size in pixels."""

    rows: list[int]
    columns: list[int]
    size: tuple[int, int]

    def crops(self, image: Tensor) -> Iterator[Tensor]:
        height, width = self.size
        for y in self.rows:
            for x in self.columns:
                yield image[:, y : y + height, x : x + width]


def check_test_cfg(config: Mapping, image_size: tuple[int, int]) -> dict:
    """`test_cfg` with what was left out: windows of the native size, half a window apart.

    Raises:
        ValueError: A key is unknown, or a value is out of range.
    """
    half = tuple(max(side // 2, 1) for side in image_size)
    defaults = dict(
        mode='slide', crop_size=image_size, stride=half, window_batch=16, return_logits=False
    )
    unknown = set(config) - set(defaults)
    if unknown:
        raise ValueError(f'test_cfg: unknown {sorted(unknown)}; expected {", ".join(defaults)}')
    merged = {**defaults, **config}
    for name in ('crop_size', 'stride'):
        merged[name] = pair(merged[name], f'test_cfg.{name}', least=0)
    if merged['mode'] not in ('slide', 'whole'):
        raise ValueError(f"test_cfg.mode: expected 'slide' or 'whole', found {merged['mode']!r}")
    if any(s < 1 or s > c for s, c in zip(merged['stride'], merged['crop_size'], strict=True)):
        raise ValueError(
            f'test_cfg: expected 1 <= stride <= crop_size, '
            f'found stride {merged["stride"]} and crop_size {merged["crop_size"]}'
        )
    if merged['window_batch'] < 1:
        raise ValueError(
            f'test_cfg.window_batch: expected 1 or more, found {merged["window_batch"]}'
        )
    return merged
