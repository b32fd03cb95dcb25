"""Preparation of untidy folders: every file is used or reported, and nothing is done twice."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from defaults import make_recipe, make_slicing
from PIL import Image
from preparation import RATE, all_files, run, speech, write

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.audio.frames import content_frames
from rvc_lightning.content import CONTENT_ENCODERS
from rvc_lightning.content.base import ContentEncoder
from rvc_lightning.data.manifest import read_header, read_manifest
from rvc_lightning.data.preparation import is_prepared_by
from rvc_lightning.data.selection import SelectionConfig
from rvc_lightning.errors import ConfigurationError, DatasetError


def features(folder):
    """Return all files except those that every run writes."""
    return {path: time for path, time in all_files(folder).items() if len(path.parts) > 1}


@pytest.fixture
def recordings(tmp_path):
    for seed, name in enumerate(["b.wav", "a.flac"]):
        write(tmp_path / "in" / name, speech(4.0, seed=seed))
    return tmp_path / "in"


def test_dataset_is_complete(recordings, tmp_path):
    report = run(recordings, tmp_path / "out")
    rows = list(read_manifest(tmp_path / "out"))
    assert [row.recording for row in rows] == ["a.flac", "a.flac", "b.wav", "b.wav"]
    assert len({row.id for row in rows}) == len(rows) == report.slices
    for row in rows:
        audio, sample_rate = soundfile.read(tmp_path / "out" / row.audio, dtype="float32")
        assert (len(audio), sample_rate, row.sample_rate) == (row.samples, 24000, 24000)
        assert soundfile.info(tmp_path / "out" / row.audio).subtype == "FLOAT"
        f0_hz, content = np.load(tmp_path / "out" / row.f0), np.load(tmp_path / "out" / row.content)
        assert row.frames == row.samples // 240 and row.seconds == row.samples / 24000
        assert f0_hz.dtype == np.float32 and len(f0_hz) in (row.frames + 1, row.frames + 2)
        assert content.dtype == np.float16 and content.shape[1] == 768
        assert len(content) == content_frames(-(-row.samples * 2 // 3))
        assert np.median(f0_hz[f0_hz > 0]) == pytest.approx(130 if row.recording == "a.flac" else 120, rel=0.02)
    header = read_header(tmp_path / "out")
    assert (header.sample_rate, header.content["dim"], header.pitch["name"]) == (24000, 768, "swift_f0")
    assert header.speakers == ["0"] and header.slicing["mode"] == "automatic"
    assert is_prepared_by(header, make_recipe())
    for other in (make_recipe(sample_rate=32000), make_recipe(pitch={"name": "pyin"})):
        assert not is_prepared_by(header, other)
    assert json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["slices"] == 4


@pytest.mark.slow
def test_workers_give_the_same_files(recordings, tmp_path):
    run(recordings, tmp_path / "one")
    run(recordings, tmp_path / "two", num_workers=2)
    assert all_files(tmp_path / "one").keys() == all_files(tmp_path / "two").keys()
    for row in read_manifest(tmp_path / "one"):
        one, two = (soundfile.read(tmp_path / folder / row.audio)[0] for folder in ("one", "two"))
        np.testing.assert_array_equal(one, two)
        for name in (row.f0, row.content):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one/manifest.jsonl").read_bytes() == (tmp_path / "two/manifest.jsonl").read_bytes()


@pytest.mark.slow
def test_second_run_redoes_nothing(recordings, tmp_path):
    run(recordings, tmp_path / "out")
    before = features(tmp_path / "out")
    run(recordings, tmp_path / "out")
    assert features(tmp_path / "out") == before


@pytest.mark.slow
def test_change_redoes_only_dependent_files(recordings, tmp_path):
    run(recordings, tmp_path / "out")
    before = features(tmp_path / "out")
    run(recordings, tmp_path / "out", pitch={"name": "swift_f0", "threshold": 0.6})
    after = features(tmp_path / "out")
    assert before.items() <= after.items()
    assert {path.parts[0].split("-")[0] for path in after.keys() - before.keys()} == {"pitch"}

    run(recordings, tmp_path / "out", content_speeds=[0.8])
    faster = features(tmp_path / "out")
    assert {path.parts[0].split("-")[-1] for path in faster.keys() - after.keys()} == {"x0.8"}

    write(recordings / "b.wav", speech(4.0, seed=7))
    run(recordings, tmp_path / "out")
    assert {path.parts[3].split("-")[0] for path in features(tmp_path / "out").keys() - faster.keys()} == {"b"}

    run(recordings, tmp_path / "out", slicing=make_slicing(normalization="none"))
    assert len(list((tmp_path / "out").glob("slices-*"))) == 2
    rows = list(read_manifest(tmp_path / "out"))
    assert len({Path(row.audio).parts[0] for row in rows}) == 1


@pytest.mark.slow
def test_interrupted_run_is_completed(recordings, tmp_path):
    run(recordings, tmp_path / "out")
    rows = list(read_manifest(tmp_path / "out"))
    whole = all_files(tmp_path / "out").keys()
    (tmp_path / "out" / rows[0].audio).with_name("recording.json").unlink()
    (tmp_path / "out" / rows[1].f0).unlink()
    (tmp_path / "out" / rows[2].content).unlink()
    (tmp_path / "out" / rows[3].audio).unlink()
    (tmp_path / "out" / rows[3].f0).with_name(".writing-1.npy").touch()
    run(recordings, tmp_path / "out")
    assert all_files(tmp_path / "out").keys() == whole
    assert list(read_manifest(tmp_path / "out")) == rows


@pytest.mark.slow
def test_untidy_folder(tmp_path):
    """Files found in real folders: each is used or reported, in one run, without an error."""
    folder = tmp_path / "in"
    write(folder / "good.wav", speech())
    write(folder / "twin.wav", speech())
    write(folder / "stereo.wav", np.stack([speech(), 0.5 * speech()], axis=1))
    write(folder / "low.wav", speech(sample_rate=8000), 8000)
    write(folder / "high.flac", speech(sample_rate=96000), 96000)
    write(folder / "silent.wav", np.zeros(3 * RATE, np.float32))
    write(folder / "blip.wav", speech(0.1))
    write(folder / "unscaled.wav", 20000 * speech(), subtype="FLOAT")
    write(folder / ".hidden.wav", speech())
    nan = speech()
    nan[100] = np.nan
    write(folder / "nan.wav", nan, subtype="FLOAT")
    write(folder / "no samples.wav", np.zeros(0, np.float32))
    (folder / "empty.wav").touch()
    (folder / "words.mp3").write_text("not a recording")
    (folder / "notes.txt").write_text("notes")
    write(folder / "wav inside.ogg", speech(), format="WAV")
    cut = write(folder / "truncated.wav", speech(4.0)).read_bytes()
    (folder / "truncated.wav").write_bytes(cut[: len(cut) // 2])
    write(folder / "Ünïcode 音声 🎤.wav", speech())
    write(folder / ("long name " * 23 + ".wav"), speech())
    write(folder / "one" / "same.wav", speech(seed=1))
    write(folder / "two" / "same.wav", speech(seed=2))
    write(folder / "a.b.c.wav", speech(seed=3))
    if os.name != "nt":
        write(folder / "latin.wav", speech(seed=4)).rename(folder / os.fsdecode(b"latin \xe9.wav"))
        (folder / "broken.wav").symlink_to(folder / "nowhere.wav")
        (folder / "circle").symlink_to(folder, target_is_directory=True)

    report = run(folder, tmp_path / "out", num_workers=2)
    entries = sum(len(files) for _, _, files in os.walk(folder)) + sum(
        path.is_symlink() for path in [folder / "circle"]
    )
    assert len(report.used) + len(report.skipped) == entries
    reasons = {file.path: file.reason for file in report.skipped}
    expected = {
        "silent.wav": "silent",
        "blip.wav": "shorter than min_seconds",
        "unscaled.wav": "2.5 times full scale",
        ".hidden.wav": "hidden",
        "nan.wav": "NaN",
        "no samples.wav": "no samples",
        "empty.wav": "0 bytes",
        "words.mp3": "cannot be decoded",
        "notes.txt": "not audio",
    }
    for name, reason in expected.items():
        assert reason in reasons[name]
    used = {recording.recording: recording for recording in report.used}
    assert {"good.wav", "stereo.wav", "low.wav", "high.flac", "wav inside.ogg", "a.b.c.wav"} <= used.keys()
    assert {"one/same.wav", "two/same.wav", "Ünïcode 音声 🎤.wav"} <= used.keys()
    assert "truncated" in used["truncated.wav"].notes[0] and used["truncated.wav"].seconds < 2.1
    assert used["twin.wav"].notes == ["the same sound as good.wav"]
    assert "one, two" in report.notes[0]
    summary = report.summary()
    assert all(name in summary for name in expected)
    rows = list(read_manifest(tmp_path / "out"))
    assert len({row.audio for row in rows}) == report.slices == len(rows)
    assert all(np.isfinite(soundfile.read(tmp_path / "out" / row.audio)[0]).all() for row in rows)


@pytest.mark.slow
def test_m4a(tmp_path):
    write(tmp_path / "a.wav", speech())
    (tmp_path / "in").mkdir()
    write_audio(tmp_path / "in" / "a.m4a", *load_audio(tmp_path / "a.wav"))
    assert run(tmp_path / "in", tmp_path / "out").slices == 1


@pytest.mark.slow
def test_order_depends_only_on_names(tmp_path):
    names = ["b.wav", "a.wav", "c/a.wav", "B.wav"]
    for folder, order in (("x", names), ("y", names[::-1])):
        for name in order:
            write(tmp_path / folder / name, speech(0.6, seed=names.index(name)))
        run(tmp_path / folder, tmp_path / f"out {folder}")
    assert (tmp_path / "out x/manifest.jsonl").read_bytes() == (tmp_path / "out y/manifest.jsonl").read_bytes()
    assert [row.recording for row in read_manifest(tmp_path / "out x")] == sorted(names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "files",
    [
        {"0/a.wav": "0", "5/a.wav": "5", "5/sub/b.wav": "5", "root.wav": "0", "other/c.wav": "0"},
        {"1/a.wav": "1", "2/a.wav": "2"},
        {"225/a.wav": "225", "226/a.wav": "226", "1000/a.wav": "1000"},
        {"007/a.wav": "7", "7/b.wav": "7", "10/a.wav": "10"},
    ],
)
def test_numbered_folders_are_speakers(tmp_path, files):
    """The number of a folder is the name of its speaker; the table has one row for each, in the order of numbers."""
    for seed, name in enumerate(files):
        write(tmp_path / "in" / name, speech(0.6, seed=seed))
    run(tmp_path / "in", tmp_path / "out")
    names = read_header(tmp_path / "out").speakers
    assert names == sorted(set(files.values()), key=int)
    assert {row.recording: names[row.speaker] for row in read_manifest(tmp_path / "out")} == files


@pytest.mark.slow
def test_names_that_differ_in_extension_only(tmp_path):
    names = ["take.flac", "take.wav", "take.wav.flac", "take.wav.wav", "sub/take.wav"]
    for seed, name in enumerate(names):
        write(tmp_path / "in" / name, speech(0.6, seed=seed))
    write(tmp_path / "in/same.wav", speech(0.6))
    shutil.copy(tmp_path / "in/same.wav", tmp_path / "in/same.wav.wav")
    report = run(tmp_path / "in", tmp_path / "out")
    rows = list(read_manifest(tmp_path / "out"))
    assert sorted(row.recording for row in rows) == sorted([*names, "same.wav", "same.wav.wav"])
    assert len({row.id for row in rows}) == len({row.audio for row in rows}) == report.slices == 7


@pytest.mark.slow
def test_excessive_peak_skips_one_slice(tmp_path):
    audio = speech(8.0)
    audio[100] = 5.0
    write(tmp_path / "in/a.wav", audio, subtype="FLOAT")
    report = run(tmp_path / "in", tmp_path / "out", slicing=make_slicing(highpass_hz=0))
    assert report.slices == 2 and len(report.used[0].left_out) == 1
    assert "left out of a.wav: 0.0 to 3.0 s" in report.summary()


@pytest.mark.slow
def test_output_inside_input_and_single_file(recordings):
    run(recordings, recordings / "out")
    report = run(recordings, recordings / "out")
    assert len(report.used) == 2 and report.skipped == []
    assert [file.recording for file in run(recordings / "b.wav", recordings / "out").used] == ["b.wav"]


def test_nothing_usable_is_one_error(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetError, match=r"in' contains nothing to train on; found: no files"):
        run(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "in" / "notes.txt").touch()
    write(tmp_path / "in" / "silent.wav", np.zeros(RATE, np.float32))
    with pytest.raises(DatasetError, match=r"notes\.txt: not audio.*silent\.wav: nothing usable: silent.*report\.json"):
        run(tmp_path / "in", tmp_path / "out")
    with pytest.raises(DatasetError, match=r"nowhere' does not exist"):
        run(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(DatasetError, match=r"notes\.txt"):
        run(tmp_path / "in" / "notes.txt", tmp_path / "out")


def test_defect_of_an_unusable_file_is_reported(tmp_path):
    cut = write(tmp_path / "in" / "cut.wav", np.zeros(2 * RATE, np.float32)).read_bytes()
    (tmp_path / "in" / "cut.wav").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(DatasetError, match=r"cut\.wav: nothing usable: truncated: only the first .*; silent: its"):
        run(tmp_path / "in", tmp_path / "out")


@pytest.mark.slow
def test_summary_uses_singular_and_mentions_overlaps(tmp_path):
    write(tmp_path / "in/a.wav", speech(0.6))
    (tmp_path / "in/notes.txt").touch()
    head = run(tmp_path / "in", tmp_path / "out").summary().splitlines()[0]
    assert head.startswith("1 recording (0.6 s) of ") and head.endswith("yielded 1 slice (0.6 s); 1 file is not used")
    write(tmp_path / "in/b.wav", speech(8.0, seed=2))
    head = run(tmp_path / "in", tmp_path / "out").summary().splitlines()[0]
    assert "2 recordings (8.6 s)" in head and "9.2 s, overlaps counted twice);" in head


@pytest.mark.slow
def test_long_lists_are_shortened(tmp_path):
    write(tmp_path / "in/a.wav", speech(0.6))
    for number in range(30):
        (tmp_path / f"in/{number:02}.txt").touch()
        (tmp_path / f"in/{number:02}.x{number}").touch()
    summary = run(tmp_path / "in", tmp_path / "out").summary()
    assert "30 files (00.txt, 01.txt, 02.txt and 27 more): not audio by its extension '.txt'" in summary
    assert "18.x18" in summary and "19.x19" not in summary and "and 11 more: see" in summary


def report_of(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_speakers_as_named_folders(tmp_path):
    for seed, name in enumerate(["ben/a.wav", "anna/sub/a.wav", "10/a.wav", "9/a.wav", "root.wav"]):
        write(tmp_path / "in" / name, speech(0.6, seed=seed))
    report = run(tmp_path / "in", tmp_path / "out", selection=SelectionConfig(speakers="folders"))
    assert read_header(tmp_path / "out").speakers == ["9", "10", "anna", "ben"]
    speakers = {row.recording: row.speaker for row in read_manifest(tmp_path / "out")}
    assert speakers == {"9/a.wav": 0, "10/a.wav": 1, "anna/sub/a.wav": 2, "ben/a.wav": 3}
    assert [(file.path, "not in the folder" in file.reason) for file in report.skipped] == [("root.wav", True)]
    assert "\n  anna " in report.summary() and report.notes == []

    before = features(tmp_path / "out")
    run(tmp_path / "in", tmp_path / "out", selection=SelectionConfig(speakers="one"))
    assert read_header(tmp_path / "out").speakers == ["0"]
    new = features(tmp_path / "out").keys() - before.keys()
    assert {path.name.split("-")[0] for path in new} <= {"0000.wav", "0000.npy", "recording.json"} and len(new) == 4


@pytest.mark.slow
def test_folders_of_the_webui_have_numbers_and_repeats(tmp_path):
    for folder, seed in (("Ben_0_2", 1), ("Anna_7_1", 2)):
        write(tmp_path / "in" / folder / "a.wav", speech(seed=seed))
    report = run(tmp_path / "in", tmp_path / "out", selection=SelectionConfig(speakers="name_id_repeat"))
    assert read_header(tmp_path / "out").speakers == ["Ben", "Anna"]
    assert {(row.speaker, row.repeats) for row in read_manifest(tmp_path / "out")} == {(0, 2), (1, 1)}
    assert "speaker Ben: slices are used 2 times in an epoch" in report.notes


@pytest.mark.slow
def test_patterns_exclude_and_are_reported(tmp_path):
    for seed, name in enumerate(["a.wav", "b.wav", "drafts/c.wav", "more/d.wav"]):
        write(tmp_path / "in" / name, speech(0.6, seed=seed))
    selection = SelectionConfig(speakers="numbered", include=["*.wav", "*.flac"], exclude=["drafts", "b.*"])
    report = run(tmp_path / "in", tmp_path / "out", selection=selection)
    assert [recording.recording for recording in report.used] == ["a.wav", "more/d.wav"]
    assert {file.path: file.reason for file in report.skipped} == {
        "b.wav": "excluded by exclude 'b.*'",
        "drafts/c.wav": "excluded by exclude 'drafts'",
    }
    assert "include: '*.flac' matches no recording" in report.notes
    with pytest.raises(DatasetError, match="matches no pattern of include"):
        run(tmp_path / "in", tmp_path / "out", selection=SelectionConfig(speakers="numbered", include=["e.wav"]))


@pytest.mark.slow
def test_report_describes_the_recordings(tmp_path):
    write(tmp_path / "in/0/quiet.wav", np.concatenate([speech(2.0, level=0.05), np.zeros(2 * RATE, np.float32)]))
    loud = (32767 * speech(2.0, level=0.5)).astype(np.int16)
    write(tmp_path / "in/0/loud.wav", loud)
    write(tmp_path / "in/0/same.flac", loud)
    write(tmp_path / "in/1/clipped.wav", np.clip(8 * speech(2.0, seed=8), -1, 1))
    write(tmp_path / "in/1/silent.wav", np.zeros(RATE, np.float32))
    report = run(tmp_path / "in", tmp_path / "out")
    used = {recording.recording: recording for recording in report.used}
    levels = {name: recording.levels for name, recording in used.items()}
    assert levels["0/loud.wav"].level_db - levels["0/quiet.wav"].level_db == pytest.approx(20, abs=0.5)
    assert levels["0/quiet.wav"].silent_share == pytest.approx(0.5, abs=0.02)
    assert levels["0/loud.wav"].clipped_share == 0 and levels["1/clipped.wav"].clipped_share > 0.1
    assert any("clipped" in note for note in used["1/clipped.wav"].notes)
    assert report.duplicates == [("0/same.flac", "0/loud.wav")]

    first, second = report.speakers
    assert (first.name, first.recordings, second.recordings) == ("0", 3, 1)
    assert first.pitch.range_hz[1] == pytest.approx(120, rel=0.06)
    assert second.pitch.range_hz[1] == pytest.approx(200, rel=0.06)
    assert first.seconds == pytest.approx(sum(used[name].slice_seconds for name in used if name.startswith("0/")))
    stored = report_of(tmp_path / "out")
    frames = sum(row.frames + 1 for row in read_manifest(tmp_path / "out") if row.speaker == 0)
    pitch = stored["speakers"][0]["pitch"]
    counted = sum(bar["seconds"] for bar in pitch["histogram"])
    assert counted == pytest.approx(pitch["voiced_share"] * frames / 100, rel=0.01)
    assert stored["duplicates"] == [{"recording": "0/same.flac", "same_as": "0/loud.wav"}]
    assert [file["path"] for file in stored["skipped"]] == ["1/silent.wav"]
    with Image.open(tmp_path / "out/report.png") as picture:
        assert picture.width > 500 and len(picture.convert("L").getcolors()) > 50


@pytest.mark.slow
def test_noise_reduction(tmp_path):
    noisy = np.concatenate([speech(2.0), np.random.default_rng(0).normal(0, 0.01, 2 * RATE).astype(np.float32)])
    write(tmp_path / "in/a.wav", noisy)
    ends = []
    for strength in (0.0, 1.0):
        slicing = make_slicing(mode="skip", normalization="none", noise_reduction=strength)
        run(tmp_path / "in", tmp_path / "out", slicing=slicing)
        (row,) = read_manifest(tmp_path / "out")
        ends.append(float(np.abs(soundfile.read(tmp_path / "out" / row.audio)[0][-24000:]).mean()))
    assert ends[1] < 0.2 * ends[0]


@pytest.mark.parametrize(
    "changes", [{"sample_rate": 22051}, {"pitch": {"name": "magic"}}, {"content": {"name": "magic"}}]
)
def test_wrong_settings(recordings, tmp_path, changes):
    with pytest.raises(ConfigurationError):
        run(recordings, tmp_path / "out", **changes)


class NotFiniteEncoder(ContentEncoder):
    name = "broken"
    dim = 4

    def forward(self, wav16k, lengths):
        content = torch.zeros(len(wav16k), content_frames(wav16k.shape[1]), 4)
        # Only slices of a second or more are broken.
        content[lengths > 16000] = torch.nan
        return content


@pytest.mark.slow
def test_features_that_are_not_finite_are_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(CONTENT_ENCODERS, "broken", NotFiniteEncoder)
    write(tmp_path / "in/a.wav", speech(0.8))
    write(tmp_path / "in/b.wav", speech(2.0))
    report = run(tmp_path / "in", tmp_path / "out", content={"name": "broken"})
    assert [file.recording for file in report.used] == ["a.wav"]
    assert report.skipped[0].path == "b.wav" and "not finite" in report.skipped[0].reason


@pytest.mark.slow
def test_other_recordings_do_not_replace_a_dataset(tmp_path):
    for voice, seed in (("mine/kath", 1), ("yours/kath", 2)):
        for number in range(3):
            write(tmp_path / voice / f"{number}.wav", speech(1.0, seed=10 * seed + number))
    run(tmp_path / "mine/kath", tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("*.json*")}
    with pytest.raises(
        DatasetError, match=r"only 0 of its 3 recordings are in '.*yours/kath': choose another name=NAME"
    ):
        run(tmp_path / "yours/kath", tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").glob("*.json*")} == before
    # Moved, with one recording added and one removed: the same voice.
    moved = (tmp_path / "mine").rename(tmp_path / "ours") / "kath"
    (moved / "0.wav").unlink()
    write(moved / "3.wav", speech(1.0, seed=9))
    assert [used.recording for used in run(moved, tmp_path / "out").used] == ["1.wav", "2.wav", "3.wav"]


@pytest.mark.slow
def test_report_contains_speeds(tmp_path):
    write(tmp_path / "in/a.wav", speech(2.0))
    report = run(tmp_path / "in", tmp_path / "out")
    assert set(report.speeds) == {"slicing", "pitch", "content"} and min(report.speeds.values()) > 0
    assert "audio processed per second" in report.summary()
    assert run(tmp_path / "in", tmp_path / "out").speeds == {}
