"""Tiny networks, a dataset of noise, and trainers; also used by scripts of ranks."""

from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import soundfile
import torch
from defaults import make_data
from lightning import Trainer
from omegaconf import OmegaConf

from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, write_manifest
from rvc_lightning.models import DiscriminatorConfig, SynthesizerConfig
from rvc_lightning.training.config import TrainingConfig
from rvc_lightning.training.module import RVCModule

HOP = 240
SGD = partial(torch.optim.SGD, lr=1e-3, momentum=0.5)
ADAMW = partial(torch.optim.AdamW, lr=1e-3, fused=True)
SYNTHESIZER = SynthesizerConfig(
    sample_rate=24000,
    n_fft=480,
    upsample_rates=(20, 12),
    upsample_kernel_sizes=(40, 24),
    latent_channels=4,
    hidden_channels=8,
    filter_channels=8,
    n_layers=1,
    posterior_layers=1,
    resblock_kernel_sizes=(3, 5),
    resblock_dilations=((1,), (1,)),
    initial_channels=8,
    speaker_count=2,
    speaker_channels=4,
    content_dim=8,
)
DISCRIMINATOR = DiscriminatorConfig(
    periods=(2,), period_channels=(4,), scale_channels=(4, 4, 4, 4, 4, 4), scale_groups=(1, 1, 2, 2, 2, 1)
)
WEIGHTS = {"adversarial": 1.0, "features": 1.0, "mel": 45.0, "kl": 1.0}


TRAINING = {"segment_frames": 8, "n_mels": 20, "mel_loss": "single", "loss_weights": WEIGHTS}


def training_config(**changes):
    """Return the settings of conf/model/full.yaml for tiny networks, with `changes`."""
    values = OmegaConf.to_container(OmegaConf.load(files("rvc_lightning.conf") / "model/full.yaml"))
    del values["synthesizer"]
    return TrainingConfig.from_values(values | TRAINING | changes)


def tiny_module(optimizer=SGD, synthesizer=SYNTHESIZER, **training):
    torch.manual_seed(7)
    config = training_config(**training)
    decay = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.99)
    return RVCModule(synthesizer, DISCRIMINATOR, config, optimizer=optimizer, scheduler=decay)


def tiny_trainer(**changes):
    defaults = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    defaults |= {"max_epochs": 1, "num_sanity_val_steps": 0, "enable_checkpointing": False, "devices": 1}
    return Trainer(**(defaults | {"use_distributed_sampler": False} | changes))


def tiny_data(folder, **changes):
    settings = {"segment_frames": 8, "batch_size": 4, "num_workers": 0, "held_out": 0.1}
    return make_data(folder, **settings | changes)


def write_tiny_dataset(folder: Path, n_slices=16):
    """Write slices of very different lengths, two per recording."""
    noise, rows = np.random.default_rng(0), []
    for number in range(n_slices):
        frames = 12 + 5 * number
        row = ManifestRow(
            id=str(number), recording=str(number // 2), speaker=number % 2, sample_rate=24000, audio=f"{number}.wav",
            f0=f"{number}_f0.npy", content=f"{number}_c.npy", samples=frames * HOP, frames=frames, seconds=frames / 100,
        )  # fmt: skip
        soundfile.write(folder / row.audio, noise.normal(size=row.samples) * 0.1, 24000, subtype="FLOAT")
        np.save(folder / row.f0, noise.uniform(80, 300, frames).astype(np.float32))
        np.save(folder / row.content, noise.normal(size=(-(-frames // 2), 8)).astype(np.float16))
        rows.append(row)
    pitch, content = {"name": "swift_f0", "options": {}}, {"name": "spectral", "options": {}, "dim": 8}
    header = DatasetHeader(24000, pitch, content, speakers=["0", "1"])
    write_manifest(folder, header, rows)
    return folder
