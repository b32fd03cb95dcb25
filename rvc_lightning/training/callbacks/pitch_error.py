"""How well rebuilt speech keeps the pitch that it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning import Callback, Trainer
from torch import Tensor

from rvc_lightning.data.batch import Batch
from rvc_lightning.pitch import build_pitch_extractor
from rvc_lightning.pitch.decoding import CENTS_PER_OCTAVE
from rvc_lightning.pitch.tracking import track
from rvc_lightning.training.module import RVCModule


class PitchError(Callback):
    """Logs `val/pitch_cents` and `val/voicing_error` of the first held-out clips.

    A tracker listens to the rebuilt speech of validation. It runs on the host and takes longer than the networks on a
    GPU, so the number of clips is bounded; they are the longest, and the same every time. A voice without pitch has
    nothing to keep, and is passed over.
    """

    def __init__(self, n_clips: int, pitch: Mapping[str, Any]) -> None:
        """Prepares to measure.

        Args:
            n_clips: Clips that a validation measures; 0 for none.
            pitch: `name` and options of the tracker.
        """
        self.n_clips, self._extract = n_clips, build_pitch_extractor(**pitch)
        self._left = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Begins anew."""
        self._left = self.n_clips if pl_module.synthesizer.pitch_guided else 0

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: RVCModule, outputs: dict[str, Tensor], batch: Batch, batch_idx: int
    ) -> None:
        """Measures as many clips of the batch as are left to measure."""
        config = pl_module.synthesizer.config
        clips = min(self._left, len(batch.ids))
        self._left -= clips
        for rebuilt, f0_hz, frames in zip(
            outputs["rebuilt"][:clips], batch.f0_hz, batch.lengths.tolist(), strict=False
        ):
            heard_hz = track(self._extract, rebuilt[: frames * config.hop_samples], config.sample_rate).to(f0_hz)
            error = pitch_error(heard_hz[:frames], f0_hz[: len(heard_hz)][:frames])
            pl_module.val_pitch_cents.update(error.cents, error.n_voiced)
            pl_module.val_voicing_error.update(error.voicing, frames)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: RVCModule) -> None:  # type: ignore[override]
        """Logs the means over all clips of all ranks; no pitch error where nothing was voiced."""
        if self._left == self.n_clips or not pl_module.synthesizer.pitch_guided:
            return
        for name, metric in (
            ("val/pitch_cents", pl_module.val_pitch_cents),
            ("val/voicing_error", pl_module.val_voicing_error),
        ):
            value = metric.compute()
            metric.reset()
            if value.isfinite():
                pl_module.log(name, value)


class ClipError(NamedTuple):
    """How the pitch of a clip differs from the wanted one."""

    cents: Tensor
    """Mean absolute difference in cents over the frames that are voiced in both; 0 if there are none."""
    n_voiced: Tensor
    """Frames that are voiced in both."""
    voicing: Tensor
    """Share of the frames that are voiced in one only."""


def pitch_error(heard_hz: Tensor, wanted_hz: Tensor) -> ClipError:
    """Compares two pitch tracks of the same length, [T] and [T], 0 where unvoiced."""
    heard, wanted = heard_hz > 0, wanted_hz > 0
    both = heard & wanted
    cents = CENTS_PER_OCTAVE * (heard_hz[both] / wanted_hz[both]).log2().abs()
    n_voiced = both.sum()
    return ClipError(cents.sum() / n_voiced.clamp(min=1), n_voiced, (heard != wanted).float().mean())
