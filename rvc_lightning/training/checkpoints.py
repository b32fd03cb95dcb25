"""Checkpoints of training: written atomically, and read as untrusted files."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from rvc_lightning.cli.resolvers import CHECKPOINT_FOLDER
from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.io.pickles import read_pickle

log = logging.getLogger(__name__)

CHECKPOINT_KEY = "rvc_lightning"
"""Key of the metadata of the voice in a checkpoint, plain values."""
AVERAGED_KEY = "averaged_synthesizer"
"""Key of the averaged weights of the synthesizer in a checkpoint, if it has any; names start with `module.`."""
NEXT, LAST, PREVIOUS = "next.ckpt", "last.ckpt", "previous.ckpt"
"""States to resume from, newest first. `next.ckpt` exists only while the other two are replaced."""
BEST = "best.ckpt"
"""The state with the best validation."""
CHECKPOINT_SUFFIX = ".ckpt"

_RUNS_BELOW = (f"*/{CHECKPOINT_FOLDER}", f"*/*/{CHECKPOINT_FOLDER}")
"""Where runs are below the folder of a voice or of a sweep."""
_MAX_RUNS = 8

_ENTRIES: Mapping[str, type | tuple[type, ...]] = {
    "epoch": int,
    "global_step": int,
    "state_dict": Mapping,
    f"{CHECKPOINT_KEY}.synthesizer": Mapping,
    f"{CHECKPOINT_KEY}.discriminator": Mapping,
    f"{CHECKPOINT_KEY}.optimizer_steps": int,
    f"{CHECKPOINT_KEY}.voice.name": str,
    f"{CHECKPOINT_KEY}.voice.content": Mapping,
    f"{CHECKPOINT_KEY}.voice.content.name": str,
    f"{CHECKPOINT_KEY}.voice.pitch": Mapping,
    f"{CHECKPOINT_KEY}.voice.speakers": list,
    f"{CHECKPOINT_KEY}.voice.seconds": (int, float),
    f"{CHECKPOINT_KEY}.voice.median_f0_hz": (int, float),
    f"{CHECKPOINT_KEY}.voice.dataset": str,
}
"""Required entries of a checkpoint, and their types."""


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
            OutOfSpaceError: The disk is full.
            NotWritableError: The folder cannot be created or written to.
        """
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as stream:
            torch.save(checkpoint, stream)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this project.

    Raises:
        VoiceError: The file does not exist, is truncated or altered, would run code, or is of another kind.
    """
    content = read_pickle(path, "checkpoint")
    if problem := _problem(content):
        raise VoiceError(f"'{path}' {problem}")
    return content


def _problem(content: Mapping[str, Any]) -> str:
    """Return why this is not the content of a checkpoint; '' if it is."""
    if "weight" in content:
        return "is a voice, not a checkpoint: training resumes from a .ckpt of a run folder"
    if CHECKPOINT_KEY not in content:
        return f"is not a checkpoint of rvc_lightning; it contains {', '.join(sorted(map(str, content))[:8])}"
    for name, types in _ENTRIES.items():
        if not isinstance(entry := reduce(_get, name.split("."), content), types):
            return f"is damaged: its entry '{name}' is missing or of the wrong type ({type(entry).__name__})"
    for name in ("state_dict", AVERAGED_KEY):
        weights = content.get(name, {})
        if not isinstance(weights, Mapping) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
            return f"is damaged: its entry '{name}' contains other values than tensors"
    return ""


def _get(table: Any, key: str) -> Any:
    return table.get(key) if isinstance(table, Mapping) else None


def best_checkpoint(path: Path) -> Path:
    """Return the best checkpoint of a run folder by validation, else its newest; or `path` if it is a file.

    Raises:
        VoiceError: The folder has no readable checkpoint.
    """
    if not path.is_dir():
        return path
    best = path / CHECKPOINT_FOLDER / BEST
    checkpoint = best if best.is_file() else open_checkpoint(path)[0]
    log.info("Checkpoint: %s", checkpoint)
    return checkpoint


def open_checkpoint(path: Path) -> tuple[Path, dict[str, Any]]:
    """Read a checkpoint: `path` itself, or the newest one of a run folder or of its folder of checkpoints.

    An unreadable one is reported in a warning, and the previous one is read.

    Returns:
        The path of the file and its content.

    Raises:
        VoiceError: No readable checkpoint was found.
    """
    if not path.is_dir():
        return path, read_checkpoint(path)
    folder = path / CHECKPOINT_FOLDER if (path / CHECKPOINT_FOLDER).is_dir() else path
    for candidate in _newest_first(folder):
        try:
            return candidate, read_checkpoint(candidate)
        except VoiceError as error:
            log.warning("%s; using the previous one", error)
    runs = sorted(str(found.parent) for pattern in _RUNS_BELOW for found in path.glob(pattern))
    choices = f"one of {', '.join(runs[:_MAX_RUNS])}" if runs else "a run folder, runs/NAME/TIME, or a file .ckpt"
    raise VoiceError(f"no readable checkpoint found in '{folder}'; choose {choices}")


def _newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder: those for resuming, then the others by time. Partial files have a dot."""
    last = [folder / name for name in (NEXT, LAST, PREVIOUS)]
    files = [file for file in folder.glob(f"*{CHECKPOINT_SUFFIX}") if file not in last and file.name[0] != "."]
    return [file for file in last if file.is_file()] + sorted(files, key=lambda file: -file.stat().st_mtime)
