"""The evaluation of a voice on recordings that it was not trained on.

    recording ─▶ voice ─▶ conversion ─┬─▶ beside the recording: melody, voicing, phones (and, rebuilt, mel distance)
                                      ├─▶ beside the target: speaker similarity (and mel distance to the counterpart)
                                      └─▶ alone: estimated opinion
    recording ──────────────────────────▶ beside the target, and alone: what no conversion scores

Everything is heard at 16 kHz. Legend: N samples at 16 kHz, F frames of 10 ms.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.contrib.logging import logging_redirect_tqdm

from rvc_lightning.audio.decode import decode_audio, resample
from rvc_lightning.audio.discovery import SkippedFile, discover_audio, display_name
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.audio.loudness import peak_defect, peak_of
from rvc_lightning.cli.progress import Progress
from rvc_lightning.config.options import option_fields
from rvc_lightning.config.validation import check_types
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import AudioError, ConfigurationError, unknown_choice
from rvc_lightning.evaluation.compare import log_mel, mel_distance, rms_of, warped_mel_distance
from rvc_lightning.evaluation.melody import median_hz, melody, semitones_between
from rvc_lightning.evaluation.metrics import JUDGES, MetricSuite, build_metrics
from rvc_lightning.evaluation.page import TASKS, mp3
from rvc_lightning.evaluation.pictures import draw, png
from rvc_lightning.evaluation.report import ClipReport, ClipSample, Figures, Report
from rvc_lightning.evaluation.speaker import Target, evenly, gain
from rvc_lightning.evaluation.words import error_rate
from rvc_lightning.io.files import digest
from rvc_lightning.pitch.swift_f0 import SwiftF0Extractor
from rvc_lightning.voice.voice import Voice

log = logging.getLogger(__name__)

_SHORTEST_SECONDS = 0.5
_LEAST_RMS = 1e-5
_LONGEST_TEXT = 200
_BY_ITSELF = "each recording is moved to the voice's pitch by itself; options.transpose_semitones=N moves it otherwise"
_OWN_MELODY = (
    "what is judged is how well a voice keeps the recording's own melody, and another one would count as error; "
    "leave it out, and convert with it once the voice is good"
)
_NOT_JUDGED = {
    "autotune": _OWN_MELODY,
    "proposed_pitch_hz": _BY_ITSELF,
    "f0_file": _OWN_MELODY,
    "write_f0": "the page shows the pitch of every clip; convert with write_f0=true writes it",
    "output_format": "clips are kept in the page alone; convert with it writes files",
}
"""Options of a conversion that an evaluation refuses: why, and what serves instead."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, and how.

    Raises:
        ConfigurationError: A value is of the wrong type or out of range, or names something that does not exist.
    """

    task: str = "conversion"
    """A key of `TASKS`."""
    transpose_semitones: float | None = None
    """Shift of the pitch; None moves each recording to the target's median in whole semitones, and rebuilds at 0."""
    judges: Sequence[str] = tuple(JUDGES)
    """Which extras judge, by their names in `JUDGES`."""
    demand: bool = False
    """Whether a judge that is not installed is an error."""
    n_clips: int | None = None
    """Recordings at most, spread evenly over the folder; None for all."""
    clip_seconds: float = 30.0
    """Of a longer recording the beginning is judged."""
    reference_clips: int = 30
    """Reference clips at most, spread evenly."""
    page_clips: int = 12
    """Clips at most that can be listened to in the page; the table has all."""

    def __post_init__(self) -> None:
        check_types(self)
        if not isinstance(self.judges, str | list | tuple):
            raise ConfigurationError(f"judges={self.judges}: choose some of [{', '.join(JUDGES)}], or []")
        if self.task not in TASKS:
            raise unknown_choice("task", self.task, TASKS)
        least = {"n_clips": 1, "clip_seconds": _SHORTEST_SECONDS, "reference_clips": 1, "page_clips": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and not value >= lowest:
                raise ConfigurationError(f"{name}={value}: choose {lowest:g} or more")


@dataclass(frozen=True)
class Recordings:
    """Where the recordings are.

    Raises:
        AudioError: There is no such file or folder.
    """

    audio: Path
    """What is converted: a folder, or a single file."""
    reference: Path | None = None
    """Clips of the target speaker."""
    counterpart: Path | None = None
    """Files of the same names as those of `audio`, in which the target says the same words."""

    def __post_init__(self) -> None:
        for name in ("audio", "reference", "counterpart"):
            path = getattr(self, name)
            if path is not None and not path.exists():
                raise AudioError(f"{name}: there is no file or folder '{path}'")


def evaluate(
    converter: VoiceConverter,
    recordings: Recordings,
    settings: EvaluationSettings,
    options: ConversionOptions,
) -> Report:
    """Converts recordings and judges what they became.

    Args:
        converter: With the voice.
        recordings: Where they are.
        settings: What is asked.
        options: Of the conversion; the transposition is that of `settings`.

    Returns:
        The report, without `voice` and `settings` of the command.

    Raises:
        AudioError: No recording can be judged.
        ConfigurationError: No counterpart belongs to a recording, a demanded judge is not installed, or an option
            changes the pitch otherwise than by transposition.
    """
    _refuse_what_is_not_judged(options)
    found = discover_audio(recordings.audio)
    root = recordings.audio.parent if recordings.audio.is_file() else recordings.audio
    counterparts = _counterparts(recordings.counterpart, found.recordings, settings.task)
    report = Report(settings.task, voice={}, settings={}, skipped=list(found.skipped))
    panel = build_metrics(settings.judges, settings.demand)
    report.left_out += panel.left_out
    # Whatever the voice was trained with, figures are comparable if the same ears measure them.
    examiner = _ClipEvaluator(converter, panel, settings, options, SwiftF0Extractor())
    examiner.set_reference(recordings, report)
    chosen = evenly(found.recordings, settings.n_clips)
    with logging_redirect_tqdm(), Progress("evaluating", len(chosen), "recordings") as progress:
        for name in chosen:
            try:
                judged = examiner.examine(root / name, display_name(name), counterparts.get(name))
            except AudioError as error:
                report.skipped.append(SkippedFile(display_name(name), str(error)))
            else:
                report.clips.append(judged.report)
                if len(report.exhibits) < settings.page_clips:
                    report.exhibits.append(judged.exhibit())
            progress.update(1)
    if not report.clips:
        reasons = "\n".join(f"  {other.path}: {other.reason}" for other in report.skipped[:10])
        raise AudioError(f"audio: there is no recording in '{recordings.audio}' that can be judged\n{reasons}".rstrip())
    return report


class _Beginning(NamedTuple):
    """What is judged of a recording."""

    wav16k: np.ndarray
    """[N]."""
    original: tuple[np.ndarray, int]
    """The same at its own rate, and that in Hz."""
    is_cut: bool
    """Whether the recording goes on."""


@dataclass(frozen=True)
class _Judged:
    """A clip, and what is needed to show it."""

    report: ClipReport
    mels: Mapping[str, np.ndarray]
    tracks_hz: Mapping[str, np.ndarray]
    sounds: Mapping[str, tuple[np.ndarray, int]]

    def exhibit(self) -> ClipSample:
        players = {title: mp3(audio, rate) for title, (audio, rate) in self.sounds.items()}
        return ClipSample(self.report.name, players, png(draw(self.mels, self.tracks_hz, log_pitch=True)))


@dataclass
class _ClipEvaluator:
    """What stays the same from clip to clip."""

    converter: VoiceConverter
    panel: MetricSuite
    settings: EvaluationSettings
    options: ConversionOptions
    extract: Callable[[np.ndarray], np.ndarray]
    target: Target | None = None
    target_hz: float | None = None

    def set_reference(self, recordings: Recordings, report: Report) -> None:
        """Learns the target's voice and pitch from reference clips, and notes in `report` what is missing for it."""
        clips = self._reference_clips(recordings, report)
        self.target_hz = self.converter.voice.median_f0_hz
        if self.target_hz is None and self.settings.task == "conversion":
            self.target_hz = median_hz([self.extract(clip) for clip in clips.values()])
        if self.panel.speaker is None:
            return
        if not clips:
            report.left_out.append("speaker similarity: no clips of the target are named; add reference=FOLDER")
            return
        embeddings = np.stack([self.panel.speaker.embed(clip) for clip in clips.values()])
        self.target = Target(tuple(clips), embeddings)
        report.own_similarity = self.target.own_similarity

    def _reference_clips(self, recordings: Recordings, report: Report) -> dict[str, np.ndarray]:
        """By real path [N], from `reference`, else from what else there is of the target."""
        of_target = recordings.audio if self.settings.task == "resynthesis" else recordings.counterpart
        folder = recordings.reference or of_target
        if folder is None:
            return {}
        clips: dict[str, np.ndarray] = {}
        root = folder.parent if folder.is_file() else folder
        for name in evenly(discover_audio(folder).recordings, self.settings.reference_clips):
            try:
                clips[os.path.realpath(root / name)] = self._load(root / name).wav16k
            except AudioError as error:
                # Recordings that are judged as well are named when it is their turn.
                if folder != recordings.audio:
                    report.skipped.append(SkippedFile(f"reference {display_name(name)}", str(error)))
        return clips

    def examine(self, recording: Path, name: str, counterpart: Path | None) -> _Judged:
        """Converts and judges one recording. Raises AudioError where it cannot be read or holds nothing to judge."""
        source, original, is_cut = self._load(recording)
        source_hz = self.extract(source)
        semitones = self._transposition(source_hz)
        spoken, rate = self.converter.convert(
            source, replace(self.options, transpose_semitones=semitones), sample_rate=SAMPLE_RATE
        )
        converted = resample(spoken, rate, SAMPLE_RATE)
        wanted_hz, heard_hz = source_hz * 2 ** (semitones / 12), self.extract(converted)
        truth = None if counterpart is None else self._load(counterpart)
        # Of two beginnings nobody knows whether they end with the same word.
        in_full = truth is not None and not is_cut and not truth.is_cut
        truth_wav16k = truth.wav16k if truth is not None and in_full else None
        excluded = os.path.realpath(recording)
        of_source = self._alone(source, truth_wav16k, excluded)
        of_conversion = self._beside_source(converted, source, heard_hz, wanted_hz)
        of_conversion |= self._alone(converted, truth_wav16k, excluded)
        of_conversion |= self._gain(of_conversion, of_source)
        seconds = len(source) / SAMPLE_RATE
        remarks = [f"only its first {seconds:g} s were judged"] if is_cut else []
        if truth is not None and not in_full:
            remarks.append("it or its counterpart is too long to be compared with the other")
        report = ClipReport(name, seconds, semitones, of_conversion, of_source, tuple(remarks))
        sounds = {"source": original, "converted": (spoken, rate)}
        if truth is not None:
            sounds["target saying it"] = truth.original
        mels = {"source": log_mel(source, SAMPLE_RATE), "converted": log_mel(converted, SAMPLE_RATE)}
        return _Judged(report, mels, {"wanted": wanted_hz, "converted": heard_hz}, sounds)

    def _load(self, path: Path) -> _Beginning:
        """The beginning of a recording. Raises AudioError if it is no use."""
        decoded = decode_audio(path)
        seconds = len(decoded.audio) / decoded.sample_rate
        if seconds < _SHORTEST_SECONDS:
            raise AudioError(f"shorter than {_SHORTEST_SECONDS:g} s ({seconds:.3f} s)")
        beginning = decoded.audio[: round(self.settings.clip_seconds * decoded.sample_rate)]
        if defect := peak_defect(peak_of(beginning)):
            raise AudioError(defect)
        wav16k = resample(beginning, decoded.sample_rate, SAMPLE_RATE)
        return _Beginning(wav16k, (beginning, decoded.sample_rate), len(beginning) < len(decoded.audio))

    def _transposition(self, source_hz: np.ndarray) -> float:
        """Semitones by which a recording of this pitch [F] is moved."""
        if self.settings.transpose_semitones is not None:
            return self.settings.transpose_semitones
        if self.settings.task == "resynthesis" or not self.converter.voice.pitch_guided:
            return 0.0
        return float(semitones_between(source_hz, self.target_hz))

    def _beside_source(
        self, converted: np.ndarray, source: np.ndarray, heard_hz: np.ndarray, wanted_hz: np.ndarray
    ) -> dict[str, float | None]:
        """What the conversion keeps of the recording, or for a rebuilt one, how near it comes."""
        followed = melody(heard_hz, wanted_hz)
        figures = {
            "level_db": 20 * float(np.log10(max(rms_of(converted), _LEAST_RMS) / rms_of(source))),
            "pitch_correlation": followed.correlation,
            "pitch_error_cents": followed.error_cents,
            "gross_pitch_error": followed.gross_error,
            "voicing_error": followed.voicing_error,
        }
        if self.settings.task == "resynthesis":
            figures["mel_distance_db"] = mel_distance(converted, source)
        if self.panel.words:
            heard, said = self.panel.words.phones(converted), self.panel.words.phones(source)
            figures["phone_error"] = error_rate(heard, said)
        return figures

    def _alone(self, audio: np.ndarray, counterpart: np.ndarray | None, excluded: str) -> dict[str, float | None]:
        """What can be said of any recording [N], converted or not; a silent one is nobody's."""
        figures: dict[str, float | None] = {}
        if self.panel.speaker and self.target and rms_of(audio) >= _LEAST_RMS:
            figures["speaker_similarity"] = self.target.similarity(self.panel.speaker.embed(audio), excluded)
        if self.panel.quality:
            opinion = self.panel.quality.judge(audio)
            figures |= {f"mos_{name}": value for name, value in opinion._asdict().items()}
        if counterpart is not None:
            figures["counterpart_mel_distance_db"] = warped_mel_distance(audio, counterpart)
        return figures

    def _gain(self, converted: Figures, source: Figures) -> dict[str, float | None]:
        """Of a rebuilt recording of the target there is none: the source is the target."""
        similarities = converted.get("speaker_similarity"), source.get("speaker_similarity")
        if self.settings.task == "resynthesis" or self.target is None or None in similarities:
            return {}
        return {"speaker_gain": gain(*similarities, self.target.own_similarity)}  # type: ignore[arg-type]


def _refuse_what_is_not_judged(options: ConversionOptions) -> None:
    """The pitch that is asked for is the source's, transposed; and no audio is written. Raises ConfigurationError."""
    for one in option_fields(ConversionOptions):
        value = getattr(options, one.name)
        if one.name in _NOT_JUDGED and value != one.default:
            raise ConfigurationError(
                f"options.{one.name}={value}: an evaluation takes no {one.name}: {_NOT_JUDGED[one.name]}"
            )


def _counterparts(folder: Path | None, recordings: Sequence[Path], task: str) -> dict[Path, Path]:
    """The counterpart of each recording that has one: the file of the same path but for its extension."""
    if folder is None:
        return {}
    if task != "conversion":
        raise ConfigurationError(f"counterpart='{folder}': a {task} is compared with the recordings themselves")
    single = folder.is_file() and len(recordings) == 1
    by_name = {path.with_suffix(""): folder / path for path in ([] if single else discover_audio(folder).recordings)}
    found = {path: by_name[path.with_suffix("")] for path in recordings if path.with_suffix("") in by_name}
    if single:
        found = {recordings[0]: folder}
    if not found and recordings:
        raise ConfigurationError(
            f"counterpart: '{folder}' has no file of the name of a recording, such as '{display_name(recordings[0])}'"
        )
    return found


def facts_about(voice: Voice, path: Path) -> dict[str, Any]:
    """What a report says of the voice: enough to know it again."""
    known = voice.information
    return {
        "name": _text(known.get("model_name") or path.stem),
        "file": display_name(path),
        "digest": digest(path) if path.is_file() else None,
        "sample_rate": voice.sample_rate,
        "content": _text(voice.content_encoder),
        "epoch": _plain(known.get("epoch")),
        "step": _plain(known.get("step")),
    }


def _plain(value: object) -> int | str | None:
    """An entry of a stranger's file as JSON takes it."""
    return value if value is None or isinstance(value, int) else _text(value)


def _text(value: object) -> str:
    """An entry of a stranger's file as text that can be written; half a character becomes a question mark."""
    return str(value)[:_LONGEST_TEXT].encode("utf-8", "replace").decode()
