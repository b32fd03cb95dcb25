"""Resolvers that the configuration files use, registered before Hydra composes.

Every command imports this module, so it imports no heavy ones.
"""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rvc_lightning.cli import help_page as pages
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.disk import write_error
from rvc_lightning.io.names import is_file_name

ASSETS = Path(__file__).parents[1] / "assets"
"""Files that ship with the package."""

DEMO_FOLDER = ASSETS / "demo"
"""Recordings that ship with the package."""

CHECKPOINT_FOLDER = "checkpoints"
"""Name of the folder of checkpoints in a run folder."""


def name_of(audio: str | float | None) -> str:
    """Return the default name of a voice: the name of the folder of recordings, or the stem of the file.

    Bytes that are not UTF-8 become U+FFFD, so that the name can be written into files.
    """
    if audio is None:
        return "voice"
    path = Path(user_path(audio)).resolve()
    if path == DEMO_FOLDER.resolve() / "target":
        return "quickstart"
    name = path.stem if path.is_file() else path.name
    return os.fsencode(name).decode("utf-8", "replace") or "voice"


def folder_name(name: str | float | None) -> str:
    """Return `name` if it is a valid name of a folder.

    Raises:
        ConfigurationError: It is empty, a path, a list or a table.
    """
    if not is_file_name(str(name)) or not isinstance(name, str | int | float):
        raise ConfigurationError(
            f"name={name}: folders and files are named after it, so it cannot be empty, a path or a list; "
            "paths.root=FOLDER chooses another place"
        )
    return str(name)


def user_path(path: str | float) -> str:
    """Return a path with `~` expanded."""
    return os.path.expanduser(str(path))


def demo(part: str) -> str:
    """Return the folder of a part of the demo: target, source or counterpart."""
    return str(DEMO_FOLDER / part)


def shipped(path: str) -> str:
    """Return the path of a file that ships with the package, relative to the assets."""
    return str(ASSETS / path)


def counterpart_of(audio: str | float | None) -> str | None:
    """Return the folder of the demo's source sentences read by the target; None for other recordings."""
    is_demo = audio is not None and Path(user_path(audio)) == DEMO_FOLDER / "target"
    return demo("counterpart") if is_demo else None


def run_folder(checkpoint: str | float | None, new: str) -> str:
    """Return the folder of a run: the run folder that `checkpoint` names, in which it resumes, else `new`.

    Args:
        checkpoint: A run folder or its checkpoints folder; a single file, or None, starts a new run.
        new: Folder of a new run.
    """
    if checkpoint is None:
        return new
    path = Path(user_path(checkpoint))
    try:
        if path.name == CHECKPOINT_FOLDER and path.is_dir():
            return str(path.parent)
        return str(path) if (path / CHECKPOINT_FOLDER).is_dir() else new
    except OSError as error:
        raise write_error(error) or error from error


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fastest_precision(accelerator: str) -> str:
    """Return bf16-mixed if the run uses a CPU with matrix units for bfloat16 (AMX), else 32-true.

    Other CPUs convert each bfloat16 operand, which is slower than float32. A torch that cannot report the units of the
    CPU is older than 2.9.
    """
    import torch

    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    units = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16-mixed" if on_cpu and units.get("amx_bf16") else "32-true"


def help_page(command: str, *explained: str, _root_: DictConfig) -> str:
    """Return the help of a command for Hydra's template; the arguments are those of `help_page.page`."""
    return pages.page(command, explained, _root_).replace("$", "$$")


def register() -> None:
    """Register the resolvers with OmegaConf."""
    paths = name_of, folder_name, user_path, demo, shipped, counterpart_of, run_folder
    for resolver in (*paths, cores, fastest_precision, help_page):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
