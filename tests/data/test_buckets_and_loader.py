"""The length buckets, the loader that continues, and the split into training and held-out recordings."""

import json
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch

from rvc_lightning.audio.frames import CONTENT_REPEAT, frame_mask
from rvc_lightning.data.batch import Example, collate, content_at_frame_rate
from rvc_lightning.data.buckets import LengthBucketSampler
from rvc_lightning.data.datamodule import RVCDataModule, StepCollator, split_held_out
from rvc_lightning.data.loader import ResumableLoader
from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, ManifestTable, read_manifest, write_manifest
from rvc_lightning.errors import ConfigurationError, DatasetError

LENGTHS = torch.randint(10, 900, (61,), generator=torch.Generator().manual_seed(3)).tolist()
BOUNDARIES = [50, 100, 200, 400]


def sampler(**changes):
    return LengthBucketSampler(LENGTHS, 4, BOUNDARIES, **changes)


def test_every_slice_comes_once_an_epoch_however_long():
    """Defect T3: the peers drop clips that are too short or too long for their buckets."""
    counts = Counter(index for batch in sampler() for index in batch)
    assert counts == Counter(range(len(LENGTHS)))


@pytest.mark.parametrize("replicas", [2, 3, 5])
def test_ranks_get_equally_many_and_together_all(replicas):
    shards = [list(sampler(num_replicas=replicas, rank=rank)) for rank in range(replicas)]
    assert (
        len({len(shard) for shard in shards}) == 1 == len({len(s) for s in map(tuple, [[len(b) for b in shards[0]]])})
    )
    assert all(len(shard) == len(sampler(num_replicas=replicas)) for shard in shards)
    for batches in zip(*shards, strict=True):
        assert len({len(batch) for batch in batches}) == 1
    counts = Counter(index for shard in shards for batch in shard for index in batch)
    assert set(counts) == set(range(len(LENGTHS)))
    assert sum(counts.values()) < len(LENGTHS) + replicas


def test_members_of_a_batch_are_of_similar_length():
    def bucket(length):
        return sum(length > border for border in BOUNDARIES)

    spans = [max(bucket(LENGTHS[i]) for i in batch) - min(bucket(LENGTHS[i]) for i in batch) for batch in sampler()]
    assert sum(span == 0 for span in spans) >= len(spans) - len(BOUNDARIES)


def test_epochs_differ_and_repeat():
    one = sampler(seed=5)
    first = list(one)
    one.set_epoch(1)
    second = list(one)
    assert first != second
    one.set_epoch(0)
    assert list(one) == first


def numbers(taken=0, workers=0):
    buckets = sampler(seed=1)
    loader = ResumableLoader(LENGTHS, batch_sampler=buckets, collate_fn=list, num_workers=workers)
    loader.load_state_dict({"taken": taken})
    return loader


@pytest.mark.parametrize("workers", [0, 2])
def test_a_restored_loader_continues_with_the_next_batch(workers):
    whole = list(numbers())
    loader = numbers(workers=workers)
    iterator = iter(loader)
    taken = [next(iterator) for _ in range(5)]
    # Workers have prefetched more than was taken; only what was taken counts.
    state = loader.state_dict()
    assert state == {"taken": 5}
    restored = numbers(taken=5, workers=workers)
    assert taken + list(restored) == whole
    assert restored.state_dict() == {"taken": 0}
    assert len(list(restored)) == len(whole)


