"""A folder for all that a server writes, which goes with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmseg_siglip.io.cache import VARIABLE

GRADIO = 'GRADIO_TEMP_DIR'


@contextmanager
def temporary_files() -> Iterator[None]:
    """Keep the embedded words of visitors, and whatever Gradio writes, in a folder of this process.

    Gradio must not have been imported before, as it then knows another folder already.
    """
    with tempfile.TemporaryDirectory(prefix='mmseg_siglip-serve-') as folder:
        os.environ[VARIABLE] = str(Path(folder, 'cache'))
        os.environ[GRADIO] = str(Path(folder, 'gradio'))
        yield
