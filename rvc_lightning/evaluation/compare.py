"""Distance of a converted recording to a reference: timbre and words by mel spectra, melody by pitch.

Recordings of the same words differ in timing; their frames are aligned by dynamic time warping (Sakoe and Chiba 1978).
A conversion is in time with its source and compared frame by frame.

Legend: N samples, M mel bands, F frames of 10 ms, P steps of the warping path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rvc_lightning.audio.decode import resample
from rvc_lightning.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from rvc_lightning.audio.levels import rms
from rvc_lightning.audio.loudness import peak_of
from rvc_lightning.cli.columns import format_columns
from rvc_lightning.errors import AudioError
from rvc_lightning.evaluation.pitch import pitch_correlation
from rvc_lightning.io.imports import import_compiled
from rvc_lightning.pitch import build_pitch_extractor

MEL_BANDS = 80
REFERENCE_RMS = 0.1
"""Level at which recordings are compared."""
_FFT_SAMPLES = 1024
_FLOOR_DB = -80.0


@dataclass(frozen=True)
class Comparison:
    """Differences between a recording and a reference, over aligned frames."""

    mel_distance_db: float
    """Root mean square difference of the log-mel spectra, mean over the path, in dB; 0 for the same recording."""
    level_matched_mel_distance_db: float
    """The same at equal RMS level."""
    pitch_correlation: float | None
    """Correlation of log pitch where both are voiced, -1 to 1; None with too few voiced frames or a constant pitch."""
    voicing_agreement: float
    """Share of the path where both are voiced or both are unvoiced, 0 to 1."""


def compare(converted: np.ndarray, reference: np.ndarray, sample_rate: int) -> Comparison:
    """Compare two recordings of the same words. The cost grows with the square of the length: meant for sentences.

    Args:
        converted: Mono audio, float [N].
        reference: Mono audio, float [N'].
        sample_rate: Sampling rate of both, in Hz.

    Raises:
        AudioError: A recording is empty.
    """
    first, second = (_to_16k(audio, sample_rate) for audio in (converted, reference))
    distance_db, path = _align(log_mel(first, SAMPLE_RATE), log_mel(second, SAMPLE_RATE))
    extract = build_pitch_extractor("swift_f0")
    first_hz, second_hz = extract(first)[path[:, 0]], extract(second)[path[:, 1]]
    return Comparison(
        mel_distance_db=distance_db,
        level_matched_mel_distance_db=warped_mel_distance(first, second),
        pitch_correlation=pitch_correlation(first_hz, second_hz),
        voicing_agreement=float(((first_hz > 0) == (second_hz > 0)).mean()),
    )


def warped_mel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mel distance of two recordings of the same words, at equal level and aligned by warping.

    float [N] and float [N'] at 16 kHz -> root mean square over mel bands, mean over the warping path, in dB. Time and
    memory grow with the product of the lengths.
    """
    return _align(log_mel(match_level(first), SAMPLE_RATE), log_mel(match_level(second), SAMPLE_RATE))[0]


def mel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mel distance of two recordings in time with each other, at equal level, frame by frame.

    float [N] and float [N'] at 16 kHz -> root mean square over mel bands, mean over the frames, in dB. The lengths
    differ by less than a frame.
    """
    mels = log_mel(match_level(first), SAMPLE_RATE), log_mel(match_level(second), SAMPLE_RATE)
    frames = min(mel.shape[1] for mel in mels)
    return _mean_distance(mels[0][:, :frames], mels[1][:, :frames])


def log_mel(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the mel spectrum in dB of full scale, -80 or more: float [N] -> [80, F], F = N // (rate // 100) + 1."""
    fft_samples = _FFT_SAMPLES * max(1, round(sample_rate / SAMPLE_RATE))
    power = import_compiled("librosa.feature.spectral").melspectrogram(
        y=audio,
        sr=sample_rate,
        n_fft=fft_samples,
        hop_length=sample_rate * FRAME_SAMPLES // SAMPLE_RATE,
        n_mels=MEL_BANDS,
        fmax=SAMPLE_RATE / 2,
        norm=None,
    )
    # A sine of full scale has a quarter of the window's squared sum in its bin.
    full_scale = (fft_samples / 4) ** 2
    level_db = 10 * np.log10(np.maximum(power / full_scale, 10 ** (_FLOOR_DB / 10)))
    # Rounding can put the logarithm slightly below the floor.
    return np.maximum(level_db, _FLOOR_DB)


def render_table(rows: Mapping[str, Comparison]) -> str:
    """Format comparisons by name as a table of text."""
    header = ("", "mel dB", "mel dB, same level", "pitch correlation", "voicing agreement")
    return "\n".join(format_columns([header, *((name, *_cells(row)) for name, row in rows.items())]))


def _cells(row: Comparison) -> tuple[str, ...]:
    return (
        f"{row.mel_distance_db:.1f}",
        f"{row.level_matched_mel_distance_db:.1f}",
        "-" if row.pitch_correlation is None else f"{row.pitch_correlation:.2f}",
        f"{row.voicing_agreement:.2f}",
    )


def _to_16k(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    resampled = resample(np.asarray(audio, dtype=np.float32), sample_rate, SAMPLE_RATE)
    if len(resampled) == 0:
        raise AudioError("an empty recording cannot be compared")
    return resampled


def match_level(audio: np.ndarray) -> np.ndarray:
    """Scale audio [N] to a root mean square of `REFERENCE_RMS`; silence stays silent."""
    return audio if peak_of(audio) == 0 else audio * np.float32(REFERENCE_RMS / rms(audio))


def _align(first: np.ndarray, second: np.ndarray) -> tuple[float, np.ndarray]:
    """Align [M, F] and [M, F']; return the mean distance along the path in dB, and the path of frame pairs [P, 2]."""
    _, path = import_compiled("librosa.sequence").dtw(first, second, metric="euclidean")
    return _mean_distance(first[:, path[:, 0]], second[:, path[:, 1]]), path


def _mean_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the root mean square over bands, mean over frames, of [M, P] and [M, P] in dB."""
    return float(np.sqrt(np.square(first - second).mean(axis=0)).mean())
