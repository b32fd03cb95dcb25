"""Facts about a voice file: `python -m rvc_lightning.voice info FILE...`."""

from __future__ import annotations

import re
import reprlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rvc_lightning.data.selection import FIRST_SPEAKER
from rvc_lightning.errors import VoiceError, printable
from rvc_lightning.retrieval.discovery import explain_no_index, find_index, list_candidates
from rvc_lightning.retrieval.index_file import IndexHeader, read_header
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.entries import as_count, as_json, as_text
from rvc_lightning.voice.onnx_voice import OnnxVoice, open_voice
from rvc_lightning.voice.voice import Voice, content_hash

_EXPECTED = ("version", "f0", "sr")
"""Entries that every tool since version 2 of the format writes (SPECIFICATION.md, section 1.1)."""


@dataclass(frozen=True)
class VoiceInfo:
    """Facts about a voice file and the index beside it."""

    file: str
    name: str
    version: str
    generator: str
    pitch_guided: bool
    sample_rate: int
    """Rate in Hz."""
    speakers: int
    """Number of trained speakers, numbered from 0."""
    speaker_names: list[str]
    """Names by number; empty if the file has none."""
    speaker_rows: int
    """Rows of the speaker table; rows past `speakers` are unused."""
    pitch_extractor: str | None
    """Pitch extractor of the training."""
    median_f0_hz: float | None
    """Median pitch of the training recordings in Hz."""
    content_encoder: str
    content_dim: int
    epoch: int | None
    step: int | None
    author: str | None
    creation_date: str | None
    dataset_length: str | None
    """Duration of the training recordings, HH:MM:SS."""
    parameters: int
    """Number of values in the stored tensors."""
    size_bytes: int
    content_hash: str
    """SHA-256 of names and values of the weights."""
    index: str | None
    """Path of the index beside the voice."""
    index_rows: int | None
    index_dim: int | None
    unusual: list[str]
    """Differences from the files that current tools write; empty for most voices."""
    entries: dict[str, Any]
    """All entries of the file except the tensors, as JSON values."""

    @property
    def own_pitch_hz(self) -> float | None:
        """Pitch that suits speech in this voice; None if unknown, or for several speakers, whose median fits none."""
        return self.median_f0_hz if self.pitch_guided and self.speakers == 1 else None


def read_voice_info(path: Path) -> VoiceInfo:
    """Read a voice and look for its index.

    Raises:
        VoiceError: The file is damaged or not a voice.
    """
    voice = open_voice(path)
    entries = voice.entries
    index = find_index(path)
    header, index_problems = _read_index_header(path, index, voice.config.content_dim)
    unusual = [] if isinstance(voice, OnnxVoice) else _unusual_entries(voice) + _unusual_weights(voice)
    return VoiceInfo(
        file=str(path),
        name=voice.name or path.stem,
        version=rvc_format.version_of(voice.config),
        generator=voice.generator_name,
        pitch_guided=voice.pitch_guided,
        sample_rate=voice.sample_rate,
        speakers=len(voice.speaker_numbers),
        speaker_names=voice.speaker_names,
        speaker_rows=voice.config.speaker_count,
        pitch_extractor=voice.pitch_extractor,
        median_f0_hz=voice.median_f0_hz,
        content_encoder=voice.content_encoder,
        content_dim=voice.config.content_dim,
        epoch=as_count(entries.get("epoch")),
        step=as_count(entries.get("step")),
        author=as_text(entries.get("author")),
        creation_date=as_text(entries.get("creation_date")),
        dataset_length=as_text(entries.get("dataset_length")),
        parameters=sum(tensor.numel() for tensor in voice.weights.values()),
        size_bytes=path.stat().st_size,
        content_hash=voice.digest,
        index=None if index is None else str(index),
        index_rows=header.rows if header else None,
        index_dim=header.content_dim if header else None,
        unusual=unusual + index_problems,
        entries=as_json(voice.information),
    )


def _read_index_header(voice: Path, index: Path | None, content_dim: int) -> tuple[IndexHeader | None, list[str]]:
    """Return the header of an index if it can be read, and the problems found."""
    if index is None:
        return None, [explain_no_index(voice)] if list_candidates(voice) else []
    try:
        header = read_header(index)
    except VoiceError as error:
        return None, [str(error)]
    fits = header.content_dim == content_dim
    return header, [] if fits else [f"the index beside it is of another voice: {header.content_dim} channels"]


def _unusual_entries(voice: Voice) -> list[str]:
    entries, found = voice.entries, []
    if missing := [key for key in _EXPECTED if entries.get(key) is None]:
        found.append(f"no entry {', '.join(missing)}: the oldest form of the format is assumed")
    if entries.get("embedder_model") is None and entries.get("embedder_name") is None:
        found.append("no entry embedder_model: contentvec is assumed")
    rate = entries.get("sr")
    if rate is not None and not _is_rate(rate, voice.sample_rate):
        found.append(
            f"the entry sr is {reprlib.repr(rate)}, but the configuration, which takes precedence, has "
            f"{voice.sample_rate}"
        )
    config, rows = entries.get("config", []), voice.config.speaker_count
    if len(config) > rvc_format.CONFIG_LENGTH:
        found.append(f"the configuration has {len(config)} values instead of {rvc_format.CONFIG_LENGTH}")
    if config and (speakers := config[rvc_format.CONFIG_SPEAKERS]) != rows:
        found.append(f"the configuration has {as_text(speakers)} speakers, the table {rows} rows")
    return found


