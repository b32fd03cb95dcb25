"""What the voice sounds and looks like so far, in TensorBoard."""

from __future__ import annotations

import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from rvc_lightning.data.batch import Batch
from rvc_lightning.models.config import FRAMES_PER_SECOND
from rvc_lightning.module import RVCModule


class Samples(Callback):
    """Adds audio, mel spectra and pitch of the first held-out clips at every validation."""

    def __init__(self, n_clips: int) -> None:
        """`n_clips`: how many clips to show."""
        self.n_clips = n_clips
        self._recorded_shown = False

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: RVCModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Shows the clips of the first batch."""
        writer = next((log.experiment for log in trainer.loggers if isinstance(log, TensorBoardLogger)), None)
        if batch_idx or trainer.sanity_checking or writer is None or not trainer.is_global_zero:
            return
        clips = batch.first(self.n_clips)
        rebuilt = pl_module.rebuild(clips)
        for number in range(len(clips.ids)):
            self._show(writer, pl_module, clips, rebuilt, number, trainer.fit_loop.epoch_loop.total_batch_idx + 1)
        self._recorded_shown = True

    def _show(
        self, writer: SummaryWriter, module: RVCModule, clips: Batch, rebuilt: Tensor, number: int, step: int
    ) -> None:
        config = module.synthesizer.config
        samples = int(clips.lengths[number]) * config.hop_samples
        recorded, spoken = clips.waveform[number, :samples].float(), rebuilt[number, :samples].float()
        if not self._recorded_shown:
            writer.add_audio(f"clip{number}/recorded", recorded, step, config.sample_rate)
        writer.add_audio(f"clip{number}/rebuilt", spoken, step, config.sample_rate)
        mels = [module.mel_of(wave[None, None])[0].cpu() for wave in (recorded, spoken)]
        f0_hz = clips.f0_hz[number, : int(clips.lengths[number])].cpu()
        writer.add_figure(f"clip{number}/mel", draw_mels(mels[0], mels[1], f0_hz), step)


def draw_mels(recorded: Tensor, rebuilt: Tensor, f0_hz: Tensor) -> Figure:
    """Two log-mel spectra [M, T] one above the other, and below them the pitch [T] that both follow."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    seconds = recorded.shape[1] / FRAMES_PER_SECOND
    low, high = float(recorded.min()), float(recorded.max())
    for axis, mel, title in ((axes[0], recorded, "recorded"), (axes[1], rebuilt, "rebuilt")):
        extent = (0.0, seconds, 0.0, float(mel.shape[0]))
        axis.imshow(mel, origin="lower", aspect="auto", vmin=low, vmax=high, extent=extent)
        axis.set(title=title, ylabel="mel band")
    voiced = torch.where(f0_hz > 0, f0_hz, torch.nan)
    axes[2].plot(torch.arange(len(voiced)) / FRAMES_PER_SECOND, voiced)
    axes[2].set(ylabel="pitch / Hz", xlabel="seconds")
    return figure
