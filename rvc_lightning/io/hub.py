"""Pretrained files of public hub repositories: what they are called, and how they are fetched (specification 15).

Downloads are huggingface_hub's: they go on after an interruption, show progress, go to its cache, and follow its own
environment variables (HF_HOME, HF_ENDPOINT for a mirror, HF_HUB_OFFLINE). A file that was fetched by hand is found in
`by_hand_folder()`, in the folders of its repository:

    FOLDER/OWNER/NAME/PATH/FILE
"""

from __future__ import annotations

import csv
import logging
import shutil
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

from rvc_lightning.cli.columns import format_columns, pluralize
from rvc_lightning.errors import AssetError, ConfigurationError, OutOfSpaceError
from rvc_lightning.io.files import sha256

log = logging.getLogger(__name__)

_TABLE = Path(__file__).parents[1] / "assets" / "hub_files.csv"
# What a failing download raises. The HTTP library under huggingface_hub changes with its versions, and with it the base
# of its errors; so does the way in which large files travel.
_FAILURES: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    RuntimeError,
    *huggingface_hub.errors.HfHubHTTPError.__bases__,
    getattr(huggingface_hub.errors, "XetDownloadError", OSError),
)


class NotFetchedError(AssetError):
    """A file of a hub cannot be had. The message says how to get it, and what can be done without."""

    def __init__(self, problem: str, otherwise: str = "") -> None:
        super().__init__(f"{problem} Or: {otherwise}" if otherwise else problem)
        self.problem = problem
        """The message without what can be done otherwise, for those who know another way."""


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

    def place_in(self, folder: Path) -> Path:
        """Where it lies in a folder of files that were fetched by hand, or for another machine."""
        return folder / self.repository / self.path


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


def choose(words: Iterable[str]) -> dict[str, HubFile]:
    """The known files whose names have one of `words` in them, as whole parts; 'all' is in every name.

    Args:
        words: Such as 'pitch', 'contentvec', 'pretrained/hifigan_nsf/v2/40000'.

    Raises:
        ConfigurationError: A word is in no name; the message has all that are.
    """
    files, chosen = known_files(), set()
    for word in words:
        found = {name for name in files if word == "all" or f"/{word.strip('/')}/" in f"/{name}/"}
        if not found:
            parts = sorted({part for name in files for part in name.split("/")[:2]})
            raise ConfigurationError(
                f"files={word}: there is no such file; choose all, one of {', '.join(parts)}, or a part of a name in "
                "the list that the command shows without files="
            )
        chosen |= found
    return {name: file for name, file in files.items() if name in chosen}


def by_hand_folder() -> Path:
    """Where files are looked for before the hub is asked: a folder in the place of HF_ASSETS_CACHE."""
    return Path(constants.HF_ASSETS_CACHE) / "rvc_lightning"


def find(file: HubFile, folder: Path | None = None) -> Path | None:
    """Where a file lies on this machine, its content not looked at; None where it does not.

    Args:
        file: Which.
        folder: Where it should lie; None for the hub's cache, or where it was put by hand.
    """
    if (path := file.place_in(folder or by_hand_folder())).is_file():
        return path
    cached = None if folder else try_to_load_from_cache(file.repository, file.path)
    return Path(cached) if isinstance(cached, str) else None


def fetch(file: HubFile, otherwise: str, folder: Path | None = None) -> Path:
    """The file's place on this machine; downloaded if it is not there.

    Args:
        file: Which.
        otherwise: What a user can do who does not have the file, for the message.
        folder: Where to put it; None takes what was put there by hand, or else goes to the hub's cache.

    Raises:
        NotFetchedError: It cannot be had, or its content is not what it should be; what was fetched is removed again.
        AssetError: What was put there by hand has another content.
    """
    return _fetch(file, (file,), otherwise, folder)


def fetch_together(files: Sequence[HubFile], otherwise: str) -> Path:
    """The folder of files that belong together; what is missing of files put there by hand is downloaded to them.

    Args:
        files: Of one folder of a repository.
        otherwise: As of `fetch`.

    Raises:
        NotFetchedError: As of `fetch`; the message names all that are missing.
        AssetError: As of `fetch`.
    """
    by_hand = by_hand_folder()
    folder = by_hand if any(file.place_in(by_hand).is_file() for file in files) else None
    return [_fetch(file, files, otherwise, folder) for file in files][-1].parent


def _fetch(file: HubFile, together: Sequence[HubFile], otherwise: str, folder: Path | None) -> Path:
    """`fetch` of one of the files that belong together."""
    if (found := _put_by_hand(file, folder)) is not None:
        return found
    unreachable = _unreachable()
    try:
        path = _download(file, folder, ask=not unreachable)
    except _FAILURES as error:
        missing = [other for other in together if other == file or find(other, folder) is None]
        names = _listed(f"'{other.path}'" for other in missing)
        raise NotFetchedError(
            f"{names} of the hub repository '{file.repository}' cannot be had ({unreachable or _first_line(error)}). "
            f"{_by_hand(missing, folder)}",
            otherwise,
        ) from error
    if problem := _difference(path, file):
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        what = f"'{file.path}' as fetched from '{file.repository}'"
        raise NotFetchedError(f"{what} {problem}; it was removed. Try again. {_by_hand([file], folder)}", otherwise)
    return path


