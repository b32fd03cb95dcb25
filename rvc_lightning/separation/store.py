"""Files of extracted parts, named by the content of the recording and the models, so that each is extracted once.

    FOLDER/HASH.vocals.wav FOLDER/HASH.lead.wav FOLDER/HASH.dry.wav     float32, at the rate of the recording

Legend: N samples, C channels.
"""

from __future__ import annotations

import hashlib
import logging
from itertools import chain
from pathlib import Path

import numpy as np

from rvc_lightning.audio.decode import open_audio
from rvc_lightning.audio.discovery import display_name
from rvc_lightning.audio.encode import audio_writer
from rvc_lightning.cli.progress import Progress
from rvc_lightning.io.files import digest
from rvc_lightning.io.scratch import scratch_folder
from rvc_lightning.separation.base import Separator, parts_up_to

log = logging.getLogger(__name__)


class PartStore:
    """Extracts parts of recordings into files, and finds those that exist."""

    def __init__(self, separator: Separator, folder: Path) -> None:
        self._separator, self._folder = separator, folder

    def extract(self, recording: Path, part: str) -> Path:
        """Return the file of a part of a recording, after extracting it and the parts before it if needed.

        Raises:
            AudioError: The recording cannot be read, or has more than two channels.
            AssetError: A model cannot be downloaded or read.
            OutOfSpaceError, NotWritableError: The disk cannot store the file.
        """
        state = hashlib.blake2b(digest_size=16)
        state.update(digest(recording).encode())
        source = recording
        for step in parts_up_to(part):
            state.update(self._separator.identity(step).encode())
            target = self._folder / f"{state.hexdigest()}.{step}.wav"
            if target.is_file():
                log.info("Found the %s of %s, separated earlier", step, display_name(recording))
            else:
                self._write(step, source, target, f"separating {step} of {display_name(recording)}")
            source = target
        return source

    def _write(self, part: str, source: Path, target: Path, description: str) -> None:
        with open_audio(source, keep_channels=True) as stream, Progress(description, stream.seconds or 0, "s") as bar:
            blocks = iter(stream)
            first = next(blocks)
            rate, channels = stream.sample_rate, first.shape[1]
            with (
                scratch_folder(self._folder) as scratch,
                audio_writer(target, rate, channels=channels, subtype="FLOAT", scratch=scratch) as writer,
            ):
                stereo = (np.broadcast_to(block, (len(block), 2)) for block in chain([first], blocks))
                for block in self._separator.extract(part, stereo, rate):
                    writer.write(block if channels == 2 else block.mean(axis=1))
                    bar.update(len(block) / rate)
            if stream.warning:
                log.warning("%s: %s", source, stream.warning)
