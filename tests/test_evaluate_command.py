"""The command `python -m rvc_lightning.evaluate`."""

import json
import subprocess
import sys

import golden_rule
import pytest
import soundfile
from commanding import run_command
from disks import mounted_tmpfs
from stubs import make_voice, quick_config

from rvc_lightning import Voice
from rvc_lightning.voice.rvc_format import PROJECT_ENTRY

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_voice(quick_config(), model_name="anna").save(tmp_path / "anna.pth")
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", golden_rule.stub_audio("command", 0.6), 16000)
    return tmp_path


def run(*overrides):
    return run_command("evaluate", *overrides)


def test_report_is_the_only_output(folder):
    settings = "voice=anna.pth", "audio=in", "metrics=[]", "trainer.accelerator=cpu", "options.protect=0.25"
    (folder / "evaluations" / "anna").mkdir(parents=True)
    (folder / "evaluations" / "anna" / "evaluation.html").write_text("the report of yesterday")
    command = [sys.executable, "-m", "rvc_lightning.evaluate", *settings, "task=resynthesis"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert written == ["anna.pth", "evaluations/anna/evaluation.html", "evaluations/anna/evaluation.json", "in/a.wav"]
    content = json.loads((folder / "evaluations" / "anna" / "evaluation.json").read_text(encoding="utf-8"))
    assert content["clips"][0]["name"] == "a.wav" and content["mean"]["mel_distance_db"] > 0
    assert content["settings"]["options"]["protect"] == 0.25
    assert content["voice"]["name"] == "anna" and len(content["voice"]["digest"]) == 32
    loading, *lines = done.stderr.splitlines()
    assert loading == "Loading PyTorch"
    assert lines[0] == "Replacing the report in 'evaluations/anna'; output=FOLDER keeps both"
    assert lines[1].startswith("Index: none") and lines[2].split()[:2] == ["mel", "dB"]
    page = (folder / lines[-1].split(": ")[1]).read_text(encoding="utf-8")
    assert lines[3].split()[0] == "a.wav" and "yesterday" not in page
    assert lines[-1] == "Report: evaluations/anna/evaluation.html"


def test_scores_are_printed_when_the_disk_is_full(folder):
    with mounted_tmpfs(folder / "out", "size=4k"):
        done = run("voice=anna.pth", "audio=in", "metrics=[]", "trainer.accelerator=cpu", "output=out")
        assert list((folder / "out").iterdir()) == []
    assert done.status == 1
    lines = done.errors.splitlines()
    assert lines[-1].startswith("Error: no space left for 'out/evaluation.json'") and "kept" not in lines[-1]
    assert [line for line in lines if line.startswith("a.wav")]


def test_pitch_extractor_of_the_voice_can_be_replaced(folder):
    settings = "voice=anna.pth", "audio=in", "metrics=[]", "trainer.accelerator=cpu", "task=resynthesis"
    voice = Voice.load(folder / "anna.pth")
    voice.information[PROJECT_ENTRY] = {"pitch": {"name": "magic"}}
    voice.save(folder / "anna.pth")
    done = run(*settings)
    assert done.status == 1 and "pitch=swift_f0 on the command line" in done.errors
    done = run(*settings, "pitch=pyin")
    assert done.status == 0, done.errors


def test_errors_are_one_line_and_exit_status_1(folder):
    done = run("voice=anna.pth", "audio=out", "trainer.accelerator=cpu")
    assert (done.status, done.output) == (1, "")
    assert done.errors.splitlines() == ["Error: audio: no such file or folder 'out'"]
