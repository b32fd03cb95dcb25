"""Preparation of a separated part of each recording."""

import numpy as np
import pytest
import soundfile
from commanding import run_command, single_error
from defaults import make_recipe, make_slicing
from preparation import RATE, run, speech, write
from separation import write_model
from separators import Halver

from rvc_lightning.data.layout import Layout
from rvc_lightning.separation.store import PartStore

pytestmark = pytest.mark.slow

UNCHANGED = {"normalization": "none", "highpass_hz": 0.0, "mode": "skip"}


def prepare(folder, separator, separate="vocals"):
    slicing = make_slicing(separate=separate, **UNCHANGED)
    parts = PartStore(separator, folder / "stems") if separator else None
    return run(folder / "in", folder / "out", slicing=slicing, sample_rate=RATE, parts=parts)


def slice_of(folder):
    (path,) = (path for path in (folder / "out").rglob("0000.wav"))
    return soundfile.read(path, dtype="float32")[0]


def test_slices_are_cut_from_the_part(tmp_path):
    write(tmp_path / "in/a.wav", speech(), subtype="FLOAT")
    report = prepare(tmp_path, Halver(), "lead")
    assert [used.recording for used in report.used] == ["a.wav"]
    np.testing.assert_allclose(slice_of(tmp_path), speech() / 4, atol=1e-6)


def test_finished_recordings_are_not_separated_again(tmp_path):
    write(tmp_path / "in/a.wav", speech())
    prepare(tmp_path, Halver())
    again = Halver("another version")
    prepare(tmp_path, again)
    assert again.extracted == []


def test_recordings_that_cannot_be_separated_are_reported(tmp_path):
    write(tmp_path / "in/a.wav", speech())
    write(tmp_path / "in/b.wav", np.zeros((100, 6), np.float32))
    (tmp_path / "in/c.wav").write_bytes(b"no audio")
    report = prepare(tmp_path, Halver())
    assert [used.recording for used in report.used] == ["a.wav"]
    reasons = {file.path: file.reason for file in report.skipped}
    assert "has 6 channels: convert it to stereo" in reasons["b.wav"] and reasons.keys() == {"b.wav", "c.wav"}


def test_datasets_differ_by_part_and_separator(tmp_path):
    def folder(separate, **changes):
        recipe = make_recipe(slicing=make_slicing(separate=separate), **changes)
        return Layout.of(tmp_path, recipe, "32-true").slices

    names = {folder("none"), folder("vocals"), folder("lead"), folder("lead", separator={"name": "other"})}
    assert len(names) == 4
    assert folder("none", separator={"name": "other"}) == folder("none")


def test_command_separates_by_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in/a.wav", np.stack([speech(), speech(seed=1)], axis=1))
    chosen = ["audio=in", "name=x", "content=spectral", "sample_rate=24k", "trainer.accelerator=cpu"]
    chosen += ["slicing.separate=vocals", "prepare_workers=0", "slicing.threshold_db=-100"]
    done = run_command("prepare", *chosen, f"separator.vocals.path={write_model(tmp_path / 'models')}")
    assert done.status == 0, done.text
    assert "separating the vocals of 1 recording" in done.text
    assert [path.name.partition(".")[2] for path in (tmp_path / "stems").iterdir()] == ["vocals.wav"]
    assert (tmp_path / "datasets/x/manifest.jsonl").is_file()
    error = single_error(run_command("prepare", *chosen, "name=y", "slicing.separate=drums"))
    assert "slicing.separate='drums': choose one of: none, vocals, lead, dry" in error
