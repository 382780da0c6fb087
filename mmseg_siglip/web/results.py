"""Results as files in memory, which visitors look at and take home."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmseg_siglip.api import Result, Segmentation

PICTURE, DATA, SEEN, INDICES = 'picture.png', 'result.json', 'image.jpg', 'indices.png'


@dataclass(frozen=True)
class ResultFiles:
    """One result.

    Attributes:
        files: Contents by name: `PICTURE` for people, `DATA`, and what `Result.save` writes; of a
            `Segmentation` also `SEEN`, the image, and `INDICES`, a grey value for each class.
        legend: Of a `Segmentation`: index, name, colour (``#rrggbb``) and share of each class that
            occurs.
        text: Of an answer in words, the words.
    """

    files: Mapping[str, bytes]
    legend: tuple[dict[str, Any], ...] = ()
    text: str = ''

    @property
    def num_bytes(self) -> int:
        return sum(map(len, self.files.values()))

    @classmethod
    def of(cls, result: Result) -> ResultFiles:
        data = json.dumps(result.to_dict(), ensure_ascii=False)
        files = {PICTURE: png(result.plot()), DATA: f'{data}\n'.encode()} | saved(result)
        if not isinstance(result, Segmentation):
            return cls(files, text=str(result) if isinstance(result, str) else '')
        files[SEEN] = jpeg(Image.fromarray(result.image))
        files[INDICES] = png(Image.fromarray(result.labels.astype(np.uint8)))
        return cls(files, legend=legend_of(result))


def legend_of(result: Segmentation) -> tuple[dict[str, Any], ...]:
    """See `ResultFiles`; the largest class first."""
    area = np.bincount(result.labels.ravel(), minlength=len(result.classes))
    return tuple(
        dict(
            index=index,
            name=result.classes[index],
            colour='#{:02x}{:02x}{:02x}'.format(*(int(v) for v in result.palette[index])),
            share=float(area[index] / result.labels.size),
        )
        for index in result.found
    )


def saved(result: Result) -> dict[str, bytes]:
    """What `Result.save` writes: a PNG, or ``.npy`` where the values of a map are beyond one."""
    with tempfile.TemporaryDirectory(prefix='mmseg_siglip-') as folder:
        path = Path(folder, result.suffix)
        try:
            result.save(path)
        except ValueError:
            path = path.with_suffix('.npy')
            result.save(path)
        return {path.name: path.read_bytes()}


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, 'PNG', compress_level=1)
    return buffer.getvalue()


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=90)
    return buffer.getvalue()
