"""Commands that are killed at random moments and started again, and what holds after every kill.

whole    a folder in which the command ran undisturbed
killed   one in which it was killed, started again, killed, ..., until it came to its end; then the next such one
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
from configurations import composed
from states import assert_same

from rvc_lightning import Voice, convert, prepare, train
from rvc_lightning.conversion.journal import JOURNAL_NAME, Journal
from rvc_lightning.errors import VoiceError
from rvc_lightning.io.files import TEMPORARY_PREFIX
from rvc_lightning.training.checkpoints import CHECKPOINT_KEY, open_checkpoint, read_checkpoint
from rvc_lightning.training.module import RVCModule

FORK = multiprocessing.get_context("fork")
SIZES = {"initial_channels": 16, "hidden_channels": 8, "latent_channels": 4, "filter_channels": 8, "n_layers": 1}
NAME = "demo"


@dataclass
class Tally:
    """What the kills of a command came to."""

    kills: int = 0
    ends: int = 0
    redone: list[int] = field(default_factory=list)
    """Pieces of work that were done again after each kill."""
    seconds: list[float] = field(default_factory=list)
    """From the start of the command to each kill."""


def content_of(path):
    # Float files of libsndfile have the time in them.
    return soundfile.read(path, dtype="float32")[0].tobytes() if path.suffix == ".wav" else path.read_bytes()


def bytes_of(folder, pattern):
    """Files below a folder by their names, with their content; what is unfinished has a dot and is left out."""
    found = (path for path in folder.rglob(pattern) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): content_of(path) for path in found}


def stamps(folder, pattern):
    """What tells a file from another one of its name."""
    found = [path for path in folder.rglob(pattern) if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def same_bytes(some, whole):
    """Whether the files there are are those of the undisturbed run."""
    return {name for name, content in some.items() if whole.get(name) != content} == set()


class Prepare:
    """`prepare`: pieces are slices of a recording, and single features."""

    def __init__(self, recordings, num_workers):
        self.recordings, self.num_workers = recordings, num_workers

    def run(self, folder):
        words = (f"audio={self.recordings}", f"name={NAME}", f"paths.root={folder}", "sample_rate=24k_light")
        more = ("trainer.accelerator=cpu", f"prepare_workers={self.num_workers}", "preparation.batch_slices=2")
        prepare.main.__wrapped__(composed(*words, *more, command="prepare"))

    def remember(self, whole):
        self.whole = bytes_of(whole, "*")

    def look(self, folder):
        """Finished pieces: features, slices of recordings that have their done-mark."""
        assert same_bytes(bytes_of(folder, "*.npy") | bytes_of(folder, "*.wav"), self.whole)
        marks = {path.parent for path in folder.rglob("recording.json")}
        found = stamps(folder, "*.npy") | stamps(folder, "*.wav")
        return {name: at for name, at in found.items() if name.endswith(".npy") or (folder / name).parent in marks}

    def redone(self, before, after):
        return sum(after.get(name) != at for name, at in before.items())

    allowed = 0

    def check_end(self, folder):
        end = bytes_of(folder, "*")
        # Times and figures of the report are those of the last run.
        differ = {name for name in self.whole.keys() | end.keys() if self.whole.get(name) != end.get(name)}
        assert all(name.rsplit("/", 1)[-1].startswith(("report.", "fingerprints.")) for name in differ), differ


class Train:
    """`train`: pieces are steps of the optimizer, of which each is saved."""

    def __init__(self, recordings, epochs, batch_size):
        self.recordings, self.epochs, self.batch_size = recordings, epochs, batch_size
        self.steps_begun = FORK.Value("i", 0)

    def run(self, folder):
        on_train_batch_start = RVCModule.on_train_batch_start

        def begin(module, *args):
            self.steps_begun.value = module.optimizer_steps
            on_train_batch_start(module, *args)

        RVCModule.on_train_batch_start = begin
        checkpoints = folder / "run" / "checkpoints"
        more = [f"checkpoint={folder}/run"] if checkpoints.is_dir() and any(checkpoints.glob("[!.]*.ckpt")) else []
        train.main.__wrapped__(composed(*self.words(folder), *more, run=str(folder / "run")))

    def words(self, folder):
        sizes = (f"model.synthesizer.{name}={value}" for name, value in SIZES.items())
        run = ("trainer.accelerator=cpu", f"trainer.max_epochs={self.epochs}", "trainer.max_time=null", "logger=none")
        when = ("trainer.val_check_interval=2", "trainer.check_val_every_n_epoch=1", "callbacks.last.every_n_steps=1")
        data = ("data.num_workers=1", "data.held_out=0.2", "prepare_workers=0", "pretrained=none", "showcase=null")
        data = (*data, f"data.batch_size={self.batch_size}")
        start = ("+experiment=quickstart", f"audio={self.recordings}", f"name={NAME}", f"paths.root={folder}")
        return (*start, *sizes, *run, *when, *data)

    def remember(self, whole):
        self.whole = self.end_of(whole)

    def look(self, folder):
        """The steps that are saved; every checkpoint is whole."""
        checkpoints = folder / "run" / "checkpoints"
        for path in checkpoints.glob("[!.]*.ckpt"):
            read_checkpoint(path)
        steps = 0
        with suppress(VoiceError):
            steps = open_checkpoint(checkpoints)[1][CHECKPOINT_KEY]["optimizer_steps"] if checkpoints.is_dir() else 0
        for path in folder.rglob(f"voices/{NAME}/[!.]*.pth"):
            Voice.load(path)
        assert steps >= self.steps_begun.value, "a step that was saved is lost"
        return steps

    def redone(self, before, after):
        # Checked in `look`: a step that another one had followed was saved.
        return max(before - after, 0)

    allowed = 0

    def end_of(self, folder):
        content = read_checkpoint(folder / "run" / "checkpoints" / "last.ckpt")
        voice = Voice.load(folder / "voices" / NAME / f"{NAME}.pth")
        kept = {key: content[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", CHECKPOINT_KEY)}
        index = bytes_of(folder / "voices", "*.index")
        # Where the dataset lies differs between two folders.
        kept[CHECKPOINT_KEY] = {key: value for key, value in kept[CHECKPOINT_KEY].items() if key != "voice"}
        return kept | {"voice": dict(voice.weights), "index": index}

    def check_end(self, folder):
        assert_same(self.end_of(folder), self.whole)
        self.steps_begun.value = 0


class Convert:
    """`convert` of a folder: pieces are recordings."""

    def __init__(self, recordings, voice, num_workers):
        self.recordings, self.voice, self.num_workers = recordings, voice, num_workers

    def run(self, folder):
        words = (f"voice={self.voice}", f"input={self.recordings}", f"output={folder}/out", "index_rate=0")
        more = ("trainer.accelerator=cpu", f"num_workers={self.num_workers}", "batch_seconds=8")
        convert.main.__wrapped__(composed(*words, *more, command="convert"))

    def remember(self, whole):
        self.whole = bytes_of(whole, "*.wav")

    def look(self, folder):
        """Results that the journal tells of."""
        assert same_bytes(bytes_of(folder, "*.wav"), self.whole)
        noted = {Path(entry.target).name for entry in Journal(folder / "out" / JOURNAL_NAME).entries()}
        return {name: at for name, at in stamps(folder, "*.wav").items() if Path(name).name in noted}

    def redone(self, before, after):
        return sum(after.get(name) != at for name, at in before.items())

    allowed = 0

    def check_end(self, folder):
        assert bytes_of(folder, "*.wav") == self.whole
        assert {path.name for path in (folder / "out").iterdir() if path.name.startswith(".")} == {JOURNAL_NAME}


def children_of(process):
    """Loading processes that a command has started, as far as the system tells."""
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    return []


def lives(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def check_end_of(orphans):
    """None outlives its killed parent for long, even if nobody reads any more what it has to tell."""
    deadline = time.monotonic() + 60
    while any(map(lives, orphans)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(lives, orphans))


def start(command, folder):
    """The command in a process of its own, which has all modules already."""
    process = FORK.Process(target=command.run, args=(folder,))
    process.start()
    return process


def kill_at_random(command, folder, kills, seed):
    """Kills a command so often, each time within what it takes undisturbed, and starts it again; gives a Tally."""
    draws, tally, orphans = random.Random(seed), Tally(), []
    began = time.monotonic()
    process = start(command, folder / "whole")
    process.join()
    assert process.exitcode == 0
    takes = time.monotonic() - began
    command.remember(folder / "whole")
    while tally.kills < kills:
        killed, before = folder / f"killed-{tally.ends}", None
        killed.mkdir()
        while True:
            process, moment = start(command, killed), draws.uniform(0, takes)
            process.join(moment if tally.kills < kills else None)
            if process.exitcode is None:
                orphans += children_of(process)
                os.kill(process.pid, signal.SIGKILL)
                process.join()
            # It may have come to its end just before the kill.
            ended = process.exitcode == 0
            assert ended or process.exitcode == -signal.SIGKILL
            if not ended:
                tally.kills += 1
                tally.seconds.append(moment)
            after = command.look(killed)
            if before is not None:
                tally.redone.append(command.redone(before, after))
                assert tally.redone[-1] <= command.allowed
            before = after
            if ended:
                break
        command.check_end(killed)
        assert [path for path in killed.rglob(f"{TEMPORARY_PREFIX}*")] == []
        tally.ends += 1
        shutil.rmtree(killed)
    check_end_of(orphans)
    return tally
