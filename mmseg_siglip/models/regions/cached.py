"""Regions that are found once: a cache on disk in front of any proposer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmseg_siglip.io.cache import cache_folder
from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.io.regions_file import decode_regions, encode_regions
from mmseg_siglip.models.guides import all_weights
from mmseg_siglip.models.regions.proposer import RegionProposer
from mmseg_siglip.models.sam.proposals import regions_of
from mmseg_siglip.registry import MODELS

FORMAT = 1


@MODELS.register_module()
class CachedRegions(RegionProposer):
    """Keep what a proposer finds, under a key that changes with all that it depends on.

    Args:
        proposer: Configuration of a `RegionProposer`, or of another module that a segmentor may ask
            for regions, such as `SAM3Regions`, which is told the words.
        folder: Where the files go, ``<key>.npz``; by default ``regions`` in `cache_folder`.

    Attributes:
        off: Whether to look for regions each time, as where that is measured.
    """

    off = False

    def __init__(self, proposer: Mapping, *, folder: str | None = None) -> None:
        super().__init__()
        self.config = dict(proposer)
        self.proposer = MODELS.build(proposer)
        self.supervised = getattr(self.proposer, 'supervised', False)
        self.asks_words = getattr(self.proposer, 'asks_words', False)
        self.folder = Path(folder) if folder else cache_folder('regions')

    def forward(self, pixels: Tensor, *, words: Sequence[str] = (), **dense: Any) -> Tensor:
        """See `RegionProposer`. Two images that agree in 8 bits a channel share their regions."""
        told = dict(dense, words=words) if self.asks_words else {}
        if self.off:
            return regions_of(self.proposer, pixels, **told)
        path = self.folder / f'{self.key(pixels, words)}.npz'
        if path.is_file():
            try:
                held = decode_regions(path.read_bytes(), str(path))
                return torch.from_numpy(held).to(pixels.device)
            except (OSError, ValueError) as error:
                print_log(f'{path}: unreadable, looking for regions again ({error})', 'current')
        regions = regions_of(self.proposer, pixels, **told)
        try:
            write_atomically(encode_regions(regions.cpu().numpy()), path)
        except OSError as error:
            print_log(f'{path}: regions cannot be kept ({error})', 'current')
        return regions

    def key(self, pixels: Tensor, words: Sequence[str] = ()) -> str:
        """Hexadecimal digest of an image, the proposer's configuration and its weights, and of the
        words that it is told."""
        digest = hashlib.sha256(self._own.encode())
        digest.update(json.dumps(list(words)).encode())
        digest.update(str(tuple(pixels.shape)).encode())
        digest.update((pixels.detach() * 255).round().byte().cpu().numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def _own(self) -> str:
        digest = hashlib.sha256(
            json.dumps([FORMAT, self.config], sort_keys=True, default=str).encode()
        )
        for name, value in sorted(all_weights(self.proposer).items()):
            digest.update(f'{name} {tuple(value.shape)} {value.dtype}'.encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()
