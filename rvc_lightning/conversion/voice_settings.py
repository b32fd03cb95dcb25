"""Files of a voice, as settings of the commands that convert."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from rvc_lightning.config.options import Settings, option

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VoiceSettings(Settings):
    """Files of a voice, as in `conf/convert.yaml`."""

    voice: str = option(help="the voice, a .pth file")
    index: str | None
    content_path: str | None

    def index_path(self) -> Path | None:
        """Return and log the index to use: `index`, else the one beside the voice, if any."""
        from lightning.pytorch.utilities import rank_zero_only

        from rvc_lightning.retrieval.discovery import explain_no_index, find_index

        voice = Path(self.voice)
        chosen = find_index(voice) if self.index is None else Path(self.index)
        rank_zero_only(log.info)("Index: %s", chosen or f"none; {explain_no_index(voice)}")
        return chosen
