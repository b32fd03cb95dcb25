"""Pretrained files of public hub repositories: what they are called, and how one is fetched (specification 15).

Downloads are huggingface_hub's: they resume, show progress, go to its cache, and follow its own environment variables
(HF_HOME, HF_ENDPOINT for a mirror, HF_HUB_OFFLINE).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from huggingface_hub import hf_hub_download

from rvc_lightning.errors import AssetError
from rvc_lightning.files import sha256

_TABLE = Path(__file__).parent / "assets" / "hub_files.csv"


@dataclass(frozen=True)
class HubFile:
    """One file of a hub repository, and what is known of its content."""

    repository: str
    """OWNER/NAME."""
    path: str
    """Inside the repository."""
    size_bytes: int | None = None
    sha256: str | None = None
    licence: str | None = None
    """As its repository declares it; None where that is not known."""

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"https://huggingface.co/{self.repository}/resolve/main/{self.path}"


@cache
def known_files() -> dict[str, HubFile]:
    """The files that this project can fetch by itself.

    Their names: `content/ENCODER/FILE`, `pitch/EXTRACTOR/FILE`, `pretrained/GENERATOR/VERSION/RATE/NETWORK`.
    """
    with _TABLE.open(newline="", encoding="utf-8") as stream:
        return {
            row["name"]: HubFile(
                row["repository"],
                row["path"],
                int(row["bytes"]) if row["bytes"] else None,
                row["sha256"] or None,
                row["licence"] or None,
            )
            for row in csv.DictReader(stream)
        }


def fetch(file: HubFile, otherwise: str) -> Path:
    """The file's place in the local cache; downloaded if it is not there.

    Args:
        file: Which.
        otherwise: What a user can do who has no network, for the message.

    Raises:
        AssetError: It cannot be had, or its content is not what it should be; a wrong file is removed again.
    """
    try:
        path = Path(hf_hub_download(file.repository, file.path))
    except (OSError, ValueError) as error:
        raise AssetError(
            f"'{file.path}' of the hub repository '{file.repository}' cannot be had ({_first_line(error)}). "
            f"It is found at {file.address}. Without a network: {otherwise}"
        ) from error
    if problem := _difference(path, file):
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise AssetError(
            f"'{file.path}' as fetched from '{file.repository}' {problem}; it was removed. Try again, or fetch it "
            f"yourself from {file.address}: {otherwise}"
        )
    return path


def _difference(path: Path, file: HubFile) -> str:
    """How the content of `path` differs from what is known of `file`, or ''."""
    size_bytes = path.stat().st_size
    if file.size_bytes is not None and size_bytes != file.size_bytes:
        return f"has {size_bytes} bytes instead of {file.size_bytes}"
    if file.sha256 is not None and sha256(path) != file.sha256:
        return f"has another content than expected (SHA-256 is not {file.sha256[:12]}…)"
    return ""


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
