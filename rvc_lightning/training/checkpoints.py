"""Checkpoints of training: written whole or not at all, found again, and read as files from strangers are."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from rvc_lightning.cli.resolvers import CHECKPOINT_FOLDER
from rvc_lightning.errors import OutOfSpaceError, VoiceError
from rvc_lightning.io.files import atomic_path, make_folder
from rvc_lightning.io.pickles import read_pickle

log = logging.getLogger(__name__)

CHECKPOINT_KEY = "rvc_lightning"
"""Key of the metadata of the voice in a checkpoint, plain values."""
AVERAGED_KEY = "averaged_synthesizer"
"""Key of the averaged weights of the synthesizer in a checkpoint, if there are any; names start with `module.`."""
NEXT, LAST, PREVIOUS = "next.ckpt", "last.ckpt", "previous.ckpt"
"""States to go on from, newest first. `next.ckpt` is there for the moment in which the other two move up."""
BEST = "best.ckpt"
"""The state that validation liked best."""
CHECKPOINT_SUFFIX = ".ckpt"

_BESIDE_TENSORS_BYTES = 1 << 20


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, then moves it there.

    Lightning's own way goes through the system's temporary folder, which may be another disk: what a kill leaves of
    the copy then bears the final name. It also holds a second checkpoint in memory.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Saves `checkpoint` as `path`.

        Args:
            checkpoint: Tensors and plain values.
            path: A local file; missing folders are made.
            storage_options: Not used.

        Raises:
            OutOfSpaceError: The disk has no room for it.
            NotWritableError: The folder cannot be made or written to.
        """
        path = Path(path)
        make_folder(path.parent)
        needed, free = size_in_bytes(checkpoint) + _BESIDE_TENSORS_BYTES, shutil.disk_usage(path.parent).free
        if free < needed:
            raise OutOfSpaceError(
                f"no space left for the checkpoint '{path}': it takes {needed / 1e6:.0f} MB and {free / 1e6:.0f} MB "
                f"are free. What was saved before is kept: make room and go on with checkpoint={path.parent}"
            )
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            torch.save(checkpoint, stream)


def size_in_bytes(values: Any) -> int:
    """Bytes of all tensors in nested dicts and lists; tensors that share their memory count once, as in a file."""
    storages = {storage.data_ptr(): storage.nbytes() for storage in map(Tensor.untyped_storage, _tensors(values))}
    return sum(storages.values())


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of this project holds.

    Raises:
        VoiceError: There is none, it is cut short, would run code, or is something else.
    """
    content = read_pickle(path, "checkpoint")
    if CHECKPOINT_KEY in content and "state_dict" in content:
        for place, kinds in _REMEMBERED.items():
            _check_kind(path, content, place, kinds)
        return content
    if "weight" in content:
        raise VoiceError(f"'{path}' is a voice, not a checkpoint: training goes on from a .ckpt of a run folder")
    raise VoiceError(f"'{path}' is no checkpoint of rvc_lightning; it holds {sorted(map(str, content))[:8]}")


_NUMBER = (int, float)
_REMEMBERED: Mapping[str, tuple[type, ...]] = {
    "state_dict": (Mapping,),
    "epoch": (int,),
    CHECKPOINT_KEY: (Mapping,),
    f"{CHECKPOINT_KEY}.synthesizer": (Mapping,),
    f"{CHECKPOINT_KEY}.optimizer_steps": (int,),
    f"{CHECKPOINT_KEY}.voice": (Mapping,),
    f"{CHECKPOINT_KEY}.voice.name": (str,),
    f"{CHECKPOINT_KEY}.voice.content": (Mapping,),
    f"{CHECKPOINT_KEY}.voice.content.name": (str,),
    f"{CHECKPOINT_KEY}.voice.pitch": (Mapping,),
    f"{CHECKPOINT_KEY}.voice.speakers": (list,),
    f"{CHECKPOINT_KEY}.voice.seconds": _NUMBER,
    f"{CHECKPOINT_KEY}.voice.median_f0_hz": (*_NUMBER, NoneType),
    f"{CHECKPOINT_KEY}.voice.dataset": (str,),
}
"""What a checkpoint of a voice holds beside the states of Lightning, and of what type."""


def check_complete(path: Path, content: Mapping[str, Any]) -> None:
    """Refuses a checkpoint that remembers less than a voice takes. Raises VoiceError."""
    for place in _REMEMBERED:
        if _found(content, place) is _NOTHING:
            raise VoiceError(f"'{path}' is damaged, or no checkpoint of a voice: its entry '{place}' is missing")


_NOTHING = object()


def _found(content: Mapping[str, Any], place: str) -> Any:
    """The entry at a place of nested tables, or `_NOTHING`."""
    entry: Any = content
    for key in place.split("."):
        if not isinstance(entry, Mapping) or key not in entry:
            return _NOTHING
        entry = entry[key]
    return entry


def _check_kind(path: Path, content: Mapping[str, Any], place: str, kinds: tuple[type, ...]) -> None:
    """Refuses an entry of the wrong type, where there is one. Raises VoiceError."""
    entry = _found(content, place)
    if entry is not _NOTHING and (not isinstance(entry, kinds) or isinstance(entry, bool)):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise VoiceError(f"'{path}' is damaged: its entry '{place}' is a {type(entry).__name__}, not {expected}")


def find_checkpoint(path: Path) -> Path:
    """Where the checkpoint lies that `path` means; see `open_checkpoint`."""
    return open_checkpoint(path)[0]


def best_checkpoint(path: Path) -> Path:
    """The checkpoint to listen to: of a run folder the one that validation liked best, else its newest; else `path`.

    Raises:
        VoiceError: The folder has none that can be read.
    """
    if not path.is_dir():
        return path
    best = path / CHECKPOINT_FOLDER / BEST
    chosen = best if best.is_file() else find_checkpoint(path)
    log.info("Checkpoint: %s", chosen)
    return chosen


def open_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    """The checkpoint that `path` means and what it holds: itself, or the newest of a run folder or of its checkpoints.

    What cannot be read is named in a warning and the one before is taken.

    Raises:
        VoiceError: There is none that can be read.
    """
    if not path.is_dir():
        return path, read_checkpoint(path)
    folder = path / CHECKPOINT_FOLDER if (path / CHECKPOINT_FOLDER).is_dir() else path
    for candidate in _newest_first(folder):
        try:
            return candidate, read_checkpoint(candidate)
        except VoiceError as error:
            log.warning("%s; taking the one before", error)
    raise VoiceError(f"there is no checkpoint that can be read in '{folder}'")


def _newest_first(folder: Path) -> list[Path]:
    """Checkpoints of a folder: those kept for going on, then the rest by time. What is half written has a dot."""
    kept = [folder / name for name in (NEXT, LAST, PREVIOUS)]
    others = [file for file in folder.glob("*.ckpt") if file not in kept and not file.name.startswith(".")]
    return [file for file in kept if file.is_file()] + sorted(others, key=lambda file: -file.stat().st_mtime)
