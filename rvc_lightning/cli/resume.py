"""Resume a run with the settings that it was started with, except for those typed anew.

A later version of the package may have other defaults. Settings that determine the result keep those of the run.

Saved settings are data: a run folder may come from a stranger. Only values of known settings and names of choices are
read; targets, Hydra's own settings, interpolations and new keys are ignored.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rvc_lightning.cli.overrides import format_override, parse_overrides
from rvc_lightning.cli.resolvers import run_folder
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.files import atomic_path

log = logging.getLogger(__name__)

OVERRIDES = Path(".hydra") / "overrides.yaml"
"""The saved settings of a run, in its folder: a list of overrides."""

CONFIGURATION = Path(".hydra") / "config.yaml"
"""The whole configuration of a run, in its folder: for people, for the page, and for the defaults of the run."""

SEARCH_PATH = "hydra.searchpath="
"""Start of the override for folders with further configuration files."""

_RECIPE = (
    *("seed", "speakers", "include", "exclude", "slicing", "pitch", "content", "preparation"),
    *("data", "model", "optimizer", "scheduler"),
)
"""Settings and groups that determine the result of a run, whose defaults it keeps."""

_ADDED_GROUPS = ("experiment", "debug")
"""Groups that a command line adds by '+', whose choices are names of files."""


def with_saved_settings(config: DictConfig, config_name: str = "train") -> DictConfig:
    """Return the configuration of a run that resumes: its defaults, its saved settings, then the overrides typed now.

    Args:
        config: Configuration composed from the overrides typed now.
        config_name: Name of the command's configuration file.

    Returns:
        A new configuration if `config.checkpoint` names a run folder with saved settings, else `config`.

    Raises:
        ConfigurationError: The saved settings do not fit this version of the package.
    """
    path = Path(run_folder(config.checkpoint, "")) / OVERRIDES
    if config.checkpoint is None or is_sweep() or not path.is_file():
        return config
    typed = typed_overrides()
    try:
        saved = read_saved_overrides(path)
        parsed = parse_overrides(typed)
        remaining = [override.input_line for key, override in saved.items() if key not in parsed]
        resumed = compose(config_name, overrides=[*_search_path(), *filter(None, remaining), *typed])
        if (recipe := path.with_name(CONFIGURATION.name)).is_file():
            texts = [override.input_line for override in saved.values()]
            untyped = compose(config_name, overrides=[*_search_path(), *filter(None, texts)])
            _keep_defaults(resumed, untyped, OmegaConf.load(recipe), parsed)
        return resumed
    except (HydraException, OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"the settings saved in '{path.parent}' cannot be used: {reason}. Type the settings of the run and name "
            "its checkpoint, checkpoint=FOLDER/checkpoints/last.ckpt, or remove the folder"
        ) from error


def _keep_defaults(resumed: DictConfig, untyped: DictConfig, recipe: Any, typed: Iterable[str]) -> None:
    """Replace the defaults of this version in `resumed` by those of the run, and log them.

    Args:
        resumed: Configuration to change.
        untyped: Configuration without the overrides typed now.
        recipe: Saved configuration of the run.
        typed: Keys of the overrides typed now.
    """
    new, current, saved = (dict(_recipe_values(config)) for config in (resumed, untyped, recipe))
    kept = {
        key: value
        for key, value in saved.items()
        # The default has changed, and the overrides typed now do not concern it.
        if new.get(key, value) == current.get(key, value) != value
        and not ("${" in str(value) or _has_target(value))
        and not any(f"{key}.".startswith(f"{name}.") for name in typed)
    }
    for key, value in kept.items():
        OmegaConf.update(resumed, key, value)
    if kept:
        changes = ", ".join(f"{format_override(key, value)} (default: {new[key]})" for key, value in kept.items())
        log.info("The run keeps its settings whose defaults have changed: %s", changes)
    if gone := sorted(saved.keys() - current.keys()):
        log.info("Ignoring settings of the run that no longer exist: %s", ", ".join(gone))


def _recipe_values(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the settings that determine the result of a run, and their values with interpolations as written."""
    values: Any = OmegaConf.to_container(config, resolve=False)
    pending = [(name, values[name]) for name in _RECIPE if name in values]
    for key, value in pending:
        if isinstance(value, dict):
            pending += [(f"{key}.{name}", item) for name, item in value.items() if not str(name).startswith("_")]
        else:
            yield key, value


