"""Conversion of a recording to a voice (specification 10).

    recording ─▶ 16 kHz, high-pass ─┬─▶ pitch of the whole ──────────────────┐
                                    └─▶ chunks ─▶ content ─▶ index, protect ─┴─▶ voice ─▶ join ─▶ loudness ─▶ finish

`options.py` draws where each option acts.

Legend: N samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Trainer

from rvc_lightning.audio.decode import seconds_or_none
from rvc_lightning.content import build_content_encoder
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.conversion.chunking import ChunkLengths
from rvc_lightning.conversion.contour import check_pitch_options
from rvc_lightning.conversion.effect_stages import check_installed
from rvc_lightning.conversion.inference import VoiceInference
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.conversion.prediction import ConversionRun, Converted, Delivery, Task, Throughput
from rvc_lightning.conversion.scratch import scratch_folder
from rvc_lightning.conversion.source import Source
from rvc_lightning.conversion.speakers import speaker_number, with_voice
from rvc_lightning.errors import AssetError, ConfigurationError, RVCError, VoiceError
from rvc_lightning.io.hub import DownloadError
from rvc_lightning.pitch import DEFAULT_PITCH, build_pitch_extractor
from rvc_lightning.pitch.base import PitchExtractor, PitchNetwork, PitchTracker
from rvc_lightning.retrieval.index import RetrievalIndex
from rvc_lightning.retrieval.pairing import FEATURES_KEY, check_origin
from rvc_lightning.version import __version__
from rvc_lightning.voice.rvc_format import CONTENT_DIMS
from rvc_lightning.voice.voice import Voice, content_hash


@dataclass(frozen=True)
class Conversion:
    """What became of a recording. Letters: S samples, F frames of 10 ms of the recording."""

    audio: np.ndarray
    """float32 [S]."""
    sample_rate: int
    """In Hz."""
    f0_hz: np.ndarray | None
    """The pitch that the voice was given, float32 [F], 0 = unvoiced; None for voices without pitch."""


PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Those in which content, pitch and phase keep their digits."""

