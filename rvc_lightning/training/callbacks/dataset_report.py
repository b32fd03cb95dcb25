"""The report of the dataset, in TensorBoard."""

from __future__ import annotations

import numpy as np
from lightning import Callback, LightningModule, Trainer
from PIL import Image

from rvc_lightning.data.datamodule import RVCDataModule
from rvc_lightning.data.report_picture import PICTURE_NAME
from rvc_lightning.training.callbacks.samples import tensorboard_writer


class DatasetReport(Callback):
    """Adds the picture of the preparation report when training starts. Imported datasets have none."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the picture."""
        data, writer = getattr(trainer, "datamodule", None), tensorboard_writer(trainer)
        if writer is None or not isinstance(data, RVCDataModule) or not (data.folder / PICTURE_NAME).is_file():
            return
        with Image.open(data.folder / PICTURE_NAME) as picture:
            writer.add_image("dataset", np.asarray(picture.convert("RGB")), dataformats="HWC")