def typed_overrides() -> list[str]:
    """Return the overrides of this command line, with interpolations as typed; none outside of a command."""
    if not HydraConfig.initialized():
        return []
    overrides = OmegaConf.to_container(HydraConfig.get().overrides, resolve=False)
    assert isinstance(overrides, dict)
    return overrides["task"]


def _search_path() -> list[str]:
    """Return the override of this command line that makes Hydra search further folders, for experiments in them."""
    return [text for text in HydraConfig.get().overrides.hydra if text.startswith(SEARCH_PATH)]


def is_sweep() -> bool:
    """Return whether this run is a job of a Hydra sweep (--multirun)."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def read_saved_overrides(path: Path) -> dict[str, Override]:
    """Read the saved overrides of a run and return those that are data, by key; log the others.

    Raises:
        HydraException: An override is malformed.
        YAMLError: The file is not YAML.
    """
    overrides = _read_all(path)
    for key, override in overrides.items():
        text = override.input_line
        if _reads_environment(override):
            log.warning("Ignoring '%s', which reads the environment: type it again if it still applies", text)
        elif not _is_data(key, override):
            log.warning("Ignoring '%s' in '%s': saved settings may only set known values", text, path)
    return {key: override for key, override in overrides.items() if _is_data(key, override)}


def _read_all(path: Path) -> dict[str, Override]:
    """Read all saved overrides of a run, by key."""
    # Unresolved: an interpolation would otherwise read this machine's environment.
    texts = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return parse_overrides([text for text in texts if isinstance(text, str)])  # type: ignore[union-attr]


def _reads_environment(override: Override) -> bool:
    return "oc.env" in (override.input_line or "")


def _is_data(key: str, override: Override) -> bool:
    """Return whether an override only sets a known setting or chooses a file of a known group."""
    text = override.input_line or ""
    if "${" in text or override.is_sweep_override() or _has_target(override.value()):
        return False
    if any(name.startswith(("_", "hydra")) for name in re.split("[./@]", key)):
        return False
    if override.is_add() and key in _ADDED_GROUPS:
        return re.fullmatch(r"[\w-]+", str(override.value())) is not None
    return not (override.is_add() or override.is_force_add() or override.is_delete())


def _has_target(value: object) -> bool:
    """Return whether a value contains a key such as `_target_`, which Hydra would act on."""
    if isinstance(value, dict):
        return any(str(key).startswith("_") or _has_target(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_has_target, value))


def save_settings(config: DictConfig, folder: Path, found: Mapping[str, int] = MappingProxyType({})) -> None:
    """Write the settings of a run into its folder: the overrides to resume with, and the whole configuration.

    `found` are settings that the run has found itself. They are saved in place of those typed.

    Interpolations are saved by value, except those that read the environment, which may hold secrets: they are saved as
    typed, and reported when the run resumes.
    """
    if not HydraConfig.initialized():
        return
    path = folder / OVERRIDES
    saved = _read_all(path) if path.is_file() else {}
    typed = parse_overrides(typed_overrides())
    lines = [
        override.input_line
        for key, override in saved.items()
        if key not in typed and key not in found and (_is_data(key, override) or _reads_environment(override))
    ]
    kept = {key: override for key, override in typed.items() if key != "checkpoint" and key not in found}
    lines += [_saved_form(config, key, override) for key, override in kept.items()]
    lines += [format_override(key, value) for key, value in found.items()]
    for file, content in ((path, OmegaConf.create(lines)), (folder / CONFIGURATION, config)):
        with atomic_path(file) as temporary:
            temporary.write_text(OmegaConf.to_yaml(content), encoding="utf-8")


def _saved_form(config: DictConfig, key: str, override: Override) -> str:
    """Return the text to save for a typed override."""
    text = override.input_line or ""
    if "${" not in text or _reads_environment(override):
        return text
    return format_override(key, OmegaConf.select(config, key))
