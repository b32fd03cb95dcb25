"""Names of the outputs and pitch curves of a folder of recordings."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.io.names import folded
from rvc_lightning.pitch.curve import CURVE_SUFFIXES

log = logging.getLogger(__name__)


def unique_stems(recordings: Sequence[Path]) -> dict[Path, Path]:
    """Return a name without extension for each recording, different for each.

    The name is that of the recording without its extension, or with it where others have the same: `a.wav` and `a.flac`
    become `a.wav` and `a.flac`, and `b.ogg` becomes `b`. Names that a disk may not distinguish, because they differ in
    case or in Unicode normalization only, are numbered: `A.wav` and `a.wav` become `A.wav` and `a.wav (2)`.
    """
    stems: dict[Path, Path] = {}
    longer = {recording: recording.with_suffix("") for recording in recordings}
    while longer != stems:
        stems = longer
        counts = Counter(map(_folded, stems.values()))
        longer = {recording: recording if counts[_folded(stem)] > 1 else stem for recording, stem in stems.items()}
    used, seen = set(map(_folded, stems.values())), set()
    for recording, stem in stems.items():
        if (name := _folded(stem)) in seen:
            numbered = (stem.with_name(f"{stem.name} ({number})") for number in count(2))
            stems[recording] = next(candidate for candidate in numbered if _folded(candidate) not in used)
            used.add(_folded(stems[recording]))
        seen.add(name)
    return stems


def _folded(path: Path) -> str:
    return folded(path.as_posix())


def curve_path(output: Path) -> Path:
    """Return the path that `write_f0` writes the pitch of `output` to."""
    return output.with_name(output.stem + CURVE_SUFFIXES[0])


def match_curves(recordings: Sequence[Path], options: ConversionOptions) -> dict[Path, ConversionOptions]:
    """Return the options of each recording: where `f0_file` is a folder, with the file for this recording.

    Logs recordings without a file and files without a recording.

    Args:
        recordings: Paths relative to the folder that is converted, or the name of a single file.
        options: Options of the run.

    Raises:
        ConfigurationError: `f0_file` is not a folder with a file for one of several recordings, or contains several
            files for one.
    """
    if options.f0_file is None:
        return dict.fromkeys(recordings, options)
    path = Path(options.f0_file)
    if len(recordings) == 1 and not path.is_dir():
        return dict.fromkeys(recordings, options)
    curves = _curves_in(path, recordings)
    for recording in recordings:
        if recording not in curves:
            log.info("No pitch in '%s' for %s: using the measured pitch", path, recording)
    matched = set(curves.values())
    for curve in sorted(path.rglob("*")):
        if curve.name.endswith(CURVE_SUFFIXES) and curve not in matched:
            log.warning("No recording matches '%s'", curve)
    return {
        recording: replace(options, f0_file=str(curves[recording]) if recording in curves else None)
        for recording in recordings
    }


def _curves_in(folder: Path, recordings: Sequence[Path]) -> Mapping[Path, Path]:
    """Return the curve in `folder` of each recording that has one."""
    stems = unique_stems(recordings)
    # `song.f0.csv` belongs to `song.wav`, even if a recording `song.f0.wav` exists.
    owners = {_named(folder / stem, CURVE_SUFFIXES[0]): recording for recording, stem in stems.items()}
    curves = {}
    for recording, stem in stems.items():
        # A curve written together with those of other recordings may have the full name.
        for name in dict.fromkeys([stem, recording]):
            paths = [_named(folder / name, suffix) for suffix in CURVE_SUFFIXES]
            matches = [path for path in paths if path.is_file() and owners.get(path, recording) == recording]
            if len(matches) > 1:
                names = ", ".join(f"'{path}'" for path in matches)
                raise ConfigurationError(f"f0_file: several files match '{recording}': {names}; keep one")
            if matches:
                curves[recording] = matches[0]
                break
    if not curves:
        raise ConfigurationError(
            f"f0_file: no file in '{folder}' matches '{recordings[0]}' or another recording; choose a folder of files "
            f"with the names of the recordings, ending in {', '.join(CURVE_SUFFIXES)}, or a file for one recording"
        )
    return curves


def _named(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
