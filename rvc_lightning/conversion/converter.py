"""Conversion of recordings to a voice (SPECIFICATION.md, section 10).

    recording ─▶ 16 kHz, high-pass ─┬─▶ pitch of the whole ──────────────────┐
                                    └─▶ chunks ─▶ content ─▶ index, protect ─┴─▶ voice ─▶ join ─▶ loudness ─▶ finish

`options.py` shows where each option acts.

Legend: N samples.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Trainer

from rvc_lightning.audio.decode import seconds_or_none
from rvc_lightning.cli.messages import silence_libraries
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.conversion.components import content_encoder_for, pitch_extractor_for
from rvc_lightning.conversion.effect_stages import check_installed
from rvc_lightning.conversion.inference import VoiceInference
from rvc_lightning.conversion.lengths import ChunkLengths
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.prediction import ConversionModule
from rvc_lightning.conversion.source import Source
from rvc_lightning.conversion.speakers import resolve_options, speaker_number
from rvc_lightning.conversion.tasks import ConvertedBlocks, ResultSink, Task, Throughput
from rvc_lightning.errors import ConfigurationError, RVCError, VoiceError, unknown_choice
from rvc_lightning.io.ranks import errors_of_ranks
from rvc_lightning.io.scratch import scratch_folder
from rvc_lightning.pitch.base import PitchExtractor, PitchNetwork, PitchTracker
from rvc_lightning.retrieval.discovery import speaker_indexes
from rvc_lightning.retrieval.index import RetrievalIndex
from rvc_lightning.retrieval.pairing import FEATURES_KEY, check_origin
from rvc_lightning.version import __version__
from rvc_lightning.voice.voice import Voice, content_hash

log = logging.getLogger(__name__)

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Precisions that keep content, pitch and phase in float32."""

_DEFAULTS = ConversionOptions()
_NO_NOISE = "the voice has no random features: leave it out"
_NO_PITCH = "the voice has no pitch to change, to keep or to write: leave it out"


@dataclass(frozen=True)
class ConvertedAudio:
    """Result of a conversion. Legend: S samples, F frames of 10 ms of the recording."""

    audio: np.ndarray
    """Audio, float32 [S]."""
    sample_rate: int
    """Sampling rate in Hz."""
    f0_hz: np.ndarray | None
    """Pitch of the output in Hz, float32 [F], 0 = unvoiced; None for voices without pitch."""