def example(name, frames, content=None, waveform=None):
    return Example(
        id=name,
        content=torch.randn(-(-frames // 2) + 1, 5) if content is None else content,
        f0_hz=torch.rand(frames + 2),
        waveform=torch.randn(frames * 240 + 17) if waveform is None else waveform,
        frames=frames,
        speaker=1,
    )


def test_collation_equals_the_reference(golden):
    data = golden.arrays("dataset")
    items = []
    for number in range(3):
        wave, phone, f0_hz = (data[f"{key}_{number}"] for key in ("wave", "phone", "pitchf"))
        frames = min(CONTENT_REPEAT * len(phone), len(wave) // 240)
        items.append(Example(str(number), phone, f0_hz.float(), wave, frames, number))
    batch = collate(items)
    assert torch.equal(batch.lengths, data["batch_spec_lengths"])
    assert torch.equal(content_at_frame_rate(batch.content, int(batch.lengths[0])), data["batch_phone"])
    torch.testing.assert_close(batch.f0_hz, data["batch_pitchf"].float())

    from rvc_lightning.audio.spectra import LinearSpectrogram

    frames = int(batch.lengths[0])
    spec = LinearSpectrogram(1024, 240)(batch.waveform, batch.waveform_lengths)[..., :frames]
    spec = spec * frame_mask(batch.lengths, frames).unsqueeze(1)
    torch.testing.assert_close(spec, data["batch_spec"], atol=1e-4, rtol=0)


def test_a_step_is_collated_into_batches_longest_first():
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
    training, held_out = split_held_out(ManifestTable.of(rows), 0.1, 1000)
    assert {r.recording for r in training} & {r.recording for r in held_out} == set()
    assert len(training) + len(held_out) == len(rows)
    assert 0.05 <= len(held_out) / len(rows) <= 0.2
    more = split_held_out(ManifestTable.of([*rows, row("added")]), 0.1, 1000)[1]
    assert len({r.recording for r in held_out} & {r.recording for r in more}) >= 1


@pytest.mark.parametrize(("rows", "held_out"), [([row("only")], 0), ([row("a"), row("b"), row("c")], 1), ([], 0)])
def test_little_data_is_split_sensibly(rows, held_out):
    table = ManifestTable.of(rows)
    assert len(split_held_out(table, 0.05, 100)[1]) == held_out
    training, none = split_held_out(table, 0.0, 100)
    assert list(training) == rows and list(none) == []


def dataset(folder, rows):
    for r in rows:
        soundfile.write(folder / r.audio, np.random.default_rng(0).normal(size=r.samples) * 0.1, 24000, subtype="FLOAT")
        np.save(folder / r.f0, np.full(r.frames + 1, 150, dtype=np.float32))
        np.save(folder / r.content, np.ones((r.frames // 2 - 1, 6), dtype=np.float16))
    write_manifest(folder, DatasetHeader(24000, {}, {"dim": 6}), rows)
    return folder


def test_the_datamodule_leaves_out_only_what_is_too_short(tmp_path, caplog):
    rows = [row("a", frames=100), row("b", frames=30), row("c", frames=120)]
    module = RVCDataModule(dataset(tmp_path, rows), segment_frames=36, num_workers=0, held_out=0.0)
    module.setup()
    assert [r.recording for r in module.training_rows] == ["a", "c"]
    assert "1 of 3 slices" in caplog.text
    (batches,) = module.train_dataloader()
    assert batches[0].lengths.tolist() == [118, 98]
    assert module.val_dataloader() == []


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_each_speaker_gets_clips_of_silence_to_train_on(tmp_path, cache):
    folder = dataset(tmp_path, [row("a", frames=100), row("b", frames=100), row("c", frames=100)])
    np.save(folder / "silence.npy", np.full((149, 6), 2, dtype=np.float16))
    header = DatasetHeader(24000, {}, {"dim": 6}, speakers=["anna", "ben"], silence="silence.npy")
    write_manifest(folder, header, module_rows := list(read_manifest(folder)))
    settings = {"segment_frames": 36, "batch_size": 1, "num_workers": 0, "held_out": 0.3, "cache": cache}
    module = RVCDataModule(folder, silent_clips=2, **settings)
    module.setup()
    batches = [batch for (batch,) in module.train_dataloader()]
    silent = [batch for batch in batches if batch.ids[0].startswith("silence")]
    assert len(batches) - len(silent) == len(module_rows) - len(module.held_out_rows) == 2
    assert sorted(int(batch.speaker[0]) for batch in silent) == [0, 0, 1, 1]
    for batch in silent:
        assert not batch.waveform.any() and not batch.f0_hz.any() and (batch.content == 2).all()
        assert batch.lengths.tolist() == [298] and batch.waveform.shape == (1, 298 * 240)
    capped = RVCDataModule(folder, silent_clips=1, max_frames=50, **settings)
    capped.setup()
    assert max(int(batch.lengths.max()) for (batch,) in capped.train_dataloader()) == 50


def test_silent_clips_need_a_dataset_that_has_silence(tmp_path):
    folder = dataset(tmp_path, [row("a", frames=100)])
    module = RVCDataModule(folder, segment_frames=36, num_workers=0, silent_clips=1)
    module.setup()
    with pytest.raises(DatasetError, match=r"without silence.*data\.silent_clips=0"):
        module.train_dataloader()
    for wrong in (-1, 1.5):
        with pytest.raises(ConfigurationError, match="silent_clips"):
            RVCDataModule(folder, segment_frames=36, silent_clips=wrong)


def test_a_dataset_without_usable_slices_is_refused(tmp_path):
    module = RVCDataModule(dataset(tmp_path, [row("a", frames=20)]), segment_frames=36)
    with pytest.raises(DatasetError, match="360 ms"):
        module.setup()
    with pytest.raises(DatasetError, match="no prepared dataset"):
        RVCDataModule(tmp_path / "nowhere", segment_frames=36).setup()


def test_a_missing_feature_file_is_named(tmp_path):
    rows = [row("a", frames=100)]
    module = RVCDataModule(dataset(tmp_path, rows), segment_frames=36, num_workers=0)
    (tmp_path / rows[0].f0).unlink()
    module.setup()
    with pytest.raises(DatasetError, match="a/0"):
        next(iter(module.train_dataloader()))
    assert json.loads((tmp_path / "dataset.json").read_text())["sample_rate"] == 24000
