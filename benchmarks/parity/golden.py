"""Recorded outputs of published code, and the seeded weights and pictures they were made of."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from mmseg_siglip.models.backbones import CLIPBackbone

MARKS = dict(input_resolution=224, context_length=77, vocab_size=49408)
# The published code rounds CLIP's statistics here, but not where it goes back to a guide's pixels.
# Beside a threshold this decides.
MEAN, STD = (122.771, 116.746, 104.094), (68.501, 66.632, 70.323)


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        method: The method's registered name.
        file: The ``.npz``, without its ending, in ``plain`` or ``guided``.
        key: The array in it.
        run: Gives our array of the same shape.
        tolerance: Largest difference allowed.
        strays: Part of the rows that may differ by more, where a value lies within rounding of a
            threshold.
        ordered: Whether it matters in which order the values stand.
        axis: The axis along which one row's values stand; None: all but the first.
    """

    method: str
    file: str
    key: str
    run: Callable[[], Tensor | np.ndarray]
    tolerance: float = 1e-4
    strays: float = 0.0
    ordered: bool = True
    axis: int | None = None


class Golden:
    """A folder of recorded outputs.

    Args:
        folder: With ``plain``, ``guided`` and ``tiny_clip.py``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tiny_clip = self.module('tiny_clip.py')

    def module(self, path: str) -> ModuleType:
        """A Python file of the folder."""
        spec = importlib.util.spec_from_file_location(Path(path).stem, self.folder / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @cache  # noqa: B019
    def array(self, file: str, key: str) -> np.ndarray:
        (path,) = self.folder.glob(f'*/{file}.npz')
        return np.load(path)[key]

    def keys(self, file: str) -> list[str]:
        """What a file holds; nothing where there is none."""
        return [key for path in self.folder.glob(f'*/{file}.npz') for key in np.load(path)]

    def has(self, file: str, key: str) -> bool:
        """Whether this folder holds an array; not all cases are in all folders."""
        return any(key in np.load(path) for path in self.folder.glob(f'*/{file}.npz'))

    @cache  # noqa: B019
    def clip(self, layers: int = 12, **options) -> CLIPBackbone:
        """The seeded CLIP, 128 wide with 2 heads, patches of 16, image 224."""
        state = self.tiny_clip.state_dict(layers=layers)
        state |= {name: torch.tensor(value) for name, value in MARKS.items()}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'clip.pt')
            torch.save(state, path)
            return CLIPBackbone(str(path), **options).requires_grad_(False)

    def pixels(self, seed: int, height: int, width: int) -> Tensor:
        """A seeded picture (1, 3, H, W), RGB in [0, 1]."""
        image = torch.from_numpy(self.tiny_clip.image(seed, height, width))
        return image.permute(2, 0, 1)[None].float() / 255

    def picture(self, seed: int, height: int, width: int) -> Tensor:
        """The same, normalised for `clip` as the recorded code does it.

        Its constants are CLIP's to three places. What they round off moves features by 4e-6.
        """
        pixels = (255 * self.pixels(seed, height, width)).round()
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        return (pixels - mean) / std


def rows(dense: Tensor, *, unit: bool = True) -> Tensor:
    """(1, D, h, w) to (h*w, D), brought to unit length."""
    x = dense.flatten(2)[0].T
    return torch.nn.functional.normalize(x, dim=-1) if unit else x


def compare(case: Case, golden: Golden) -> dict:
    """One row of the table."""
    wanted = np.atleast_1d(golden.array(case.file, case.key).astype(np.float64))
    found = np.atleast_1d(np.asarray(case.run(), dtype=np.float64))
    if found.shape != wanted.shape:
        raise ValueError(f'{case.key}: expected shape {wanted.shape}, found {found.shape}')
    if not case.ordered:
        wanted, found = np.sort(wanted), np.sort(found)
    off = np.abs(found - wanted)
    off = off.reshape(len(off), -1).max(1) if case.axis is None else off.max(case.axis)
    strays = float((off > case.tolerance).mean())
    return dict(
        method=case.method,
        case=case.key,
        largest=float(off.max()),
        tolerance=case.tolerance,
        strays=strays,
        allowed=case.strays,
        equal=strays <= case.strays and bool(np.isfinite(found).all()),
    )


def all_cases(golden: Golden) -> Iterator[Case]:
    """Those of every file beside this one that has ``cases(golden)`` and whose array is there."""
    for path in sorted(Path(__file__).parent.glob('*.py')):
        if path.stem in ('__main__', 'golden'):
            continue
        module = importlib.import_module(path.stem)
        found = module.cases(golden) if hasattr(module, 'cases') else ()
        yield from (case for case in found if golden.has(case.file, case.key))
