"""Fixtures of the importer tests."""

import pytest
from configurations import compose_config
from other_tools import write_experiment
from stubs import quick_config

from rvc_lightning.config.values import plain
from rvc_lightning.models import DiscriminatorConfig


@pytest.fixture
def sizes():
    return quick_config(speaker_count=109)


@pytest.fixture
def discriminator():
    return DiscriminatorConfig.from_values(plain(compose_config("discriminator=tiny").model.discriminator))


@pytest.fixture
def experiment(tmp_path, sizes):
    folder = tmp_path / "logs" / "anna"
    folder.mkdir(parents=True)
    write_experiment(folder, sizes)
    return folder
