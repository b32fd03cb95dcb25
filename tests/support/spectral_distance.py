"""Distance and correlation of played audio and a conversion, which need not be aligned."""

import librosa
import numpy as np
import soxr


def mels(audio, rate):
    """Return log-mel spectra of audio [frames, bands] up to 4 kHz, the band that all voices of the tests have."""
    audio = soxr.resample(audio.astype(np.float32), rate, 8000)
    power = librosa.feature.melspectrogram(y=audio, sr=8000, n_fft=256, hop_length=80, n_mels=20)
    return np.log(power + 1e-5).T


def distance(played, expected):
    """Return the mean distance of two spectra at the shift where it is smallest."""
    return min(float(np.abs(part - expected).mean()) for part in _parts(played, len(expected)))


def correlation(played, expected):
    """Return the mean correlation of the bands of two spectra at the shift where it is largest."""
    parts = _parts(_standardized(played), len(expected))
    return max(float((part * _standardized(expected)).mean()) for part in parts)


def _parts(mels, frames):
    return [mels[shift : shift + frames] for shift in range(max(len(mels) - frames, 1))]


def _standardized(mels):
    return (mels - mels.mean(0)) / mels.std(0)
