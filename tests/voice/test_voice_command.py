"""The command `python -m rvc_lightning.voice`."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from stubs import make_voice, quick_config
from voices import read_entries

from rvc_lightning import Voice
from rvc_lightning.retrieval.index import build_index, save_index
from rvc_lightning.voice.__main__ import main


def test_info_prints_a_table(voices, tmp_path, capsys):
    save_index(build_index(np.eye(40, 768, dtype=np.float32), 0), tmp_path / "anna.index")
    main(["info", str(voices[0])])
    lines = capsys.readouterr().out.splitlines()
    assert "name            anna" in lines
    assert "speakers        3: speaker=0 to 2, without names" in lines
    assert not any(line.startswith(("pitch extractor", "median pitch")) for line in lines)
    assert "generator       HiFi-GAN, with pitch" in lines
    assert "training        3 epochs, 40 steps" in lines
    assert "author          \\x1b[2Jme" in lines
    assert "                40 vectors of 768 channels" in lines


def test_names_that_the_output_cannot_encode_are_escaped(voices, tmp_path, monkeypatch):
    """Redirected output of Windows has a code page."""
    voices[0].rename(tmp_path / "音.pth")
    output = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="\n")
    monkeypatch.setattr(sys, "stdout", output)
    main(["list", "--voices", str(tmp_path)])
    output.flush()
    assert b"\n\\u97f3.pth " in output.buffer.getvalue()


@pytest.mark.parametrize(
    ("names", "rows", "speakers", "pitch"),
    [
        (["anna"], 1, "1: speaker=0 anna", "172 Hz; proposed_pitch_hz=172 shifts recordings to it"),
        (
            ["0"],
            3,
            "1: speaker=0; 2 more rows of the table are unused",
            "172 Hz; proposed_pitch_hz=172 shifts recordings to it",
        ),
        (["anna", "ben"], 2, "2: speaker=0 anna, speaker=1 ben", "172 Hz"),
        (["225", "226"], 2, "2: speaker=225, speaker=226", "172 Hz"),
    ],
)
def test_info_prints_speakers_and_pitch(names, rows, speakers, pitch, tmp_path, capsys):
    stored = {"speakers": names, "pitch": {"name": "rmvpe", "options": {}}, "median_f0_hz": 171.6}
    path = make_voice(quick_config(speaker_count=rows), rvc_lightning=stored).save(tmp_path / "voice.pth")
    main(["info", str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert f"speakers        {speakers}" in lines and f"median pitch    {pitch}" in lines
    assert "pitch extractor rmvpe" in lines
    main(["info", "--json", str(path)])
    (facts,) = json.loads(capsys.readouterr().out)
    assert (facts["speakers"], facts["speaker_rows"], facts["median_f0_hz"]) == (len(names), rows, 171.6)


def test_info_of_an_index_names_it(tmp_path, caplog):
    path = save_index(build_index(np.eye(40, 768, dtype=np.float32), 0), tmp_path / "anna.index")
    with pytest.raises(SystemExit):
        main(["info", str(path)])
    assert f"'{path}' cannot be read as a voice: it is a faiss index" in caplog.text and "run code" not in caplog.text


def test_info_reports_a_broken_file_among_others(voices, tmp_path, capsys, caplog):
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    with pytest.raises(SystemExit) as stopped:
        main(["info", str(voices[0]), str(tmp_path / "broken.pth"), str(voices[1]), "--json"])
    assert stopped.value.code == 1
    first, broken, second = json.loads(capsys.readouterr().out)
    assert (first["name"], first["speakers"], second["name"]) == ("anna", 3, "bob")
    assert first["entries"]["author"] == "\x1b[2Jme"
    assert "broken.pth' cannot be read as a voice" in broken["error"]
    assert "1 of 3 files cannot be used" in caplog.text


def test_blend_and_convert_format_commands(voices, tmp_path, caplog):
    caplog.set_level("INFO")
    first, second = map(str, voices)
    main(["blend", first, second, "--ratio", "0.3", "--output", str(tmp_path / "c.pth"), "--name", "both"])
    assert Voice.load(tmp_path / "c.pth").information["model_name"] == "both"
    main(["convert-format", first, str(tmp_path / "d.pth"), "--to", "webui"])
    assert read_entries(tmp_path / "d.pth")["sr"] == "8k"
    assert f"voice: {tmp_path / 'd.pth'}" in caplog.text
    with pytest.raises(SystemExit) as stopped:
        main(["blend", first, second, "--ratio", "3", "--output", str(tmp_path / "e.pth")])
    assert stopped.value.code == 1
    assert "ratio=3.0 is not between 0 (only the second) and 1" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND; see python -m rvc_lightning.voice --help"),
        (["inof", "a.pth"], "argument COMMAND: invalid choice: 'inof' (choose from "),
        (["info"], "the following arguments are required: FILE; see python -m rvc_lightning.voice info --help"),
        (["info", "a.pth", "--js\x1b"], "unrecognized arguments: --js\\x1b; see "),
        (["convert-format", "a", "b", "--to", "x"], "argument --to: invalid choice: 'x' (choose from "),
    ],
)
def test_usage_errors_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 1 and error.startswith(f"Error: {message}") and error.count("\n") == 1


@pytest.mark.slow
def test_help_does_not_import_torch():
    script = (
        "import sys\nfrom rvc_lightning.voice.__main__ import main\ntry:\n    main(['info', '--help'])\n"
        "except SystemExit as stop:\n    assert stop.code == 0\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: python -m rvc_lightning.voice info" in done.stdout


def test_misspelled_option_is_rejected(voices, capsys):
    with pytest.raises(SystemExit):
        main(["edit", str(voices[0]), "--nam", "x"])
    assert "--nam" in capsys.readouterr().err