def _put_by_hand(file: HubFile, folder: Path | None) -> Path | None:
    """Where a file was put before, if it is as it should be. Raises AssetError for a user's own that is not."""
    place = file.place_in(folder or by_hand_folder())
    problem = _difference(place, file) if place.is_file() else None
    if problem and folder is None:
        raise AssetError(f"'{place}' {problem}; remove it, or put there what is found at {file.address}")
    return place if problem == "" else None


def _download(file: HubFile, folder: Path | None, ask: bool) -> Path:
    """The file from the hub's cache, or from the hub unless `ask` is False. Raises one of `_FAILURES`."""
    if ask and find(file, folder) is None:
        log.info("Fetching '%s' (%s) from %s", file.path, _size(file), urlsplit(constants.ENDPOINT).hostname)
    local = folder and folder / file.repository
    with _quiet():
        return Path(hf_hub_download(file.repository, file.path, local_dir=local, local_files_only=not ask))


def _unreachable() -> str:
    """Why it is of no use to ask the hub, or ''. Asked nevertheless, its library would try for half a minute."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = urlsplit(constants.ENDPOINT)
    host = address.hostname or ""
    if {address.scheme, "all"} & getproxies().keys() and not proxy_bypass(host):
        # A proxy looks names up by itself.
        return ""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return f"the name {host} is not found: is there a network? HF_ENDPOINT=https://HOST names a mirror"
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what huggingface_hub says of each attempt, unless HF_HUB_VERBOSITY asks for more; its bars stay."""
    level = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR if level == logging.WARNING else level)
    try:
        yield
    finally:
        hub_logging.set_verbosity(level)


def _by_hand(files: Sequence[HubFile], folder: Path | None) -> str:
    """How files of one folder of a repository come here without this machine's network."""
    here = folder or by_hand_folder()
    addresses, place = _listed(file.address for file in files), files[0].place_in(here)
    if len(files) == 1:
        told = f"It is found at {addresses}; fetched by hand, it belongs to '{place}'."
    else:
        told = f"They are found at {addresses}; fetched by hand, they belong to the folder '{place.parent}'."
    if not (word := _word_for(files[0])):
        return told
    command = f"python -m rvc_lightning.download files={word} folder=FOLDER"
    return f"On a machine with a network '{command}' fetches what belongs to '{here}' here. {told}"


def _word_for(file: HubFile) -> str:
    """What `choose` takes for a known file and those that belong to it, such as contentvec; '' for any other file."""
    name = next((name for name, known in known_files().items() if known == file), "")
    return "/".join(name.split("/")[1:-1])


def _listed(words: Iterable[str]) -> str:
    return " and ".join(words)


def fetch_all(files: Mapping[str, HubFile], folder: Path | None = None) -> None:
    """Fetches files one after the other, and says where each lies; one that fails does not stop the others.

    Args:
        files: By name.
        folder: As of `fetch`.

    Raises:
        OutOfSpaceError: There is no room for them; nothing was fetched.
        AssetError: The hub cannot be reached, or some cannot be had or have another content, and are named.
    """
    missing = [file for file in files.values() if find(file, folder) is None]
    if missing and (reason := _unreachable()):
        raise AssetError(f"{len(missing)} of {pluralize(len(files), 'file')} cannot be fetched: {reason}")
    _check_space(missing, folder)
    failures = {}
    for name, file in files.items():
        try:
            path = fetch(file, "do without it and choose others by files=", folder)
        except AssetError as error:
            failures[name] = str(error)
            log.warning("%s: failed", name)
        else:
            log.info("%s: '%s' (licence: %s)", name, path, file.licence or "not stated")
    if failures:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in failures.items())
        raise AssetError(f"{len(failures)} of {len(files)} files were not fetched:{reasons}")


def table(files: Mapping[str, HubFile], folder: Path | None = None) -> str:
    """What is known of files, a line each, and whether they are on this machine."""
    rows = [("name", "here", "size", "licence", "repository", "file")]
    for name, file in files.items():
        here = "no" if find(file, folder) is None else "yes"
        rows.append((name, here, _size(file), file.licence or "not stated", file.repository, file.path))
    return "\n".join(format_columns(rows, numbers=False))


def _size(file: HubFile) -> str:
    if file.size_bytes is None:
        return "?"
    return f"{file.size_bytes / 1e6:.1f} MB" if file.size_bytes >= 1e6 else f"{file.size_bytes / 1e3:.1f} kB"


def _check_space(missing: Iterable[HubFile], folder: Path | None) -> None:
    """Raises OutOfSpaceError if files, as far as their sizes are known, need more room than there is."""
    needed = sum(file.size_bytes or 0 for file in missing)
    target = (folder or Path(constants.HF_HUB_CACHE)).absolute()
    disk = next(place for place in (target, *target.parents) if place.exists())
    free = shutil.disk_usage(disk).free
    if needed > free:
        raise OutOfSpaceError(
            f"the files need {needed / 1e9:.1f} GB, and '{disk}' has {free / 1e9:.1f} GB left; choose fewer by files=, "
            "or another place by folder= or HF_HOME"
        )


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
