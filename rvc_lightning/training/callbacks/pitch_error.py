"""Pitch error of reconstructed speech."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from lightning import Callback, Trainer
from torch import Tensor

from rvc_lightning.config.options import Settings, option
from rvc_lightning.data.batch import Batch
from rvc_lightning.pitch import build_pitch_extractor
from rvc_lightning.pitch.decoding import CENTS_PER_OCTAVE
from rvc_lightning.pitch.tracking import track
from rvc_lightning.training.module import RVCModule


@dataclass(frozen=True, kw_only=True)
class PitchErrorSettings(Settings, group="callbacks.pitch_error"):
    """Settings of `PitchError`."""

    n_clips: int = option(help="Clips to measure in a validation; 0 for none", min=0)
    pitch: dict[str, Any] = option(help="Name and options of the pitch extractor")


class PitchError(Callback):
    """Logs `val/pitch_cents` and `val/voicing_error` of the first held-out clips.

    The pitch extractor runs on the host, and takes longer than the networks on a GPU, so the number of clips is
    limited; they are the longest ones, and always the same. Voices without pitch have no pitch error.
    """

    def __init__(self, **settings: Any) -> None:
        """Initialize the callback with the values of `PitchErrorSettings`. Raises ConfigurationError."""
        self.settings = PitchErrorSettings.from_values(settings)
        self._extract = build_pitch_extractor(**self.settings.pitch)
        self._left = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: RVCModule) -> None:
        """Reset the number of clips that are left."""
        self._left = self.settings.n_clips if pl_module.synthesizer.pitch_guided else 0

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: RVCModule, outputs: dict[str, Any], batch: Batch, batch_idx: int
    ) -> None:
        """Measure clips of the batch, and add their pitch in Hz to `outputs` as `f0_hz`, for other callbacks."""
        config = pl_module.synthesizer.config
        clips = min(self._left, len(batch.ids))
        self._left -= clips
        outputs["f0_hz"] = []
        for rebuilt, target_hz, frames in zip(
            outputs["rebuilt"][:clips], batch.f0_hz, batch.lengths.tolist(), strict=False
        ):
            f0_hz = track(self._extract, rebuilt[: frames * config.hop_samples], config.sample_rate)[:frames]
            outputs["f0_hz"].append(f0_hz)
            error = pitch_error(f0_hz.to(target_hz), target_hz[: len(f0_hz)])
            pl_module.val_pitch_cents.update(error.cents, error.n_voiced)
            pl_module.val_voicing_error.update(error.voicing, frames)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: RVCModule) -> None:
        """Log the means over all clips of all ranks; no pitch error if no frame is voiced."""
        if self._left == self.settings.n_clips or not pl_module.synthesizer.pitch_guided:
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
    """Difference between the pitch of a clip and its target."""

    cents: Tensor
    """Mean absolute difference in cents over the frames that are voiced in both; 0 without such frames."""
    n_voiced: Tensor
    """Frames that are voiced in both."""
    voicing: Tensor
    """Share of the frames that are voiced in only one of them."""


def pitch_error(f0_hz: Tensor, target_hz: Tensor) -> ClipError:
    """Compare two pitch curves [T] in Hz, 0 where unvoiced."""
    voiced, target_voiced = f0_hz > 0, target_hz > 0
    both_voiced = voiced & target_voiced
    cents = CENTS_PER_OCTAVE * (f0_hz[both_voiced] / target_hz[both_voiced]).log2().abs()
    n_voiced = both_voiced.sum()
    return ClipError(cents.sum() / n_voiced.clamp(min=1), n_voiced, (voiced != target_voiced).float().mean())
