"""Preparation of any size: long recordings, killed runs, several ranks, bounded folders, remembered digests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cutting import cut_recording
from preparation import RATE, all_files, run, speech, talk, write

from rvc_lightning.audio.decode import decode_audio, resample
from rvc_lightning.audio.frames import content_frames
from rvc_lightning.audio.samples import collected
from rvc_lightning.audio.slicer import level_per_hop
from rvc_lightning.audio.stages import Resampler
from rvc_lightning.audio.stages import run as run_stage
from rvc_lightning.content import CONTENT_ENCODERS
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.data import fingerprints, recordings
from rvc_lightning.data.features import ExtractionConfig, batches_of_like_length
from rvc_lightning.data.fingerprints import Source, fingerprint_recordings
from rvc_lightning.data.layout import numbers_in, shard, slice_path
from rvc_lightning.data.manifest import read_header, read_manifest
from rvc_lightning.data.recordings import SlicedRecording, slice_recording
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.data.slicing import SlicingConfig
from rvc_lightning.errors import ConfigurationError, DatasetError

WORKER = Path(__file__).parents[1] / "support/prepare_worker.py"


# ------------------------------------------------------------------ long recordings


@pytest.mark.parametrize("from_rate", [16000, 44100, 48000])
def test_blocks_are_resampled_as_the_whole(from_rate):
    audio = np.random.default_rng(0).normal(0, 0.1, from_rate + 77).astype(np.float32)
    blocks = [audio[start : start + 5000] for start in range(0, len(audio), 5000)]
    np.testing.assert_array_equal(
        np.concatenate(list(run_stage(Resampler(from_rate, 40000), blocks))), resample(audio, from_rate, 40000)
    )


@pytest.mark.parametrize("samples", [0, 1, 239, 240, 2048 * 240, 2048 * 240 + 1])
def test_the_level_is_that_of_the_whole(samples):
    audio = np.random.default_rng(1).normal(0, 0.1, samples).astype(np.float32)
    padded = np.pad(audio, 480)[: (samples // 240 + 4) * 240].astype(np.float64) ** 2
    expected = [np.sqrt(padded[240 * f : 240 * (f + 4)].mean()) for f in range(samples // 240 + 1)]
    np.testing.assert_allclose(level_per_hop(audio, 240), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "changes", [{}, {"normalization": "pre"}, {"mode": "simple"}, {"highpass_hz": 0.0, "mode": "skip"}]
)
def test_a_long_recording_is_cut_part_by_part_as_the_whole(tmp_path, monkeypatch, changes):
    path, slicing = write(tmp_path / "a.wav", talk(30.0), subtype="FLOAT"), SlicingConfig(**changes)
    whole = cut_recording(resample(decode_audio(path).audio, RATE, 24000), 24000, slicing)
    in_files = []

    def on_disk(blocks, scratch):
        in_files.append(scratch)
        return collected(blocks, scratch, most_in_memory=10_000)

    monkeypatch.setattr(recordings, "collected", on_disk)
    slice_recording(Source(tmp_path, "a.wav", "0", "a", 0), tmp_path / "out", 24000, slicing)
    assert in_files == [tmp_path / "out"]
    written = sorted((tmp_path / "out").glob("*.wav"))
    assert len(written) == len(whole.slices) > 0
    for file, piece in zip(written, whole.slices, strict=True):
        np.testing.assert_array_equal(soundfile.read(file, dtype="float32")[0], piece.audio)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".wav", ".json"}


def test_no_folder_holds_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr("rvc_lightning.data.layout._FOLDER_SLICES", 3)
    write(tmp_path / "in/a.wav", speech(8.0))
    report = run(tmp_path / "in", tmp_path / "out", slicing=SlicingConfig(slice_seconds=1.0, mode="simple"))
    rows = list(read_manifest(tmp_path / "out"))
    assert len(rows) == report.slices > 9 and rows[3].audio.endswith("/1/0003.wav")
    assert all((tmp_path / "out" / row.content).is_file() for row in rows)
    for folder, folders, files in os.walk(tmp_path / "out"):
        assert len(files) + len(folders) <= 9, folder
    before = all_files(tmp_path / "out")
    run(tmp_path / "in", tmp_path / "out", slicing=SlicingConfig(slice_seconds=1.0, mode="simple"))
    assert {
        path for path, at in all_files(tmp_path / "out").items() if before.get(path) != at and len(path.parts) > 1
    } == set()


def test_names_spread_and_are_found(tmp_path):
    folders = {shard(f"a-{number:016x}").split("/")[0] for number in range(0, 2**64, 2**58)}
    assert len(folders) == 64
    for number in (0, 7, 499, 500, 12345):
        path = tmp_path / f"{slice_path(number)}.npy"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / ".writing-1.npy").touch()
    assert numbers_in(tmp_path) == {0, 7, 499, 500, 12345} and (tmp_path / ".writing-1.npy").exists()
    numbers_in(tmp_path, clear=True)
    assert not (tmp_path / ".writing-1.npy").exists()


# ------------------------------------------------------------------ killed runs


def prepare_elsewhere(source, output, ranks=1):
    command = [sys.executable, str(WORKER), str(source), str(output), str(ranks)]
    paths = os.pathsep.join([str(WORKER.parent), str(WORKER.parent.parent)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(pattern, folder, process):
    """Until a file of that name is there, or the process has ended."""
    while not any(folder.glob(pattern)) and process.poll() is None:
        time.sleep(0.005)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_run_goes_on_to_the_same_manifest(tmp_path):
    for seed in range(4):
        write(tmp_path / f"in/{seed}.wav", talk(6.0, seed))
    run(tmp_path / "in", tmp_path / "whole")
    reached = 0
    for pattern in (
        "slices-*/*/*/*/*.wav",
        "slices-*/*/*/2*/recording.json",
        "pitch-*/*/*/*/*.npy",
        "content-*/*/*/3*/*.npy",
    ):
        process = prepare_elsewhere(tmp_path / "in", tmp_path / "killed")
        wait_for(pattern, tmp_path / "killed", process)
        reached += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert reached
    run(tmp_path / "in", tmp_path / "killed")
    for name in ("manifest.jsonl", "dataset.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    whole, killed = (
        {path for path in all_files(tmp_path / name) if len(path.parts) > 1} for name in ("whole", "killed")
    )
    assert killed == whole


class _SeesItsBatch(ContentEncoder):
    """In place of the last bits of a network, which now and then depend on the padding."""

    name = "nosy"
    dim = 4

    def forward(self, wav16k, lengths):
        return torch.full((len(wav16k), content_frames(wav16k.shape[1]), 4), wav16k.numel() / 1000)


def test_features_do_not_depend_on_their_batch(tmp_path, monkeypatch):
    """A run that was killed goes on with other batches, and a training is the same to the last bit all the same."""
    monkeypatch.setitem(CONTENT_ENCODERS, "nosy", _SeesItsBatch)
    for seed in range(3):
        write(tmp_path / f"in/{seed}.wav", talk(4.0 + seed, seed))
    found = []
    for name, most in (("together", 16), ("alone", 1)):
        run(tmp_path / "in", tmp_path / name, content={"name": "nosy"}, batch_slices=most)
        files = (tmp_path / name).rglob("*.npy")
        found.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert len(found[0]) > 6 and found[0] == found[1]


# ------------------------------------------------------------------ several ranks


def test_two_ranks_share_the_slices(tmp_path):
    for seed in range(3):
        write(tmp_path / f"in/{seed}.wav", talk(6.0, seed))
    run(tmp_path / "in", tmp_path / "one")
    # Here Lightning starts the second rank.
    process = prepare_elsewhere(tmp_path / "in", tmp_path / "two", ranks=2)
    _, complaint = process.communicate(timeout=500)
    assert process.returncode == 0, complaint[-3000:]
    assert (tmp_path / "one/manifest.jsonl").read_bytes() == (tmp_path / "two/manifest.jsonl").read_bytes()
    written = [(tmp_path / f"two/by-rank-{rank}").read_text().split() for rank in (0, 1)]
    assert all(written) and not set(written[0]) & set(written[1])
    assert len(written[0]) + len(written[1]) == len(list(read_manifest(tmp_path / "two"))) + 1
    assert not (tmp_path / "two/.work").exists()


class SomeTasks:
    def __init__(self, seconds, lacks_content):
        self.seconds, self.lacks_content = np.array(seconds), np.array(lacks_content)


def test_batches_hold_what_is_alike_and_no_more_than_allowed():
    tasks = SomeTasks([1.0, 3.0, 2.9, 40.0, 3.0, 0.5], [True, True, True, True, False, True])
    batches = [
        batch.tolist() for batch in batches_of_like_length(tasks, ExtractionConfig(batch_seconds=6.0, batch_slices=3))
    ]
    assert batches == [[3], [1, 2], [0, 5], [4]]
    assert batches_of_like_length(SomeTasks(np.zeros(0), np.zeros(0, dtype=bool)), ExtractionConfig()) == []
    for wrong in ({"batch_seconds": 0}, {"batch_slices": 0}, {"num_workers": -1}, {"batch_seconds": float("nan")}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            ExtractionConfig(**wrong)


# ------------------------------------------------------------------ digests, older datasets


def test_digests_are_remembered_only_while_nothing_changes(tmp_path, monkeypatch):
    write(tmp_path / "in/a.wav", speech(0.6))
    (tmp_path / "out").mkdir()
    read = []
    monkeypatch.setattr(
        fingerprints, "digest", lambda path, digest=fingerprints.digest: read.append(path.name) or digest(path)
    )

    def look(**changes):
        read.clear()
        sources, _ = fingerprint_recordings(
            tmp_path / "in", [Path("a.wav")], SelectionConfig(), tmp_path / "out", **changes
        )
        return sources[0].folder, list(read)

    first, _ = look()
    # Written less than a minute ago: it may change again without its times.
    assert look() == (first, ["a.wav"])
    monkeypatch.setattr(fingerprints, "_SETTLED_SECONDS", -60.0)
    assert look() == (first, ["a.wav"]) and look() == (first, [])
    path = tmp_path / "in/a.wav"
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    # The same size and time of content, set back by hand.
    changed, again = look(remember=False)
    assert changed != first and again == ["a.wav"]
    (tmp_path / "out" / fingerprints.FINGERPRINTS_NAME).write_text("no JSON")
    assert look() == (changed, ["a.wav"])


def test_a_dataset_of_an_earlier_version_is_prepared_again_with_a_word(tmp_path, caplog):
    write(tmp_path / "in/a.wav", speech(0.6))
    (tmp_path / "out/slices-0123abcd/a-89abcdef").mkdir(parents=True)
    header = '{"sample_rate": 24000, "pitch": {}, "content": {"dim": 768}, "slicing": {}, "speakers": ["0"]}'
    (tmp_path / "out/dataset.json").write_text(header)
    assert read_header(tmp_path / "out").revision == 0
    run(tmp_path / "in", tmp_path / "out")
    assert "earlier version" in caplog.text and "'slices-0123abcd'" in caplog.text
    caplog.clear()
    run(tmp_path / "in", tmp_path / "out")
    assert "earlier version" not in caplog.text


def test_slices_that_vanish_are_one_error(tmp_path, monkeypatch):
    write(tmp_path / "in/a.wav", speech(0.6))
    monkeypatch.setattr(SlicedRecording, "read", classmethod(lambda *args: None))
    with pytest.raises(DatasetError, match="vanished"):
        run(tmp_path / "in", tmp_path / "out")


def test_speeds_are_told(tmp_path):
    write(tmp_path / "in/a.wav", speech(2.0))
    report = run(tmp_path / "in", tmp_path / "out")
    assert set(report.speeds) == {"slicing", "pitch", "content"} and min(report.speeds.values()) > 0
    assert "audio per second of work" in report.summary()
    assert run(tmp_path / "in", tmp_path / "out").speeds == {}
