"""Decode audio tracks of media files with PyAV, whose wheels contain FFmpeg.

Only known containers are opened, never playlists or network streams. Containers with timestamps keep their timeline:
silence fills a late start and gaps.

Legend: N samples, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.filter import Graph

from rvc_lightning.audio.loudness import SILENT_PEAK, peak_of
from rvc_lightning.audio.reader import AudioReader
from rvc_lightning.errors import AudioError

AUDIO_FORMATS = ("flac", "mp3", "ogg")
"""FFmpeg's names of the common formats that only contain audio."""
MEDIA_FORMATS = (
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dsf", "eac3", "flv", "loas", "matroska", "mov"),
    *("mpeg", "mpegts", "tta", "w64", "wav", "wv", *AUDIO_FORMATS),
)
"""FFmpeg's names of all formats that are opened. Lists of other files (hls, concat, dash, sdp) are excluded."""

_TIMELINE_FROM_ZERO = ("matroska", "mov")
_TIMELINE_FROM_FIRST_PACKET = ("asf", "avi", "flv", "mpeg", "mpegts")
_ESTIMATED_DURATION = ("aac", "ac3", "amr", "eac3", "loas", "mpeg", "mpegts")
# Tags in the first frame of mp3 files that contain the number of frames, and its offset in them.
_MP3_FRAME_COUNTS = {b"Xing": 8, b"Info": 8, b"VBRI": 14}
_HEAD_BYTES = 1 << 16
# Smaller gaps are rounding errors of timestamps.
_MIN_GAP_SECONDS = 0.05
# Timestamps of damaged and hostile files may be any distance apart.
_MAX_SILENCE_SECONDS = 3600.0
_BLOCK_SAMPLES = 1 << 16
_BUFFER_BYTES = 1 << 20


