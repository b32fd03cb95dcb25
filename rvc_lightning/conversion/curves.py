"""Which pitch curve belongs to which recording of a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.pitch.curve import CURVE_SUFFIXES

log = logging.getLogger(__name__)


def with_curve_of(options: ConversionOptions, recording: Path) -> ConversionOptions:
    """`options` for one recording: where `f0_file` is a folder, with the file of it that belongs to the recording.

    Args:
        options: Of a run.
        recording: Its path below the folder that is converted, or the name of a single file.

    Returns:
        Without a file where the folder has none of this name.

    Raises:
        ConfigurationError: The folder has several files of this name, differing in how they end.
    """
    if options.f0_file is None or not Path(options.f0_file).is_dir():
        return options
    stem = Path(options.f0_file) / recording.with_suffix("")
    found = [path for suffix in CURVE_SUFFIXES if (path := stem.with_name(stem.name + suffix)).is_file()]
    if len(found) > 1:
        names = ", ".join(f"'{path}'" for path in found)
        raise ConfigurationError(f"f0_file: several files belong to '{recording}': {names}; leave one")
    return replace(options, f0_file=str(found[0]) if found else None)


def curve_beside(output: Path) -> Path:
    """Where `write_f0` writes the pitch of the recording that is written to `output`."""
    return output.with_name(output.stem + CURVE_SUFFIXES[0])


def check_curves(recordings: Sequence[Path], options: ConversionOptions) -> None:
    """Compares the curves with the recordings of a run, and says what has no counterpart.

    Args:
        recordings: Their paths below the folder that is converted, or the name of a single file.
        options: Of the run.

    Raises:
        ConfigurationError: `f0_file` does not exist, is one file for several recordings, or a folder in which nothing
            belongs to any of them.
    """
    if options.f0_file is None:
        return
    path = Path(options.f0_file)
    if not path.exists():
        raise ConfigurationError(f"f0_file: there is no file or folder '{path}'")
    if not path.is_dir():
        if len(recordings) > 1:
            raise ConfigurationError(
                f"f0_file: '{path}' is one file for {len(recordings)} recordings; choose a folder with one for each"
            )
        return
    chosen = {recording: with_curve_of(options, recording).f0_file for recording in recordings}
    used = {Path(curve) for curve in chosen.values() if curve is not None}
    if not used:
        raise ConfigurationError(
            f"f0_file: nothing in '{path}' belongs to '{recordings[0]}' or another recording; choose a folder of files "
            f"that are named as these, ending in {', '.join(CURVE_SUFFIXES)}"
        )
    for recording in (recording for recording, curve in chosen.items() if curve is None):
        log.info("No pitch in '%s' for %s: its own is used", path, recording)
    for curve in sorted(path.rglob("*")):
        if curve.name.endswith(CURVE_SUFFIXES) and curve not in used:
            log.warning("No recording belongs to '%s'", curve)