_DEFAULTS = ConversionOptions()
_QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class VoiceConverter:
    """Turns recordings into a voice, on any devices and in any mixed precision that Lightning offers."""

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
        """Gets a voice ready.

        Args:
            voice: What to convert to.
            index: Of the voice's own features, for `index_rate`; a path is read at first use. None converts without.
            content: Content encoder; by default the one the voice was trained with.
            content_path: Folder with that encoder's files, where they should not come from the hub.
            pitch: Pitch extractor; by default the one the voice was trained with, or SwiftF0.
            trainer: Devices, strategy and precision; by default the accelerator there is, in float32.
            lengths: How recordings are cut; shorter chunks need less memory.
            throughput: How much is worked on at once.

        Raises:
            VoiceError: The voice's content encoder does not exist here, or encoder or index do not fit the voice.
            AssetError: The files of the encoder or of the pitch extractor cannot be fetched.
            ConfigurationError: The precision is one in which pitch or content lose digits.
        """
        self.voice = voice
        self.index = RetrievalIndex.load(index) if isinstance(index, str | Path) else index
        if self.index is not None:
            self.index.check_fits(voice.config.content_dim)
            if self.index.path is not None:
                check_origin(self.index.path, voice.content_encoder, voice.own.get(FEATURES_KEY))
        self.trainer = trainer or Trainer(accelerator="auto", devices=1, **_QUIET)
        if self.trainer.precision not in PRECISIONS:
            raise ConfigurationError(
                f"precision={self.trainer.precision}: content and pitch would lose digits; choose one of: "
                f"{', '.join(PRECISIONS)}"
            )
        self.content = (content or _content_of(voice, content_path)).eval()
        _check_content(self.content, voice)
        self.pitch = (pitch or _pitch_of(voice)) if voice.pitch_guided else None
        network = self.pitch.eval() if isinstance(self.pitch, PitchNetwork) else None
        self.speaker = VoiceInference(voice.synthesizer, self.content, network)
        self.lengths = lengths or ChunkLengths()
        self.throughput = throughput or Throughput()

    def convert(
        self, source: Source, options: ConversionOptions = _DEFAULTS, sample_rate: int | None = None
    ) -> tuple[np.ndarray, int]:
        """Converts one recording.

        Args:
            source: A file, or mono samples at full scale 1, float [N].
            options: How; `write_f0` and `output_format` are for those who write files.
            sample_rate: Rate of the samples in Hz; only with samples.

        Returns:
            Audio, float32 [ceil(N · rate / source rate)], in time with the source and within full scale, longer by
            `tail_seconds`; and its rate in Hz, that of the voice or `output_sample_rate`. Silence gives silence.

        Raises:
            AudioError: The source cannot be read, has more than one channel, or holds NaN.
            VoiceError: The voice has no such speaker or no pitch to change, or its output is not finite.
            ConfigurationError: `sample_rate` is missing or given twice, `f0_file` is no curve of this recording, an
                extra that an option needs is not installed, or the trainer has several devices.
            OutOfMemoryError: A device has no memory for a single chunk.
        """
        conversion = self.conversion(source, options, sample_rate)
        return conversion.audio, conversion.sample_rate

    def conversion(
        self, source: Source, options: ConversionOptions = _DEFAULTS, sample_rate: int | None = None
    ) -> Conversion:
        """`convert`, with the pitch that was used."""
        return self.conversions([source], options, sample_rate)[0]

    def convert_many(
        self, sources: Sequence[Source], options: ConversionOptions = _DEFAULTS, sample_rate: int | None = None
    ) -> list[tuple[np.ndarray, int]]:
        """`convert` of several recordings together: it takes less time and gives the same. The first error ends it."""
        return [(one.audio, one.sample_rate) for one in self.conversions(sources, options, sample_rate)]

    def conversions(
        self, sources: Sequence[Source], options: ConversionOptions = _DEFAULTS, sample_rate: int | None = None
    ) -> list[Conversion]:
        """`convert_many`, with the pitch that was used."""
        if self.trainer.world_size > 1:
            raise ConfigurationError(
                f"devices: audio in memory is converted on one device, not on {self.trainer.world_size}; "
                "several share the files of a folder"
            )
        tasks = [
            Task(source, sample_rate, _seconds(source, sample_rate), options, number)
            for number, source in enumerate(sources)
        ]
        delivery = _InMemory()
        self.run(tasks, options, delivery)
        return [delivery.results[task.number] for task in tasks]

    def check(self, options: ConversionOptions) -> None:
        """Finds out before anything is read whether the voice can follow the options; see `convert` for the errors."""
        speaker_number(self.voice, options.speaker)
        check_pitch_options(options, self.voice.pitch_guided)
        check_installed(options.effects)

    def run(
        self, tasks: Sequence[Task], options: ConversionOptions, delivery: Delivery, folder: Path | None = None
    ) -> None:
        """Converts recordings and hands them over one by one.

        Args:
            tasks: The recordings, each with its own options.
            options: Those that concern the networks, and are the same for all.
            delivery: Gets each result as soon as it is there, and each failure.
            folder: Where temporary files may lie; None takes the system's place for them.

        Raises:
            VoiceError: The voice has no such speaker or no pitch to change, or the index is damaged.
            OutOfMemoryError: A device has no memory for a single chunk.
        """
        self.check(options)
        options = with_voice(options, self.voice)
        if not tasks:
            return
        with scratch_folder(folder) as reels:
            conversion = ConversionRun(
                self.speaker,
                tasks,
                options,
                delivery,
                reels,
                index=self.index_for(options),
                pitch=self.pitch if isinstance(self.pitch, PitchExtractor) else None,
                lengths=self.lengths,
                throughput=self.throughput,
            )
            self.trainer.predict(conversion, return_predictions=False)

    def index_for(self, options: ConversionOptions) -> RetrievalIndex | None:
        """The index; None where there is none or it is not asked for."""
        return self.index if options.index_rate else None

    def fingerprint(self, options: ConversionOptions) -> str:
        """A digest of all that decides what becomes of a source."""
        index = self.index_for(options)
        decisive = {
            "version": __version__,
            "options": repr(with_voice(options, self.voice)),
            "lengths": asdict(self.lengths),
            "precision": self.trainer.precision,
            "voice": content_hash(self.voice.weights),
            "config": asdict(self.voice.config),
            "content": [self.content.name, content_hash(self.content.state_dict())],
            "pitch": None if self.pitch is None else _described(self.pitch),
            "index": None if index is None else hashlib.blake2b(index.vectors.tobytes(), digest_size=16).hexdigest(),
        }
        return hashlib.blake2b(json.dumps(decisive, sort_keys=True).encode(), digest_size=16).hexdigest()