class VoiceConverter:
    """Converts recordings to a voice, on any device and in mixed precision by Lightning."""

    def __init__(
        self,
        voice: Voice,
        index: str | Path | RetrievalIndex | None = None,
        *,
        content: ContentEncoder | None = None,
        content_path: str | Path | None = None,
        pitch: PitchTracker | None = None,
        trainer: Trainer | None = None,
        lengths: ChunkLengths | None = None,
        throughput: Throughput | None = None,
    ) -> None:
        """Load what a conversion requires.

        Args:
            voice: Voice to convert to.
            index: Index of the voice, used with `index_rate`; None converts without. The index of a single speaker,
                `NAME_spkidN.index`, is replaced by that of the speaker of a conversion.
            content: Content encoder; by default the one that the voice was trained with.
            content_path: Folder with the files of that encoder; by default they come from the hub.
            pitch: Pitch extractor; by default the one that the voice was trained with, or SwiftF0.
            trainer: Trainer with devices, strategy and precision; by default one accelerator in float32.
            lengths: Lengths of the chunks; shorter ones need less memory.
            throughput: Size of the batches, and workers.

        Raises:
            VoiceError: The content encoder of the voice is unknown, or encoder or index do not fit the voice.
            AssetError: The files of the encoder or of the pitch extractor cannot be downloaded.
            ConfigurationError: The precision would not keep content and pitch in float32.
        """
        self.voice = voice
        self.index = RetrievalIndex.load(index) if isinstance(index, str | Path) else index
        if self.index is not None:
            self._check_index(self.index)
        self._speaker_indexes: dict[Path, RetrievalIndex] = {}
        self.trainer = trainer or _default_trainer()
        check_precision(self.trainer.precision)
        self.content = (content or content_encoder_for(voice, content_path)).eval()
        if self.content.dim != voice.config.content_dim:
            raise VoiceError(
                f"the voice requires content features of {voice.config.content_dim} channels, "
                f"but the content encoder '{self.content.name}' has {self.content.dim}"
            )
        self.pitch = (pitch or pitch_extractor_for(voice)) if voice.pitch_guided else None
        network = self.pitch.eval() if isinstance(self.pitch, PitchNetwork) else None
        self.inference = VoiceInference(voice.synthesizer, self.content, network)
        self.lengths, self.throughput = lengths or ChunkLengths(), throughput or Throughput(batch_seconds=60)

    def convert(
        self, source: Source, options: ConversionOptions = _DEFAULTS, sample_rate: int | None = None
    ) -> tuple[np.ndarray, int]:
        """Convert one recording.

        Args:
            source: A file, or mono samples at full scale 1, float [N].
            options: Options; `write_f0` and `output_format` only apply to files that are written.
            sample_rate: Sampling rate of the samples in Hz; None for a file.

        Returns:
            Audio, float32 [ceil(N · rate / source rate)] plus `tail_seconds`, aligned with the source and within full
            scale, and its sampling rate in Hz: that of the voice, or `output_sample_rate`. Silence gives silence.

        Raises:
            AudioError: The source cannot be read, has more than one channel, or contains NaN; or `sample_rate` is
                missing for samples or given for a file.
            VoiceError: The voice has no such speaker, or its output is not finite.
            ConfigurationError: `f0_file` does not fit the recording, the voice has no pitch to change, an effect
                requires a missing package, or the trainer has several devices.
            OutOfMemoryError: A single chunk does not fit into memory.
        """
        (converted,) = self.convert_many([source], options, sample_rate)
        return converted.audio, converted.sample_rate

    def convert_many(
        self, sources: Sequence[Source], options: ConversionOptions = _DEFAULTS, sample_rate: int | None = None
    ) -> list[ConvertedAudio]:
        """Convert several recordings in batches, with the same results and errors as `convert`.

        The first error ends the conversion.
        """
        if not isinstance(options, ConversionOptions):
            raise TypeError(f"options={options!r} is not a ConversionOptions; give a sampling rate as sample_rate=RATE")
        if self.trainer.world_size > 1:
            raise ConfigurationError(
                f"devices={self.trainer.world_size}: recordings in memory are converted on one device; "
                "several devices share the files of a folder"
            )
        tasks = [
            Task(source, sample_rate, _known_seconds(source, sample_rate), options, number)
            for number, source in enumerate(sources)
        ]
        sink = _MemorySink()
        with scratch_folder(None) as scratch:
            self.run(tasks, options, sink, scratch)
        return [sink.results[task.number] for task in tasks]

    def check(self, options: ConversionOptions) -> None:
        """Raise an error, before anything is read, if the voice does not support the options; see `convert`."""
        speaker_number(self.voice, options.speaker)
        if not self.voice.pitch_guided:
            # Transposition is allowed, so that one command can convert to many voices.
            options.reject(_NO_PITCH, "formant_semitones", "autotune", "proposed_pitch_hz", "f0_file", "write_f0")
        if not self.voice.config.variational:
            options.reject(_NO_NOISE, "noise_scale")
        check_installed(options.effects)

    def run(self, tasks: Sequence[Task], options: ConversionOptions, sink: ResultSink, folder: Path) -> None:
        """Convert recordings, and write each to the sink when it is complete.

        Args:
            tasks: The recordings, each with its options.
            options: Options of the networks, the same for all recordings.
            sink: Receives each result and each failure.
            folder: Folder for samples of long recordings, which the caller removes.

        Raises:
            VoiceError, ConfigurationError: The voice does not support the options, see `check`.
            OutOfMemoryError: A single chunk does not fit into memory.
        """
        self.check(options)
        options = resolve_options(options, self.voice)
        if not tasks:
            return
        module = ConversionModule(
            self.inference,
            tasks,
            options,
            sink,
            folder,
            index=self.index_for(options),
            pitch=self.pitch if isinstance(self.pitch, PitchExtractor) else None,
            lengths=self.lengths,
            throughput=self.throughput,
        )
        with errors_of_ranks():
            self.trainer.predict(module, return_predictions=False)

    def index_for(self, options: ConversionOptions) -> RetrievalIndex | None:
        """Return the index for the speaker of resolved options; None without an index or with `index_rate` 0."""
        if self.index is None or not options.index_rate:
            return None
        paths = speaker_indexes(self.index.path) if self.index.path is not None else {}
        path = paths.get(int(options.speaker or 0))
        if not paths or path == self.index.path:
            return self.index
        if path is None:
            log.warning(
                "Speaker %s has no index beside '%s' and is converted without", options.speaker, self.index.path
            )
            return None
        if path not in self._speaker_indexes:
            index = RetrievalIndex.load(path)
            self._check_index(index)
            self._speaker_indexes[path] = index
            log.info("Index of speaker %s: %s", options.speaker, path)
        return self._speaker_indexes[path]

    def _check_index(self, index: RetrievalIndex) -> None:
        """Raise VoiceError if an index does not fit the voice."""
        index.check_fits(self.voice.config.content_dim)
        if index.path is not None:
            check_origin(index.path, self.voice.content_encoder, self.voice.training_info.get(FEATURES_KEY))

    def fingerprint(self, options: ConversionOptions) -> str:
        """Return a digest of everything that determines the result for a given source."""
        options = resolve_options(options, self.voice)
        index = self.index_for(options)
        inputs = {
            "version": __version__,
            "options": repr(options),
            "lengths": asdict(self.lengths),
            "precision": self.trainer.precision,
            "voice": self.voice.digest,
            "config": asdict(self.voice.config),
            "content": [self.content.name, content_hash(self.content.state_dict())],
            "pitch": None if self.pitch is None else _pitch_identity(self.pitch),
            "index": None if index is None else hashlib.blake2b(index.vectors.tobytes(), digest_size=16).hexdigest(),
        }
        return hashlib.blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=16).hexdigest()


