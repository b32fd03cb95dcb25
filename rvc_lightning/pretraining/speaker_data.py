"""Excerpts of log-mel spectra with the number of their speaker, as training examples of the speaker network.

Legend: B excerpts, J spectra of 10 ms, M mel bands.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rvc_lightning.cli.columns import pluralize
from rvc_lightning.config.options import Settings, option
from rvc_lightning.content.phonetic import PhoneticEncoder
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.models.phonetic import PhoneticNetwork
from rvc_lightning.pretraining.corpus import RECORDED, read_audio, read_manifest

_MIN_SECONDS = 1.5
_CONVERSIONS_SHARE = 0.25
"""Share of conversions in the excerpts, if there are any."""


@dataclass(frozen=True, kw_only=True)
class SpeakerDataConfig(Settings, group="data"):
    """Examples and their loading."""

    batch_size: int = option(help="B, excerpts in a batch", min=2)
    spectra: int = option(help="J, length of an excerpt", min=40)
    examples: int = option(help="excerpts in an epoch", min=1)
    excluded: list[str] = option(help="names of people who are not used")
    conversions: list[str] = option(help="corpora of conversions, each with the name of its source speaker")


class ExcerptDataset(Dataset[tuple[Tensor, int]]):
    """Random excerpts, of each speaker with the same probability."""

    def __init__(
        self,
        recordings: dict[int, list[Tensor]],
        conversions: dict[int, list[Tensor]],
        *,
        spectra: int,
        examples: int,
    ) -> None:
        """Initialize the dataset.

        Args:
            recordings: Log-mel spectra of each speaker's utterances, [any, M].
            conversions: Log-mel spectra of conversions of a speaker's utterances, [any, M], or no speakers.
            spectra: J.
            examples: Number of excerpts in an epoch.
        """
        self.recordings, self.conversions = list(recordings.items()), list(conversions.items())
        self.spectra, self.examples = spectra, examples

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an excerpt [J, M], padded with its mean, and the number of its speaker."""
        # All ranks have the same generator, but different indices.
        rng = np.random.default_rng((int(torch.randint(2**62, ())), index))
        is_converted = self.conversions and rng.random() < _CONVERSIONS_SHARE
        speakers = self.conversions if is_converted else self.recordings
        speaker, utterances = speakers[int(rng.integers(len(speakers)))]
        whole = utterances[int(rng.integers(len(utterances)))]
        start = int(rng.integers(max(len(whole) - self.spectra, 0) + 1))
        excerpt = whole[start : start + self.spectra].float()
        missing = self.spectra - len(excerpt)
        return torch.cat([excerpt, excerpt.mean(0).expand(missing, -1)]), speaker


class SpeakerDataModule(lightning.LightningDataModule):
    """Excerpts of the recorded people of a corpus, and of conversions of their recordings."""

    def __init__(self, folder: Path, config: SpeakerDataConfig) -> None:
        """Read the manifests.

        Raises:
            DatasetError: A folder is not a corpus, or there are fewer than two people.
            ConfigurationError: `excluded` names people who are not in the corpus, or no conversion is of any other.
        """
        super().__init__()
        self.config = config
        self.recordings = _files_of([folder])
        if unknown := sorted(set(config.excluded) - set(self.recordings)):
            raise ConfigurationError(
                f"data.excluded={unknown}: '{folder}' has no recordings of {_MIN_SECONDS} s or more of these people"
            )
        self.speakers = sorted(set(self.recordings) - set(config.excluded))
        if len(self.speakers) < 2:
            raise DatasetError(
                f"'{folder}' has {pluralize(len(self.speakers), 'speaker')} with recordings of {_MIN_SECONDS} s or "
                "more; at least two are required"
            )
        self.conversions = _files_of([Path(folder) for folder in config.conversions])
        if config.conversions and not set(self.speakers) & set(self.conversions):
            raise ConfigurationError(
                f"data.conversions={config.conversions}: no conversions of the people of '{folder}'"
            )

    def setup(self, stage: str) -> None:
        """Compute the spectra of all utterances."""
        network = PhoneticEncoder().network
        self.training = ExcerptDataset(
            self._spectra_of(self.recordings, network),
            self._spectra_of(self.conversions, network),
            spectra=self.config.spectra,
            examples=self.config.examples,
        )

    def _spectra_of(self, files: dict[str, list[Path]], network: PhoneticNetwork) -> dict[int, list[Tensor]]:
        """Return the log-mel spectra of the files of each speaker that is used, by the number of the speaker."""
        with torch.no_grad():
            return {
                number: [network.log_mel(torch.from_numpy(read_audio(path))[None] / 2**15)[0].half() for path in paths]
                for number, name in enumerate(self.speakers)
                if (paths := files.get(name))
            }

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Return the loader of excerpts [B, J, M] and speakers [B]."""
        return DataLoader(self.training, self.config.batch_size, drop_last=True)


def _files_of(corpora: list[Path]) -> dict[str, list[Path]]:
    """Return the recordings of each person that are long enough."""
    files = defaultdict[str, list[Path]](list)
    for folder in corpora:
        for utterance in read_manifest(folder):
            if utterance.speaker.startswith(RECORDED) and utterance.ends_s[-1] >= _MIN_SECONDS:
                files[utterance.speaker.removeprefix(RECORDED)].append(folder / utterance.audio)
    return dict(files)
