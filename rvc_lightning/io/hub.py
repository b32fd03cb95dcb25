"""Pretrained files of public hub repositories (SPECIFICATION.md, section 15).

huggingface_hub downloads them: it resumes after an interruption, shows progress, and uses its own cache and environment
variables (HF_HOME, HF_ENDPOINT for a mirror, HF_HUB_OFFLINE). Files downloaded by hand are found in `manual_folder()`:

    FOLDER/OWNER/NAME/PATH/FILE
"""

from __future__ import annotations

import csv
import logging
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import huggingface_hub.errors
import huggingface_hub.utils.logging as hub_logging
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

from rvc_lightning.errors import AssetError, ConfigurationError
from rvc_lightning.io.files import sha256
from rvc_lightning.io.processes import command_start

log = logging.getLogger(__name__)

_TABLE = Path(__file__).parents[1] / "assets" / "hub_files.csv"
# Errors of a failed download. The base class of huggingface_hub's errors depends on its version, as does the transfer
# of large files.
_FAILURES: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    RuntimeError,
    *huggingface_hub.errors.HfHubHTTPError.__bases__,
    getattr(huggingface_hub.errors, "XetDownloadError", OSError),
)


class DownloadError(AssetError):
    """A file of a hub cannot be downloaded."""

    def __init__(self, problem: str, alternative: str = "") -> None:
        """Compose the message of the problem and the alternative.

        Args:
            problem: What failed, and how to get the file; kept as an attribute for callers with another alternative.
            alternative: What to do without the file.
        """
        super().__init__(f"{problem} Or: {alternative}" if alternative else problem)
        self.problem = problem


@dataclass(frozen=True)
class HubFile:
    """A file of a hub repository, with its size, digest and licence where known."""

    repository: str
    """OWNER/NAME."""
    path: str
    """Path in the repository."""
    size_bytes: int | None = None
    sha256: str | None = None
    licence: str | None = None
    """Licence that the repository declares; None if unknown."""

    @property
    def url(self) -> str:
        """Download link."""
        return f"https://huggingface.co/{self.repository}/resolve/main/{self.path}"

    @property
    def size(self) -> str:
        """Size as text, such as '181.2 MB'; '?' if unknown."""
        if self.size_bytes is None:
            return "?"
        return f"{self.size_bytes / 1e6:.1f} MB" if self.size_bytes >= 1e6 else f"{self.size_bytes / 1e3:.1f} kB"

    def path_in(self, folder: Path) -> Path:
        """Return the path of the file in a folder of manual downloads."""
        return folder / self.repository / self.path

    def mismatch(self, path: Path) -> str:
        """Describe how the content of `path` differs from the known content; '' if it does not."""
        size_bytes = path.stat().st_size
        if self.size_bytes is not None and size_bytes != self.size_bytes:
            return f"has {size_bytes} bytes instead of {self.size_bytes}"
        if self.sha256 is not None and sha256(path) != self.sha256:
            return f"has unexpected content (its SHA-256 is not {self.sha256[:12]}…)"
        return ""


@cache
def known_files() -> dict[str, HubFile]:
    """Return the files that this project downloads, by name.

    Names are `content/ENCODER/FILE`, `pitch/EXTRACTOR/FILE`, `separation/PART/FILE` or
    `pretrained/GENERATOR/VERSION/RATE/NETWORK`.
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


def select_files(parts: Iterable[str]) -> dict[str, HubFile]:
    """Return the known files whose names contain one of `parts`, delimited by slashes.

    Args:
        parts: 'all', or parts of names, such as 'pitch', 'contentvec' or 'pretrained/hifigan_nsf/v2/40000'.

    Raises:
        ConfigurationError: No name contains a part; the message lists the choices.
    """
    files, selected = known_files(), set()
    for part in parts:
        matches = {name for name in files if part == "all" or f"/{part.strip('/')}/" in f"/{name}/"}
        if not matches:
            choices = sorted({choice for name in files for choice in name.split("/")[:2]})
            raise ConfigurationError(
                f"files={part}: not found; choose all, one of {', '.join(choices)}, or a part of a name in the list "
                "that the command prints without files="
            )
        selected |= matches
    return {name: file for name, file in files.items() if name in selected}


def manual_folder() -> Path:
    """Return the folder of manual downloads, which is searched before the hub's cache: below HF_ASSETS_CACHE."""
    return Path(constants.HF_ASSETS_CACHE) / "rvc_lightning"


def find_file(file: HubFile, folder: Path | None = None) -> Path | None:
    """Return the path of a file on this machine, without checking its content; None if not found.

    Args:
        file: File to find.
        folder: Folder of downloads to search; None searches `manual_folder()` and the hub's cache.
    """
    if (path := file.path_in(folder or manual_folder())).is_file():
        return path
    cached = None if folder else try_to_load_from_cache(file.repository, file.path)
    return Path(cached) if isinstance(cached, str) else None


