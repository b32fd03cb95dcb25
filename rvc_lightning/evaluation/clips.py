"""Conversion and scoring of single clips.

    recording ─▶ voice ─▶ conversion ─┬─▶ against the recording: melody, voicing, phones (resynthesis: mel distance)
                                      ├─▶ against the target: speaker similarity (counterparts: mel distance)
                                      └─▶ without a reference: estimated mean opinion scores
    recording ──────────────────────────▶ against the target, and without a reference, as a baseline

All metrics take 16 kHz audio. Legend: N samples at 16 kHz, F frames of 10 ms.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rvc_lightning.audio.decode import decode_audio, resample
from rvc_lightning.audio.discovery import SkippedFile, discover_audio, display_name
from rvc_lightning.audio.frames import SAMPLE_RATE
from rvc_lightning.audio.levels import rms
from rvc_lightning.audio.loudness import peak_defect, peak_of
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import AudioError
from rvc_lightning.evaluation.compare import log_mel, mel_distance, warped_mel_distance
from rvc_lightning.evaluation.metrics import MetricSuite
from rvc_lightning.evaluation.page import mp3
from rvc_lightning.evaluation.phones import phone_error_rate
from rvc_lightning.evaluation.pictures import draw, png
from rvc_lightning.evaluation.pitch import pitch_errors, semitones_between
from rvc_lightning.evaluation.report import ClipReport, ClipSample, Report, Scores
from rvc_lightning.evaluation.settings import MIN_SECONDS, EvaluationSettings, Recordings
from rvc_lightning.evaluation.speaker import TargetSpeaker, speaker_gain, spread
from rvc_lightning.pitch.scale import median_hz

_MIN_RMS = 1e-5


class _Clip(NamedTuple):
    """The evaluated part of a recording."""

    wav16k: np.ndarray
    """[N]."""
    original: tuple[np.ndarray, int]
    """The same at its own sampling rate, and that rate in Hz."""
    is_cut: bool
    """Whether the recording is longer."""


@dataclass(frozen=True)
class ScoredClip:
    """Scores of a clip, and the data of its sample."""

    report: ClipReport
    mels: Mapping[str, np.ndarray]
    tracks_hz: Mapping[str, np.ndarray]
    sounds: Mapping[str, tuple[np.ndarray, int]]

    def sample(self) -> ClipSample:
        """Encode audio and picture for the page."""
        players = {title: mp3(audio, rate) for title, (audio, rate) in self.sounds.items()}
        return ClipSample(self.report.name, players, png(draw(self.mels, self.tracks_hz, log_pitch=True)))


@dataclass
class ClipEvaluator:
    """Convert and score clips with one voice."""

    converter: VoiceConverter
    metrics: MetricSuite
    settings: EvaluationSettings
    options: ConversionOptions
    extract: Callable[[np.ndarray], np.ndarray]
    target: TargetSpeaker | None = None
    target_hz: float | None = None

    def set_reference(self, recordings: Recordings, report: Report) -> None:
        """Compute the speaker embedding and median pitch of the target; add unavailable metrics to `report`.

        Raises:
            AudioError: No recording of `reference` is usable.
        """
        clips = self._reference_clips(recordings, report)
        self.target_hz = self.converter.voice.median_f0_hz
        if self.target_hz is None and self.settings.task == "conversion":
            self.target_hz = median_hz([self.extract(clip) for clip in clips.values()])
        if self.metrics.speaker is None:
            return
        if not clips:
            report.missing.append("speaker similarity: no clips of the target; add reference=FOLDER")
            return
        embeddings = np.stack([self.metrics.speaker.embed(clip) for clip in clips.values()])
        self.target = TargetSpeaker(tuple(clips), embeddings)
        report.reference_similarity = self.target.reference_similarity

    def _reference_clips(self, recordings: Recordings, report: Report) -> dict[str, np.ndarray]:
        """Load clips [N] of the target by real path: from `reference`, else from other recordings of the target."""
        by_target = recordings.audio if self.settings.task == "resynthesis" else recordings.counterpart
        folder = recordings.reference or by_target
        if folder is None:
            return {}
        clips: dict[str, np.ndarray] = {}
        root = folder.parent if folder.is_file() else folder
        for name in spread(discover_audio(folder).recordings, self.settings.reference_clips):
            try:
                clips[os.path.realpath(root / name)] = self._load(root / name).wav16k
            except AudioError as error:
                # Files of `audio` are reported when they are evaluated.
                if folder != recordings.audio:
                    report.skipped.append(SkippedFile(f"reference {display_name(name)}", str(error)))
        if recordings.reference is not None and not clips:
            raise AudioError(f"reference: no usable recording in '{recordings.reference}'; choose clips of the target")
        return clips

    def evaluate(self, recording: Path, name: str, counterpart: Path | None) -> ScoredClip:
        """Convert and score one recording. Raises AudioError if it is unreadable, silent or too short."""
        source = self._load(recording)
        source_hz = self.extract(source.wav16k)
        semitones = self._transposition(source_hz)
        output, rate = self.converter.convert(
            source.wav16k, replace(self.options, transpose_semitones=semitones), sample_rate=SAMPLE_RATE
        )
        converted = resample(output, rate, SAMPLE_RATE)
        requested_hz, converted_hz = source_hz * 2 ** (semitones / 12), self.extract(converted)
        truth = None if counterpart is None else self._load(counterpart)
        # Truncated recordings may end at different words.
        comparable = truth is not None and not source.is_cut and not truth.is_cut
        truth_wav16k = truth.wav16k if truth is not None and comparable else None
        excluded = os.path.realpath(recording)
        source_scores = self._target_scores(source.wav16k, truth_wav16k, excluded)
        scores = self._source_scores(converted, source.wav16k, converted_hz, requested_hz)
        scores |= self._target_scores(converted, truth_wav16k, excluded)
        scores |= self._gain(scores, source_scores)
        seconds = len(source.wav16k) / SAMPLE_RATE
        remarks = [f"only its first {seconds:g} s were evaluated"] if source.is_cut else []
        if truth is not None and not comparable:
            remarks.append("not compared with its counterpart: one of them is too long")
        return ScoredClip(
            ClipReport(name, seconds, semitones, scores, source_scores, tuple(remarks)),
            {"source": log_mel(source.wav16k, SAMPLE_RATE), "converted": log_mel(converted, SAMPLE_RATE)},
            {"requested": requested_hz, "converted": converted_hz},
            {"source": source.original, "converted": (output, rate)} | ({"target": truth.original} if truth else {}),
        )

    def _load(self, path: Path) -> _Clip:
        """Load the start of a recording. Raises AudioError if it is unreadable, silent or too short."""
        decoded = decode_audio(path)
        seconds = len(decoded.audio) / decoded.sample_rate
        start = decoded.audio[: round(self.settings.clip_seconds * decoded.sample_rate)]
        is_short = seconds < MIN_SECONDS
        if defect := f"shorter than {MIN_SECONDS:g} s ({seconds:.3f} s)" if is_short else peak_defect(peak_of(start)):
            raise AudioError(defect)
        wav16k = resample(start, decoded.sample_rate, SAMPLE_RATE)
        return _Clip(wav16k, (start, decoded.sample_rate), len(start) < len(decoded.audio))

    def _transposition(self, source_hz: np.ndarray) -> float:
        """Return the pitch shift in semitones for a recording with pitch [F]."""
        if self.settings.transpose_semitones is not None:
            return self.settings.transpose_semitones
        if self.settings.task == "resynthesis" or not self.converter.voice.pitch_guided:
            return 0.0
        return float(semitones_between(source_hz, self.target_hz))

    def _source_scores(
        self, converted: np.ndarray, source: np.ndarray, converted_hz: np.ndarray, requested_hz: np.ndarray
    ) -> dict[str, float | None]:
        """Score a conversion [N] against its source [N]."""
        errors = pitch_errors(converted_hz, requested_hz)
        scores = {
            "level_db": 20 * float(np.log10(max(rms(converted), _MIN_RMS) / rms(source))),
            "pitch_correlation": errors.correlation,
            "pitch_error_cents": errors.error_cents,
            "gross_pitch_error": errors.gross_error,
            "voicing_error": errors.voicing_error,
        }
        if self.settings.task == "resynthesis":
            scores["mel_distance_db"] = mel_distance(converted, source)
        if recognizer := self.metrics.words:
            scores["phone_error"] = phone_error_rate(recognizer.transcribe(converted), recognizer.transcribe(source))
        return scores

    def _target_scores(
        self, audio: np.ndarray, counterpart: np.ndarray | None, excluded: str
    ) -> dict[str, float | None]:
        """Score a recording [N], converted or not, against the target and by itself."""
        scores: dict[str, float | None] = {}
        if self.metrics.speaker and self.target and rms(audio) >= _MIN_RMS:
            scores["speaker_similarity"] = self.target.similarity(self.metrics.speaker.embed(audio), excluded)
        if self.metrics.quality:
            opinion = self.metrics.quality.estimate(audio)
            scores |= {f"mos_{name}": value for name, value in opinion._asdict().items()}
        if counterpart is not None:
            scores["counterpart_mel_distance_db"] = warped_mel_distance(audio, counterpart)
        return scores

    def _gain(self, converted: Scores, source: Scores) -> dict[str, float | None]:
        """Return the speaker gain; none in a resynthesis, whose source is the target."""
        converted_similarity, source_similarity = (scores.get("speaker_similarity") for scores in (converted, source))
        if self.settings.task == "resynthesis" or self.target is None:
            return {}
        if converted_similarity is None or source_similarity is None:
            return {}
        gain = speaker_gain(converted_similarity, source_similarity, self.target.reference_similarity)
        return {"speaker_gain": gain}