class _InMemory:
    """Keeps results, and raises the first failure."""

    def __init__(self) -> None:
        self.results: dict[int, Conversion] = {}

    def deliver(self, task: Task, converted: Converted) -> None:
        """Keeps the audio by the number of the task."""
        audio = np.concatenate([np.zeros(0, np.float32), *converted.blocks])
        self.results[task.number] = Conversion(audio, converted.sample_rate, converted.f0_hz)

    def fail(self, task: Task, error: RVCError | OSError) -> None:
        """Raises the error."""
        raise error


def _seconds(source: Source, sample_rate: int | None) -> float:
    """Length of a source, as far as it is known."""
    if isinstance(source, str | Path):
        return seconds_or_none(source) or 0.0
    return np.size(source) / sample_rate if sample_rate and sample_rate > 0 else 0.0


def _described(pitch: PitchTracker) -> list[Any]:
    """Name, settings and weights of a pitch extractor."""
    settings = {name: value for name, value in vars(pitch).items() if isinstance(value, bool | int | float | str)}
    weights = content_hash(pitch.state_dict()) if isinstance(pitch, PitchNetwork) else None
    return [pitch.name, settings, weights]


def _content_of(voice: Voice, path: str | Path | None) -> ContentEncoder:
    """The content encoder that `voice` was trained with.

    Raises:
        VoiceError: It does not exist here, or there are no files of it at `path`.
        AssetError: Its files cannot be fetched.
    """
    name, options = _remembered(voice, "content", voice.content_encoder)
    if voice.config.content_dim == CONTENT_DIMS["v1"]:
        options = {"version": "v1"} | options
    if path is not None:
        options["path"] = str(path)
    needed = f"the voice was trained with the content encoder '{name}' and needs it"
    try:
        return build_content_encoder(name, **options)
    except DownloadError as error:
        raise AssetError(f"{needed}: {error.problem} Or name the folder they lie in: content_path=FOLDER") from error
    except ConfigurationError as error:
        raise VoiceError(f"{needed}: {_in_words_of_conversion(error)}") from error


def _in_words_of_conversion(error: ConfigurationError) -> str:
    """What an encoder complains of; training, in whose words it does, calls the same files content.path."""
    text = str(error)
    return f"content_path={rest}" if (rest := text.removeprefix("content.path=")) != text else text


def _pitch_of(voice: Voice) -> PitchTracker:
    """The pitch extractor that `voice` was trained with. Raises VoiceError if it does not exist here."""
    name, options = _remembered(voice, "pitch", DEFAULT_PITCH)
    try:
        return build_pitch_extractor(name, **options)
    except ConfigurationError as error:
        raise VoiceError(
            f"the voice was trained with the pitch extractor '{name}': {error}. Any other serves it as well: "
            f"pitch={DEFAULT_PITCH} on the command line, pitch=build_pitch_extractor('{DEFAULT_PITCH}') in Python"
        ) from error


def _remembered(voice: Voice, component: str, default: str) -> tuple[str, dict[str, Any]]:
    """Registered name and options of what a voice was trained with. Raises VoiceError for an entry without them."""
    entry = voice.own.get(component, {"name": default})
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise VoiceError(f"the voice does not name its {component} as name and options: {entry!r}")
    options = entry.get("options") or {}
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        raise VoiceError(f"the voice's options of its {component} are no table: {options!r}")
    return entry["name"], dict(options)


def _check_content(content: ContentEncoder, voice: Voice) -> None:
    if content.dim != voice.config.content_dim:
        raise VoiceError(
            f"the voice takes content features of {voice.config.content_dim} channels, "
            f"but the content encoder '{content.name}' gives {content.dim}"
        )
