"""A run goes on with what it was started with."""

import pytest
from omegaconf import OmegaConf

from rvc_lightning.cli.resume import with_settings_of_run

STARTED = ["+experiment=quickstart", "audio=recordings/anna", "optimizer.lr=1e-4", "data.bucket_boundaries=[1,2]"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs/anna/monday"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(STARTED), folder / ".hydra/overrides.yaml")
    return folder


@pytest.mark.parametrize("given", ["runs/anna/monday", "runs/anna/monday/checkpoints"])
def test_the_run_alone_says_all(run, given):
    assert with_settings_of_run([f"checkpoint={given}"]) == [*STARTED, f"checkpoint={given}"]


def test_what_is_typed_counts(run):
    typed = ["--config-dir", "mine", "checkpoint=runs/anna/monday", "optimizer.lr=5e-5", "experiment=mine"]
    expected = ["--config-dir", "mine", *STARTED[1:2], *STARTED[3:], *typed[2:]]
    assert with_settings_of_run(typed) == expected
    # The processes of other ranks are started with this, and add it once more.
    assert sorted(with_settings_of_run(expected)) == sorted(expected)


@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["audio=a"],
        ["checkpoint=null"],
        ["checkpoint=[a"],
        ["checkpoint=[a]"],
        ["checkpoint=runs/anna"],
        ["checkpoint=runs/anna/monday/checkpoints/last.ckpt"],
        ["--multirun", "checkpoint=runs/anna/monday", "seed=1,2"],
        ["--help"],
        ["checkpoint=runs/anna/monday", "--cfg"],
    ],
)
def test_everything_else_stays_as_it_is(run, typed):
    assert with_settings_of_run(typed) == typed


def test_a_run_that_has_lost_them_is_no_error(run):
    (run / ".hydra/overrides.yaml").unlink()
    assert with_settings_of_run(["checkpoint=runs/anna/monday"]) == ["checkpoint=runs/anna/monday"]