class MediaReader(AudioReader):
    """One audio track of a media file: the first with sound."""

    def __init__(
        self,
        file: BinaryIO,
        formats: Iterable[str] = MEDIA_FORMATS,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Open a file and decode its first samples.

        Args:
            file: Seekable; read from its start; remains open.
            formats: Formats to accept, by FFmpeg's names.
            on_progress: Called regularly while a silent track is searched for sound.

        Raises:
            FFmpegError: The file has none of `formats`.
            AudioError: No audio track can be decoded.
        """
        super().__init__()
        self._file, self._formats, self._on_progress = file, ",".join(formats), on_progress
        self._container = self._open()
        self._errors = 0
        with ExitStack() as stack:
            # The file may be closed before the garbage collector finds the container.
            stack.callback(self.close)
            tracks = [stream.index for stream in self._container.streams.audio if stream.codec_context]
            stream = self._track(self._select_track(tracks) if len(tracks) > 1 else tracks[0]) if tracks else None
            # Damage to the other tracks does not matter.
            self._errors, self.damage = 0, ""
            self._timeline = _Timeline(self._container)
            self._frames = self._decode(stream) if stream else iter(())
            self._first = next(self._frames, None)
            if stream is None or self._first is None:
                raise AudioError("contains no audio")
            self.sample_rate = self._first.sample_rate
            self._set_duration(stream)
            stack.pop_all()

    def close(self) -> None:
        """Release the decoder."""
        self._container.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield float32 [N, C]."""
        pending: list[np.ndarray] = []
        samples = 0
        for audio in self._with_silence():
            pending.append(audio)
            samples += audio.shape[1]
            if samples >= _BLOCK_SAMPLES:
                yield np.concatenate(pending, axis=1).T
                pending, samples = [], 0
        if pending:
            yield np.concatenate(pending, axis=1).T
        if self._errors:
            self.warnings.append(f"damaged: parts that cannot be decoded are left out ({self._errors})")
        self.warnings += self._timeline.warnings

    def _open(self) -> InputContainer:
        self._file.seek(0)
        options = {"format_whitelist": self._formats, "protocol_whitelist": "none"}
        return av.open(self._file, "r", container_options=options, metadata_errors="replace", buffer_size=_BUFFER_BYTES)

    def _track(self, index: int) -> AudioStream:
        stream = self._container.streams[index]
        assert isinstance(stream, AudioStream)
        return stream

    def _select_track(self, tracks: list[int]) -> int:
        """Return the first of several tracks with sound, or the first of all if all are silent."""
        titles = [_title(self._track(index), number) for number, index in enumerate(tracks, start=1)]
        chosen = next((number for number, index in enumerate(tracks) if self._has_sound(index)), 0)
        used = titles.pop(chosen)
        self.warnings.append(
            f"contains {len(tracks)} audio tracks: {used}, the first with sound, is used; unused: {', '.join(titles)}"
        )
        return tracks[chosen]

    def _has_sound(self, index: int) -> bool:
        """Decode a track until its first sound, and return to the start of the file."""
        try:
            for number, frame in enumerate(self._decode(self._track(index))):
                if peak_of(frame.to_ndarray()) >= SILENT_PEAK:
                    return True
                if number % 1000 == 0:
                    self._on_progress()
            return False
        finally:
            self._container.close()
            self._container = self._open()

    def _decode(self, stream: AudioStream) -> Iterator[AudioFrame]:
        """Yield all frames as planar float32 with the rate and channels of the first one."""
        convert = _Converter()
        try:
            for packet in self._container.demux(stream):
                try:
                    for frame in stream.decode(packet):
                        yield from convert(frame)
                except FFmpegError:
                    self._errors += 1
        except FFmpegError as error:
            self.damage = str(error.strerror)

    def _with_silence(self) -> Iterator[np.ndarray]:
        """Yield the samples [C, N] of all frames, and silence in the gaps of the timeline."""
        frame = self._first
        while frame is not None:
            audio = frame.to_ndarray()
            gap = self._timeline.gap_before(frame)
            for start in range(0, gap, _BLOCK_SAMPLES):
                yield np.zeros((len(audio), min(_BLOCK_SAMPLES, gap - start)), np.float32)
            yield audio
            frame = next(self._frames, None)

    def _set_duration(self, stream: AudioStream) -> None:
        container, name = self._container, _format_of(self._container)
        if stream.duration is not None and stream.time_base is not None:
            self.seconds = float(stream.duration * stream.time_base)
            if self._timeline.has_timestamps:
                start = (stream.start_time or 0) * stream.time_base - self._timeline.origin
                self.seconds += float(max(start, 0))
        elif container.duration is not None:
            self.seconds = container.duration / av.time_base
        if name == "mp3":
            # FFmpeg's duration excludes padding, but is an estimate for joined files.
            stated = self._stated_frames() * stream.codec_context.frame_size / self.sample_rate
            self.whole_seconds = min(stated, self.seconds or stated) or None
        elif name not in _ESTIMATED_DURATION and (stream.duration is not None or len(container.streams) == 1):
            self.whole_seconds = self.seconds

    def _stated_frames(self) -> int:
        """Return the number of frames in the header of an mp3 file; 0 if the header has none."""
        position = self._file.tell()
        self._file.seek(0)
        head = self._file.read(_HEAD_BYTES)
        self._file.seek(position)
        for tag, offset in _MP3_FRAME_COUNTS.items():
            if tag in head:
                start = head.index(tag) + offset
                return int.from_bytes(head[start : start + 4], "big")
        return 0


class _Converter:
    """Convert frames to planar float32 with the rate and channels of the first frame.

    The filters run in one thread. `av.AudioResampler` starts more, and a forked worker that frees a graph of its parent
    would wait forever for those threads, which only exist in the parent.
    """

    def __init__(self) -> None:
        self._target: tuple[str, int] | None = None
        self._source: tuple[str, str, int] | None = None

    def __call__(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        source = frame.format.name, frame.layout.name, frame.sample_rate
        self._target = self._target or source[1:]
        if source == ("fltp", *self._target):
            yield frame
            return
        if source != self._source:
            # Joined streams may differ in rate and channels.
            self._source = source
            self._graph = _build_graph(frame, *self._target)
        self._graph.push(frame)
        with suppress(BlockingIOError, EOFError):
            while True:
                converted = self._graph.pull()
                assert isinstance(converted, AudioFrame)
                yield converted


def _build_graph(frame: AudioFrame, layout: str, rate: int) -> Graph:
    graph = Graph()
    graph.threads = 1
    buffer = graph.add_abuffer(
        sample_rate=frame.sample_rate,
        format=frame.format.name,
        layout=frame.layout.name,
        time_base=frame.time_base or Fraction(1, frame.sample_rate),
    )
    target = graph.add("aformat", f"sample_fmts=fltp:sample_rates={rate}:channel_layouts={layout}")
    graph.link_nodes(buffer, target, graph.add("abuffersink")).configure()
    return graph


class _Timeline:
    """Positions of frames in time, by the timestamps of their container.

    Attributes:
        has_timestamps: Whether the container has a timeline.
        origin: Start of the recording on the clock of the container, in seconds.
        warnings: Jumps that are not filled with silence.
    """

    def __init__(self, container: InputContainer) -> None:
        name = _format_of(container)
        self.has_timestamps = name in (*_TIMELINE_FROM_ZERO, *_TIMELINE_FROM_FIRST_PACKET)
        start = container.start_time if name in _TIMELINE_FROM_FIRST_PACKET else None
        self.origin = (start or 0) / av.time_base
        self.warnings: list[str] = []
        self._samples = self._silence = self._shift = 0

    def gap_before(self, frame: AudioFrame) -> int:
        """Return the samples of silence before `frame`, and advance to its end."""
        gap = self._gap(frame.time, frame.sample_rate) if self.has_timestamps and frame.time is not None else 0
        self._samples += gap + frame.samples
        return gap

    def _gap(self, seconds: float, rate: int) -> int:
        gap = round((seconds - self.origin) * rate) + self._shift - self._samples
        if abs(gap) < _MIN_GAP_SECONDS * rate:
            return 0
        if 0 < gap <= _MAX_SILENCE_SECONDS * rate - self._silence:
            self._silence += gap
            return gap
        self._shift -= gap
        if gap > 0 and not self.warnings:
            self.warnings.append(f"its timestamps jump by {gap / rate:.0f} s, which is not filled with silence")
        return 0


def _format_of(container: InputContainer) -> str:
    return container.format.name.partition(",")[0]


def _title(stream: AudioStream, number: int) -> str:
    title = stream.metadata.get("title")
    return f"track {number}" + (f" '{title}'" if title else "")
