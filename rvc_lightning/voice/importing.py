"""Import published voices into a library: `python -m rvc_lightning.voice import LINK_OR_FILE...`.

    links, files ──▶ found files, archives unpacked ──▶ voices, indexes, the rest ──▶ LIBRARY/NAME/NAME.pth and .index

The type of a file is recognized by its content. Nothing in it is executed, and no name in it becomes a path. Files are
collected in a hidden folder of the library, in which a voice then appears complete or not at all.
"""

from __future__ import annotations

import contextlib
import logging
import lzma
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from stat import S_ISLNK
from typing import IO

from rvc_lightning.cli.progress import Progress
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.io.disk import explain_write_errors
from rvc_lightning.io.files import atomic_path, make_folder, replace_file
from rvc_lightning.io.kinds import ARCHIVE, INDEX, ONNX, PYTORCH, SAFETENSORS, VOICE_SUFFIXES, describe_kind
from rvc_lightning.io.links import LinkClient, RemoteFile, is_link, resolve_link
from rvc_lightning.io.names import file_name, folded, is_portable
from rvc_lightning.io.zips import open_zip
from rvc_lightning.retrieval.discovery import (
    find_index,
    list_candidates,
    name_similarity,
    speaker_indexes,
    speaker_of,
)
from rvc_lightning.retrieval.index_file import INDEX_SUFFIX, read_header
from rvc_lightning.voice.onnx_voice import open_voice
from rvc_lightning.voice.voice import Voice

log = logging.getLogger(__name__)