def fetch(file: HubFile, alternative: str, folder: Path | None = None) -> Path:
    """Return the path of a file on this machine, after downloading it if needed.

    Args:
        file: File to fetch.
        alternative: What a user can do without the file, for the message.
        folder: Folder to download to; None takes a manual download, or uses the hub's cache.

    Raises:
        DownloadError: The file cannot be downloaded, or has the wrong content. A wrong download is removed, a manual
            one is not.
    """
    return _fetch(file, (file,), alternative, folder)


def fetch_folder(files: Sequence[HubFile], alternative: str) -> Path:
    """Return the folder of files that belong together, after downloading those that are missing.

    If some of them were downloaded by hand, the others are added to their folder.

    Args:
        files: Files of one folder of a repository.
        alternative: What a user can do without the files, for the message.

    Raises:
        DownloadError: As in `fetch`; the message names all missing files.
    """
    manual = manual_folder()
    folder = manual if any(file.path_in(manual).is_file() for file in files) else None
    return [_fetch(file, files, alternative, folder) for file in files][-1].parent


def _fetch(file: HubFile, group: Sequence[HubFile], alternative: str, folder: Path | None) -> Path:
    """Fetch `file`, one of a group of files that belong together."""
    path = file.path_in(folder or manual_folder())
    mismatch = file.mismatch(path) if path.is_file() else None
    if mismatch == "":
        return path
    if mismatch and folder is None:
        raise DownloadError(f"'{path}' {mismatch}; remove it, or replace it by {file.url}")
    offline = _offline_reason()
    try:
        path = _download(file, folder, online=not offline)
    except _FAILURES as error:
        reason = offline or str(error).strip().split("\n")[0].rstrip(".")
        missing = [other for other in group if other == file or find_file(other, folder) is None]
        names = " and ".join(f"'{other.path}'" for other in missing)
        raise DownloadError(
            f"{names} of the hub repository '{file.repository}' cannot be downloaded "
            f"({reason}). {_manual_instructions(missing, folder)}",
            alternative,
        ) from error
    if mismatch := file.mismatch(path):
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise DownloadError(
            f"'{file.path}' as downloaded from '{file.repository}' {mismatch}; it was removed. Try again. "
            f"{_manual_instructions([file], folder)}",
            alternative,
        )
    return path


def _download(file: HubFile, folder: Path | None, online: bool) -> Path:
    """Return the path of the file in the hub's cache, after a download if `online`. Raises one of `_FAILURES`."""
    if online and find_file(file, folder) is None:
        log.info("Downloading '%s' (%s) from %s", file.path, file.size, urlsplit(constants.ENDPOINT).hostname)
    local = folder and folder / file.repository
    with _without_warnings():
        return Path(hf_hub_download(file.repository, file.path, local_dir=local, local_files_only=not online))


def _offline_reason() -> str:
    """Return why the hub cannot be reached, before huggingface_hub retries for half a minute; '' if unknown."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = urlsplit(constants.ENDPOINT)
    host = address.hostname or ""
    if {address.scheme, "all"} & getproxies().keys() and not proxy_bypass(host):
        # The proxy resolves names.
        return ""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return (
            f"the host name {host} cannot be resolved; check the network, or set HF_ENDPOINT=https://HOST to a mirror"
        )
    return ""


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence huggingface_hub's warnings about retries at its default verbosity; its progress bars stay."""
    level = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR if level == logging.WARNING else level)
    try:
        yield
    finally:
        hub_logging.set_verbosity(level)


def _manual_instructions(files: Sequence[HubFile], folder: Path | None) -> str:
    """Explain how to get files of one folder of a repository on a machine without a network."""
    target = folder or manual_folder()
    urls, path = " and ".join(file.url for file in files), files[0].path_in(target)
    place = f"as '{path}'" if len(files) == 1 else f"in the folder '{path.parent}'"
    by_browser = f"To download by hand, save {urls} {place}."
    name = next((name for name, known in known_files().items() if known == files[0]), None)
    if name is None:
        return by_browser
    part = "/".join(name.split("/")[1:-1])
    command = f"{command_start('download')} files={part} folder=FOLDER"
    return f"On a machine with a network, run '{command}', and copy FOLDER to '{target}' here. {by_browser}"


def fetch_all(files: Mapping[str, HubFile], folder: Path | None = None) -> None:
    """Fetch files and log the path of each; continue after a failure.

    Args:
        files: Files by name.
        folder: As in `fetch`.

    Raises:
        AssetError: The hub cannot be reached, or some files could not be fetched; the message names them.
    """
    missing = [file for file in files.values() if find_file(file, folder) is None]
    if missing and (reason := _offline_reason()):
        raise AssetError(f"{len(missing)} of {len(files)} file(s) cannot be downloaded: {reason}")
    failures = {}
    for name, file in files.items():
        try:
            path = fetch(file, "choose other files by files=", folder)
        except AssetError as error:
            failures[name] = str(error)
            log.warning("%s: failed", name)
        else:
            log.info("%s: '%s' (licence: %s)", name, path, file.licence or "not stated")
    if failures:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in failures.items())
        raise AssetError(f"{len(failures)} of {len(files)} file(s) could not be downloaded:{reasons}")
