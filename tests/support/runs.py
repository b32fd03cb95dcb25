"""Small trainings: trainers, data and batches of noise."""

from functools import partial

import torch
from configurations import compose_config
from defaults import make_data
from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint

from rvc_lightning.config.values import instantiate
from rvc_lightning.data.batch import Example
from rvc_lightning.training.dataset import prepare_dataset
from rvc_lightning.training.run import build_module_from, check_settings, fit, read_start
from rvc_lightning.training.trainer import build_trainer

WEIGHTS = {"adversarial": 1.0, "features": 1.0, "mel": 45.0, "kl": 1.0}
HOP = 240
ADAMW = partial(torch.optim.AdamW, lr=1e-3)
METADATA = {
    "name": "v",
    "author": None,
    "content": {"name": "spectral", "options": {}, "dim": 768},
    "pitch": {"name": "swift_f0", "options": {}},
    "speakers": ["0"],
    "median_f0_hz": 150.0,
    "noise_scale": 0.3,
    "dataset": "elsewhere",
    "seconds": 12.0,
}


def small_trainer(**changes):
    defaults = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    keeps = any(isinstance(callback, Checkpoint) for callback in changes.get("callbacks", ()))
    defaults |= {"max_epochs": 1, "num_sanity_val_steps": 0, "enable_checkpointing": keeps}
    return Trainer(**(defaults | {"use_distributed_sampler": False} | changes))


def small_data(folder, **changes):
    settings = {"segment_frames": 8, "batch_size": 4, "num_workers": 0, "held_out": 0.2}
    return make_data(folder, **settings | changes)


def noise_batch(n_items=2, frames=8, first_frames=None):
    """Return items of decreasing length."""
    lengths = [frames] * n_items if first_frames is None else [first_frames - 3 * n for n in range(n_items)]
    return [
        Example(
            id=str(n), content=torch.randn(-(-length // 2), 8), f0_hz=torch.rand(length) * 200 + 80,
            waveform=torch.rand(length * HOP) - 0.5, frames=length, speaker=0,
        )
        for n, length in enumerate(lengths)
    ]  # fmt: skip


class Repeated(torch.utils.data.Dataset):
    """Dataset of `n_steps` optimizer steps that repeats `steps`."""

    def __init__(self, steps, n_steps):
        self.steps, self.n_steps = steps, n_steps

    def __len__(self):
        return self.n_steps

    def __getitem__(self, index):
        return self.steps[index % len(self.steps)]


SMALL_RUN = (
    "sample_rate=24k_light",
    "discriminator=small",
    "generator=source_filter",
    "model=small",
    "callbacks=default",
    "pretrained=none",
    "model.synthesizer.initial_channels=16",
    "model.synthesizer.hidden_channels=8",
    "model.synthesizer.latent_channels=4",
    "model.synthesizer.filter_channels=8",
    "model.synthesizer.n_layers=1",
    "model.segment_frames=32",
    "model.crop_frames=64",
    "model.grad_norm_every_n_steps=2",
    "optimizer.lr=5e-4",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.log_every_n_steps=1",
    "data.held_out=0.3",
    "data.num_workers=0",
    "showcase={source:'${demo:source}',counterpart:'${counterpart_of:${audio}}',n_clips:1}",
    "prepare_workers=0",
)


def small_run(tmp_path, recordings, *overrides):
    """Compose a training of two epochs with a small model on the CPU; overrides replace those of `SMALL_RUN`."""
    settings = dict(override.split("=", 1) for override in (*SMALL_RUN, *overrides))
    chosen = [f"{name}={value}" for name, value in settings.items()]
    return compose_config(f'audio="{recordings}"', f"paths.root={tmp_path}", *chosen, run=str(tmp_path / "run"))


def run_training(config):
    """Prepare, build and fit as `train` does, without the export; return the trainer."""
    start = read_start(config)
    check_settings(config)
    trainer, data = build_trainer(config, start.step), instantiate(config.data, "data")
    dataset = prepare_dataset(config, trainer)
    fit(trainer, build_module_from(start, config, dataset), data, start, config, found={})
    return trainer
