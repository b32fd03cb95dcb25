"""Audio and pictures of reconstructed speech, in TensorBoard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from rvc_lightning.config.options import Settings, option
from rvc_lightning.data.batch import Batch
from rvc_lightning.evaluation.pictures import draw
from rvc_lightning.training.lightning_adapter import steps_done
from rvc_lightning.training.module import RVCModule


def tensorboard_writer(trainer: Trainer) -> SummaryWriter | None:
    """Return the writer of the trainer's TensorBoard logger; None on other ranks, or without such a logger."""
    if not trainer.is_global_zero:
        return None
    return next((log.experiment for log in trainer.loggers if isinstance(log, TensorBoardLogger)), None)


@dataclass(frozen=True, kw_only=True)
class SampleSettings(Settings, group="callbacks.samples"):
    """Settings of `Samples`."""

    n_clips: int = option(help="Clips to add at a validation", min=0)


class Samples(Callback):
    """Adds audio, mel spectra and pitch of the first held-out clips at every validation.

    The pitch of the reconstruction is that of the callback `PitchError`, if it precedes this one.
    """

    def __init__(self, **settings: Any) -> None:
        """Initialize the callback with the values of `SampleSettings`. Raises ConfigurationError."""
        self.settings = SampleSettings.from_values(settings)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: RVCModule, outputs: dict[str, Any], batch: Batch, batch_idx: int
    ) -> None:
        """Add the clips of the first batch."""
        writer = tensorboard_writer(trainer)
        if batch_idx or trainer.sanity_checking or writer is None:
            return
        clips, config = batch.first(self.settings.n_clips), pl_module.synthesizer.config
        # The step at which Lightning logs.
        step = steps_done(trainer) - 1
        for number, frames in enumerate(clips.lengths.tolist()):
            curves = {"target": clips.f0_hz[number, :frames].cpu().numpy()}
            if number < len(outputs.get("f0_hz", [])):
                curves["rebuilt"] = outputs["f0_hz"][number].numpy()
            waves = {"recorded": clips.waveform, "rebuilt": outputs["rebuilt"]}
            mels = {}
            for kind, waveforms in waves.items():
                wave = waveforms[number, : frames * config.hop_samples].float()
                writer.add_audio(f"clip{number}/{kind}", wave, step, config.sample_rate)
                mels[kind] = pl_module.mel_of(wave[None, None])[0].cpu().numpy()
            writer.add_figure(f"clip{number}/mel", draw(mels, curves), step)
