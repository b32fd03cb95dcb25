"""Find the index beside a voice by the names that RVC tools use (SPECIFICATION.md, section 11.1)."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path

from rvc_lightning.io.kinds import VOICE_SUFFIXES
from rvc_lightning.retrieval.index_file import INDEX_SUFFIX

log = logging.getLogger(__name__)

# Exports of training: NAME_e100_s2000 (WebUI), NAME_100e_2000s and NAME_100e_2000s_best_epoch (Applio), NAME_best
# (ultimate-rvc).
_EXPORT = re.compile(r"(?P<name>.+?)(_e\d+(_s\d+)?|_\d+e(_\d+s)?|_best(_epoch)?)+", re.IGNORECASE)
# Copies of a download: 'NAME (1)', 'NAME(1)', 'NAME - Copy', 'NAME copy 2', 'Copy of NAME'.
_COPY = re.compile(r"(copy of )?(?P<name>.+?)(\s*\(\d+\)|\s-\scopy|\scopy(\s\d+)?)*", re.IGNORECASE)
_LISTS, _VERSION = r"IVF\d+_Flat(_nprobe_\d+)?", r"(_v\d+)?"
# Indexes of one speaker each, which the WebUI writes for voices of several.
_SPEAKER = re.compile(r"(?P<family>.+)_spkid(?P<speaker>\d{1,6})", re.IGNORECASE)
_UNNAMED = re.compile(rf"(added|index|(added_)?{_LISTS}){_VERSION}", re.IGNORECASE)
_DECORATION = re.compile(rf"(?<![^_])(added|index|{_LISTS}|v\d+|spkid\d+)(?![^_])", re.IGNORECASE)
# The first index of each pair that the WebUI writes, which has no vectors.
_EMPTY = re.compile(r"trained_.*", re.IGNORECASE)
# Checkpoints of training, which are no voices.
_TRAINING = re.compile(r"[GD]_\d+", re.IGNORECASE)


def find_index(voice: Path) -> Path | None:
    """Return the index that belongs to a voice; None if not found, or if no index certainly belongs to it.

    In order of preference, for a voice NAME.pth:

        NAME.index
        added_IVF…_Flat_nprobe_…_NAME_v2.index and added_NAME_v2.index
        NAME_IVF…_Flat_nprobe_….index and NAME_added_IVF…_Flat_nprobe_…_NAME_v2.index

    each also with the suffix _spkidN, where the index of the first speaker is returned (`speaker_indexes`), and then
    the same for NAME without the suffix of an export of training, such as NAME_e100_s2000. After exact names, names
    match that differ in case, in underscores for spaces, or in marks of copies, such as 'NAME (1)'. An index without a
    name, such as added_IVF…_Flat_nprobe_1.index, belongs to the only voice in its folder.

    Of several equally good matches the last by name is returned, with a warning.
    """
    files = list_indexes(voice.parent)
    for pattern, normalize in _name_patterns(voice.stem):
        matches = [path for path in files if pattern.fullmatch(normalize(path.stem))]
        if matches:
            return _choose(voice, matches)
    unnamed = [path for path in files if _UNNAMED.fullmatch(_loose(path.stem))]
    if unnamed and len({_loose(_base_name(path.stem)) for path in _voices_beside(voice)}) <= 1:
        return _choose(voice, unnamed)
    return None


def speaker_indexes(index: Path) -> dict[int, Path]:
    """Return the indexes of the same voice by row of the speaker; {} if an index is not of a single speaker.

    Args:
        index: An index. The others are beside it, with the same name except for speaker and number of lists:

            added_IVF256_Flat_nprobe_1_NAME_v2_spkid0.index
            added_IVF128_Flat_nprobe_1_NAME_v2_spkid1.index
    """
    family, speaker = _family(index)
    if speaker is None:
        return {}
    others = ((path, *_family(path)) for path in list_indexes(index.parent))
    return {row: path for path, name, row in others if name == family and row is not None}


def _family(index: Path) -> tuple[str, int | None]:
    """Return the name of an index without speaker and number of lists, and the row of the speaker if it has one."""
    match = _SPEAKER.fullmatch(_normalized(index.stem))
    name = match["family"] if match else _normalized(index.stem)
    return re.sub(_LISTS, "", name), int(match["speaker"]) if match else None


def speaker_of(index: str) -> int | None:
    """Return the row of the speaker in the stem of an index; None if it is not of a single speaker."""
    return _family(Path(index))[1]


def list_indexes(folder: Path) -> list[Path]:
    """Return all indexes in a folder, sorted, without the empty ones of the WebUI."""
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() == INDEX_SUFFIX and path.is_file())
    return [path for path in files if not _EMPTY.fullmatch(path.stem)]


def list_candidates(voice: Path) -> list[Path]:
    """Return the indexes beside a voice that may belong to it, without those that belong to other voices there."""
    others = {_base_name(path.stem) for path in _voices_beside(voice)} - {_base_name(voice.stem)}
    patterns = [pattern for name in others for pattern in _patterns(_loose(name), re.IGNORECASE)]
    return [
        index
        for index in list_indexes(voice.parent)
        if not any(pattern.fullmatch(_loose(index.stem)) for pattern in patterns)
    ]


def name_similarity(voice: str, index: str) -> float:
    """Return how well the stems of two files fit each other, from 0 to 1.

    Args:
        voice: Stem of the voice.
        index: Stem of the index; 1 results for all spellings that `find_index` accepts.
    """
    if any(pattern.fullmatch(normalize(index)) for pattern, normalize in _name_patterns(voice)):
        return 1.0
    names = _loose(_base_name(voice)), _DECORATION.sub("", _loose(index)).strip("_")
    return 0.99 * SequenceMatcher(None, *names).ratio()


def explain_no_index(voice: Path) -> str:
    """Explain to a user why `find_index` returned None, with the candidates and how to choose one."""
    indexes = list_indexes(voice.parent)
    if not indexes:
        empty = ", ".join(sorted(path.name for path in voice.parent.glob(f"trained_*{INDEX_SUFFIX}")))
        if empty:
            return f"{empty} beside '{voice.name}' has no vectors; copy the file added_…{INDEX_SUFFIX} as well"
        return f"no index beside '{voice.name}'"
    candidates = list_candidates(voice)
    if candidates:
        names = ", ".join(path.name for path in candidates)
        return (
            f"no index beside '{voice.name}' certainly belongs to it; if it is one of {names}, choose it by "
            f"index=FILE, or rename it to {voice.stem}{INDEX_SUFFIX}"
        )
    names = ", ".join(path.name for path in indexes)
    return f"all indexes beside '{voice.name}' belong to other voices ({names}); to use one anyway: index=FILE"


def _choose(voice: Path, matches: list[Path]) -> Path:
    speakers = speaker_indexes(matches[-1])
    if set(matches) <= set(speakers.values()):
        return speakers[min(speakers)]
    if len(matches) > 1:
        names = ", ".join(path.name for path in matches)
        log.warning(
            "Several indexes match '%s': %s; the last is used. To choose another: index=FILE", voice.name, names
        )
    return matches[-1]


def _name_patterns(stem: str) -> Iterator[tuple[re.Pattern[str], Callable[[str], str]]]:
    """Yield patterns of the index of a voice, best first, and the function that normalizes names for each."""
    for name in dict.fromkeys((_normalized(stem), _base_name(stem))):
        for normalize, flags in ((_normalized, 0), (_loose, re.IGNORECASE)):
            for pattern in _patterns(normalize(name), flags):
                yield pattern, normalize


def _voices_beside(voice: Path) -> Iterator[Path]:
    files = (path for path in voice.parent.glob("*") if path.suffix.lower() in VOICE_SUFFIXES)
    return (path for path in files if not _TRAINING.fullmatch(path.stem))


def _base_name(stem: str) -> str:
    """Return the name of a voice without the suffixes of copies and exports."""
    name = _normalized(stem)
    for pattern in (_COPY, _EXPORT):
        if match := pattern.fullmatch(name):
            name = match["name"]
    return name


def _normalized(name: str) -> str:
    """Return a name in Unicode normalization form NFC; macOS uses NFD."""
    return unicodedata.normalize("NFC", name)


def _loose(name: str) -> str:
    """Return a name in lower case, without marks of copies, and with underscores for spaces."""
    match = _COPY.fullmatch(_normalized(name))
    return (match["name"] if match else name).casefold().replace(" ", "_")


@lru_cache(maxsize=1024)
def _patterns(name: str, flags: int) -> list[re.Pattern[str]]:
    """Return patterns for the stems of indexes of a voice, best first."""
    escaped = re.escape(name)
    spellings = (
        escaped,
        rf"added_({_LISTS}_)?{escaped}{_VERSION}",
        rf"{escaped}_(added_)?({_LISTS})(_{escaped})?{_VERSION}",
    )
    return [re.compile(rf"{spelling}{speaker}", flags) for spelling in spellings for speaker in ("", r"_spkid\d{1,6}")]
