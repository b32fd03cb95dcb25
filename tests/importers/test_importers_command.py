"""The command `python -m rvc_lightning.importers`."""

import shlex

import pytest
from commanding import run_command
from configurations import compose_config
from other_tools import write_training_pair

from rvc_lightning.config.values import plain
from rvc_lightning.models import SynthesizerConfig

SMALL = (
    *("trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.max_time=null", "data.num_workers=0"),
    *("data.held_out=0", "optimizer.fused=null"),
)


pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def printed_overrides(result):
    """Return the arguments of the train command that an import printed."""
    assert (result.status, "Traceback" in result.text) == (0, False), result.text
    line = next(line for line in result.text.splitlines() if line.startswith("continue with: "))
    return shlex.split(line.removeprefix("continue with: python -m rvc_lightning.train "))


def composed_sizes(overrides):
    return SynthesizerConfig.from_values(plain(compose_config(*overrides).model)["synthesizer"])


def test_import_prints_the_command_that_continues(experiment, sizes, discriminator):
    write_training_pair(experiment, sizes, discriminator, epoch=7)
    overrides = printed_overrides(run_command("importers", f"folder={experiment}"))
    expected = {"name=anna", "content=contentvec", "content.version=v2", "discriminator=tiny", "pretrained=files"}
    assert expected <= set(overrides)
    assert f"pretrained.generator={experiment / 'G_2333333.pth'}" in overrides
    found = composed_sizes(overrides)
    assert found.sample_rate == sizes.sample_rate and found.upsample_rates == sizes.upsample_rates


def test_import_without_pair_starts_from_the_official_one(experiment, sizes):
    overrides = printed_overrides(run_command("importers", f"folder={experiment}"))
    assert overrides[-1] == "pretrained=official"
    found = composed_sizes(overrides)
    assert (found.sample_rate, found.upsample_rates) == (sizes.sample_rate, sizes.upsample_rates)


def test_printed_command_quotes_paths(experiment, sizes, discriminator):
    write_training_pair(experiment, sizes, discriminator, epoch=7)
    folder = experiment.rename(experiment.with_name("anna's [1], =é #"))
    overrides = printed_overrides(run_command("importers", f"folder={folder}", "name=anna"))
    config = compose_config(*overrides)
    assert config.pretrained.generator == str(folder / "G_2333333.pth")


def test_printed_command_trains_from_the_pair(experiment, sizes, discriminator, tmp_path):
    write_training_pair(experiment, sizes, discriminator, epoch=7)
    overrides = printed_overrides(run_command("importers", f"folder={experiment}"))
    result = run_command("train", *overrides, *SMALL)
    assert result.status == 0, result.text
    assert f"Starting from '{experiment / 'G_2333333.pth'}'" in result.text
    assert (tmp_path / "voices" / "anna" / "anna.pth").is_file()
