"""Commands that are killed at random moments and restarted, and the checks after every kill.

whole    the folder of an uninterrupted run
killed   the folder of a run that is killed and restarted until it succeeds; then the next one
"""

import multiprocessing
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
from configurations import compose_config
from states import assert_same

from rvc_lightning import Voice, convert, cover, prepare, train
from rvc_lightning.conversion.journal import JOURNAL_NAME, Journal
from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import TEMPORARY_PREFIX
from rvc_lightning.io.scratch import FOLDER_PREFIX
from rvc_lightning.training.checkpoints import CHECKPOINT_KEY, open_checkpoint, read_checkpoint
from rvc_lightning.training.module import RVCModule

FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None
SIZES = {"initial_channels": 16, "hidden_channels": 8, "latent_channels": 4, "filter_channels": 8, "n_layers": 1}
NAME = "demo"
UNFINISHED = (TEMPORARY_PREFIX, FOLDER_PREFIX)
"""Starts of the names of files and folders that only exist during a run."""


@dataclass
class KillStatistics:
    """Counts and times of the kills of a command."""

    kills: int = 0
    runs: int = 0
    """Runs that were killed and restarted until they succeeded."""
    seconds: list[float] = field(default_factory=list)
    """Seconds from each start to its kill."""


def files_in(folder, *patterns):
    """Return the finished files below a folder by their relative paths; unfinished ones start with a dot."""
    found = [path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path for path in found if not path.name.startswith(".")}


def contents_in(folder, *patterns):
    """Return the contents of the finished files; samples of WAV files, since libsndfile adds the time."""
    return {
        name: soundfile.read(path, dtype="float32")[0].tobytes() if path.suffix == ".wav" else path.read_bytes()
        for name, path in files_in(folder, *patterns).items()
    }


class FileCommand:
    """A command whose finished pieces are files.

    A subclass has the `patterns` of these files, `run(folder)`, `is_finished(folder, name)` and `check_end(folder)`.
    """

    def store_reference(self, whole):
        """Store the result of the uninterrupted run."""
        self.whole = contents_in(whole, "*")

    def check_finished(self, folder):
        """Check that no file differs from the uninterrupted run, and return the identities of the finished pieces."""
        assert contents_in(folder, *self.patterns).items() <= self.whole.items()
        status = {name: path.stat() for name, path in files_in(folder, *self.patterns).items()}
        return {name: (s.st_ino, s.st_mtime_ns) for name, s in status.items() if self.is_finished(folder, name)}

    def check_not_redone(self, before, after):
        """Check that a restart has redone no finished piece."""
        assert before.items() <= after.items()


class Prepare(FileCommand):
    """`prepare`: pieces are features, and the slices of a recording once all are written."""

    patterns = ("*.npy", "*.wav")

    def __init__(self, recordings, num_workers):
        self.recordings, self.num_workers = recordings, num_workers

    def run(self, folder):
        dataset = (f"audio={self.recordings}", f"name={NAME}", f"paths.root={folder}", "sample_rate=24k_light")
        work = ("trainer.accelerator=cpu", f"prepare_workers={self.num_workers}", "preparation.batch_slices=2")
        prepare.main.__wrapped__(compose_config(*dataset, *work, command="prepare"))

    def is_finished(self, folder, name):
        return name.endswith(".npy") or (folder / name).with_name("recording.json").is_file()

    def check_end(self, folder):
        end = contents_in(folder, "*")
        differ = {name for name in self.whole.keys() | end.keys() if self.whole.get(name) != end.get(name)}
        # These contain times and speeds of the last run.
        assert all(name.rsplit("/", 1)[-1].startswith(("report.", "fingerprints.")) for name in differ), differ


class Convert(FileCommand):
    """`convert` of a folder: pieces are the recordings in the journal."""

    patterns = ("*.wav",)

    def __init__(self, recordings, voice, num_workers):
        self.recordings, self.voice, self.num_workers = recordings, voice, num_workers

    def run(self, folder):
        files = (f"voice={self.voice}", f"input={self.recordings}", f"output={folder}/out", "index_rate=0")
        work = ("trainer.accelerator=cpu", f"num_workers={self.num_workers}", "batch_seconds=8")
        convert.main.__wrapped__(compose_config(*files, *work, command="convert"))

    def is_finished(self, folder, name):
        entries = Journal(folder / "out" / JOURNAL_NAME).entries()
        return Path(name).name in {Path(entry.target).name for entry in entries}

    def check_end(self, folder):
        assert contents_in(folder, "*") == self.whole
        assert {path.name for path in (folder / "out").iterdir() if path.name.startswith(".")} == {JOURNAL_NAME}


class Cover(FileCommand):
    """`cover` of a song: pieces are its separated parts; the cover and the files beside it are always written."""

    patterns = ("*.wav",)

    def __init__(self, song, voice, models):
        self.song, self.voice, self.models = song, voice, models

    def run(self, folder):
        files = (f"song={self.song}", f"voice={self.voice}", f"output={folder}/out/cover.wav", "keep_stems=true")
        parts = ("separation=lead", f"paths.stems={folder}/stems")
        models = (f"separator.{part}.path={path}" for part, path in self.models.items())
        cover.main.__wrapped__(compose_config(*files, *parts, *models, "trainer.accelerator=cpu", command="cover"))

    def is_finished(self, folder, name):
        return name.startswith("stems/")

    def check_end(self, folder):
        assert contents_in(folder, "*") == self.whole


