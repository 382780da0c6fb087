"""Which of our converters a published checkpoint is for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmseg_siglip.models.adapters.cat_seg import CLIP
from mmseg_siglip.models.adapters.rsrefseg import WRAPPERS

CONVERTERS = (
    (re.compile(re.escape(CLIP)), 'a published CAT-Seg', 'cat-seg'),
    (re.compile(r'(\w+\.)*clip_(vision|text)_encoder\.'), "of RSRefSeg's code", 'rsrefseg'),
)


def advice(checkpoint: Mapping[str, Any]) -> str:
    """What to do with a file that holds this; empty unless one of our converters reads it."""
    parts = [checkpoint, *(checkpoint.get(name) for name in WRAPPERS)]
    names = [str(name) for part in parts if isinstance(part, Mapping) for name in part]
    for pattern, what, converter in CONVERTERS:
        if any(map(pattern.match, names)):
            return f'; it is {what}, which `mmseg-siglip convert {converter}` converts'
    return ''
