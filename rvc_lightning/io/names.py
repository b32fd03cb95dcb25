"""Names of files that all systems accept and distinguish, and paths as users type them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from rvc_lightning.io import processes

_MAX_BYTES = 100
_RESERVED = re.compile(r'[<>:"/\\|?*]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that open a device on Windows."""


def home_path(text: str | Path) -> Path:
    """Expand a leading `~` or `~NAME` to the home folder of the user. Other paths and unknown users stay unchanged."""
    return Path(os.path.expanduser(text))


def is_file_name(text: str) -> bool:
    """Return whether `text` can be the name of a file or folder on this system: not empty, and without separators."""
    if processes.IS_WINDOWS and (_RESERVED.search(text) or is_device(text) or text.endswith((" ", "."))):
        return False
    return text not in ("", ".", "..") and not any(mark in text for mark in "/\\\0")


def is_device(text: str) -> bool:
    """Return whether a name, with or without a suffix, is that of a device on Windows."""
    return _DEVICES.fullmatch(text) is not None


def file_name(text: str) -> str:
    """Return the text as the name of a file that all systems accept, without a suffix."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(character if character.isprintable() else "_" for character in _RESERVED.sub("_", text))
    text = text.encode()[:_MAX_BYTES].decode(errors="ignore").strip(" .")
    return f"_{text}" if is_device(text) or not text else text


def is_portable(text: str) -> bool:
    """Return whether all systems accept `text` as the name of a file or folder, and show it in listings."""
    return file_name(text) == text


def plain_name(text: str, default: str) -> str:
    """Return `text` with only letters, digits, spaces and `_.()-`, which no shell expands; `default` if none are left.

    The end is kept if the text is too long, since it may be a suffix.
    """
    text = re.sub(r"[^\w.() -]", "/", unicodedata.normalize("NFC", text))
    text = text.encode()[-_MAX_BYTES:].decode(errors="ignore").strip(". -/").replace("/", "_") or default
    return f"_{text}" if is_device(text) else text


def folded(name: str) -> str:
    """Return a form of a name or path that is equal for names that a file system may not distinguish."""
    return unicodedata.normalize("NFC", name).casefold()


def numbered_names(files: Sequence[Path]) -> list[str]:
    """Return names that differ on every file system: `a.wav` and `b/A.wav` become `a.wav` and `A (2).wav`."""
    names: dict[str, str] = {}
    for file in files:
        choices = chain([file.name], (f"{file.stem} ({number}){file.suffix}" for number in count(2)))
        name = next(choice for choice in choices if folded(choice) not in names)
        names[folded(name)] = name
    return list(names.values())
