"""Tests that require a GPU: every precision, sharding with a process group, compilation, and a conversion."""

from functools import partial

import numpy as np
import pytest
import torch
from stubs import cpu_trainer, make_voice, quick_config
from tiny import ADAMW, tiny_data, tiny_module, tiny_trainer, write_tiny_dataset

from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.training.strategies import FSDPStrategy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.fixture
def folder(tmp_path):
    return write_tiny_dataset(tmp_path)


def train(folder, *, training=None, optimizer=ADAMW, **trainer_changes):
    module = tiny_module(optimizer, **(training or {}))
    trainer = tiny_trainer(accelerator="gpu", max_epochs=2, **trainer_changes)
    trainer.fit(module, tiny_data(folder, accumulate_grad_batches=2))
    trainer.save_checkpoint(folder / "saved.ckpt")
    saved = torch.load(folder / "saved.ckpt", map_location="cpu", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in saved["state_dict"].values())
    assert float(trainer.callback_metrics["val/mel"]) > 0
    return saved


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_sharding_over_one_gpu_writes_the_same_checkpoint(folder, precision):
    plain = train(folder, precision=precision)
    try:
        sharded = train(folder, precision=precision, strategy=FSDPStrategy())
    finally:
        torch.distributed.destroy_process_group()
    assert list(sharded["state_dict"]) == list(plain["state_dict"])
    trainer = tiny_trainer(accelerator="gpu", max_epochs=3)
    trainer.fit(tiny_module(ADAMW), tiny_data(folder), ckpt_path=folder / "saved.ckpt", weights_only=True)
    assert trainer.current_epoch == 3


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed", "64-true"])
def test_every_precision_trains(folder, precision):
    train(folder, precision=precision, optimizer=partial(torch.optim.AdamW, lr=1e-3))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_converts(precision):
    trainer = cpu_trainer(accelerator="gpu", precision=precision)
    converter = VoiceConverter(make_voice(quick_config()), trainer=trainer)
    tone = np.sin(np.arange(16000) * 2 * np.pi * 200 / 16000).astype(np.float32)
    audio, rate = converter.convert(tone, sample_rate=16000)
    assert len(audio) == rate and np.isfinite(audio).all()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_compiled_networks_train(folder, precision):
    train(folder, precision=precision, training={"compile": True})


def test_activation_checkpointing_takes_no_more_memory(folder):
    peaks = {}
    for parts in ("none", "all"):
        torch.cuda.reset_peak_memory_stats()
        train(folder, training={"checkpoint_activations": parts, "segment_frames": 10})
        peaks[parts] = torch.cuda.max_memory_allocated()
    assert peaks["all"] <= peaks["none"]
