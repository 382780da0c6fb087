"""Tar files."""

from __future__ import annotations

import io
import tarfile


def write_tar(path, members):
    """Write names and bytes; returns `path`."""
    with tarfile.open(path, 'w') as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path