class _MemorySink:
    """Keeps results, and raises the first failure."""

    def __init__(self) -> None:
        self.results: dict[int, ConvertedAudio] = {}

    def write(self, task: Task, result: ConvertedBlocks) -> None:
        audio = np.concatenate([np.zeros(0, np.float32), *result.blocks])
        self.results[task.number] = ConvertedAudio(audio, result.sample_rate, result.f0_hz)

    def fail(self, task: Task, error: RVCError | OSError) -> None:
        raise error


def check_precision(precision: object) -> None:
    """Raise ConfigurationError unless content, pitch and phase stay in float32 at a precision."""
    if precision not in PRECISIONS:
        raise unknown_choice("precision of a conversion", precision, PRECISIONS)


def _default_trainer() -> Trainer:
    silence_libraries()
    return Trainer(
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _known_seconds(source: Source, sample_rate: int | None) -> float:
    """Return the length of a source; 0 if it is unknown."""
    if isinstance(source, str | Path):
        return seconds_or_none(source) or 0.0
    return np.size(source) / sample_rate if sample_rate and sample_rate > 0 else 0.0


def _pitch_identity(pitch: PitchTracker) -> list[Any]:
    """Return name, settings and digest of the weights of a pitch extractor."""
    settings = {name: value for name, value in vars(pitch).items() if isinstance(value, bool | int | float | str)}
    weights = content_hash(pitch.state_dict()) if isinstance(pitch, PitchNetwork) else None
    return [pitch.name, settings, weights]
