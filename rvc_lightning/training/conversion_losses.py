"""Losses of conversions: keep the words of other people's speech, and match the speaker of the voice.

Recordings of one speaker only teach the networks to resynthesize that speaker. The networks also learn to use speaker
cues in the content, but in a conversion these belong to a different speaker. These losses train the conversion itself,
with excerpts of other people's content and pitch that ship with the package.

    content, pitch at that of the voice ──▶ synthesizer ──▶ conversion ─┬─▶ phones, as in the source        content
                                                                        └─▶ speaker, as in the recordings   speaker

Legend: B batch, K excerpts, N samples, F content frames of 20 ms, T frames of 10 ms, C content channels, E channels of
a speaker embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rvc_lightning.audio.frames import CONTENT_REPEAT, SAMPLE_RATE, hop_samples
from rvc_lightning.content.phonetic import PhoneticEncoder
from rvc_lightning.data.batch import Batch
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.models import Synthesizer
from rvc_lightning.models.speaker import from_file
from rvc_lightning.pitch.scale import coarse_pitch

_FOLDER = Path(__file__).parents[1] / "assets" / "conversion"
CONTENT_STEP = 0.3
"""Resolution of the stored content, whose channels have a standard deviation of about 1."""
_SPEAKER_NETWORKS = ("speaker-1.pt", "speaker-2.pt")
"""Two networks: conversions that are trained with one of them alone are less similar for the other one."""
_CONVERSIONS = 6
"""Conversions of a batch."""
_EDGE_FRAMES = (8, 10)
"""Content frames at the start and the end of a conversion that have too little context to be compared."""


class Excerpts(NamedTuple):
    """Speech of other people."""

    content: Tensor
    """Content of the phonetic encoder, [K, F, C]."""
    f0_hz: Tensor
    """Pitch in Hz, 0 = unvoiced, [K, T], T = 2 F."""


class ConversionLosses(nn.Module):
    """Convert excerpts of other people's speech to the voice, and compare phones and speaker."""

    content: Tensor
    f0_hz: Tensor

    def __init__(self, sample_rate: int) -> None:
        """Load the included excerpts and networks.

        Args:
            sample_rate: Sampling rate of the voice in Hz.
        """
        super().__init__()
        self.sample_rate = sample_rate
        self.encoder = PhoneticEncoder()
        self.speaker_networks = nn.ModuleList(
            from_file(read_pickle(_FOLDER / name, "speaker network")) for name in _SPEAKER_NETWORKS
        ).requires_grad_(False)
        excerpts = read_excerpts(_FOLDER / "speech.npz")
        self.register_buffer("content", excerpts.content, persistent=False)
        self.register_buffer("f0_hz", excerpts.f0_hz, persistent=False)
        self.register_state_dict_post_hook(_save_nothing)

    def train(self, mode: bool = True) -> ConversionLosses:
        """Keep the networks in evaluation mode."""
        return super().train(False)

    def forward(self, synthesizer: Synthesizer, batch: Batch) -> dict[str, Tensor]:
        """Compute both losses.

        Args:
            synthesizer: Networks without a random latent.
            batch: Recordings of the speakers to convert to, not cropped.

        Returns:
            `content`, 1.6 times the mean squared Hellinger distance of the phones in a frame; `speaker`, 1 minus the
            cosine similarity of conversions and recordings.
        """
        device = batch.f0_hz.device
        excerpt = torch.randint(len(self.content), (_CONVERSIONS,), device=device)
        item = torch.arange(_CONVERSIONS, device=device) % len(batch.speaker)
        content = self.content[excerpt]
        f0_hz = move_pitch(self.f0_hz[excerpt], batch.f0_hz[item])
        frames = f0_hz.shape[1]
        lengths = torch.full((_CONVERSIONS,), frames, device=device)
        repeated = content.repeat_interleave(CONTENT_REPEAT, dim=1)
        output = synthesizer(repeated, lengths, coarse_pitch(f0_hz), f0_hz, batch.speaker[item], None, frames)
        with torch.autocast(device.type, enabled=False):
            converted = self._to_16k(output.waveform.squeeze(1).float())
            speakers = self._speakers_of(batch)[item]
            similarity = (self._embed(converted) * speakers).sum(1)
            return {"content": self._phone_distance(converted, content), "speaker": (1 - similarity).mean()}

    def _phone_distance(self, wav16k: Tensor, content: Tensor) -> Tensor:
        """Compare the phones of conversions [K, N] with the content of their sources [K, F, C]."""
        lengths = torch.full((len(wav16k),), wav16k.shape[1], device=wav16k.device)
        n_phones, (start, end) = self.encoder.network.config.n_phones, _EDGE_FRAMES
        frames = slice(start, content.shape[1] - end)
        difference = (self.encoder(wav16k, lengths)[:, frames] - content[:, frames])[..., :n_phones]
        return difference.square().sum(2).mean() / content.shape[2]

    def _speakers_of(self, batch: Batch) -> Tensor:
        """Return the mean embedding of the recordings of each item's speaker in the batch, unit vectors [B, E]."""
        with torch.no_grad():
            samples = self.f0_hz.shape[1] * hop_samples(self.sample_rate)
            excerpts = random_excerpts(batch.waveform.float(), batch.waveform_lengths, samples)
            embeddings = self._embed(self._to_16k(excerpts))
            same = (batch.speaker[:, None] == batch.speaker).to(embeddings.dtype)
            return functional.normalize(same @ embeddings, dim=1)

    def _embed(self, wav16k: Tensor) -> Tensor:
        """Return the embeddings of all networks as one unit vector: [B, N] -> [B, E]."""
        log_mel = self.encoder.network.log_mel(wav16k)
        return functional.normalize(torch.cat([network(log_mel) for network in self.speaker_networks], dim=1), dim=1)

    def _to_16k(self, waveform: Tensor) -> Tensor:
        """Resample to 16 kHz by cutting the spectrum: [B, N] -> [B, N · 16000 / sample_rate]."""
        samples = waveform.shape[1] * SAMPLE_RATE // self.sample_rate
        spectrum = torch.fft.rfft(waveform)[:, : samples // 2 + 1]
        return torch.fft.irfft(spectrum, samples) * (samples / waveform.shape[1])


def _save_nothing(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
    """Remove the networks from a saved state: they never change, and a resumed run may choose other losses."""
    for name in [name for name in state if name.startswith(prefix)]:
        del state[name]


def read_excerpts(path: Path) -> Excerpts:
    """Read a file of `pretraining.excerpts.write_excerpts`."""
    with np.load(path, allow_pickle=False) as stored:
        content, f0_hz = (torch.from_numpy(stored[name]).float() for name in ("content", "f0_hz"))
        return Excerpts(content.mT.contiguous() * CONTENT_STEP, f0_hz)


def random_excerpts(waveform: Tensor, lengths: Tensor, samples: int) -> Tensor:
    """Cut a random excerpt [B, samples] of each item [B, N], of `lengths` samples [B]; shorter items are repeated.

    An embedding would also represent the zeros of the padding.
    """
    starts = (torch.rand(len(lengths), device=lengths.device) * (lengths - samples + 1).clamp(min=1)).long()
    return waveform.gather(1, (starts[:, None] + torch.arange(samples, device=lengths.device)) % lengths[:, None])


def move_pitch(f0_hz: Tensor, target_hz: Tensor) -> Tensor:
    """Scale each pitch contour to the median of another; contours without voiced frames do not change.

    Args:
        f0_hz: Pitch in Hz, 0 = unvoiced, [K, T].
        target_hz: Pitch in Hz, 0 = unvoiced, [K, any].
    """
    ratio = _median(target_hz) / _median(f0_hz)
    return f0_hz * torch.nan_to_num(ratio, nan=1.0)[:, None]


def _median(f0_hz: Tensor) -> Tensor:
    """Return the median of the voiced frames of each row, [K]; NaN without such frames."""
    return torch.where(f0_hz > 0, f0_hz, torch.nan).nanmedian(dim=1).values
