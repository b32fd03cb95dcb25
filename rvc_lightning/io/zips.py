"""Untrusted ZIP archives, of which a bounded table of contents is read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAX_READ_BYTES = 16 << 20
"""The table of contents is one read, as is a stored pickle; a voice has a table of some 100 kB."""


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive, of whose table of contents at most 16 MiB are read.

    Raises:
        zipfile.BadZipFile: The table of contents is larger or damaged, or the file is not an archive.
    """
    with _LimitedReads(path) as stream, zipfile.ZipFile(stream) as archive:
        yield archive


class _LimitedReads(io.FileIO):
    """A file that limits the size of a single read, and raises an error for a longer one."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_READ_BYTES:
            raise zipfile.BadZipFile("its table of contents or a pickle in it is far larger than that of any voice")
        return super().read(size)
