"""Audio and pictures of reconstructed speech, in TensorBoard."""

from __future__ import annotations

from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from rvc_lightning.data.batch import Batch
from rvc_lightning.evaluation.pictures import draw
from rvc_lightning.training.lightning_adapter import steps_done
from rvc_lightning.training.module import RVCModule


def tensorboard_writer(trainer: Trainer) -> SummaryWriter | None:
    """Return the writer of the trainer's TensorBoard logger; None on other ranks, or without such a logger."""
    if not trainer.is_global_zero:
        return None
    return next((log.experiment for log in trainer.loggers if isinstance(log, TensorBoardLogger)), None)


class Samples(Callback):
    """Adds audio, mel spectra and pitch of the first held-out clips at every validation.

    The pitch of the reconstruction is that of the callback `PitchError`, if it precedes this one.
    """

    def __init__(self, n_clips: int) -> None:
        """Initialize the callback; `n_clips` is the number of clips to add."""
        self.n_clips = n_clips

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: RVCModule, outputs: dict[str, Any], batch: Batch, batch_idx: int
    ) -> None:
        """Add the clips of the first batch."""
        writer = tensorboard_writer(trainer)
        if batch_idx or trainer.sanity_checking or writer is None:
            return
        clips = batch.first(self.n_clips)
        for number in range(len(clips.ids)):
            frames = int(clips.lengths[number])
            curves = {"target": clips.f0_hz[number, :frames].cpu().numpy()}
            if number < len(outputs.get("f0_hz", [])):
                curves["rebuilt"] = outputs["f0_hz"][number].numpy()
            samples = frames * pl_module.synthesizer.config.hop_samples
            waves = {
                "recorded": clips.waveform[number, :samples].float(),
                "rebuilt": outputs["rebuilt"][number, :samples].float(),
            }
            # The step of Lightning's log.
            self._add(writer, pl_module, f"clip{number}", waves, curves, steps_done(trainer) - 1)

    def _add(
        self,
        writer: SummaryWriter,
        module: RVCModule,
        name: str,
        waves: dict[str, Tensor],
        curves: dict[str, Any],
        step: int,
    ) -> None:
        for kind, wave in waves.items():
            writer.add_audio(f"{name}/{kind}", wave, step, module.synthesizer.config.sample_rate)
        mels = {kind: module.mel_of(wave[None, None])[0].cpu().numpy() for kind, wave in waves.items()}
        writer.add_figure(f"{name}/mel", draw(mels, curves), step)
