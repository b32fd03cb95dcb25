"""Archives with a bounded table of contents."""

import zipfile

import pytest

from rvc_lightning.io import zips
from rvc_lightning.io.zips import open_zip


def test_archive_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b", b"content")
    with open_zip(tmp_path / "a.zip") as archive:
        assert archive.read("b") == b"content"


def test_large_table_of_contents_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(zips, "_MAX_READ_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(300):
            archive.writestr(f"{number}", b"")
    with pytest.raises(zipfile.BadZipFile, match="table of contents"), open_zip(tmp_path / "a.zip"):
        pass
