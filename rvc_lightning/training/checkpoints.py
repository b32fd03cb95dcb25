"""Checkpoints of training: written atomically, and read as files from strangers."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from types import NoneType
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from rvc_lightning.cli.overrides import format_override
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
"""States to resume from, newest first. `next.ckpt` exists only while the other two are replaced."""
BEST = "best.ckpt"
"""The state with the best validation."""
CHECKPOINT_SUFFIX = ".ckpt"

_OVERHEAD_BYTES = 1 << 20


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file in its folder, then renames it.

    Lightning writes to the temporary folder of the system, which may be on another disk: a kill may then leave a
    partial copy under the final name. It also keeps a second copy in memory.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Save `checkpoint` to a local file; missing folders are created, and `storage_options` are not used.

        Raises:
            OutOfSpaceError: There is not enough space on the disk.
            NotWritableError: The folder cannot be created or written to.
        """
        path = Path(path)
        make_folder(path.parent)
        needed, free = size_in_bytes(checkpoint) + _OVERHEAD_BYTES, shutil.disk_usage(path.parent).free
        if free < needed:
            resume = quote(format_override("checkpoint", path.parent))
            raise OutOfSpaceError(
                f"no space left for the checkpoint '{path}': it takes {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB "
                f"are free. Earlier checkpoints are kept: free some space and resume with {resume}"
            )
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            torch.save(checkpoint, stream)


def size_in_bytes(values: Any) -> int:
    """Return the bytes of all tensors in nested dicts and lists; shared storage counts once, as in a file."""
    storages = {storage.data_ptr(): storage.nbytes() for storage in map(Tensor.untyped_storage, _tensors(values))}
    return sum(storages.values())


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping | list | tuple):
        for value in values.values() if isinstance(values, Mapping) else values:
            yield from _tensors(value)


_NUMBER = (int, float)
_ENTRIES: Mapping[str, tuple[type, ...]] = {
    "state_dict": (Mapping,),
    "epoch": (int,),
    CHECKPOINT_KEY: (Mapping,),
    f"{CHECKPOINT_KEY}.synthesizer": (Mapping,),
    f"{CHECKPOINT_KEY}.discriminator": (Mapping,),
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
"""Entries of a checkpoint that export needs, and their types."""
_MISSING = object()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this project.

    Raises:
        VoiceError: The file does not exist, is truncated or altered, would run code, or is of another kind.
    """
    content = read_pickle(path, "checkpoint")
    if CHECKPOINT_KEY in content and "state_dict" in content:
        for name, types in _ENTRIES.items():
            entry = _entry(content, name)
            if entry is not _MISSING and (not isinstance(entry, types) or isinstance(entry, bool)):
                expected = " or ".join(kind.__name__ for kind in types)
                raise VoiceError(f"'{path}' is damaged: its entry '{name}' is {type(entry).__name__}, not {expected}")
        for key in ("state_dict", AVERAGED_KEY):
            weights = content.get(key, {})
            if not isinstance(weights, Mapping) or not all(isinstance(one, Tensor) for one in weights.values()):
                raise VoiceError(f"'{path}' is damaged: its entry '{key}' contains other values than tensors")
        return content
    if "weight" in content:
        raise VoiceError(f"'{path}' is a voice, not a checkpoint: training resumes from a .ckpt of a run folder")
    raise VoiceError(
        f"'{path}' is not a checkpoint of rvc_lightning; it contains {', '.join(sorted(map(str, content))[:8])}"
    )


def check_complete(path: Path, content: Mapping[str, Any]) -> None:
    """Check that a checkpoint has all entries of a voice. Raises VoiceError."""
    for name in _ENTRIES:
        if _entry(content, name) is _MISSING:
            raise VoiceError(f"'{path}' is damaged, or not a checkpoint of a voice: its entry '{name}' is missing")


def _entry(content: Mapping[str, Any], name: str) -> Any:
    """Return an entry of nested dicts by its dotted name; `_MISSING` if there is none."""
    entry: Any = content
    for key in name.split("."):
        if not isinstance(entry, Mapping) or key not in entry:
            return _MISSING
        entry = entry[key]
    return entry


def find_checkpoint(path: Path) -> Path:
    """Return the path of the checkpoint that `open_checkpoint` reads."""
    return open_checkpoint(path)[0]


def best_checkpoint(path: Path) -> Path:
    """Return the best checkpoint of a run folder by validation, else its newest; or `path` if it is a file.

    Raises:
        VoiceError: The folder has no readable checkpoint.
    """
    if not path.is_dir():
        return path
    best = path / CHECKPOINT_FOLDER / BEST
    checkpoint = best if best.is_file() else find_checkpoint(path)
    log.info("Checkpoint: %s", checkpoint)
    return checkpoint


def open_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    """Read a checkpoint: `path` itself, or the newest one of a run folder or of its folder of checkpoints.

    An unreadable one is reported in a warning, and the one before is read.

    Returns:
        The path of the file and its content.

    Raises:
        VoiceError: There is no readable checkpoint.
    """
    if not path.is_dir():
        return path, read_checkpoint(path)
    folder = path / CHECKPOINT_FOLDER if (path / CHECKPOINT_FOLDER).is_dir() else path
    for candidate in _newest_first(folder):
        try:
            return candidate, read_checkpoint(candidate)
        except VoiceError as error:
            log.warning("%s; using the one before", error)
    raise VoiceError(f"there is no readable checkpoint in '{folder}'")


def _newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder: those for resuming, then the others by time. Partial files have a dot."""
    last = [folder / name for name in (NEXT, LAST, PREVIOUS)]
    others = [file for file in folder.glob(f"*{CHECKPOINT_SUFFIX}") if file not in last and file.name[0] != "."]
    return [file for file in last if file.is_file()] + sorted(others, key=lambda file: -file.stat().st_mtime)
