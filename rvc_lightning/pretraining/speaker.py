"""`python -m rvc_lightning.pretraining.speaker corpus=FOLDER`: train the network of `model.loss_weights.speaker`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import Settings, option

resolvers.register()


@dataclass(frozen=True, kw_only=True)
class SpeakerFiles(Settings):
    """Files and seed of `conf/pretraining_speaker.yaml`."""

    corpus: str = option(help="speech of many people: python -m rvc_lightning.pretraining.synthesize corpus=FOLDER")
    output: str = option(help="file of the network")
    checkpoint: str | None
    seed: int = option(min=0, max=2**32 - 1)


@command("pretraining_speaker")
def main(config: DictConfig) -> float:
    """Train, and return the share of wrongly classified excerpts to sweeps."""
    SpeakerFiles.from_config(config)
    return train(config)


def train(config: DictConfig) -> float:
    """Train a network as `conf/pretraining_speaker.yaml` describes, write it, and return `train/error`.

    The result is NaN if the run ended before its first epoch.

    Raises:
        ConfigurationError: A setting is out of range.
        DatasetError: The corpus cannot be read, or has fewer than two people.
        VoiceError: The checkpoint to resume cannot be read.
    """
    # Imported here to keep --help fast.
    import lightning

    from rvc_lightning.config.values import plain
    from rvc_lightning.pretraining.fitting import fit
    from rvc_lightning.pretraining.speaker_data import SpeakerDataConfig, SpeakerDataModule
    from rvc_lightning.pretraining.speaker_module import SpeakerTraining
    from rvc_lightning.training.trainer import set_up_torch

    set_up_torch(config)
    lightning.seed_everything(config.seed, workers=True)
    data = SpeakerDataModule(Path(config.corpus), SpeakerDataConfig.from_values(config.data))
    module = SpeakerTraining(**plain(config.model), n_speakers=len(data.speakers))
    return fit(config, module, data, "train/error", f"of excerpts of {len(data.speakers)} speakers are misclassified")


if __name__ == "__main__":
    main()
