"""Read uncompressed recordings and ogg with soundfile (libsndfile): wav, aiff, au, caf, w64 and others.

Headers of wav, aiff, au and caf may count less than the file holds: recorders that were cut off, sizes beyond 4 GiB,
files joined byte by byte. All uncompressed sample data is read, and compressed data beyond the count is reported:

    RIFF … WAVE | fmt  … | data size | samples   more samples | RIFF … WAVE | fmt  … | data size | samples
                                     └ counted ┘                └ a joined file ┘

Legend: N samples, C channels.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile

from rvc_lightning.audio.reader import AudioReader
from rvc_lightning.errors import AudioError

_BLOCK_SAMPLES = 1 << 16
_MEDIA_FORMATS = ("FLAC", "MP3")
"""Formats of which libsndfile reads the first of several joined files only."""
_OGG_FIRST_PAGE, _OGG_LAST_PAGE = b"OggS\0\x02", 4
_OGG_MAX_PAGE_BYTES = 1 << 16
_SAMPLE_BYTES = {
    **dict.fromkeys(("PCM_S8", "PCM_U8", "ULAW", "ALAW"), 1),
    **{"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8},
}
"""Size of a sample in bytes, by libsndfile's name of its format."""

_BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {
    b"RIFF": "little",
    b"RF64": "little",
    b"RIFX": "big",
    b"FORM": "big",
    b"caff": "big",
    b".snd": "big",
    b"dns.": "little",
}
"""Byte order of the header of wav, aiff, caf and au, by the first bytes of the file."""
_WITHOUT_CHUNKS = (b".snd", b"dns.")
_SAMPLE_CHUNKS = {b"data": 0, b"SSND": 8}
"""Chunks with sample data, and the number of bytes between header and samples."""
_CAF_DATA_OFFSET = 4
_FORMAT_CHUNKS = {b"fmt ": slice(8, 24), b"COMM": slice(14, 26), b"desc": slice(12, 44)}
"""Chunks with rate, channels and sample format, and the position of these in the chunk."""
_TAGS = (b"TAG", b"ID3", b"id3", b"APE", b"LIST", b"bext", b"iXML")
_COMPRESSED = (b"fLaC", b"OggS")
_SIZE_IN_DS64 = (1 << 32) - 1
# Shorter remainders are padding and tags.
_MIN_UNCOUNTED_BYTES = 1 << 12
_MAX_CHUNKS = 100_000

# By the first bytes of a file: offset, length and byte order of its total size, and the bytes that this size excludes.
_TOTAL_SIZES: dict[bytes, tuple[int, int, Literal["little", "big"], int]] = {
    b"RIFF": (4, 4, "little", 8),
    b"FORM": (4, 4, "big", 8),
    b"RF64": (20, 8, "little", 8),
    b"riff": (16, 8, "little", 0),  # w64
    b".snd": (8, 4, "big", 24),
}


def sound_path(path: Path) -> str | bytes:
    """Return a path as soundfile accepts it: bytes on POSIX, where names need not be valid UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)


class _ForwardFile(soundfile.SoundFile):
    """A file that is read forward only: the seek of soundfile after each block breaks some codecs of libsndfile."""

    def seekable(self) -> bool:
        return False


class SoundfileReader(AudioReader):
    """A recording that libsndfile reads completely."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            LibsndfileError: libsndfile cannot read it.
            TypeError: Its extension is that of headerless files.
            AudioError: It is flac, mp3 or several ogg streams, which `MediaReader` decodes.
        """
        super().__init__()
        with ExitStack() as stack:
            self._stream = stack.enter_context(path.open("rb"))
            self._layout = _Layout(self._stream)
            self._file = stack.enter_context(_ForwardFile(self._layout.first_of_several() or sound_path(path)))
            file_format = self._file.format
            if file_format in _MEDIA_FORMATS or (file_format == "OGG" and _has_several_streams(self._stream)):
                raise AudioError("it is compressed")
            self._resources = stack.pop_all()
        self.sample_rate = self._file.samplerate
        self.damage = "the file is shorter than its header states" if _is_cut_short(self._stream) else ""
        self.seconds = self.whole_seconds = self._file.frames / self.sample_rate
        self._sections: list[range] = []
        self._find_uncounted()

    def close(self) -> None:
        """Close the file."""
        self._resources.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield float32 [N, C]."""
        if not self._sections:
            yield from self._blocks(self._file)
        for section in self._sections:
            file = self._file
            endian = "LITTLE" if self._layout.order == "little" or file.endian == "LITTLE" else "BIG"
            window = _Window(self._stream, section)
            with soundfile.SoundFile(
                window, "r", self.sample_rate, file.channels, file.subtype, endian, format="RAW"
            ) as raw:
                yield from self._blocks(raw)

    def _blocks(self, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
        try:
            while len(block := file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)):
                yield block
        except soundfile.LibsndfileError as error:
            self.damage = error.error_string.removeprefix("Error : ")

    def _find_uncounted(self) -> None:
        """Store all sections of sample data if they hold more than libsndfile counts."""
        layout, size = self._layout, sum(map(len, self._layout.sections))
        if layout.is_mixed:
            self.warnings.append("a recording in another format follows in the file and is not used")
        if self._file.subtype not in _SAMPLE_BYTES:
            if (uncounted := size - layout.counted) >= _MIN_UNCOUNTED_BYTES:
                self.warnings.append(f"its header counts {self.seconds:.2f} s; {uncounted} more bytes are not used")
            return
        frame_bytes = self._file.channels * _SAMPLE_BYTES[self._file.subtype]
        frames = size // frame_bytes
        if frames >= self._file.frames + _MIN_UNCOUNTED_BYTES // frame_bytes:
            self._sections, counted = layout.sections, self.seconds
            self.seconds = self.whole_seconds = frames / self.sample_rate
            self.warnings.append(f"its header counts {counted:.2f} s of {self.seconds:.2f} s; all of it is used")


