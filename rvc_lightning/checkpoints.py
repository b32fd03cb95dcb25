"""Checkpoints of training, read as files from strangers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rvc_lightning.errors import VoiceError
from rvc_lightning.module import CHECKPOINT_KEY
from rvc_lightning.voice.pickles import read_pickle


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of this project holds.

    Raises:
        VoiceError: There is none, it is cut short, would run code, or is something else.
    """
    content = read_pickle(path, "checkpoint")
    if CHECKPOINT_KEY in content and "state_dict" in content:
        return content
    if "weight" in content:
        raise VoiceError(f"'{path}' is a voice, not a checkpoint: training goes on from a .ckpt of a run folder")
    raise VoiceError(f"'{path}' is no checkpoint of rvc_lightning; it holds {sorted(map(str, content))[:8]}")
