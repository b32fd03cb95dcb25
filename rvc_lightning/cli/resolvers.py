"""What the configuration files refer to besides each other: registered with Hydra and OmegaConf before Hydra composes.

Imported by every command, so nothing heavy is imported here.
"""

from __future__ import annotations

import os
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from rvc_lightning.cli import help_page as pages
from rvc_lightning.conversion.options import default_values, help_text
from rvc_lightning.errors import ConfigurationError

ASSETS = Path(__file__).parents[1] / "assets"
"""What ships with the package."""

DEMO_FOLDER = ASSETS / "demo"
"""The recordings that ship with the package."""

CHECKPOINT_FOLDER = "checkpoints"
"""Where a run folder keeps its checkpoints."""


def name_of(audio: str | float | None) -> str:
    """Name of a voice by its recordings: that of the folder, or of the file without extension.

    Bytes that are no text become U+FFFD, so that the name can be written into files.

    Raises:
        ConfigurationError: `audio` is a list or a table.
    """
    if audio is None:
        return "voice"
    path = _path("the recordings", audio).resolve()
    if path == DEMO_FOLDER.resolve() / "target":
        return "quickstart"
    name = path.stem if path.is_file() else path.name
    return os.fsencode(name).decode("utf-8", "replace") or "voice"


def _path(what: str, value: object) -> Path:
    """A setting as a path. Raises ConfigurationError for lists and tables."""
    if not isinstance(value, str | int | float):
        raise ConfigurationError(f"{value}: expected one path for {what}")
    return Path(os.path.expanduser(str(value)))


def demo(part: str) -> str:
    """Path of a part of the demo: target, source or counterpart."""
    return str(DEMO_FOLDER / part)


def shipped(path: str) -> str:
    """Path of a file that ships with the package, by its place among the assets."""
    return str(ASSETS / path)


def counterpart_of(audio: str | float | None) -> str | None:
    """Folder where the demo's target voice reads the source's sentences; None unless `audio` is that voice."""
    is_demo = audio is not None and _path("the recordings", audio) == DEMO_FOLDER / "target"
    return demo("counterpart") if is_demo else None


def run_folder(checkpoint: str | float | None, new: str) -> str:
    """Where a run writes: `new`, or the run folder that `checkpoint` names, which it goes on in.

    Args:
        checkpoint: A run folder or its checkpoints folder; a single file, or None, begins a new run.
        new: Folder of a new run.
    """
    if checkpoint is not None and (path := _path("the checkpoint", checkpoint)).is_dir():
        if path.name == CHECKPOINT_FOLDER:
            return str(path.parent)
        if (path / CHECKPOINT_FOLDER).is_dir():
            return str(path)
    return new


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def help_page(command: str, *explained: str, _root_: DictConfig) -> str:
    """What `--help` shows of a command, for Hydra's template of it; the arguments are those of `help_page.page`."""
    return pages.page(command, explained, _root_).replace("$", "$$")


def conversion_help() -> str:
    """The options of a conversion, each with its default and its meaning, for `--help`."""
    return help_text().replace("$", "$$")


def register() -> None:
    """Makes the resolvers known to OmegaConf, and the options of a conversion to Hydra as `conversion_options`."""
    for resolver in (name_of, demo, shipped, counterpart_of, run_folder, cores, help_page, conversion_help):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
    ConfigStore.instance().store("conversion_options", default_values())
