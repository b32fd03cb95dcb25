"""How near a converted recording is to another: timbre and words by mel distance, melody by pitch.

Two recordings of the same words differ in timing: their frames are paired by dynamic time warping (Sakoe and Chiba
1978). A conversion is in time with its source, and compared frame by frame.

Legend: N samples, M mel bands, F frames of 10 ms, P steps of the warping path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import librosa
import numpy as np

from rvc_lightning.audio.decode import resample
from rvc_lightning.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from rvc_lightning.audio.loudness import peak_of
from rvc_lightning.cli.columns import format_columns
from rvc_lightning.errors import AudioError
from rvc_lightning.evaluation.melody import correlation
from rvc_lightning.pitch import build_pitch_extractor

MEL_BANDS = 80
_FFT_SAMPLES = 1024
_FLOOR_DB = -80.0
COMMON_RMS = 0.1


@dataclass(frozen=True)
class Comparison:
    """How a recording differs from its reference, over frames paired in time."""

    mel_distance_db: float
    """Root mean square difference of the log-mel spectra, mean over the path, in dB; 0 for the same recording."""
    level_free_mel_distance_db: float
    """The same after both were brought to the same loudness."""
    pitch_correlation: float | None
    """Of log pitch where both are voiced, -1 to 1; None where too little is, or a pitch never moves."""
    voicing_agreement: float
    """Share of the path where both are voiced or both are not, 0 to 1."""


def compare(converted: np.ndarray, reference: np.ndarray, sample_rate: int) -> Comparison:
    """Compares two recordings of the same words; meant for sentences, since work grows with the square of the length.

    Args:
        converted: Mono, float [N].
        reference: Mono, float [N'].
        sample_rate: Of both, in Hz.

    Raises:
        AudioError: One of them is empty.
    """
    first, second = (_at_16k(audio, sample_rate) for audio in (converted, reference))
    plain, path = _warped(log_mel(first, SAMPLE_RATE), log_mel(second, SAMPLE_RATE))
    level_free = warped_mel_distance(first, second)
    extract = build_pitch_extractor("swift_f0")
    f0_first_hz, f0_second_hz = extract(first)[path[:, 0]], extract(second)[path[:, 1]]
    agreement = float(((f0_first_hz > 0) == (f0_second_hz > 0)).mean())
    return Comparison(plain, level_free, correlation(f0_first_hz, f0_second_hz), agreement)


def warped_mel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mel distance of two recordings of the same words at the same loudness, frames paired by warping.

    Args:
        first: 16 kHz, float [N]; work and memory grow with the product of the lengths.
        second: 16 kHz, float [N'].

    Returns:
        Root mean square over mel bands, mean over the warping path, in dB; 0 for the same recording.
    """
    return _warped(log_mel(leveled(first), SAMPLE_RATE), log_mel(leveled(second), SAMPLE_RATE))[0]


def mel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mel distance of recordings that are in time with each other at the same loudness, frame by frame.

    Args:
        first: 16 kHz, float [N].
        second: 16 kHz, float [N'], of the same length but for a frame.

    Returns:
        Root mean square over mel bands, mean over the frames, in dB; 0 for the same recording.
    """
    mels = log_mel(leveled(first), SAMPLE_RATE), log_mel(leveled(second), SAMPLE_RATE)
    frames = min(mel.shape[1] for mel in mels)
    return _distance(mels[0][:, :frames], mels[1][:, :frames])


def log_mel(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mel spectrum in dB of full scale, not below -80: float [N] -> [80, F], F = N // (rate // 100) + 1."""
    power = librosa.feature.melspectrogram(
        y=audio,
        sr=sample_rate,
        n_fft=_FFT_SAMPLES * max(1, round(sample_rate / SAMPLE_RATE)),
        hop_length=sample_rate * FRAME_SAMPLES // SAMPLE_RATE,
        n_mels=MEL_BANDS,
        fmax=SAMPLE_RATE / 2,
        norm=None,
    )
    # A sine of full scale has a quarter of its window's squared sum in its bin.
    full_scale = (_FFT_SAMPLES * max(1, round(sample_rate / SAMPLE_RATE)) / 4) ** 2
    level_db = 10 * np.log10(np.maximum(power / full_scale, 10 ** (_FLOOR_DB / 10)))
    # The logarithm of the floor may come out a rounding below it.
    return np.maximum(level_db, _FLOOR_DB)


def render_table(rows: Mapping[str, Comparison]) -> str:
    """Comparisons by name as lines of text."""
    header = ("", "mel dB", "mel dB, same level", "pitch correlation", "voicing agreement")
    return "\n".join(format_columns([header, *((name, *_cells(row)) for name, row in rows.items())]))


def _cells(row: Comparison) -> tuple[str, ...]:
    correlation = "-" if row.pitch_correlation is None else f"{row.pitch_correlation:.2f}"
    return (
        f"{row.mel_distance_db:.1f}",
        f"{row.level_free_mel_distance_db:.1f}",
        correlation,
        f"{row.voicing_agreement:.2f}",
    )


def _at_16k(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    resampled = resample(np.asarray(audio, dtype=np.float32), sample_rate, SAMPLE_RATE)
    if len(resampled) == 0:
        raise AudioError("an empty recording cannot be compared")
    return resampled


def leveled(audio: np.ndarray) -> np.ndarray:
    """`audio` [N] brought to a root mean square of 0.1; silence stays silence."""
    return audio if peak_of(audio) == 0 else audio * np.float32(COMMON_RMS / rms_of(audio))


def rms_of(audio: np.ndarray) -> float:
    """Root mean square of audio [N], N >= 1."""
    return float(np.sqrt(np.square(audio, dtype=np.float64).mean()))


def _warped(first: np.ndarray, second: np.ndarray) -> tuple[float, np.ndarray]:
    """[M, F], [M, F'] -> mean distance in dB along the best path, and the path of frame pairs [P, 2]."""
    _, path = librosa.sequence.dtw(first, second, metric="euclidean")
    return _distance(first[:, path[:, 0]], second[:, path[:, 1]]), path


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """[M, P], [M, P] in dB -> root mean square over bands, mean over frames."""
    return float(np.sqrt(np.square(first - second).mean(axis=0)).mean())
