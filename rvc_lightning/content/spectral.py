"""Offline baseline: mel cepstra with context, normalized per recording.

It needs no training and no download; trained encoders give better results.

Legend: B items, T samples at 16 kHz, J cepstral frames of 10 ms, F content frames of 20 ms, Q cepstra, S taps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from rvc_lightning.audio.frames import (
    CONTENT_SAMPLES,
    SAMPLE_RATE,
    WINDOW_SAMPLES,
    content_frames,
    content_lengths,
    frame_mask,
)
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.io.imports import import_compiled

_FFT_SAMPLES = 512
_MEL_BANDS = 40
_CEPSTRA = 12
_TAPS = 64
_TAP_SAMPLES = CONTENT_SAMPLES // 2
# Higher cepstra depend on the speaker and get less weight. Correlation of phone means between two voices: 0.9 for the
# first two cepstra, 0.4 up to the seventh, 0 above.
_SHARED_ORDER = 3.0
# Frames within 40 dB of the loudest are speech; the floor is at 60 dB below the loudest band.
_SPEECH_RANGE = 40 / 10 * math.log(10)
_FLOOR_RATIO = 1e-6
_FLOOR_POWER = 1e-8
_MIN_DEVIATION = 0.1


class SpectralEncoder(ContentEncoder):
    """12 mel cepstra at 64 frames of 10 ms around each content frame: 768 channels, as in the v2 voice format.

    Each cepstrum is normalized to zero mean and unit deviation over the speech frames of an item, which removes level,
    channel and the average voice. The context is weighted by a Hann window.

        content frame f     |   taps 2f-32 ... 2f ... 2f+31, clamped at the ends of the item
        cepstral frames  0 1 2 3 4 5 6 7 ...            400 samples each, 160 apart
    """

    name = "spectral"
    dim = _CEPSTRA * _TAPS

    window: Tensor
    mel: Tensor
    cosines: Tensor
    weights: Tensor
    taps: Tensor

    def __init__(self) -> None:
        super().__init__()
        mel = import_compiled("librosa.filters").mel(
            sr=SAMPLE_RATE, n_fft=_FFT_SAMPLES, n_mels=_MEL_BANDS, fmin=50.0, htk=True
        )
        self._constant("window", torch.hann_window(WINDOW_SAMPLES))
        self._constant("mel", torch.from_numpy(mel).float())
        self._constant("cosines", _cosines(_CEPSTRA, _MEL_BANDS))
        self._constant("weights", _weights(_TAPS, _CEPSTRA))
        self._constant("taps", torch.arange(_TAPS) - _TAPS // 2)

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def forward(self, wav16k: Tensor, lengths: Tensor) -> Tensor:
        """Encode a batch, as `ContentEncoder.forward`: [B, T] and [B] to [B, F, 768], in float32."""
        with torch.autocast(wav16k.device.type, enabled=False):
            wav16k = functional.pad(wav16k.float(), (0, max(WINDOW_SAMPLES - wav16k.shape[1], 0)))
            cepstral_frames = (lengths - WINDOW_SAMPLES).clamp(min=0) // _TAP_SAMPLES + 1
            cepstra = self._normalized_cepstra(wav16k, cepstral_frames)
            content = self._with_context(cepstra, cepstral_frames, content_frames(wav16k.shape[1]))
        return content * frame_mask(content_lengths(lengths), content.shape[1])[:, :, None]

    def _normalized_cepstra(self, wav16k: Tensor, frames: Tensor) -> Tensor:
        """Compute cepstra, normalized over the speech frames of each item: [B, T] -> [B, J, Q]."""
        spectrum = torch.fft.rfft(wav16k.unfold(1, WINDOW_SAMPLES, _TAP_SAMPLES) * self.window, _FFT_SAMPLES)
        power = functional.linear(spectrum.abs().square(), self.mel)
        valid = frame_mask(frames, power.shape[1])
        loudest = power.masked_fill(~valid[:, :, None], 0).amax(dim=(1, 2), keepdim=True)
        log_mel = (power + _FLOOR_RATIO * loudest + _FLOOR_POWER).log()
        level = log_mel.logsumexp(dim=2).masked_fill(~valid, -math.inf)
        speech = (level > level.amax(dim=1, keepdim=True) - _SPEECH_RANGE).float()[:, :, None]
        share = speech / speech.sum(dim=1, keepdim=True)
        cepstra = functional.linear(log_mel, self.cosines)
        centered = cepstra - (cepstra * share).sum(dim=1, keepdim=True)
        deviation = (centered.square() * share).sum(dim=1, keepdim=True).sqrt()
        return centered / (deviation + _MIN_DEVIATION)

    def _with_context(self, cepstra: Tensor, frames: Tensor, content_total: int) -> Tensor:
        """Concatenate the weighted cepstra around each content frame: [B, J, Q] -> [B, F, S * Q]."""
        centers = 2 * torch.arange(content_total, device=cepstra.device)
        index = (centers[:, None] + self.taps).clamp(min=0)
        index = torch.minimum(index, (frames - 1)[:, None, None]).flatten(1)
        context = cepstra.gather(1, index[:, :, None].expand(-1, -1, cepstra.shape[2]))
        return (context.unflatten(1, (content_total, -1)) * self.weights).flatten(2)


def _cosines(cepstra: int, bands: int) -> Tensor:
    """Return the first rows of the orthonormal DCT-II, [Q, bands]."""
    order = torch.arange(cepstra)[:, None]
    position = torch.arange(bands) + 0.5
    return (math.pi * order * position / bands).cos() * math.sqrt(2 / bands)


def _weights(taps: int, cepstra: int) -> Tensor:
    """Return the weight of each tap and cepstrum, [S, Q], with a mean square of 1."""
    taper = torch.hann_window(taps + 2, periodic=False)[1:-1]
    shared = 1 / (1 + (torch.arange(cepstra) / _SHARED_ORDER) ** 2)
    weights = taper[:, None] * shared
    return weights / weights.square().mean().sqrt()
