"""What is known of a voice: `python -m rvc_lightning.voice info FILE...`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rvc_lightning.errors import VoiceError
from rvc_lightning.retrieval.discovery import find_index
from rvc_lightning.retrieval.index_file import read_header
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.voice import Voice, content_hash

_EXPECTED = ("version", "f0", "sr")
"""Entries that every tool since version 2 of the format writes, see specification 1.1."""


@dataclass(frozen=True)
class VoiceFacts:
    """What a voice file tells, and what is found beside it."""

    file: str
    name: str
    version: str
    generator: str
    pitch_guided: bool
    sample_rate: int
    """In Hz."""
    speakers: int
    """Those that it was trained with, numbered from 0."""
    speaker_names: list[str]
    """As far as the file knows them."""
    speaker_rows: int
    """Of its table; those beyond `speakers` are nobody."""
    pitch_extractor: str | None
    """That it was trained with."""
    median_f0_hz: float | None
    """Median pitch of what it was trained on, in Hz."""
    content_encoder: str
    content_dim: int
    epoch: int | None
    step: int | None
    author: str | None
    creation_date: str | None
    dataset_length: str | None
    """HH:MM:SS."""
    values: int
    """Numbers in the stored tensors."""
    size_bytes: int
    content_hash: str
    """SHA-256 of names and values of the weights."""
    index: str | None
    """The index beside the voice."""
    index_rows: int | None
    index_dim: int | None
    unusual: list[str]
    """What differs from a file as the tools write it today; empty for most."""
    entries: dict[str, Any]
    """Everything in the file but the tensors."""


def facts_of_voice(path: Path) -> VoiceFacts:
    """Reads a voice and looks for its index.

    Raises:
        VoiceError: It is no voice, or damaged.
    """
    voice = Voice.load(path)
    entries = {str(key): _plain(value) for key, value in voice.information.items()}
    index, header, trouble = find_index(path), None, []
    if index is not None:
        try:
            header = read_header(index)
        except VoiceError as error:
            trouble.append(str(error))
    if header and header.content_dim != voice.config.content_dim:
        trouble.append(f"the index beside it is of another voice: {header.content_dim} channels")
    vocoder, pitch_guided = rvc_format.vocoder_of(voice.config)
    return VoiceFacts(
        file=str(path),
        name=_text(entries.get("model_name")) or path.stem,
        version=rvc_format.version_of(voice.config),
        generator=vocoder,
        pitch_guided=pitch_guided,
        sample_rate=voice.sample_rate,
        speakers=len(voice.speaker_numbers),
        speaker_names=voice.speaker_names,
        speaker_rows=voice.config.speaker_count,
        pitch_extractor=voice.pitch_extractor,
        median_f0_hz=voice.median_f0_hz,
        content_encoder=voice.content_encoder,
        content_dim=voice.config.content_dim,
        epoch=_whole(entries.get("epoch")),
        step=_whole(entries.get("step")),
        author=_text(entries.get("author")),
        creation_date=_text(entries.get("creation_date")),
        dataset_length=_text(entries.get("dataset_length")),
        values=sum(tensor.numel() for tensor in voice.weights.values()),
        size_bytes=path.stat().st_size,
        content_hash=content_hash(voice.weights),
        index=None if index is None else str(index),
        index_rows=header.rows if header else None,
        index_dim=header.content_dim if header else None,
        unusual=_unusual(voice) + trouble,
        entries=entries,
    )


def _unusual(voice: Voice) -> list[str]:
    """In what the file differs from what the tools write, in words."""
    entries, found = voice.information, []
    if missing := [key for key in _EXPECTED if entries.get(key) is None]:
        found.append(f"no entry {', '.join(missing)}: the oldest form of the format is assumed")
    if entries.get("embedder_model") is None:
        found.append("no entry embedder_model: contentvec is assumed")
    if entries.get("sr") is not None and not _same_rate(entries["sr"], voice.sample_rate):
        found.append(f"the entry sr says {entries['sr']}, the configuration {voice.sample_rate}; the latter is true")
    stored = entries.get("config")
    if isinstance(stored, list | tuple) and stored[-3] != voice.config.speaker_count:
        found.append(f"the configuration says {stored[-3]} speakers, the table has {voice.config.speaker_count}")
    if types := sorted({str(tensor.dtype) for tensor in voice.weights.values()} - {str(torch.float16)}):
        found.append(f"weights of type {', '.join(types)} instead of torch.float16")
    if any("parametrizations" in name for name in voice.weights):
        found.append("weights under the names of newer torch, which other tools do not read; convert-format mends it")
    said = entries.get("content_hash")
    if said is not None and said != content_hash(voice.weights):
        found.append("the weights are not those its content_hash was made of")
    return found


def _same_rate(said: object, sample_rate: int) -> bool:
    try:
        return rvc_format.parse_rate(said) == sample_rate
    except VoiceError:
        return False


def as_table(facts: VoiceFacts) -> str:
    """The facts for people, a line each."""
    return "\n".join(f"{label:16}{_printable(value)}" for label, value in as_rows(facts))


def as_rows(facts: VoiceFacts) -> list[tuple[str, str]]:
    """The facts for people, each with its label; text that strangers wrote is as they wrote it."""
    pitch = "with pitch" if facts.pitch_guided else "without pitch"
    index = "none beside it" if facts.index is None else facts.index
    rows = [
        ("file", facts.file),
        ("name", facts.name),
        ("version", facts.version),
        ("generator", f"{facts.generator}, {pitch}"),
        ("sampling rate", f"{facts.sample_rate} Hz"),
        ("speakers", _speakers(facts)),
        ("content encoder", f"{facts.content_encoder}, {facts.content_dim} channels"),
        ("pitch extractor", facts.pitch_extractor),
        ("median pitch", _median_pitch(facts)),
        ("training", _training(facts)),
        ("author", facts.author),
        ("creation date", facts.creation_date),
        ("dataset length", facts.dataset_length),
        ("values", f"{facts.values:,}"),
        ("size", f"{facts.size_bytes / 1e6:.1f} MB"),
        ("content hash", facts.content_hash),
        ("index", index),
        ("", f"{facts.index_rows:,} vectors of {facts.index_dim} channels" if facts.index_rows else None),
        *(("unusual", line) for line in facts.unusual),
    ]
    return [(label, value) for label, value in rows if value]


def as_json(facts: VoiceFacts) -> dict[str, Any]:
    """The facts for programs."""
    return asdict(facts)


def _speakers(facts: VoiceFacts) -> str:
    """How many there are, what chooses each, and how many rows of the table are nobody."""
    if facts.speaker_names:
        named = ((number, "" if name == str(number) else f" {name}") for number, name in enumerate(facts.speaker_names))
        told = ", ".join(f"speaker={number}{name}" for number, name in named)
    else:
        told = f"speaker=0{f' to {facts.speakers - 1}' if facts.speakers > 1 else ''}, without names"
    spare = facts.speaker_rows - facts.speakers
    return f"{facts.speakers}: {told}{f'; {spare} more rows of its table are not trained' if spare else ''}"


def _median_pitch(facts: VoiceFacts) -> str | None:
    if facts.median_f0_hz is None:
        return None
    # Of several speakers it is the pitch of none.
    wanted = facts.pitch_guided and facts.speakers == 1
    option = f", which proposed_pitch_hz={facts.median_f0_hz:.0f} brings speech to" if wanted else ""
    return f"{facts.median_f0_hz:.0f} Hz{option}"


def _training(facts: VoiceFacts) -> str | None:
    parts = [f"{number:,} {what}" for number, what in ((facts.epoch, "epochs"), (facts.step, "steps")) if number]
    return ", ".join(parts) or None


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _printable(text: str) -> str:
    """What a stranger wrote into a file, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(text))


def _plain(value: Any) -> Any:
    """A value as JSON has it: tensors are left at their shape, numbers that are not finite become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else f"<{_described(value)}>"


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"tensor {tuple(value.shape)}"
    return type(value).__name__
