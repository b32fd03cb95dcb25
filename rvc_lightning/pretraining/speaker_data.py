"""Excerpts of log-mel spectra with the number of their speaker, as training examples of the speaker network.

Legend: B excerpts, J spectra of 10 ms, M mel bands.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rvc_lightning.cli.columns import pluralize
from rvc_lightning.config.options import Settings, option
from rvc_lightning.content.phonetic import PhoneticEncoder
from rvc_lightning.errors import DatasetError
from rvc_lightning.pretraining.corpus import RECORDED, read_audio, read_manifest

_MIN_SECONDS = 1.5


@dataclass(frozen=True, kw_only=True)
class SpeakerDataConfig(Settings, group="data"):
    """Examples and their loading."""

    batch_size: int = option(help="B, excerpts in a batch", min=2)
    spectra: int = option(help="J, length of an excerpt", min=40)
    examples: int = option(help="excerpts in an epoch", min=1)
    excluded: list[str] = option(help="names of people who are not used")


class ExcerptDataset(Dataset[tuple[Tensor, int]]):
    """Random excerpts, of each speaker with the same probability."""

    def __init__(self, speakers: list[list[Tensor]], spectra: int, examples: int) -> None:
        """Initialize the dataset.

        Args:
            speakers: Log-mel spectra of each speaker's utterances, [any, M].
            spectra: J.
            examples: Number of excerpts in an epoch.
        """
        self.speakers, self.spectra, self.examples = speakers, spectra, examples

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, _: int) -> tuple[Tensor, int]:
        """Return an excerpt [J, M], padded with its mean, and the number of its speaker."""
        speaker = int(torch.randint(len(self.speakers), ()))
        utterances = self.speakers[speaker]
        whole = utterances[int(torch.randint(len(utterances), ()))]
        start = int(torch.randint(max(len(whole) - self.spectra, 0) + 1, ()))
        excerpt = whole[start : start + self.spectra].float()
        missing = self.spectra - len(excerpt)
        return torch.cat([excerpt, excerpt.mean(0).expand(missing, -1)]), speaker


class SpeakerDataModule(lightning.LightningDataModule):
    """Excerpts of the recorded people of a corpus."""

    def __init__(self, folder: Path, config: SpeakerDataConfig) -> None:
        """Read the manifest. Raises DatasetError if the folder is not a corpus, or has fewer than two people."""
        super().__init__()
        self.folder, self.config = folder, config
        self.utterances = defaultdict(list)
        for utterance in read_manifest(folder):
            name = utterance.speaker.removeprefix(RECORDED)
            is_used = utterance.speaker.startswith(RECORDED) and name not in config.excluded
            if is_used and utterance.ends_s[-1] >= _MIN_SECONDS:
                self.utterances[name].append(utterance.audio)
        self.speakers = sorted(self.utterances)
        if len(self.speakers) < 2:
            raise DatasetError(
                f"'{folder}' has {pluralize(len(self.speakers), 'speaker')} with recordings of {_MIN_SECONDS} s or "
                "more; at least two are required"
            )

    def setup(self, stage: str) -> None:
        """Compute the spectra of all utterances."""
        network = PhoneticEncoder().network
        with torch.no_grad():
            spectra = [
                [
                    network.log_mel(torch.from_numpy(read_audio(self.folder / audio))[None] / 2**15)[0].half()
                    for audio in self.utterances[name]
                ]
                for name in self.speakers
            ]
        self.training = ExcerptDataset(spectra, self.config.spectra, self.config.examples)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Return the loader of excerpts [B, J, M] and speakers [B]."""
        return DataLoader(self.training, self.config.batch_size, drop_last=True)
