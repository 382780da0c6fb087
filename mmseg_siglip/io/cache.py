"""Where files are kept that can be had again."""

from __future__ import annotations

import logging
import os
import tempfile
from functools import cache
from pathlib import Path

from mmengine.logging import print_log

VARIABLE = 'MMSEG_SIGLIP_CACHE'


def cache_folder(name: str) -> Path:
    """The folder for files of one kind, `name` below the first of these that there is.

    1. ``$MMSEG_SIGLIP_CACHE``
    2. ``mmseg_siglip`` below ``$XDG_CACHE_HOME``
    3. ``~/.cache/mmseg_siglip``
    4. without a home folder, one that lasts as long as the process: others could put files into a
       lasting one among the temporary files

    A variable may begin with ``~``; an empty one does not count. The folder may not exist yet.
    """
    given, base = os.environ.get(VARIABLE), os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    try:
        root = Path(given or Path(base, 'mmseg_siglip')).expanduser()
    except RuntimeError:
        root = Path(_of_this_process().name)
    return root / name


@cache
def _of_this_process() -> tempfile.TemporaryDirectory:
    message = f'no home folder: what is cached is lost with this process, unless {VARIABLE} is set'
    print_log(message, logger='current', level=logging.WARNING)
    return tempfile.TemporaryDirectory(prefix='mmseg_siglip-')
