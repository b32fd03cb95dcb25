"""Shared fixtures: golden data, constant random numbers, small networks, and recordings."""

import json
import os
from dataclasses import replace

# Set before huggingface_hub is imported: tests do not access the network.
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests expect float32 results on every CPU; separate tests cover `precision=auto`.
os.environ["RVC_PRECISION"] = "32-true"

import shutil
from copy import deepcopy
from functools import partial
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from golden import GOLDEN, patch_random
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from runs import ADAMW, HOP, METADATA
from stubs import make_voice, quick_config
from tiny import training_config

from rvc_lightning.cli.resolvers import DEMO_FOLDER
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, write_manifest
from rvc_lightning.models import DiscriminatorConfig, SynthesizerConfig
from rvc_lightning.training.module import RVCModule

# The networks are tiny: threads cost more than they gain, especially on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def configuration_files_are_parsed_once():
    """Keep the parsed files of `conf/`; parsing takes half of the time of a composition, and tests compose often."""
    Plugins.instance()  # Registers the sources.
    source_type = SourcesRegistry.instance().resolve("pkg")
    load, parsed = source_type.load_config, {}

    def load_once(source, config_path):
        key = source.path, source.provider, config_path
        if key not in parsed:
            parsed[key] = load(source, config_path)
        return deepcopy(parsed[key])

    with mock.patch.object(source_type, "load_config", load_once):
        yield


class Golden:
    """Golden arrays and tables by file name, half-precision inputs as float32."""

    def arrays(self, name):
        with np.load(GOLDEN / f"{name}.npz") as data:
            return {
                key: torch.from_numpy(data[key].astype(np.float32) if data[key].dtype == np.float16 else data[key])
                for key in data.files
            }

    def table(self, name):
        return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))

    def path(self, name):
        return GOLDEN / name


@pytest.fixture(scope="session")
def golden():
    return Golden()


@pytest.fixture
def no_noise(monkeypatch):
    """Replace random numbers of torch by zeros."""
    patch_random(monkeypatch)


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
def write_voice():
    """Return a function that writes a small voice to a path."""
    voice = make_voice(quick_config())

    def write(path, **information):
        return replace(voice, information=voice.information | information).save(path)

    return write


@pytest.fixture
def make_module(tiny_synthesizer, tiny_discriminator):
    """Return a function that builds a small module with reproducible weights."""

    def make(optimizer=ADAMW, **training):
        torch.manual_seed(7)
        config = training_config(**training)
        decay = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
        return RVCModule(
            tiny_synthesizer, tiny_discriminator, config, optimizer=optimizer, scheduler=decay, voice=METADATA
        )

    return make


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Write a dataset of twelve short slices of six recordings."""
    folder, noise = tmp_path_factory.mktemp("dataset"), np.random.default_rng(0)
    rows = []
    for number in range(12):
        frames = 30 + number
        row = ManifestRow(
            id=str(number), recording=str(number // 2), speaker=0, sample_rate=24000, audio=f"{number}.wav",
            f0=f"{number}_f0.npy", content=f"{number}_c.npy", samples=frames * HOP, frames=frames, seconds=frames / 100,
        )  # fmt: skip
        soundfile.write(folder / row.audio, noise.normal(size=row.samples) * 0.1, 24000, subtype="FLOAT")
        np.save(folder / row.f0, noise.uniform(80, 300, frames + 1).astype(np.float32))
        np.save(folder / row.content, noise.normal(size=(frames // 2 + 1, 768)).astype(np.float16))
        rows.append(row)
    write_manifest(folder, DatasetHeader(24000, METADATA["pitch"], METADATA["content"]), rows)
    return folder


@pytest.fixture
def recordings(tmp_path):
    """Copy three recordings of the demo to a folder whose name needs quotes."""
    folder = tmp_path / "Aña's recordings"
    folder.mkdir()
    for name in ("09", "10", "11"):
        shutil.copy(DEMO_FOLDER / "target" / f"{name}.flac", folder)
    return folder
