"""Conversion of files and folders: every file is converted or reported, and the source is never changed."""

import logging
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import golden_rule
import numpy as np
import pytest
import soundfile
from folders import OPTIONS, Doubler, recording
from systems import LINKS

from rvc_lightning import ConversionOptions
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.conversion.folder import convert_files
from rvc_lightning.conversion.journal import JOURNAL_NAME
from rvc_lightning.errors import AudioError, ConfigurationError, NotWritableError
from rvc_lightning.pitch.curve import read_curve, write_curve


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    recording(folder / "b.wav")
    recording(folder / "a.flac")
    recording(folder / "deep" / "er" / "c.ogg")
    return folder


def convert(source, output, redo=False, **options):
    return convert_files(Doubler(), source, output, replace(OPTIONS, **options), redo=redo)


def names(folder):
    """Return the files in a folder without the journal."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in found if name != JOURNAL_NAME]


def test_folder_is_mirrored_in_order(source, tmp_path):
    report = convert(str(source), str(tmp_path / "out"))
    assert names(tmp_path / "out") == ["a.wav", "b.wav", "deep/er/c.wav"]
    assert report.converted == [tmp_path / "out" / name for name in names(tmp_path / "out")]
    assert soundfile.info(tmp_path / "out/a.wav").samplerate == 32000
    assert soundfile.info(tmp_path / "out/a.wav").frames == 3200


def test_other_formats(source, tmp_path):
    convert(source, tmp_path / "out", output_format="flac")
    assert names(tmp_path / "out") == ["a.flac", "b.flac", "deep/er/c.flac"]
    with pytest.raises(ConfigurationError, match=r"output=.*x.wav and output_format=flac contradict each other"):
        convert(source / "b.wav", tmp_path / "x.wav", output_format="flac")


def test_output_format_that_cannot_be_written_is_rejected(source, tmp_path):
    with pytest.raises(ConfigurationError, match=r"x\.AAC': unknown output format '\.AAC'; choose one of: .*\.wav"):
        convert(source / "b.wav", tmp_path / "x.AAC")
    assert not (tmp_path / "x.AAC").exists()
    (tmp_path / "x.aac").mkdir()
    convert(source / "b.wav", tmp_path / "x.aac")
    convert(source / "b.wav", tmp_path / "version.2")
    assert names(tmp_path / "x.aac") == names(tmp_path / "version.2") == ["b.wav"]


def test_sample_rate_fits_the_format(source, tmp_path, monkeypatch):
    monkeypatch.setattr(Doubler, "voice", SimpleNamespace(sample_rate=40000))
    convert(source / "b.wav", tmp_path / "a.mp3")
    assert soundfile.info(tmp_path / "a.mp3").samplerate == 44100
    with pytest.raises(
        ConfigurationError, match=r"b.mp3' cannot be written at 40000 Hz; choose .wav or .*44100, 48000"
    ):
        convert(source / "b.wav", tmp_path / "b.mp3", output_sample_rate=40000)


def test_missing_dependencies_are_reported_before_the_conversion(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pedalboard", None)
    with pytest.raises(ConfigurationError, match=r'effects=\[reverb\] requires .*"rvc-lightning\[effects\]"'):
        convert(source, tmp_path / "out", effects=["reverb"])
    assert not (tmp_path / "out").exists()


def test_pitch_is_written_beside_the_audio(source, tmp_path):
    convert(source, tmp_path / "out", write_f0=True)
    assert names(tmp_path / "out") == ["a.f0.csv", "a.wav", "b.f0.csv", "b.wav", "deep/er/c.f0.csv", "deep/er/c.wav"]
    assert read_curve(tmp_path / "out/deep/er/c.f0.csv").hz.tolist() == [100] * 11


def test_curves_in_a_folder_are_matched_by_name(source, tmp_path, caplog):
    for name, hz in {"b.f0.csv": 200, "deep/er/c.txt": 300, "other.csv": 400}.items():
        write_curve(tmp_path / "curves" / name, np.full(3, hz, np.float32))
    with caplog.at_level(logging.INFO):
        convert(source, tmp_path / "out", f0_file=tmp_path / "curves", write_f0=True)
    used = {name: read_curve(tmp_path / f"out/{name}.f0.csv").hz[0] for name in ("a", "b", "deep/er/c")}
    assert used == {"a": 100, "b": 200, "deep/er/c": 300}
    assert f"No pitch in '{tmp_path / 'curves'}' for a.flac: using the measured pitch" in caplog.text
    assert f"No recording matches '{tmp_path / 'curves' / 'other.csv'}'" in caplog.text


def test_curves_that_match_nothing_are_rejected(source, tmp_path):
    folder = tmp_path / "curves"
    write_curve(folder / "x.csv", np.ones(3) * 100)
    with pytest.raises(ConfigurationError, match=r"no file in '.*curves' matches 'a.flac' or another.*f0.csv, .csv"):
        convert(source, tmp_path / "out", f0_file=folder)
    for path in (folder / "x.csv", folder / "none.csv"):
        with pytest.raises(ConfigurationError, match=r"no file in '.*csv' matches .*choose a folder of files"):
            convert(source, tmp_path / "out", f0_file=path)
    write_curve(folder / "a.csv", np.ones(3) * 100)
    write_curve(folder / "a.f0.csv", np.ones(3) * 100)
    with pytest.raises(ConfigurationError, match=r"several files match 'a.flac': .*a.f0.csv', .*a.csv'; keep one"):
        convert(source, tmp_path / "out", f0_file=folder)
    with pytest.raises(ConfigurationError, match=r"a.f0.csv' is the same file as"):
        convert(source / "a.flac", folder / "a.wav", f0_file=folder / "a.f0.csv", write_f0=True)


def test_names_that_differ_in_their_extension_only(source, tmp_path):
    recording(source / "b.flac")
    convert(source, tmp_path / "out")
    assert names(tmp_path / "out") == ["a.wav", "b.flac.wav", "b.wav.wav", "deep/er/c.wav"]


@pytest.mark.parametrize(
    ("recordings", "expected"),
    [
        (["a.wav", "a.flac"], {"a.wav": "a.wav", "a.flac": "a.flac"}),
        (["a.wav", "a.flac", "a.flac.wav"], {"a.wav": "a.wav", "a.flac": "a.flac", "a.flac.wav": "a.flac.wav"}),
        (["a.flac", "a.flac.wav"], {"a.flac": "a", "a.flac.wav": "a.flac"}),
        (["a.WAV", "a.wav"], {"a.WAV": "a.WAV", "a.wav": "a.wav (2)"}),
        (["A.wav", "a.flac"], {"A.wav": "A.wav", "a.flac": "a.flac"}),
        (["A.wav", "a (2).ogg", "a.wav"], {"A.wav": "A.wav", "a (2).ogg": "a (2)", "a.wav": "a.wav (2)"}),
        (["e\u0301.wav", "\u00e9.flac"], {"e\u0301.wav": "e\u0301.wav", "\u00e9.flac": "\u00e9.flac"}),
        (["song.wav", "song.f0.wav"], {"song.wav": "song", "song.f0.wav": "song.f0"}),
        (["x/a.wav", "a.wav"], {"x/a.wav": "x/a", "a.wav": "a"}),
    ],
)
def test_every_recording_has_its_result_and_curve(tmp_path, recordings, expected):
    """Curves written by one run are found again by the next, each by its recording."""
    for name in recordings:
        recording(tmp_path / "in" / name)
    report = convert(tmp_path / "in", tmp_path / "out", write_f0=True)
    assert len(set(report.converted)) == len(recordings)
    assert set(names(tmp_path / "out")) == {f"{stem}{end}" for stem in expected.values() for end in (".wav", ".f0.csv")}
    for number, name in enumerate(recordings):
        write_curve(tmp_path / "out" / f"{expected[name]}.f0.csv", np.full(11, 200 + number, np.float32))
    convert(tmp_path / "in", tmp_path / "again", f0_file=tmp_path / "out", write_f0=True)
    found = [read_curve(tmp_path / "again" / f"{expected[name]}.f0.csv").hz[0] for name in recordings]
    assert found == [200 + number for number in range(len(recordings))]


def test_curve_of_a_single_file_of_a_folder(source, tmp_path):
    recording(source / "b.flac")
    convert(source, tmp_path / "out", write_f0=True)
    write_curve(tmp_path / "out/b.wav.f0.csv", np.full(11, 300, np.float32))
    convert(source / "b.wav", tmp_path / "b.wav", f0_file=tmp_path / "out", write_f0=True)
    assert read_curve(tmp_path / "b.f0.csv").hz[0] == 300


@pytest.mark.parametrize(("output", "expected"), [("x/y.flac", "x/y.flac"), ("folder", "folder/b.wav"), ("", "b.wav")])
def test_single_file(source, tmp_path, output, expected):
    (tmp_path / "out").mkdir()
    report = convert(source / "b.wav", tmp_path / "out" / output)
    assert report.converted == [tmp_path / "out" / expected]
    assert names(tmp_path / "out") == [expected]


def test_skipped_files_are_reported(source, tmp_path, caplog):
    (source / "notes.txt").write_text("hello")
    (source / ".hidden.wav").write_bytes(b"x")
    with caplog.at_level(logging.INFO):
        report = convert(source, tmp_path / "out")
    assert [other.path for other in report.skipped] == [".hidden.wav", "notes.txt"]
    assert "Skipped notes.txt: not audio by its extension '.txt'" in caplog.text
    assert len(report.converted) == 3


@pytest.mark.slow
def test_failing_file_does_not_stop_the_others(source, tmp_path, caplog):
    broken = source / "aa.wav"
    broken.write_bytes(b"this is no wave file at all")
    reason = f"{re.escape(str(broken))}: cannot be decoded: "
    with pytest.raises(AudioError, match=rf"^1 of 4 recordings failed:\n  {reason}"):
        convert(source, tmp_path / "out")
    # The reason is only in the error.
    assert f"Failed: {broken}\n" in caplog.text and "cannot be decoded" not in caplog.text
    with pytest.raises(AudioError, match=f"^{reason}"):
        convert(broken, tmp_path / "out")
    assert names(tmp_path / "out") == ["a.wav", "b.wav", "deep/er/c.wav"]


def test_failure_of_all_files(source, tmp_path):
    with pytest.raises(AudioError, match="3 of 3 recordings failed"):
        convert_files(Doubler(), source, tmp_path / "out", ConversionOptions(speaker=9))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", [".", "../in", "link"])
@LINKS
def test_recordings_of_the_source_are_not_replaced(source, output):
    (source.parent / "in" / "link").symlink_to(source)
    before = {name: (source / name).read_bytes() for name in ("a.flac", "b.wav")}
    for path in (source / "b.wav", source):
        with pytest.raises(ConfigurationError, match=r"output: '.*' is the folder or a recording to convert"):
            convert(path, source / output)
    assert before == {name: (source / name).read_bytes() for name in before}


def test_output_folder_inside_the_source_is_excluded(source):
    assert len(convert(source, source / "out").converted) == 3
    again = convert(source, source / "out")
    assert again.converted == [] and len(again.kept) == 3


def test_sources_without_recordings_are_rejected(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(AudioError, match=r"no recording found in '.*in'$"):
        convert(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "notes.txt").write_text("hello")
    with pytest.raises(AudioError, match=r"\(notes.txt: not audio"):
        convert(tmp_path / "in", tmp_path / "out")
    with pytest.raises(AudioError, match="no such file or folder"):
        convert(tmp_path / "none", tmp_path / "out")


def test_file_as_output_of_a_folder_is_rejected(source, tmp_path):
    (tmp_path / "out").touch()
    for output, obstacle in ((tmp_path / "out", source), (tmp_path / "out/x.wav", source / "b.wav")):
        with pytest.raises(
            NotWritableError, match=f"{output}' cannot be written: '.*out' is a file, not a folder; choose"
        ):
            convert(obstacle, output)


@pytest.mark.parametrize(
    ("name", "output", "message"),
    [
        (
            ".",
            "out.wav",
            r"output=.*out.wav is the name of a file, but .* choose a folder such as .*out, or append a sl",
        ),
        ("b.wav", "out.xyz", r"output=.*out.xyz: unknown output format '.xyz'; choose one of: .*, or append a slash"),
    ],
)
def test_new_folder_with_an_extension_ends_with_a_slash(source, tmp_path, name, output, message):
    with pytest.raises(ConfigurationError, match=message):
        convert(source / name, tmp_path / output)
    assert not (tmp_path / output).exists()
    (converted,) = convert(source / "b.wav", f"{tmp_path / output}/").converted
    assert converted == tmp_path / output / "b.wav"
    # The folder exists now.
    assert converted in convert(source / name, tmp_path / output, redo=True).converted


def test_extension_of_digits_is_part_of_a_name(source, tmp_path):
    assert convert(source / "b.wav", tmp_path / "v1.0").converted == [tmp_path / "v1.0/b.wav"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody can make files")
def test_output_that_cannot_be_created_is_named_as_typed(source):
    with pytest.raises(NotWritableError, match=r"^'/proc/x.wav' cannot be created in this place; choose another"):
        convert(source / "b.wav", "/proc/x.wav")


def test_results_of_an_earlier_run_are_kept(source, tmp_path, caplog):
    convert(source, tmp_path / "out")
    caplog.set_level(logging.INFO)
    again = Doubler()
    report = convert_files(again, source, tmp_path / "out", OPTIONS)
    assert again.done == [] and report.converted == [] and len(report.kept) == 3
    assert "Converted 0 of 3 recordings to" in caplog.text and "kept 3 of an earlier run" in caplog.text
    assert len(convert(source, tmp_path / "out", redo=True).converted) == 3


@pytest.mark.parametrize("change", ["input", "output", "lost", "settings", "journal"])
def test_outdated_results_are_converted_again(source, tmp_path, change):
    convert(source, tmp_path / "out")
    options = OPTIONS
    if change == "input":
        write_audio(source / "a.flac", golden_rule.stub_audio("other", 0.1), 16000)
    elif change == "output":
        write_audio(tmp_path / "out" / "a.wav", golden_rule.stub_audio("other", 0.1), 16000)
    elif change == "lost":
        (tmp_path / "out" / "a.wav").unlink()
    elif change == "settings":
        options = ConversionOptions(transpose_semitones=1)
    else:
        journal = tmp_path / "out" / JOURNAL_NAME
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(lines[0][:-20] + b"\n[1]\n" + b"".join(lines[1:]))
    again = Doubler()
    convert_files(again, source, tmp_path / "out", options)
    assert again.done == (["a.flac", "b.wav", "c.ogg"] if change == "settings" else ["a.flac"])


def test_killed_run_is_resumed(source, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        convert_files(Doubler(killed_after=2), source, tmp_path / "out", OPTIONS)
    assert names(tmp_path / "out") == ["a.wav", "b.wav"]
    again = Doubler()
    report = convert_files(again, source, tmp_path / "out", OPTIONS)
    assert again.done == ["c.ogg"] and len(report.kept) == 2
    assert names(tmp_path / "out") == ["a.wav", "b.wav", "deep/er/c.wav"]


@pytest.mark.slow
def test_failed_files_are_tried_again(source, tmp_path):
    broken = source / "aa.wav"
    broken.write_bytes(b"this is no wave file at all")
    for _ in range(2):
        with pytest.raises(AudioError, match="1 of 4"):
            convert(source, tmp_path / "out")
    broken.unlink()
    recording(broken)
    assert [path.name for path in convert(source, tmp_path / "out").converted] == ["aa.wav"]


def test_changed_curve_is_applied(source, tmp_path):
    write_curve(tmp_path / "curves" / "b.csv", np.full(3, 200, np.float32))
    options = replace(OPTIONS, f0_file=str(tmp_path / "curves"))
    convert_files(Doubler(), source, tmp_path / "out", options)
    write_curve(tmp_path / "curves" / "b.csv", np.full(3, 300, np.float32))
    again = Doubler()
    convert_files(again, source, tmp_path / "out", options)
    assert again.done == ["b.wav"]