class Train:
    """`train`: pieces are optimizer steps, each of which is saved."""

    def __init__(self, recordings, epochs, batch_size):
        self.recordings, self.epochs, self.batch_size = recordings, epochs, batch_size
        self.completed_steps = FORK.Value("i", 0)

    def run(self, folder):
        on_train_batch_start = RVCModule.on_train_batch_start

        def count(module, *args):
            # The checkpoints of all earlier steps are written.
            self.completed_steps.value = module.optimizer_steps
            on_train_batch_start(module, *args)

        RVCModule.on_train_batch_start = count
        checkpoints = folder / "run" / "checkpoints"
        can_resume = checkpoints.is_dir() and any(checkpoints.glob("[!.]*.ckpt"))
        resume = [f"checkpoint={folder}/run"] if can_resume else []
        train.main.__wrapped__(compose_config(*self.overrides(folder), *resume, run=str(folder / "run")))

    def overrides(self, folder):
        return (
            "+experiment=quickstart",
            f"audio={self.recordings}",
            f"name={NAME}",
            f"paths.root={folder}",
            *(f"model.synthesizer.{name}={value}" for name, value in SIZES.items()),
            *("trainer.accelerator=cpu", f"trainer.max_epochs={self.epochs}", "trainer.max_time=null", "logger=none"),
            *("trainer.val_check_interval=2", "trainer.check_val_every_n_epoch=1", "callbacks.last.every_n_steps=1"),
            *("data.num_workers=1", "data.held_out=0.2", "prepare_workers=0", "pretrained=none", "showcase=null"),
            f"data.batch_size={self.batch_size}",
        )

    def store_reference(self, whole):
        self.whole = self.result(whole)

    def check_finished(self, folder):
        """Check that every file is complete, and return the number of saved steps."""
        checkpoints = folder / "run" / "checkpoints"
        for path in checkpoints.glob("[!.]*.ckpt"):
            read_checkpoint(path)
        steps = 0
        with suppress(VoiceError):
            steps = open_checkpoint(checkpoints)[1][CHECKPOINT_KEY]["optimizer_steps"] if checkpoints.is_dir() else 0
        for path in folder.rglob(f"voices/{NAME}/[!.]*.pth"):
            Voice.load(path)
        assert steps >= self.completed_steps.value, "a saved step is lost"
        return steps

    def check_not_redone(self, before, after):
        assert before <= after

    def result(self, folder):
        content = read_checkpoint(folder / "run" / "checkpoints" / "last.ckpt")
        voice = Voice.load(folder / "voices" / NAME / f"{NAME}.pth")
        kept = {key: content[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", CHECKPOINT_KEY)}
        # The path of the dataset differs.
        kept[CHECKPOINT_KEY] = {key: value for key, value in kept[CHECKPOINT_KEY].items() if key != "voice"}
        return kept | {"voice": dict(voice.weights), "index": contents_in(folder / "voices", "*.index")}

    def check_end(self, folder):
        assert_same(self.result(folder), self.whole)
        self.completed_steps.value = 0


def children_of(process):
    """Return the process ids of the children of a process, on Linux."""
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    return []


def is_alive(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def check_exit(pids):
    """Check that processes whose parent was killed exit within a minute."""
    deadline = time.monotonic() + 60
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, pids))


def start(command, folder):
    """Run a command in a forked process, which has imported everything."""
    process = FORK.Process(target=command.run, args=(folder,))
    process.start()
    return process


def kill_at_random(command, folder, kills, seed):
    """Kill a command at random moments within its uninterrupted duration, restart it, and return a `KillStatistics`."""
    moments, statistics, orphans = random.Random(seed), KillStatistics(), []
    started = time.monotonic()
    process = start(command, folder / "whole")
    process.join()
    assert process.exitcode == 0
    duration = time.monotonic() - started
    command.store_reference(folder / "whole")
    while statistics.kills < kills:
        killed, before, succeeded = folder / f"killed-{statistics.runs}", None, False
        killed.mkdir()
        while not succeeded:
            process, moment = start(command, killed), moments.uniform(0, duration)
            process.join(moment if statistics.kills < kills else None)
            if process.exitcode is None:
                orphans += children_of(process)
                os.kill(process.pid, signal.SIGKILL)
                process.join()
            # It may have succeeded just before the kill.
            succeeded = process.exitcode == 0
            assert succeeded or process.exitcode == -signal.SIGKILL
            if not succeeded:
                statistics.kills += 1
                statistics.seconds.append(moment)
            after = command.check_finished(killed)
            if before is not None:
                command.check_not_redone(before, after)
            before = after
        command.check_end(killed)
        assert [path for prefix in UNFINISHED for path in killed.rglob(f"{prefix}*")] == []
        statistics.runs += 1
        shutil.rmtree(killed)
    check_exit(orphans)
    return statistics
