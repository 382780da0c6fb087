"""A folder that one set of settings fills, over as many runs as it takes."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from mmseg_siglip.io.files import write_atomically
from mmseg_siglip.io.manifest import (
    MANIFEST,
    manifest_of,
    read_manifest,
    refuse_other_settings,
    refuse_strange,
)

LOCK = '.lock'


class OutputFolder:
    """Keeps runs apart that must not mix.

    The processes of a run share the folder's lock, which the system takes from a process however
    it ends, so a process that outlives its run keeps the next one out. Locks are those of
    ``fcntl``: no forked process inherits them, and network file systems have them too.

    Args:
        path: The folder; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO | None = None

    def claim(self, settings: Mapping[str, Any], *, afresh: bool = False) -> None:
        """Lock the folder for this run, and see that its settings are `settings`.

        Args:
            settings: Plain values.
            afresh: Remove what earlier runs left.

        Raises:
            ValueError: Another run is at work in it, or it was filled with other settings.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / LOCK).open('a+')
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f'{self.path}: another run is at work in this folder') from None
        for item in self.path.iterdir() if afresh else ():
            if item.is_dir():
                shutil.rmtree(item)
            elif item.name != LOCK:
                item.unlink()
        self._check(json.loads(json.dumps(settings)))

    def share(self) -> None:
        """Let the other processes of this run in; they call it too."""
        self._lock = self._lock or (self.path / LOCK).open('a+')
        fcntl.lockf(self._lock, fcntl.LOCK_SH)

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def _check(self, settings: dict[str, Any]) -> None:
        path = self.path / MANIFEST
        if not path.exists():
            refuse_strange(str(self.path), [item.name for item in self.path.iterdir()])
            write_atomically(manifest_of(settings), path)
            return
        found = read_manifest(path.read_text(encoding='utf-8'), str(path))
        refuse_other_settings(str(self.path), found, settings)
