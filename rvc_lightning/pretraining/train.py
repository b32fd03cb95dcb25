"""`python -m rvc_lightning.pretraining.train corpus=FOLDER`: train the phonetic content encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import Settings, option

resolvers.register()


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings(Settings):
    """Files and seed of `conf/pretraining_train.yaml`."""

    corpus: str = option(help="speech with known phones: python -m rvc_lightning.pretraining.synthesize corpus=FOLDER")
    checkpoint: str | None
    start_from: str | None
    seed: int = option(min=0, max=2**32 - 1)


@command("pretraining_train")
def main(config: DictConfig) -> float:
    """Train, and return the share of frames with a wrong phone to sweeps."""
    PretrainingSettings.from_config(config)
    return train(config)


def train(config: DictConfig) -> float:
    """Train an encoder as `conf/pretraining_train.yaml` describes, write it, and return `val/frame_error`.

    The result is NaN if the run ended before its first validation.

    Raises:
        ConfigurationError: A setting is out of range.
        DatasetError: The corpus cannot be read.
        VoiceError: The checkpoint to resume cannot be read.
    """
    # Imported here to keep --help fast.
    import lightning

    from rvc_lightning.config.values import plain
    from rvc_lightning.pretraining.augment import AugmentConfig
    from rvc_lightning.pretraining.data import PairDataConfig, PairDataModule
    from rvc_lightning.pretraining.fitting import fit
    from rvc_lightning.pretraining.module import PhoneticTraining, PhoneticTrainingConfig, phonetic_config
    from rvc_lightning.training.trainer import set_up_torch

    set_up_torch(config)
    lightning.seed_everything(config.seed, workers=True)
    model = plain(config.model)
    # Checked before the corpus is read.
    phonetic_config(model["sizes"])
    PhoneticTrainingConfig.from_values(model["training"])
    augment = AugmentConfig.from_values(model["augment"])
    data = PairDataModule(Path(config.corpus), PairDataConfig.from_values(config.data), augment, config.seed)
    module = PhoneticTraining(**model, n_speakers=len(data.speakers))
    if config.start_from is not None:
        module.start_from(Path(config.start_from))
    return fit(config, module, data, "val/frame_error", "of frames have a wrong phone")


if __name__ == "__main__":
    main()
