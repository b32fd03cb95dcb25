"""Files that are removed, replaced or truncated while they are in use are reported."""

import os
import re

import pytest
import torch
from preparation import run, speech, write
from tiny import tiny_data, tiny_module, tiny_trainer, write_tiny_dataset

from rvc_lightning.cli.command import errors_as_exit_status
from rvc_lightning.content.spectral import SpectralEncoder
from rvc_lightning.data import slice_files
from rvc_lightning.data.manifest import read_manifest
from rvc_lightning.errors import DatasetError, OutOfMemoryError


def change_during_slicing(monkeypatch, name, change):
    """Call `change` once the recording of this name has been read."""
    plan_cut = slice_files.plan_cut
    opened = []

    def open_audio(path, **options):
        opened.append(path)
        return original(path, **options)

    def plan(*args):
        if opened[-1].name == name:
            change(opened[-1])
        return plan_cut(*args)

    original = slice_files.open_audio
    monkeypatch.setattr(slice_files, "open_audio", open_audio)
    monkeypatch.setattr(slice_files, "plan_cut", plan)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), "cannot be read to its end: No such file"),
        (lambda path: write(path, speech(2.0, seed=5)), "was changed while it was read"),
    ],
    ids=["removed", "replaced"],
)
def test_recording_that_changes_during_slicing_is_reported(tmp_path, monkeypatch, change, reason):
    for seed in range(2):
        write(tmp_path / f"in/{seed}.wav", speech(2.0, seed=seed))
    with monkeypatch.context() as patch:
        change_during_slicing(patch, "1.wav", change)
        report = run(tmp_path / "in", tmp_path / "out")
    assert [file.recording for file in report.used] == ["0.wav"]
    assert [(file.path, reason in file.reason) for file in report.skipped] == [("1.wav", True)]
    write(tmp_path / "in/1.wav", speech(2.0, seed=5))
    assert [file.recording for file in run(tmp_path / "in", tmp_path / "out").used] == ["0.wav", "1.wav"]


@pytest.mark.slow
def test_recording_that_is_removed_before_slicing_is_reported(tmp_path, monkeypatch):
    for seed in range(2):
        write(tmp_path / f"in/{seed}.wav", speech(2.0, seed=seed))
    slice_recording = slice_files.slice_recording

    def remove(recording, *args):
        if recording.relative == "1.wav":
            recording.path.unlink()
        return slice_recording(recording, *args)

    monkeypatch.setattr(slice_files, "slice_recording", remove)
    report = run(tmp_path / "in", tmp_path / "out")
    assert [file.path for file in report.skipped] == ["1.wav"] and "No such file" in report.skipped[0].reason


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pitch", "content", "slices"])
def test_truncated_feature_names_the_remedy(tmp_path, kind):
    write(tmp_path / "in/a.wav", speech(3.0))
    run(tmp_path / "in", tmp_path / "out")
    (row,) = list(read_manifest(tmp_path / "out"))[:1]
    path = tmp_path / "out" / {"pitch": row.f0, "content": row.content, "slices": row.audio}[kind]
    whole = path.read_bytes()
    os.truncate(path, 40)
    data = tiny_data(tmp_path / "out", held_out=0.0)
    with pytest.raises(DatasetError, match=rf"'{re.escape(str(path))}'.*delete that file if it exists and prepare"):
        if kind == "pitch":
            # The pitch is read for the report.
            run(tmp_path / "in", tmp_path / "out")
        data.setup("fit")
        next(iter(data.train_dataloader()))
    # The remedy works.
    path.unlink()
    run(tmp_path / "in", tmp_path / "out")
    assert len(path.read_bytes()) == len(whole)


def test_half_a_slice_is_an_error(tmp_path):
    """A truncated WAV file can be decoded, but training would read beyond its end."""
    write_tiny_dataset(tmp_path)
    path = tmp_path / "9.wav"
    os.truncate(path, path.stat().st_size // 2)
    data = tiny_data(tmp_path, held_out=0.0)
    data.setup("fit")
    with pytest.raises(DatasetError, match=r"slice '9' .*9\.wav': it has \d+ samples instead of \d+; delete that file"):
        list(data.train_dataloader())


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_slice_that_is_removed_during_training_is_one_line(tmp_path, caplog, num_workers):
    write_tiny_dataset(tmp_path)
    (tmp_path / "7_c.npy").unlink()
    trainer = tiny_trainer(max_epochs=2)

    @errors_as_exit_status()
    def train():
        trainer.fit(tiny_module(), tiny_data(tmp_path, num_workers=num_workers, held_out=0.0))

    with pytest.raises(SystemExit) as end:
        train()
    assert end.value.code == 1
    line = caplog.records[-1].getMessage()
    assert line.startswith("Error: slice '7' in ") and "7_c.npy" in line and "\n" not in line


@pytest.mark.slow
def test_lack_of_memory_for_features_is_one_error(tmp_path, monkeypatch):
    def full(self, wav16k, lengths):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    for seed in range(4):
        write(tmp_path / f"in/{seed}.wav", speech(2.0, seed=seed))
    with monkeypatch.context() as patch:
        patch.setattr(SpectralEncoder, "forward", full)
        with pytest.raises(OutOfMemoryError, match=r"slices of up to 3.0 s: .*2.00 GiB.*preparation\.batch_slices=2"):
            run(tmp_path / "in", tmp_path / "out")
    assert run(tmp_path / "in", tmp_path / "out").slices == 4


@pytest.mark.slow
def test_wrong_clock_changes_nothing(tmp_path, monkeypatch):
    """The clock is at 1970, and a recording is from the future."""
    write(tmp_path / "in/a.wav", speech(2.0))
    write(tmp_path / "in/b.wav", speech(2.0, seed=1))
    os.utime(tmp_path / "in/b.wav", (5e9, 5e9))
    run(tmp_path / "in", tmp_path / "right")
    monkeypatch.setattr("time.time", lambda: 0.0)
    run(tmp_path / "in", tmp_path / "wrong")
    name = "manifest.jsonl"
    assert (tmp_path / "wrong" / name).read_bytes() == (tmp_path / "right" / name).read_bytes()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "wrong").rglob("*.npy")}
    run(tmp_path / "in", tmp_path / "wrong")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "wrong").rglob("*.npy")}
    # Changes are noticed nevertheless.
    write(tmp_path / "in/b.wav", speech(2.0, seed=2))
    os.utime(tmp_path / "in/b.wav", (5e9, 5e9))
    run(tmp_path / "in", tmp_path / "wrong")
    assert (tmp_path / "wrong" / name).read_bytes() != (tmp_path / "right" / name).read_bytes()