def _unusual_weights(voice: Voice) -> list[str]:
    found = []
    if types := sorted({str(tensor.dtype) for tensor in voice.weights.values()} - {str(torch.float16)}):
        found.append(f"weights of type {', '.join(types)} instead of torch.float16")
    if any("parametrizations" in name for name in voice.weights):
        found.append(
            "weights under the names of newer torch, which other tools cannot read; convert-format renames them"
        )
    if (stored := voice.information.get("content_hash")) is not None and stored != content_hash(voice.weights):
        found.append("the weights do not match the entry content_hash: they were changed")
    return found


def _is_rate(value: object, sample_rate: int) -> bool:
    with suppress(ValueError, OverflowError):
        return rvc_format.parse_rate(value) == sample_rate
    return False


def as_table(info: VoiceInfo) -> str:
    """Format the facts as text, one per line."""
    return "\n".join(f"{label:16}{printable(value)}" for label, value in as_rows(info))


SUMMARY = ("voice", "name", "rate", "generator", "encoder", "speakers", "pitch", "author", "created")
"""Columns of `as_summary`."""


def as_summary(info: VoiceInfo, path: str) -> tuple[str, ...]:
    """Return the facts for a list of voices, one cell for each column of `SUMMARY`."""
    names = ", ".join(info.speaker_names[:3]) + (", …" if len(info.speaker_names) > 3 else "")
    names = "" if info.speaker_names == [FIRST_SPEAKER] else names
    return (
        path,
        info.name,
        f"{info.sample_rate / 1000:g} kHz",
        info.generator,
        info.content_encoder,
        f"{info.speakers}{f': {names}' if names else ''}",
        "" if info.median_f0_hz is None else f"{info.median_f0_hz:.0f} Hz",
        info.author or "",
        _date(info) or "",
    )


def as_rows(info: VoiceInfo) -> list[tuple[str, str]]:
    """Return the facts as pairs of label and text."""
    pitch = "with pitch" if info.pitch_guided else "without pitch"
    rows = [
        ("file", info.file),
        ("name", info.name),
        ("version", info.version),
        ("generator", f"{info.generator}, {pitch}"),
        ("sample rate", f"{info.sample_rate} Hz"),
        ("speakers", _speakers(info)),
        ("content encoder", f"{info.content_encoder}, {info.content_dim} channels"),
        ("pitch extractor", info.pitch_extractor),
        ("median pitch", _median_pitch(info)),
        ("training", _training(info)),
        ("author", info.author),
        ("creation date", _date(info)),
        ("dataset length", info.dataset_length),
        ("parameters", f"{info.parameters:,}" if info.parameters else None),
        ("size", f"{info.size_bytes / 1e6:.1f} MB"),
        ("content hash", info.content_hash),
        ("index", info.index or "none beside it"),
        ("", f"{info.index_rows:,} vectors of {info.index_dim} channels" if info.index_rows else None),
        *(("unusual", line) for line in info.unusual),
    ]
    return [(label, value) for label, value in rows if value]


def _date(info: VoiceInfo) -> str | None:
    """Return date and time of the creation, to the minute if they have the format of ISO 8601."""
    return info.creation_date and re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*", r"\1 \2", info.creation_date)


def _speakers(info: VoiceInfo) -> str:
    """Return the number of speakers, the option for each, and the number of unused rows."""
    if any(name.isdecimal() for name in info.speaker_names):
        # The number of a speaker folder is the number of the speaker, not its row.
        choices = ", ".join(f"speaker={name}" for name in info.speaker_names)
    elif info.speaker_names:
        choices = ", ".join(f"speaker={number} {name}" for number, name in enumerate(info.speaker_names))
    else:
        choices = f"speaker=0{f' to {info.speakers - 1}' if info.speakers > 1 else ''}, without names"
    unused = info.speaker_rows - info.speakers
    return f"{info.speakers}: {choices}{f'; {unused} more rows of the table are unused' if unused else ''}"


def _median_pitch(info: VoiceInfo) -> str | None:
    if info.median_f0_hz is None:
        return None
    option = f"; proposed_pitch_hz={info.own_pitch_hz:.0f} shifts recordings to it" if info.own_pitch_hz else ""
    return f"{info.median_f0_hz:.0f} Hz{option}"


def _training(info: VoiceInfo) -> str | None:
    parts = [f"{number:,} {unit}" for number, unit in ((info.epoch, "epochs"), (info.step, "steps")) if number]
    return ", ".join(parts) or None
