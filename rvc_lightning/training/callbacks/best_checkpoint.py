"""The best checkpoint, also of a run that goes on in another folder."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import atomic_path
from rvc_lightning.training.checkpoints import read_checkpoint

log = logging.getLogger(__name__)


class BestCheckpoint(ModelCheckpoint):
    """`ModelCheckpoint` whose best value and file survive a change of the folder.

    Lightning forgets the best value where the folder is another than before: a run that goes on from a single
    checkpoint, or whose folder was moved, would take its next state for the best. Here the best file comes along.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Fetches the best file so far, and makes the state that Lightning restores next tell of it."""
        state = checkpoint["callbacks"].get(self.state_key)
        if state is None or self.dirpath is None or state["dirpath"] == self.dirpath or not state["best_model_path"]:
            return
        own = Path(self.dirpath) / Path(state["best_model_path"]).name
        if trainer.is_global_zero and trainer.ckpt_path is not None and not own.is_file():
            _fetch(Path(state["best_model_path"]), Path(trainer.ckpt_path).parent, own, checkpoint["global_step"])
        if trainer.strategy.broadcast(own.is_file()):
            best = {"best_model_path": str(own), "kth_best_model_path": str(own)}
            state |= best | {"dirpath": self.dirpath, "best_k_models": {str(own): state["best_model_score"]}}
        else:
            log.warning("The best checkpoint so far, '%s', is gone: the best is judged anew", state["best_model_path"])
            del checkpoint["callbacks"][self.state_key]


def _fetch(stored: Path, beside: Path, own: Path, global_step: int) -> None:
    """Copies the best checkpoint from where it was stored, or lies now, unless it is younger than `global_step`."""
    for source in (stored, beside / stored.name):
        try:
            fits = read_checkpoint(source)["global_step"] <= global_step
        except VoiceError:
            fits = False
        if fits:
            with atomic_path(own) as temporary:
                shutil.copyfile(source, temporary)
            return