class _Layout:
    """Sample data in a wav, aiff, caf or au file, and in files of the same format that are joined to it.

    Attributes:
        order: Byte order of the header; None for other files.
        sections: Bytes of the file that are sample data, in order.
        counted: Number of bytes that the first header counts.
        is_mixed: Whether a joined file of another format follows.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Scan the headers in a file."""
        self._file, self._size = file, file.seek(0, os.SEEK_END)
        self.order: Literal["little", "big"] | None = _BYTE_ORDERS.get(self._head(0)[:4])
        self.sections: list[range] = []
        self.counted = 0
        self.is_mixed = False
        self._header_bytes, self._long_count = 8, 0
        self._format: bytes | None = None
        position: int | None = 0 if self.order else None
        for _ in range(_MAX_CHUNKS):
            if position is None or position >= self._size or self.is_mixed:
                break
            position = self._read_chunk(position)

    def first_of_several(self) -> _Window | None:
        """Return the first of several joined files, which libsndfile rejects as a whole; None for a single file."""
        is_joined = self.is_mixed or len(self.sections) > 1
        return _Window(self._file, range(self.sections[0].stop)) if is_joined and self.sections else None

    def _read_chunk(self, position: int) -> int | None:
        """Read the chunk at `position` and return the position of the next one, or None at the end of the file."""
        head = self._head(position)
        name, count = head[:4], self._number(head[4 : self._header_bytes])
        if name in _WITHOUT_CHUNKS:
            self._add_format(head[12:24])
            return self._add_section(position + count, self._number(head[8:12]))
        if name in _BYTE_ORDERS:
            is_caf = name == b"caff"
            self._header_bytes = 12 if is_caf else 8
            return position + (8 if is_caf else 12)
        if name == b"ds64":
            self._long_count = self._number(head[16:24])
        if name in _SAMPLE_CHUNKS:
            count = self._long_count if self._long_count and count == _SIZE_IN_DS64 else count
            offset = _SAMPLE_CHUNKS[name] if self._header_bytes == 8 else _CAF_DATA_OFFSET
            return self._add_section(position + self._header_bytes + offset, count - offset)
        if not self._is_chunk(head, position):
            self._extend(position, head)
            return None
        if name in _FORMAT_CHUNKS:
            self._add_format(head[_FORMAT_CHUNKS[name]])
        return position + self._header_bytes + count + (count % 2 if self._header_bytes == 8 else 0)

    def _head(self, position: int) -> bytes:
        self._file.seek(position)
        return self._file.read(48)

    def _number(self, digits: bytes) -> int:
        return int.from_bytes(digits, self.order or "little")

    def _is_chunk(self, head: bytes, position: int) -> bool:
        fits = self._number(head[4 : self._header_bytes]) <= self._size - position - self._header_bytes + 1
        is_whole = len(head) >= self._header_bytes and not head.startswith(_COMPRESSED)
        return is_whole and fits and all(0x20 <= byte < 0x7F for byte in head[:4])

    def _add_format(self, sample_format: bytes) -> None:
        self.is_mixed = self._format not in (None, sample_format)
        self._format = sample_format

    def _add_section(self, start: int, count: int) -> int:
        """Add sample data and return the position of the next chunk, which may be aligned to two bytes."""
        end = min(start + max(count, 0), self._size)
        if not self.is_mixed:
            self.sections.append(range(min(start, self._size), end))
            self.counted = self.counted or len(self.sections[0])
        return end if count % 2 == 0 or self._is_chunk(self._head(end), end) else end + 1

    def _extend(self, position: int, head: bytes) -> None:
        """Extend the sample data by the bytes after it if they are neither a chunk nor a tag."""
        if self.sections and head.startswith(_COMPRESSED):
            self.is_mixed = True
        elif self.sections and position - self.sections[-1].stop <= 1 and not head.startswith(_TAGS):
            self.sections[-1] = range(self.sections[-1].start, self._size)


class _Window:
    """Part of a file, as soundfile reads it."""

    def __init__(self, file: BinaryIO, section: range) -> None:
        self._file, self._section = file, section
        file.seek(section.start)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte of the part."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: len(self._section)}[whence]
        self._file.seek(self._section.start + base + offset)
        return self.tell()

    def tell(self) -> int:
        """Return the position in the part."""
        return self._file.tell() - self._section.start

    def read(self, count: int = -1) -> bytes:
        """Read up to `count` bytes, all by default."""
        rest = len(self._section) - self.tell()
        return self._file.read(min(count, rest) if count >= 0 else rest)


def _is_cut_short(file: BinaryIO) -> bool:
    """Return whether a file ends before its header states; libsndfile reads some such files without an error."""
    file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(32)
    if head.startswith(_OGG_FIRST_PAGE[:4]):
        file.seek(max(file_bytes - _OGG_MAX_PAGE_BYTES, 0))
        page = file.read().rpartition(_OGG_FIRST_PAGE[:4])[2]
        return len(page) < 2 or not page[1] & _OGG_LAST_PAGE
    if head[:4] not in _TOTAL_SIZES:
        return False
    start, size, order, left_out = _TOTAL_SIZES[head[:4]]
    declared = int.from_bytes(head[start : start + size], order)
    # Streaming writers leave the size unset: 0 or all ones.
    return 0 < declared < 256**size - 1 and file_bytes < declared + left_out - 1


def _has_several_streams(file: BinaryIO) -> bool:
    """Return whether an ogg file holds joined files, or video; libsndfile reads its first stream."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_OGG_FIRST_PAGE, 1) >= 0
