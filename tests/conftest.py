"""Shared fixtures: golden data, its removed randomness, and small networks."""

import json
import os
from dataclasses import replace
from pathlib import Path

# Before anything imports huggingface_hub: no test asks a network.
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
import torch
from stubs import make_voice, quick_config

from rvc_lightning.models import DiscriminatorConfig, SynthesizerConfig

# The networks of the tests are tiny: threads would cost more than they give, most of all on a busy machine.
torch.set_num_threads(1)

GOLDEN = Path(__file__).parent / "data" / "golden"


class Golden:
    """Golden arrays and tables by file name, half-precision inputs as float32."""

    def arrays(self, name):
        with np.load(GOLDEN / f"{name}.npz") as data:
            return {
                key: torch.from_numpy(data[key].astype(np.float32) if data[key].dtype == np.float16 else data[key])
                for key in data.files
            }

    def table(self, name):
        return json.loads((GOLDEN / f"{name}.json").read_text())

    def path(self, name):
        return GOLDEN / name


@pytest.fixture(scope="session")
def golden():
    return Golden()


def patch_draws(monkeypatch, *, normal=0.0, uniform=0.0):
    """Replaces every random draw by a constant, as the golden data was made."""
    monkeypatch.setattr(torch, "randn", lambda *size, **kw: torch.full(_size(size), normal, **kw))
    monkeypatch.setattr(torch, "rand", lambda *size, **kw: torch.full(_size(size), uniform, **kw))
    monkeypatch.setattr(torch, "randn_like", lambda x, **kw: torch.full_like(x, normal, **kw))
    monkeypatch.setattr(torch, "rand_like", lambda x, **kw: torch.full_like(x, uniform, **kw))


def _size(size):
    return size[0] if len(size) == 1 and not isinstance(size[0], int) else size


@pytest.fixture
def no_noise(monkeypatch):
    patch_draws(monkeypatch)


@pytest.fixture
def tiny_synthesizer():
    """A 24 kHz synthesizer that trains in milliseconds."""
    return SynthesizerConfig(
        sample_rate=24000,
        n_fft=1024,
        upsample_rates=(10, 6, 2, 2),
        upsample_kernel_sizes=(20, 12, 4, 4),
        latent_channels=8,
        hidden_channels=16,
        filter_channels=24,
        n_layers=1,
        resblock_kernel_sizes=(3,),
        resblock_dilations=((1, 3),),
        initial_channels=16,
        speaker_count=2,
        speaker_channels=8,
    )


@pytest.fixture
def tiny_discriminator():
    return DiscriminatorConfig(
        periods=(2, 3),
        period_channels=(4, 8, 8),
        scale_channels=(4, 4, 4, 8, 8, 8),
        scale_groups=(1, 2, 2, 4, 4, 1),
    )


@pytest.fixture(scope="session")
def put_voice():
    """Writes one small voice wherever one is wanted."""
    voice = make_voice(quick_config())

    def put(path, **information):
        return replace(voice, information=voice.information | information).save(path)

    return put
