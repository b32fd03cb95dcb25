"""What the voice sounds and looks like so far, in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from rvc_lightning.data.batch import Batch
from rvc_lightning.evaluation.pictures import draw
from rvc_lightning.pitch import build_pitch_extractor
from rvc_lightning.pitch.tracking import track
from rvc_lightning.training.module import RVCModule


class Samples(Callback):
    """Adds audio, mel spectra and pitch of the first held-out clips at every validation."""

    def __init__(self, n_clips: int, pitch: Mapping[str, Any]) -> None:
        """Prepares to show.

        Args:
            n_clips: How many clips to show.
            pitch: `name` and options of the tracker that listens to the rebuilt clips.
        """
        self.n_clips, self._extract = n_clips, build_pitch_extractor(**pitch)

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: RVCModule, outputs: dict[str, Tensor], batch: Batch, batch_idx: int
    ) -> None:
        """Shows the clips of the first batch."""
        writer = next((log.experiment for log in trainer.loggers if isinstance(log, TensorBoardLogger)), None)
        if batch_idx or trainer.sanity_checking or writer is None or not trainer.is_global_zero:
            return
        clips = batch.first(self.n_clips)
        for number in range(len(clips.ids)):
            # The number under which Lightning logs what this validation finds.
            step = trainer.fit_loop.epoch_loop.total_batch_idx
            self._show(writer, pl_module, clips, outputs["rebuilt"], number, step)

    def _show(
        self, writer: SummaryWriter, module: RVCModule, clips: Batch, rebuilt: Tensor, number: int, step: int
    ) -> None:
        config = module.synthesizer.config
        frames = int(clips.lengths[number])
        samples = frames * config.hop_samples
        recorded, spoken = clips.waveform[number, :samples].float(), rebuilt[number, :samples].float()
        writer.add_audio(f"clip{number}/recorded", recorded, step, config.sample_rate)
        writer.add_audio(f"clip{number}/rebuilt", spoken, step, config.sample_rate)
        mels = [module.mel_of(wave[None, None])[0].cpu() for wave in (recorded, spoken)]
        heard_hz = track(self._extract, spoken, config.sample_rate)[:frames]
        wanted_hz = clips.f0_hz[number, :frames].cpu()
        figure = draw(
            dict(zip(("recorded", "rebuilt"), (mel.numpy() for mel in mels), strict=True)),
            {"wanted": wanted_hz.numpy(), "rebuilt": heard_hz.numpy()},
        )
        writer.add_figure(f"clip{number}/mel", figure, step)
