"""Distance of played audio from a conversion, for which the two need not be aligned."""

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
    shifts = range(max(len(played) - len(expected), 1))
    return min(float(np.abs(played[shift : shift + len(expected)] - expected).mean()) for shift in shifts)
