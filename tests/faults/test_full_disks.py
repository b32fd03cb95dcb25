"""A disk that is full for one kind of file: one line, no partial file, and the command succeeds once there is space."""

from fnmatch import fnmatch

import pytest
from commanding import run_command, single_error
from disks import full_for
from hostile_recordings import speech_like
from kills import UNFINISHED
from separation import write_model
from stubs import make_voice, quick_config

from rvc_lightning.audio.encode import write_audio
from rvc_lightning.conversion.journal import JOURNAL_NAME

pytestmark = pytest.mark.slow

DATASET = "audio=in name=anna sample_rate=24k_light content=spectral prepare_workers=0"
TRAINING = (
    "pretrained=none model=tiny discriminator=tiny trainer.max_epochs=1 data.num_workers=0 data.held_out=0.3 "
    "trainer.check_val_every_n_epoch=1 callbacks.every.every_n_epochs=1 hydra.run.dir=runs/anna/1"
)
COMMANDS = {
    "prepare": (
        DATASET,
        ["/slices-*/0000.wav", "/recording.json", "/silence.wav", "/pitch-*/0000.npy", "/silence.npy",
         "/content-*/0000.npy", "/report.json", "/dataset.json", "/manifest.jsonl", "/report.png"],
    ),
    "train": (
        f"{DATASET} {TRAINING}",
        ["/config.yaml", "/overrides.yaml", "/next.ckpt", "/best.ckpt", "/epoch=*.ckpt", "/anna.index",
         "/anna.index.json", "/anna.pth"],
    ),
    "convert": (
        "voice=anna.pth input=in output=out index_rate=0 write_f0=true num_workers=0",
        ["/?.f0.csv", "/?.wav", "/.converted.jsonl"],
    ),
    "cover": (
        "voice=anna.pth song=in/a.wav output=out/cover.mp3 keep_stems=true separator.vocals.path=models/vocals.ckpt",
        ["stems/*.vocals.wav", "/cover.mp3", "/cover.song_*.wav", "/cover.lead.wav", "/cover.instrumental.wav"],
    ),
    "evaluate": ("voice=anna.pth audio=in metrics=[] output=out", ["/evaluation.json", "/evaluation.html"]),
}  # fmt: skip
"""Settings of each command, and the files that it writes atomically, in this order."""
OTHERS = ["/.lock", "/fingerprints.jsonl", "/last.ckpt", "/previous.ckpt", "/train.log", "/tensorboard/*"]
"""Empty files, a cache, names of files that were written as others, and files that grow."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_voice(quick_config()).save(tmp_path / "anna.pth")
    for number, name in enumerate("abcd"):
        write_audio(tmp_path / "in" / f"{name}.wav", speech_like(1.2, hertz=120 + 30 * number), 16000)
    return tmp_path


def check_command(folder, command):
    """Run a command on a disk that is full for each kind of file in turn, then on one with space."""
    settings, kinds = COMMANDS[command]
    before, arguments = set(folder.rglob("*")), (*settings.split(), "trainer.accelerator=cpu")
    for kind in kinds:
        earlier = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with full_for(kind) as full:
            error = single_error(run_command(command, *arguments))
        assert len(full) == 1 and f"no space left for '{full[0]}'" in error, kind
        path = folder / full[0]
        # The journal has grown before it is rewritten.
        assert path.name == JOURNAL_NAME or (path.read_bytes() if path.exists() else None) == earlier.get(path)
        assert [path for prefix in UNFINISHED for path in folder.rglob(f"{prefix}*")] == []
    done = run_command(command, *arguments)
    assert done.status == 0, done.text
    written = [path.as_posix() for path in set(folder.rglob("*")) - before if path.is_file()]
    assert [path for path in written if not any(fnmatch(path, f"*{kind}") for kind in (*kinds, *OTHERS))] == []


@pytest.mark.long
@pytest.mark.parametrize("command", ["prepare", "train", "evaluate"])
def test_every_file_of_a_dataset_a_run_and_a_report(folder, command):
    if command == "train":
        assert run_command("prepare", *DATASET.split(), "trainer.accelerator=cpu").status == 0
    check_command(folder, command)


def test_every_file_of_a_conversion(folder):
    check_command(folder, "convert")


def test_every_file_of_a_cover(folder):
    pytest.importorskip("pyloudnorm")
    write_model(folder / "models", "vocals")
    check_command(folder, "cover")
