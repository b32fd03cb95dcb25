"""Batches for the networks."""

import os
import sys

import numpy as np
import pytest
import torch
from defaults import make_extraction, make_slicing
from preparation import RATE, run, speech_with_pauses, write

from rvc_lightning.audio.frames import content_frames
from rvc_lightning.content import CONTENT_ENCODERS
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.data.dataset import SliceDataset
from rvc_lightning.data.features import _LONG_SAMPLES, FeatureTask, batch_slices
from rvc_lightning.data.layout import content_at_speed
from rvc_lightning.data.manifest import read_manifest
from rvc_lightning.errors import ConfigurationError


class BatchDependentEncoder(ContentEncoder):
    """Exaggerates the dependence of networks on padding."""

    name = "batch_dependent"
    dim = 4

    def forward(self, wav16k, lengths):
        return torch.full((len(wav16k), content_frames(wav16k.shape[1]), 4), wav16k.numel() / 1000)


@pytest.mark.slow
def test_features_do_not_depend_on_their_batch(tmp_path, monkeypatch):
    """A resumed preparation has other batches, and training must still be the same to the last bit."""
    monkeypatch.setitem(CONTENT_ENCODERS, "batch_dependent", BatchDependentEncoder)
    for seed in range(3):
        write(tmp_path / f"in/{seed}.wav", speech_with_pauses(4.0 + seed, seed))
    found = []
    for name, n_slices in (("together", 16), ("single", 1)):
        run(tmp_path / "in", tmp_path / name, content={"name": "batch_dependent"}, batch_slices=n_slices)
        files = (tmp_path / name).rglob("*.npy")
        found.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert len(found[0]) > 6 and found[0] == found[1]


class LoudnessEncoder(ContentEncoder):
    """The content of a frame is its loudness."""

    name = "loudness"
    dim = 1

    def forward(self, wav16k, lengths):
        padded = torch.nn.functional.pad(wav16k, (0, 80))
        return padded.unfold(1, 400, 320).square().mean(2, keepdim=True).sqrt()


def test_content_at_another_speed_has_the_times_of_the_slice(tmp_path, monkeypatch):
    monkeypatch.setitem(CONTENT_ENCODERS, "loudness", LoudnessEncoder)
    time = np.arange(3 * RATE) / RATE
    swell = 0.3 * (1 + 0.5 * np.sin(2 * np.pi * 2 * time)) * np.sin(2 * np.pi * 500 * time)
    write(tmp_path / "in/a.wav", swell.astype(np.float32))
    run(tmp_path / "in", tmp_path / "out", content={"name": "loudness"}, content_speeds=[0.8, 1.25])
    (row,) = read_manifest(tmp_path / "out")
    own = np.load(tmp_path / "out" / row.content).astype(float)
    assert own.std() > 0.05
    for speed in (0.8, 1.25):
        other = np.load(tmp_path / "out" / content_at_speed(row.content, speed))
        assert other.shape == own.shape
        np.testing.assert_allclose(other[3:-3], own[3:-3], atol=0.01)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_the_folder_of_a_dataset_may_have_a_name_that_is_not_utf8(tmp_path):
    write(tmp_path / "in/a.wav", speech_with_pauses(4.0))
    output = tmp_path / os.fsdecode(b"latin \xe9")
    run(tmp_path / "in", output)
    rows = read_manifest(output)
    assert len(rows) > 0 and SliceDataset(output, rows, max_frames=900)[0].frames > 50


def test_batches_have_similar_lengths_within_the_limits():
    pending = [FeatureTask("", seconds, None, "content.npy") for seconds in (1.0, 3.0, 2.9, 40.0, 0.5)]
    pending.append(FeatureTask("", 3.0, "f0.npy", None))
    batches = batch_slices(pending, make_extraction(batch_seconds=6.0, batch_slices=3))
    assert [[task.seconds for task in batch] for batch in batches] == [[40.0], [3.0, 2.9], [1.0, 0.5], [3.0]]
    assert batch_slices([], make_extraction()) == []


@pytest.mark.parametrize(
    "wrong", [{"batch_seconds": 0}, {"batch_slices": 0}, {"num_workers": -1}, {"batch_seconds": float("nan")}]
)
def test_wrong_limits_are_named(wrong):
    with pytest.raises(ConfigurationError, match=f"preparation.{next(iter(wrong))}"):
        make_extraction(**wrong)


@pytest.mark.slow
def test_long_slices_use_all_threads_and_short_ones_one_each(tmp_path, monkeypatch):
    """The number depends on the slice only, since it may change the last bits."""
    seen = []

    class Watching(BatchDependentEncoder):
        def forward(self, wav16k, lengths):
            seen.append((wav16k.shape[1] > _LONG_SAMPLES, torch.get_num_threads(), torch.is_inference_mode_enabled()))
            return super().forward(wav16k, lengths)

    monkeypatch.setitem(CONTENT_ENCODERS, "watching", Watching)
    write(tmp_path / "in/long.wav", speech_with_pauses(22.0, 0))
    write(tmp_path / "in/short.wav", speech_with_pauses(4.0, 1))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(tmp_path / "in", tmp_path / "out", content={"name": "watching"}, slicing=make_slicing(mode="skip"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {(True, 2, True), (False, 1, True)}
