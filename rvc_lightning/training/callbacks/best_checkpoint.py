"""The best checkpoint, also of a run that resumes in another folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.training.checkpoints import read_checkpoint

_warn_once = rank_zero_only(logging.getLogger(__name__).warning)


class BestCheckpoint(ModelCheckpoint):
    """`ModelCheckpoint` that keeps its best score and file when the folder changes.

    Lightning drops the best score if the folder differs from that of the checkpoint: a run that resumes from a single
    file or in a moved folder would save its next state as the best one. Here the best file is copied to the new folder.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Copy the best file so far, and make the state that Lightning is about to restore refer to the copy."""
        state = checkpoint["callbacks"].get(self.state_key)
        if state is None or self.dirpath is None or state["dirpath"] == self.dirpath or not state["best_model_path"]:
            return
        stored, copied = Path(state["best_model_path"]), Path(self.dirpath) / Path(state["best_model_path"]).name
        if trainer.is_global_zero and trainer.ckpt_path is not None and not copied.is_file():
            _copy_best([stored, Path(trainer.ckpt_path).parent / stored.name], copied, checkpoint["global_step"])
        if trainer.strategy.broadcast(copied.is_file()):
            best = {"best_model_path": str(copied), "kth_best_model_path": str(copied)}
            state |= best | {"dirpath": self.dirpath, "best_k_models": {str(copied): state["best_model_score"]}}
        else:
            _warn_once("The best checkpoint so far, '%s', was not found: a new one will be chosen", stored)
            del checkpoint["callbacks"][self.state_key]


def _copy_best(sources: list[Path], target: Path, global_step: int) -> None:
    """Copy the first of `sources` that is readable and not newer than `global_step`."""
    for source in sources:
        try:
            usable = read_checkpoint(source)["global_step"] <= global_step
        except VoiceError:
            usable = False
        if usable:
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
            return
