"""Prepare and convert a folder of damaged, disguised and oddly named files: each is used or reported."""

import json
import os
import sys
from pathlib import Path

import pytest
from commanding import list_tree, run_command
from hostile_recordings import HostileFolder, write_hostile
from stubs import make_voice, quick_config

from rvc_lightning.audio.discovery import display_name

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="requires pipes and file names that are bytes"),
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> HostileFolder:
    return write_hostile(tmp_path_factory.mktemp("hostile") / "in")


def shown(paths):
    return {display_name(Path(path)) for path in paths}


def test_prepare(hostile, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = list_tree(hostile.folder)
    settings = "sample_rate=24k pitch=none content=spectral trainer.accelerator=cpu prepare_workers=2 name=hostile"
    result = run_command("prepare", f"audio={hostile.folder}", *settings.split())
    assert result.status == 0 and "Traceback" not in result.text, result.text
    assert list_tree(hostile.folder) == before
    assert {path.name for path in tmp_path.iterdir()} == {"datasets"}
    report = json.loads((tmp_path / "datasets" / "hostile" / "report.json").read_text(encoding="utf-8"))
    used = {recording["recording"] for recording in report["used"]}
    skipped = {file["path"]: file["reason"] for file in report["skipped"]}
    assert shown(hostile.usable) <= used
    assert shown(hostile.unusable) <= skipped.keys()
    assert used | skipped.keys() == shown(hostile.usable | hostile.unusable | hostile.optional)
    assert not used & skipped.keys() and all(skipped.values())
    check_notes({recording["recording"]: " ".join(recording["notes"]) for recording in report["used"]}, skipped)


def check_notes(notes, skipped):
    """Damaged files that are used have a note, skipped files a reason."""
    for name in ("wav", "flac", "mp3", "aiff"):
        assert "truncated" in notes[f"damaged/half.{name}"]
    for name in ("headers/data_4_gb.wav", "headers/data_too_long.wav", "headers/riff_zero.wav"):
        assert name in notes
    assert "NaN" in skipped["content/nan.wav"] and "circular" in skipped["links/self.wav"]
    assert "1 Hz" in skipped["rates/1.wav"] and "not a regular file" in skipped["links/pipe.wav"]


def test_convert(hostile, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    make_voice(quick_config()).save(tmp_path / "voices" / "anna.pth")
    settings = "voice=voices/anna.pth output=out pitch=none trainer.accelerator=cpu num_workers=2"
    result = run_command("convert", f"input={hostile.folder}", *settings.split())
    # Unusable recordings are the user's mistake.
    assert result.status == 1 and "Traceback" not in result.text
    assert {path.name for path in tmp_path.iterdir()} == {"voices", "out"}
    written = {path for path in list_tree(tmp_path / "out") if not (tmp_path / "out" / path).is_dir()}
    assert all(path.endswith((".wav", ".jsonl")) for path in written)
    for name in hostile.usable | hostile.unusable | hostile.optional:
        is_written = bool({str(Path(name).with_suffix(".wav")), f"{name}.wav"} & written)
        assert is_written or (name not in hostile.usable and display_name(Path(name)) in result.text), name


NOT_TEXT = os.fsdecode(b"latin \xe9")


@pytest.mark.parametrize("name", [NOT_TEXT, "line\nbreak", "\x1b[2Jred"])
def test_folder_whose_name_is_not_printable(name, monkeypatch, tmp_path):
    """The name appears in dataset, log, report, manifest and journal."""
    monkeypatch.chdir(tmp_path)
    folder = HostileFolder(tmp_path / name)
    folder.sound("a.wav", folder.usable, folder.new_sound())
    folder.bytes(f"{name}.wav", folder.unusable, b"")
    settings = "sample_rate=24k pitch=none content=spectral trainer.accelerator=cpu prepare_workers=0"
    result = run_command("prepare", f"audio='{folder.folder}'", *settings.split())
    assert result.status == 0 and "Traceback" not in result.text, result.text
    [dataset] = (tmp_path / "datasets").iterdir()
    assert dataset.name == os.fsencode(name).decode("utf-8", "replace")
    make_voice(quick_config()).save(tmp_path / "anna.pth")
    settings = "voice=anna.pth output=out pitch=none trainer.accelerator=cpu num_workers=0"
    result = run_command("convert", f"input='{folder.folder}'", *settings.split())
    assert result.status == 1 and "Traceback" not in result.text
    assert "is empty (0 bytes)" in result.text and (tmp_path / "out" / "a.wav").is_file()


@pytest.mark.parametrize("kind", ["/dev/null", "/dev/zero", "pipe", "circle", "folder.wav", "voice.pth"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("prepare", "audio={} prepare_workers=0 trainer.accelerator=cpu pitch=none content=spectral"),
        ("convert", "input={} voice=voice.pth output=out trainer.accelerator=cpu num_workers=0"),
    ],
)
def test_input_that_is_not_a_recording(name, settings, kind, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.symlink("circle", "circle")
    os.mkdir("folder.wav")
    make_voice(quick_config()).save(tmp_path / "voice.pth")
    result = run_command(name, *settings.format(kind).split())
    assert result.status == 1 and "Traceback" not in result.text
    assert "Error: " in result.text
    assert not list(Path("folder.wav").iterdir()) and not list(tmp_path.glob("out/*"))
