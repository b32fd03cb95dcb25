"""What the voice is trained on, in TensorBoard."""

from __future__ import annotations

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from rvc_lightning.data.datamodule import RVCDataModule
from rvc_lightning.data.report_picture import PICTURE_NAME


class DatasetReport(Callback):
    """Shows the picture of the preparation's report when training begins."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows it, where there is one: datasets that were taken over have none."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        writer = next((log.experiment for log in trainer.loggers if isinstance(log, TensorBoardLogger)), None)
        if writer is None or not trainer.is_global_zero or not isinstance(data, RVCDataModule):
            return
        path = data.folder / PICTURE_NAME
        if path.is_file():
            with Image.open(path) as picture:
                writer.add_image("dataset", np.asarray(picture.convert("RGB")), dataformats="HWC")
