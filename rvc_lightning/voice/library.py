"""The voices of a folder: list, edit, delete and restore; the trash.

LIBRARY/.trash/TIME NAME/PATH     deleted files, at their paths relative to the library
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from rvc_lightning.cli.columns import pluralize
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.io.disk import explain, explain_write_errors
from rvc_lightning.io.files import atomic_path, make_folder, replace_file
from rvc_lightning.io.kinds import VOICE_SUFFIXES
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.retrieval.discovery import find_index, speaker_indexes
from rvc_lightning.retrieval.pairing import origin_path
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.info import VoiceInfo, read_voice_info
from rvc_lightning.voice.paths import presets_folder
from rvc_lightning.voice.voice import Voice

TRASH = ".trash"
"""Folder of deleted voices in a library."""

_TIME_FORMAT = "%Y-%m-%d %H.%M.%S.%f"


@dataclass(frozen=True)
class DeletedVoice:
    """A voice in the trash."""

    name: str
    """Name of its file, without suffix."""
    voice: Path
    """Path that it had."""
    deleted_at: datetime
    folder: Path
    """Its folder in the trash."""


def list_voices(library: Path) -> Iterator[tuple[Path, VoiceInfo | str]]:
    """Yield each voice of a library and its subfolders, sorted, with its facts or the reason why it cannot be used.

    Hidden folders, such as the trash, are skipped, as are links to folders.

    Raises:
        ConfigurationError: The folder does not exist.
        OSError: The folder cannot be listed.
    """
    if not library.is_dir():
        raise ConfigurationError(f"'{library}' is not a folder; choose the folder of your voices")
    # Below, folders that cannot be listed do not end the list.
    os.listdir(library)
    unlisted: list[OSError] = []
    for path in sorted(_voice_files(library, unlisted.append), key=lambda path: path.with_suffix("")):
        try:
            yield path, read_voice_info(path)
        except (VoiceError, OSError) as error:
            yield path, explain(error)
    yield from ((Path(error.filename), explain(error)) for error in unlisted)


def edit_voice(
    path: Path, name: str | None = None, author: str | None = None, speakers: Sequence[str] | None = None
) -> Path:
    """Change entries of a voice file atomically, and return its path. Weights and other entries stay the same.

    Args:
        path: The voice. Its file keeps its name.
        name: New name of the voice; None keeps it.
        author: New author; '' removes it.
        speakers: New names of the speakers, by row of the speaker table.

    Raises:
        VoiceError: The file is not a voice, or has fewer speakers.
        ConfigurationError: Nothing is to be changed, or names of speakers are empty or repeated.
    """
    voice = Voice.load(path)
    changes = {} if author is None else {"author": author}
    if name is not None:
        changes |= {key: name for key in rvc_format.NAME_ENTRIES if key == "model_name" or key in voice.information}
    if speakers is not None:
        _check_speakers(voice, speakers)
        changes |= rvc_format.speaker_entries(voice.information, speakers)
    if not changes:
        raise ConfigurationError("nothing is to be changed: choose a name, an author or the names of the speakers")
    content = read_pickle(path, "voice") | changes
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save(content, stream)
    return path


def _check_speakers(voice: Voice, names: Sequence[str]) -> None:
    """Raise an error unless the names fit the speakers of a voice."""
    known = len(voice.speaker_names)
    if known and len(names) != known:
        raise VoiceError(
            f"{pluralize(len(names), 'name')} for {pluralize(known, 'speaker')} ({', '.join(voice.speaker_names)}): "
            "name all of them"
        )
    if len(names) > voice.config.speaker_count:
        rows = pluralize(voice.config.speaker_count, "row")
        raise VoiceError(f"{pluralize(len(names), 'name')}, but the speaker table has {rows}")
    if not all(names) or len(set(names)) != len(names):
        raise ConfigurationError("names of speakers are empty or repeated")


def delete_voice(path: Path, library: Path) -> DeletedVoice:
    """Move a voice with its index to the trash of its library, from which it can be restored.

    The folder of the voice is moved as a whole if it contains no other voice, except an earlier one that export kept.

    Args:
        path: The voice.
        library: The library that contains it.

    Raises:
        VoiceError: There is no such voice in the library.
        NotWritableError: The files cannot be moved; nothing is changed.
    """
    if not path.is_file() or path.suffix.lower() not in VOICE_SUFFIXES:
        raise VoiceError(f"voice not found: '{path}'")
    files = {file: _relative(file, library) for file in _files_of(path, library)}
    now = datetime.now()
    target = library / TRASH / f"{now.strftime(_TIME_FORMAT)} {path.stem}"
    with contextlib.ExitStack() as undo:
        undo.callback(_remove_empty, target)
        _move({file: target / relative for file, relative in files.items()})
        undo.pop_all()
    return DeletedVoice(path.stem, path, now, target)


def list_trash(library: Path) -> list[DeletedVoice]:
    """Return the voices in the trash of a library, the last deleted first."""
    deleted = []
    for folder in (library / TRASH).glob("*"):
        day, time, name = [*folder.name.split(" ", 2), "", ""][:3]
        voice = next((path for path in _voice_files(folder) if path.stem == name), None)
        with contextlib.suppress(ValueError):
            deleted_at = datetime.strptime(f"{day} {time}", _TIME_FORMAT)
            if voice is not None:
                deleted.append(DeletedVoice(name, library / voice.relative_to(folder), deleted_at, folder))
    return sorted(deleted, key=lambda voice: voice.deleted_at, reverse=True)


def restore_voice(name: str, library: Path) -> Path:
    """Move a voice from the trash back to its place; return its path.

    Args:
        name: Name of its file without suffix, of which the last deleted is restored, or the name of its folder in the
            trash.
        library: The library.

    Raises:
        VoiceError: The trash has no such voice, or another file has taken its place; nothing is changed.
        NotWritableError: The files cannot be moved; nothing is changed.
    """
    trash = list_trash(library)
    deleted = next((voice for voice in trash if name in (voice.name, voice.folder.name)), None)
    if deleted is None:
        names = ", ".join(dict.fromkeys(voice.name for voice in trash))
        raise VoiceError(
            f"the trash of '{library}' has no voice '{name}'; {f'it has {names}' if names else 'it is empty'}"
        )
    files = [path for path in deleted.folder.rglob("*") if path.is_file()]
    moves = {path: library / path.relative_to(deleted.folder) for path in files}
    if existing := [target for target in moves.values() if target.exists()]:
        raise VoiceError(f"'{deleted.name}' cannot be restored: '{existing[0]}' exists; move or delete that first")
    # The voice last: while it is in the trash, a restoration that was killed can be repeated.
    _move(dict(sorted(moves.items(), key=lambda move: move[1] == deleted.voice)))
    _remove_empty(deleted.folder)
    return deleted.voice


def empty_trash(library: Path) -> None:
    """Delete the voices in the trash of a library for good. Raises NotWritableError if one cannot be deleted."""
    for folder in (library / TRASH).glob("*"):
        with explain_write_errors(folder):
            shutil.rmtree(folder)


def _voice_files(library: Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    for root, folders, files in os.walk(library, onerror=on_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            Path(root, name) for name in files if name.lower().endswith(VOICE_SUFFIXES) and not name.startswith(".")
        )


def _files_of(voice: Path, library: Path) -> list[Path]:
    """Return the files of a voice, or its folder if no other voice is in it."""
    folder = voice.parent
    others = {path.stem for path in _voice_files(folder)} - {voice.stem, f"{voice.stem}.previous"}
    if folder.resolve() != library.resolve() and not others:
        return [folder]
    index = find_index(voice)
    own = [voice, presets_folder(voice)]
    is_shared = any(find_index(other) == index for other in _voice_files(folder) if other != voice)
    if index is not None and not is_shared:
        indexes = list(speaker_indexes(index).values()) or [index]
        own += [*indexes, *map(origin_path, indexes)]
    return [path for path in own if path.exists()]


def _relative(path: Path, library: Path) -> Path:
    """Return the path relative to the library, without following a link. Raises VoiceError if it is not in it."""
    path, root = path.parent.resolve() / path.name, library.resolve()
    if not path.is_relative_to(root):
        raise VoiceError(f"'{path}' is not in the folder of voices '{library}'")
    return path.relative_to(root)


def _move(targets: Mapping[Path, Path]) -> None:
    """Move files to their targets. If one cannot be moved, those before it are moved back."""
    with contextlib.ExitStack() as undo:
        for source, target in targets.items():
            make_folder(target.parent)
            with explain_write_errors(target):
                replace_file(source, target)
            undo.callback(replace_file, target, source)
        undo.pop_all()


def _remove_empty(folder: Path) -> None:
    """Remove a folder of empty folders."""
    for root, _, _ in os.walk(folder, topdown=False):
        Path(root).rmdir()