_STAGING = ".import-"
_ABANDONED_SECONDS = 24 * 3600.0
_BLOCK_BYTES = 1 << 20
_MAX_MEMBERS = 2000
_MAX_UNPACKED_BYTES = 4 << 30
_MAX_DEPTH = 3
_MAX_REMOTE_FILES = 20
_REMOTE_SUFFIXES = (*VOICE_SUFFIXES, INDEX_SUFFIX, ".zip")
_UNPACK_ERRORS = (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""Errors of members that are damaged, encrypted, or compressed by an unusual method."""
_SIMILAR = 0.6
"""Smallest similarity of names at which an index is paired with one of several voices."""
_GENERIC_NAMES = ("model", "voice", "weights", "weight", "download", "file", "rvc", "g", "final")
"""Names of files that do not identify a voice."""


@dataclass(frozen=True)
class ImportedVoice:
    """A voice in the library after an import."""

    name: str
    voice: Path
    index: Path | None
    """That of the first speaker if each has its own; None if no index was found."""


@dataclass
class ImportReport:
    """Result of an import."""

    voices: list[ImportedVoice] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    """Other files by name, with the reason."""


@dataclass(frozen=True)
class _Found:
    """A file of unknown kind: a source, or a member of an archive."""

    path: Path
    name: str
    """Name for messages: the path in the archive or on the hub, or that of the source."""
    archive: str = ""
    """Stem of the innermost archive with a name."""

    @property
    def folder(self) -> str:
        return self.name.rpartition("/")[0]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem


@dataclass(frozen=True)
class _FoundVoice(_Found):
    model_name: str | None = None
    content_dim: int = 0
    suffix: str = ".pth"


@dataclass(frozen=True)
class _FoundIndex(_Found):
    content_dim: int = 0


def import_voices(
    sources: Sequence[str | Path], library: Path, name: str | None = None, client: LinkClient | None = None
) -> ImportReport:
    """Import the voices in files, archives and links, with their indexes.

    Args:
        sources: Voices, indexes and ZIP archives: paths, or links to a file, or to a file, folder or repository of the
            hub. An index of any source is paired with a voice of any source. Without an index in the sources, those
            beside the voices are used.
        library: Folder of the voices.
        name: Name for the only voice; by default that of its file.
        client: Client for links; None rejects them.

    Returns:
        The imported voices, and the files that were not used.

    Raises:
        VoiceError: The sources contain no voice that can be used, or a name is taken; nothing is written.
        ConfigurationError: A source does not exist, links are rejected, or the name is no file name, or is given for
            several voices.
        AssetError: A link cannot be downloaded.
        OutOfSpaceError, NotWritableError: The library cannot be written to.
    """
    if name is not None and not is_portable(name):
        raise ConfigurationError(f"name={name}: not a name for a file on every system; try '{file_name(name)}'")
    for source in sources:
        if is_link(str(source)):
            if client is None:
                raise ConfigurationError(f"links are switched off (links=false): download '{source}', import the file")
        elif not Path(source).is_file():
            raise ConfigurationError(f"'{source}' is not a file; import takes files (.pth, .index, .zip) and links")
    with _staging_folder(library) as staging:
        collector = _Collector(staging)
        for source in sources:
            if client is not None and is_link(str(source)):
                _download(str(source), collector, client)
            else:
                collector.add(_Found(Path(source), Path(source).name))
        collector.add_indexes_beside()
        voices, indexes = _sort(collector)
        if not voices:
            raise VoiceError(f"there is no voice in {', '.join(map(str, sources))}{_reasons(collector.unused)}")
        pairs = _pair(voices, indexes, collector.unused)
        names = _choose_names(voices, library, name)
        return ImportReport(_place(names, pairs, library, staging), collector.unused)


class _Collector:
    """Files of all sources, with archives unpacked, within limits."""

    def __init__(self, staging: Path) -> None:
        self.files: list[_Found] = []
        self.unused: dict[str, str] = {}
        self._staging, self._members = staging, 0
        self._bytes_left = _MAX_UNPACKED_BYTES

    def new_path(self) -> Path:
        """Return a path in the staging folder."""
        self._members += 1
        return self._staging / f"{self._members}"

    def add(self, found: _Found, depth: int = 0) -> None:
        """Add a file, or the members of an archive."""
        kind = describe_kind(found.path)
        if kind is None or not kind.startswith(ARCHIVE):
            self.files.append(found)
        elif depth >= _MAX_DEPTH:
            self.unused[found.name] = f"an archive in {_MAX_DEPTH} others"
        else:
            try:
                self._unpack(found, depth)
            except _UNPACK_ERRORS as error:
                self.unused[found.name] = f"the archive is damaged: {error}"

    def add_indexes_beside(self) -> None:
        """Add the indexes that a conversion finds beside the voices, unless the files contain an index."""
        if any(describe_kind(found.path) == INDEX for found in self.files):
            return
        given = [found.path for found in self.files if not found.path.is_relative_to(self._staging)]
        voices = {path: find_index(path) for path in given if path.suffix.lower() in VOICE_SUFFIXES}
        for voice, index in voices.items():
            for path in list_candidates(voice) if index is None else ():
                self.unused[path.name] = f"an index that may belong to '{voice.name}'; if it does, import both together"
        for index in dict.fromkeys(filter(None, voices.values())):
            for path in speaker_indexes(index).values() or [index]:
                log.info("Index beside the voice: %s", path)
                self.add(_Found(path, path.name))

    def _unpack(self, found: _Found, depth: int) -> None:
        with open_zip(found.path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if self._members + len(members) > _MAX_MEMBERS:
                raise VoiceError(f"'{found.name}' contains more than {_MAX_MEMBERS} files; unpack what you need")
            for member in members:
                name = member.filename.replace("\\", "/")
                if S_ISLNK(member.external_attr >> 16):
                    self.unused[name] = "a link"
                    continue
                path = self.new_path()
                try:
                    with archive.open(member) as stream:
                        self._write(stream, path, found.name)
                except _UNPACK_ERRORS as error:
                    self.unused[name] = str(error)
                    continue
                self.add(_Found(path, name, found.stem), depth + 1)

    def _write(self, stream: IO[bytes], path: Path, archive: str) -> None:
        """Write a member, or only its start if that shows that it is of no use."""
        with explain_write_errors(path, written=path), path.open("wb") as target:
            while block := stream.read(_BLOCK_BYTES):
                self._bytes_left -= len(block)
                if self._bytes_left < 0:
                    size = f"{_MAX_UNPACKED_BYTES / 1e9:.1f} GB"
                    raise VoiceError(f"'{archive}' is larger than {size} when unpacked; unpack what you need")
                target.write(block)
                target.flush()
                if target.tell() == len(block) and describe_kind(path) not in (None, PYTORCH, SAFETENSORS, ONNX, INDEX):
                    return


@contextlib.contextmanager
def _staging_folder(library: Path) -> Iterator[Path]:
    """Create a hidden folder in the library, and remove it at the end, as well as those of killed imports."""
    make_folder(library)
    for folder in library.glob(f"{_STAGING}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    with explain_write_errors(library):
        folder = Path(tempfile.mkdtemp(prefix=_STAGING, dir=library))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(link: str, collector: _Collector, client: LinkClient) -> None:
    """Download the files of a link."""
    files = resolve_link(link, client)
    if len(files) > 1 or files[0].url != link:
        files = _choose_remote(link, files, client)
    for file in files:
        path = collector.new_path()
        with client.open(file.url) as download, explain_write_errors(path, written=path), path.open("wb") as target:
            size_bytes = download.size_bytes or 0
            log.info("Downloading '%s'%s", file.name, f" ({size_bytes / 1e6:.1f} MB)" if size_bytes else "")
            with Progress(f"downloading {file.name}", size_bytes, "bytes", enabled=size_bytes > 0) as progress:
                for block in download.blocks:
                    target.write(block)
                    progress.update(len(block))
        collector.add(_Found(path, file.name or download.name))


def _choose_remote(link: str, files: Sequence[RemoteFile], client: LinkClient) -> list[RemoteFile]:
    """Return the listed files that may belong to a voice, by their names. Raises VoiceError if there are too many."""
    chosen = [file for file in files if file.name.lower().endswith(_REMOTE_SUFFIXES)]
    total = sum(file.size_bytes or 0 for file in chosen)
    names = ", ".join(file.name for file in chosen[:10])
    if len(chosen) > _MAX_REMOTE_FILES or total > client.max_bytes:
        raise VoiceError(
            f"'{link}' lists {len(chosen)} files of {total / 1e9:.1f} GB ({names}, …), too many for one import; use "
            "the link of a file or a folder there"
        )
    if not chosen:
        raise VoiceError(f"'{link}' lists no files of a voice ({', '.join(_REMOTE_SUFFIXES)})")
    return chosen


def _sort(collector: _Collector) -> tuple[list[_FoundVoice], list[_FoundIndex]]:
    """Return voices and indexes; the others are added to the unused files."""
    voices, indexes = [], []
    for found in collector.files:
        kind = describe_kind(found.path)
        try:
            if kind == INDEX:
                header = read_header(found.path)
                if not header.rows:
                    raise VoiceError("an index without vectors")
                indexes.append(_FoundIndex(**vars(found), content_dim=header.content_dim))
            elif kind in (PYTORCH, SAFETENSORS, ONNX):
                voice = open_voice(found.path)
                voices.append(
                    _FoundVoice(
                        **vars(found),
                        model_name=voice.name,
                        content_dim=voice.config.content_dim,
                        suffix=".onnx" if kind == ONNX else ".pth",
                    )
                )
            else:
                raise VoiceError(kind or "neither a voice nor an index")
        except (VoiceError, ConfigurationError) as error:
            # ConfigurationError: an ONNX graph, without the packages to read it.
            collector.unused[found.name] = str(error).replace(str(found.path), found.name)
    return voices, indexes


def _pair(
    voices: Sequence[_FoundVoice], indexes: Sequence[_FoundIndex], unused: dict[str, str]
) -> dict[tuple[_FoundVoice, int | None], _FoundIndex]:
    """Pair each index with the voice of its dimension whose name fits best; a voice in its folder takes precedence.

    Returns:
        The index by voice and row of the speaker, None for an index of all speakers.
    """
    scores = []
    for index in indexes:
        fitting = [voice for voice in voices if voice.content_dim == index.content_dim]
        near = [voice for voice in fitting if voice.folder == index.folder] or fitting
        scores += [
            (score, (voice, speaker_of(index.stem)), index)
            for voice in near
            if (score := name_similarity(voice.stem, index.stem)) >= _SIMILAR or len(near) == 1
        ]
        if not fitting:
            unused[index.name] = f"an index of {index.content_dim} channels, which fits none of the voices"
    pairs: dict[tuple[_FoundVoice, int | None], _FoundIndex] = {}
    for _, place, index in sorted(scores, key=lambda pair: -pair[0]):
        if place not in pairs and index not in pairs.values():
            pairs[place] = index
    for index in indexes:
        if index not in pairs.values():
            unused.setdefault(index.name, "an index that cannot be assigned to one of the voices with certainty")
    return pairs


def _choose_names(voices: Sequence[_FoundVoice], library: Path, name: str | None) -> dict[_FoundVoice, str]:
    """Return a name for each voice. Raises VoiceError if one is taken."""
    if name is not None and len(voices) > 1:
        files = ", ".join(voice.name for voice in voices)
        raise ConfigurationError(f"name={name}: there are {len(voices)} voices ({files}); import one, or leave it out")
    names: dict[_FoundVoice, str] = {}
    used: set[str] = set()
    for voice in voices:
        base = name or file_name(_default_name(voice))
        numbered = (base if number == 1 else f"{base} {number}" for number in range(1, len(voices) + 1))
        names[voice] = next(choice for choice in numbered if folded(choice) not in used)
        used.add(folded(names[voice]))
    taken = [
        name
        for name in names.values()
        if (library / name).exists() or any((library / f"{name}{suffix}").exists() for suffix in VOICE_SUFFIXES)
    ]
    if taken:
        raise _taken(taken[0], library)
    return names


def _taken(name: str, library: Path) -> VoiceError:
    return VoiceError(f"the name '{name}' is taken in '{library}'; choose another name, or delete that voice first")


def _default_name(voice: _FoundVoice) -> str:
    """Return the name of the file, or if that is generic, the name in the file, of its folder or of its archive."""
    candidates = (voice.stem, voice.model_name, PurePosixPath(voice.folder).name, voice.archive)
    usable = [name for name in candidates if name and name.casefold() not in _GENERIC_NAMES]
    return usable[0] if usable else voice.stem


def _place(
    names: dict[_FoundVoice, str],
    pairs: dict[tuple[_FoundVoice, int | None], _FoundIndex],
    library: Path,
    staging: Path,
) -> list[ImportedVoice]:
    """Put the files of all voices into the library, or none."""
    result = []
    for voice, name in names.items():
        folder = staging / "complete" / name
        if describe_kind(voice.path) == SAFETENSORS:
            Voice.load(voice.path).save(folder / f"{name}.pth")
        else:
            _put(voice.path, folder / f"{name}{voice.suffix}", staging)
    for (voice, speaker), index in pairs.items():
        suffix = INDEX_SUFFIX if speaker is None else f"_spkid{speaker}{INDEX_SUFFIX}"
        _put(index.path, staging / "complete" / names[voice] / f"{names[voice]}{suffix}", staging)
    with contextlib.ExitStack() as undo:
        for voice, name in names.items():
            target = library / name
            try:
                replace_file(staging / "complete" / name, target)
            except OSError as error:
                # A concurrent import has created the folder.
                raise _taken(name, library) from error
            undo.callback(shutil.rmtree, target, ignore_errors=True)
            path = target / f"{name}{voice.suffix}"
            result.append(ImportedVoice(name, path, find_index(path)))
        undo.pop_all()
    return result


def _put(source: Path, target: Path, staging: Path) -> None:
    """Copy a file, or move it if it is in the staging folder."""
    make_folder(target.parent)
    if source.is_relative_to(staging):
        replace_file(source, target)
    else:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def _reasons(unused: dict[str, str]) -> str:
    """Return the reasons why files were not used, for a message."""
    lines = [f"{name}: {reason}" for name, reason in unused.items()]
    return f": {'; '.join(lines[:5])}{'; …' if len(lines) > 5 else ''}" if lines else ""
