"""The data module: held-out recordings, short slices, silence, and settings."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from defaults import make_data
from lightning.pytorch.utilities import rank_zero_only

from rvc_lightning.data.batch import Example
from rvc_lightning.data.datamodule import StepCollator, split_held_out
from rvc_lightning.data.dataset import CachedSlices, SliceDataset
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, read_manifest, write_manifest
from rvc_lightning.errors import ConfigurationError, DatasetError


def example(name, frames, content=None, waveform=None):
    return Example(
        id=name,
        content=torch.randn(-(-frames // 2) + 1, 5) if content is None else content,
        f0_hz=torch.rand(frames + 2),
        waveform=torch.randn(frames * 240 + 17) if waveform is None else waveform,
        frames=frames,
        speaker=1,
    )


def test_step_is_collated_longest_first():
    batches = StepCollator(2)([example(str(frames), frames) for frames in (50, 90, 70)])
    assert [batch.lengths.tolist() for batch in batches] == [[90, 70], [50]]
    assert batches[1].f0_hz.shape == (1, 50)


def row(recording, number=0, seconds=3.0, frames=300):
    return ManifestRow(
        id=f"{recording}/{number}", recording=recording, speaker=0, sample_rate=24000, audio=f"{recording}{number}.wav",
        f0=f"{recording}{number}.npy", content=f"{recording}{number}_c.npy", samples=frames * 240, frames=frames,
        seconds=seconds,
    )  # fmt: skip


def test_whole_recordings_are_held_out():
    rows = [row(f"r{number}", part) for number in range(20) for part in range(3)]
    training, held_out = split_held_out(rows, 0.1, 1000)
    assert {r.recording for r in training} & {r.recording for r in held_out} == set()
    assert len(training) + len(held_out) == len(rows)
    assert 0.05 <= len(held_out) / len(rows) <= 0.2
    more = split_held_out([*rows, row("added")], 0.1, 1000)[1]
    assert len({r.recording for r in held_out} & {r.recording for r in more}) >= 1


@pytest.mark.parametrize(("rows", "held_out"), [([row("only")], 0), ([row("a"), row("b"), row("c")], 1), ([], 0)])
def test_split_of_few_recordings(rows, held_out):
    assert len(split_held_out(rows, 0.05, 100)[1]) == held_out
    assert split_held_out(rows, 0.0, 100) == (rows, [])


def dataset(folder, rows):
    for r in rows:
        soundfile.write(folder / r.audio, np.random.default_rng(0).normal(size=r.samples) * 0.1, 24000, subtype="FLOAT")
        np.save(folder / r.f0, np.full(r.frames + 1, 150, dtype=np.float32))
        np.save(folder / r.content, np.ones((r.frames // 2 - 1, 6), dtype=np.float16))
    write_manifest(folder, DatasetHeader(24000, {}, {"dim": 6}), rows)
    return folder


def test_limits_of_the_held_out_audio():
    # The limit of 120 s is exceeded by the recording that reaches it; of two equal recordings, none has less than half.
    assert len(split_held_out([row(name, seconds=600.0) for name in "abcdef"], 0.05, 120)[1]) == 1
    assert split_held_out([row("a"), row("b")], 0.5, 100)[1] == []


def test_slices_are_shorter_than_a_segment_by_settings(tmp_path):
    with pytest.raises(ConfigurationError, match=r"max_frames=30: choose at least model\.segment_frames=36"):
        make_data(tmp_path, segment_frames=36, max_frames=30)
    folder = dataset(tmp_path, [row("a", frames=400)])
    np.save(folder / "silence.npy", np.zeros((149, 6), dtype=np.float16))
    write_manifest(folder, DatasetHeader(24000, {}, {"dim": 6}, silence="silence.npy"), read_manifest(folder))
    module = make_data(folder, segment_frames=300, silent_clips=1, num_workers=0)
    module.setup()
    with pytest.raises(ConfigurationError, match="segment_frames=300: choose at most 298"):
        module.train_dataloader()


def test_only_the_first_rank_warns(tmp_path, caplog, monkeypatch):
    module = make_data(dataset(tmp_path, [row("a", frames=100)]), segment_frames=36)
    for rank, warnings in ((1, 0), (0, 1)):
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        module.setup()
        assert len(caplog.records) == warnings


def test_cached_slices_at_several_speeds_share_their_waveform(tmp_path):
    dataset(tmp_path, [row("a", frames=100), row("b", frames=120)])
    rows = [replace(r, content=content) for r in read_manifest(tmp_path) for content in (r.content, "a0_c.npy")]
    slices = SliceDataset(tmp_path, rows, 900)
    cached = CachedSlices(slices)
    assert cached.waveform.values.numel() == (100 + 120) * 240
    for example, original in zip(cached, slices, strict=False):
        assert example.id == original.id and torch.equal(example.waveform, original.waveform)
        assert torch.equal(example.content, original.content) and torch.equal(example.f0_hz, original.f0_hz)


def test_slices_are_repeated_in_training_only(tmp_path):
    rows = [replace(row(name), repeats=repeats) for name, repeats in (("a", 3), ("b", 1), ("c", 2))]
    module = make_data(dataset(tmp_path, rows), segment_frames=36, num_workers=0, held_out=0.1, batch_size=8)
    module.setup()
    (held_out,) = module.held_out_rows
    assert Counter(r.recording for r in module.training_rows) == {
        r.recording: r.repeats for r in rows if r != held_out
    }  # fmt: skip
    (batches,) = module.train_dataloader()
    assert len(batches[0].ids) == len(module.training_rows)


def test_content_at_other_speeds_is_used_in_training_only(tmp_path):
    rows = [replace(row(name), content=f"content/{name}.npy", repeats=2) for name in "abc"]
    header = DatasetHeader(24000, {}, {"dim": 6}, content_speeds=[0.8, 1.25])
    write_manifest(tmp_path, header, rows)
    module = make_data(tmp_path, segment_frames=36, held_out=0.1)
    module.setup()
    (held_out,) = module.held_out_rows
    assert held_out.content == f"content/{held_out.recording}.npy"
    trained = Counter((r.recording, r.content.split("/")[0]) for r in module.training_rows)
    folders = ("content", "content-x0.8", "content-x1.25")
    names = {r.recording for r in rows} - {held_out.recording}
    assert trained == {(name, folder): 2 for name in names for folder in folders}


def test_only_short_slices_are_left_out(tmp_path, caplog):
    rows = [row("a", frames=100), row("b", frames=30), row("c", frames=120)]
    module = make_data(dataset(tmp_path, rows), segment_frames=36, num_workers=0, held_out=0.0)
    module.setup()
    assert [r.recording for r in module.training_rows] == ["a", "c"]
    assert "1 of 3 slices" in caplog.text
    (batches,) = module.train_dataloader()
    assert batches[0].lengths.tolist() == [118, 98]
    assert module.val_dataloader() == []


def test_excluded_slices_and_lines_without_a_slice_are_reported(tmp_path, caplog):
    rows = [row("a", frames=100), row("b", frames=100)]
    module = make_data(dataset(tmp_path, rows), segment_frames=36, num_workers=0, held_out=0.0)
    (tmp_path / "excluded.txt").write_text(f"{rows[0].audio}\nslices-old/a.wav\n", encoding="utf-8")
    with caplog.at_level("INFO"):
        module.setup()
    assert module.training_rows == rows[1:]
    assert "excludes 1 slice\n" in caplog.text
    assert "contains paths without a slice, 1 in all: 'slices-old/a.wav'" in caplog.text


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_each_speaker_gets_silent_clips(tmp_path, cache):
    folder = dataset(tmp_path, [row("a", frames=100), row("b", frames=100), row("c", frames=100)])
    np.save(folder / "silence.npy", np.full((149, 6), 2, dtype=np.float16))
    header = DatasetHeader(24000, {}, {"dim": 6}, speakers=["anna", "ben"], silence="silence.npy")
    write_manifest(folder, header, module_rows := read_manifest(folder))
    settings = {"segment_frames": 36, "batch_size": 1, "num_workers": 0, "held_out": 0.3, "cache": cache}
    module = make_data(folder, silent_clips=2, **settings)
    module.setup()
    batches = [batch for (batch,) in module.train_dataloader()]
    silent = [batch for batch in batches if batch.ids[0].startswith("silence")]
    assert len(batches) - len(silent) == len(module_rows) - len(module.held_out_rows) == 2
    assert sorted(int(batch.speaker[0]) for batch in silent) == [0, 0, 1, 1]
    for batch in silent:
        assert not batch.waveform.any() and not batch.f0_hz.any() and (batch.content == 2).all()
        assert batch.lengths.tolist() == [298] and batch.waveform.shape == (1, 298 * 240)
    capped = make_data(folder, silent_clips=1, max_frames=50, **settings)
    capped.setup()
    assert max(int(batch.lengths.max()) for (batch,) in capped.train_dataloader()) == 50


def test_silent_clips_require_silence_in_the_dataset(tmp_path):
    folder = dataset(tmp_path, [row("a", frames=100)])
    module = make_data(folder, segment_frames=36, num_workers=0, silent_clips=1)
    module.setup()
    with pytest.raises(DatasetError, match=r"contains no silence.*data\.silent_clips=0"):
        module.train_dataloader()
    for wrong in (-1, 1.5):
        with pytest.raises(ConfigurationError, match="silent_clips"):
            make_data(folder, segment_frames=36, silent_clips=wrong)


def test_dataset_without_usable_slices_is_rejected(tmp_path):
    module = make_data(dataset(tmp_path, [row("a", frames=20)]), segment_frames=36)
    with pytest.raises(DatasetError, match="360 ms"):
        module.setup()
    with pytest.raises(DatasetError, match="not a prepared dataset"):
        make_data(tmp_path / "nowhere", segment_frames=36).setup()


def test_missing_feature_file_is_named(tmp_path):
    rows = [row("a", frames=100)]
    module = make_data(dataset(tmp_path, rows), segment_frames=36, num_workers=0)
    (tmp_path / rows[0].f0).unlink()
    module.setup()
    with pytest.raises(DatasetError, match="a/0"):
        next(iter(module.train_dataloader()))
    assert json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))["sample_rate"] == 24000
