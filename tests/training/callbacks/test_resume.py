"""A killed and resumed run ends bit by bit like an uninterrupted one."""

import multiprocessing
import os
import signal
import time

import pytest
import torch
from lightning import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import MixedPrecision
from runs import METADATA, small_data, small_trainer
from states import assert_same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.training import checkpoints
from rvc_lightning.training.callbacks.best_checkpoint import BestCheckpoint
from rvc_lightning.training.callbacks.ema import AveragedWeights
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint
from rvc_lightning.training.callbacks.overtraining import Overtraining
from rvc_lightning.training.checkpoints import (
    AVERAGED_KEY,
    CHECKPOINT_KEY,
    AtomicCheckpointIO,
    open_checkpoint,
    read_checkpoint,
)

pytestmark = pytest.mark.slow


def find_checkpoint(path):
    return open_checkpoint(path)[0]


CLOCK = {"val_check_interval": "00:00:00:00", "check_val_every_n_epoch": None}
"""Validation by the clock, here after every step."""


class Killed(BaseException):
    """Ends a run like a kill: nothing handles it."""


class KillAt(Callback):
    """Ends the run in a hook after a number of steps."""

    def __init__(self, hook, steps):
        def kill(trainer, pl_module, *args):
            if pl_module.optimizer_steps == steps and not trainer.sanity_checking:
                raise Killed

        setattr(self, hook, kill)


def classic():
    return Overtraining(rule="classic", monitor="val/mel", smoothing=0.9, patience=50, min_delta=0.0, action="warn")


def held_out():
    return Overtraining(rule="held_out", monitor="val/mel", smoothing=0.5, patience=50, min_delta=0.0, action="warn")


def run(make_module, dataset, folder, *more, num_workers=0, **changes):
    """Train eight steps of two batches in two epochs, validated every second step; resume from `folder`."""
    folder.mkdir(exist_ok=True)
    last = LastCheckpoint(str(folder), every_n_steps=1)
    best = BestCheckpoint(str(folder), filename="best", monitor="val/mel", enable_version_counter=False)
    callbacks = [AveragedWeights(decay=0.9), classic(), held_out(), best, last, *more]
    settings = {"max_epochs": 2, "val_check_interval": 2} | changes
    # Half precision with loss scaling, whose state is saved as well; some steps are skipped.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=3)
    plugins = [AtomicCheckpointIO(), MixedPrecision("16-mixed", "cpu", scaler)]
    trainer = small_trainer(callbacks=callbacks, plugins=plugins, **settings)
    module = make_module()
    data = small_data(dataset, batch_size=1, accumulate_grad_batches=2, num_workers=num_workers)
    found = find_checkpoint(folder) if any(folder.glob("*.ckpt")) else None
    trainer.fit(module, data, ckpt_path=found, weights_only=True)
    assert module.optimizer_steps == 8
    return module


def end_state(folder):
    """Return the last checkpoint without paths and a counter that each epoch resets."""
    content = read_checkpoint(folder / "last.ckpt")
    del content["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    for key, state in content["callbacks"].items():
        if "BestCheckpoint" in key:
            content["callbacks"][key] = {"score": state["best_model_score"]}
    return content


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return the final states of uninterrupted runs by their settings, each trained once."""
    ends = {}

    def end(make_module, dataset, **changes):
        key = str(changes)
        if key not in ends:
            folder = tmp_path_factory.mktemp("whole")
            run(make_module, dataset, folder, **changes)
            ends[key] = end_state(folder)
        return ends[key]

    return end


@pytest.mark.parametrize(
    ("hook", "steps", "changes"),
    [
        ("on_train_batch_start", 3, {"num_workers": 2}),  # saved after a step
        ("on_train_batch_start", 6, {}),  # saved after a validation within an epoch
        ("on_train_batch_end", 5, {}),  # saved after an epoch, killed a step later
        ("on_validation_batch_end", 6, {}),  # within a validation
        ("on_train_epoch_end", 4, {}),  # the epoch has ended, but is not saved
        ("on_train_end", 8, {}),  # everything is done and saved
        ("on_train_batch_start", 6, {"check_val_every_n_epoch": 2, "val_check_interval": None}),
        ("on_train_batch_start", 3, {"check_val_every_n_epoch": 2, "val_check_interval": 1}),
    ],
)
def test_killed_run_ends_like_an_uninterrupted_one(make_module, dataset, tmp_path, uninterrupted, hook, steps, changes):
    whole = uninterrupted(make_module, dataset, **{k: v for k, v in changes.items() if k != "num_workers"})
    with pytest.raises(Killed):
        run(make_module, dataset, tmp_path, KillAt(hook, steps), **changes)
    run(make_module, dataset, tmp_path, **changes)
    assert_same(end_state(tmp_path), whole)
    assert AVERAGED_KEY in whole and len(whole["callbacks"]) == 3
    start = make_module().state_dict()
    for network in ("synthesizer", "discriminator"):
        assert any(not torch.equal(whole["state_dict"][name], start[name]) for name in start if network in name)


class KeepAll(LastCheckpoint):
    """Keeps a state of every validation, as a best checkpoint would."""

    def __init__(self, folder):
        super().__init__(str(folder), every_n_steps=1)
        self.count = 0

    def on_validation_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.folder / f"validation_{pl_module.optimizer_steps:02d}.ckpt")
        super().on_validation_end(trainer, pl_module)


@pytest.mark.parametrize(
    ("changes", "n_saved"),
    [({"val_check_interval": 2}, 4), (CLOCK, 8), (CLOCK | {"limit_train_batches": 2}, 4)],
    ids=["steps", "clock", "clock, limited"],
)
def test_states_saved_during_a_validation_resume_exactly(make_module, dataset, tmp_path, changes, n_saved):
    """Such as `best.ckpt`; validation by the clock is not repeated after a resume."""

    def train(ckpt_path=None, callbacks=(), **settings):
        module, data = make_module(), small_data(dataset, batch_size=1, accumulate_grad_batches=2)
        trainer = small_trainer(max_epochs=2, callbacks=list(callbacks), **settings)
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
        return module, trainer.fit_loop.epoch_loop._batches_that_stepped

    whole, logged_steps = train(callbacks=[KeepAll(tmp_path)], **changes)
    saved = sorted(tmp_path.glob("validation_*.ckpt"))
    assert len(saved) == n_saved
    later = changes | ({"val_check_interval": "01:00:00:00"} if changes.keys() >= CLOCK.keys() else {})
    # One within an epoch, one at its end.
    for path in (saved[0], saved[len(saved) // 2 - 1]):
        module, steps = train(ckpt_path=path, **later)
        assert_same(dict(module.state_dict()), dict(whole.state_dict()), path.name)
        assert (module.optimizer_steps, steps) == (whole.optimizer_steps, logged_steps)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_run_killed_by_sigkill_ends_like_an_uninterrupted_one(make_module, dataset, tmp_path, uninterrupted):
    context = multiprocessing.get_context("fork")
    steps_done = context.Value("i", 0)

    class ReportSteps(Callback):
        def on_train_batch_start(self, trainer, pl_module, *args):
            steps_done.value = pl_module.optimizer_steps

    child = context.Process(target=run, args=(make_module, dataset, tmp_path, ReportSteps()), kwargs={"num_workers": 2})
    child.start()
    deadline = time.monotonic() + 60
    while steps_done.value < 5 and child.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL and 5 <= steps_done.value < 8
    run(make_module, dataset, tmp_path, num_workers=2)
    assert_same(end_state(tmp_path), uninterrupted(make_module, dataset))


def test_truncated_newest_checkpoint_is_reported_and_the_previous_one_used(
    make_module, dataset, tmp_path, uninterrupted, caplog
):
    with pytest.raises(Killed):
        run(make_module, dataset, tmp_path, KillAt("on_train_batch_start", 6))
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    assert [read_checkpoint(path)[CHECKPOINT_KEY]["optimizer_steps"] for path in (last, previous)] == [6, 5]
    os.truncate(last, last.stat().st_size // 2)
    with pytest.raises(Killed):
        run(make_module, dataset, tmp_path, KillAt("on_train_batch_end", 6))
    assert "last.ckpt' cannot be read" in caplog.text and "using the previous one" in caplog.text
    # The unreadable checkpoint does not replace the readable one.
    assert read_checkpoint(last)[CHECKPOINT_KEY]["optimizer_steps"] == 5
    run(make_module, dataset, tmp_path)
    assert_same(end_state(tmp_path), uninterrupted(make_module, dataset))


def test_training_stopped_by_the_clock_resumes_within_the_epoch(make_module, dataset, tmp_path, uninterrupted):
    class StopAt(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            trainer.should_stop = trainer.should_stop or pl_module.optimizer_steps == 6

    with pytest.raises(AssertionError):  # six steps instead of eight
        run(make_module, dataset, tmp_path, StopAt())
    run(make_module, dataset, tmp_path)
    # The stop validates once more, after a step that is validated anyway.
    assert_same(end_state(tmp_path), uninterrupted(make_module, dataset))


def test_kill_while_saving_leaves_no_partial_checkpoint(make_module, dataset, tmp_path, monkeypatch):
    save = torch.save

    def half(content, path):
        if read_steps(content) == 4:
            save(content, path)
            path.flush()
            os.truncate(path.fileno(), 1000)
            monkeypatch.setattr(os, "unlink", lambda *args, **kwargs: None)  # a killed process removes nothing
            raise Killed
        save(content, path)

    monkeypatch.setattr(checkpoints.torch, "save", half)
    with pytest.raises(Killed):
        run(make_module, dataset, tmp_path)
    monkeypatch.undo()
    left = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert len(left) == 1 and left[0].stat().st_size == 1000
    assert read_steps(read_checkpoint(find_checkpoint(tmp_path))) == 3
    run(make_module, dataset, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "previous.ckpt", "best.ckpt"}


def read_steps(content):
    return content[CHECKPOINT_KEY]["optimizer_steps"]


def test_curves_of_a_resumed_run_have_neither_gap_nor_overlap(make_module, dataset, tmp_path):
    def curves(folder):
        events = EventAccumulator(str(folder)).Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    def logged(name, step=None):
        kwargs = {} if step is None else {"purge_step": step}
        return {"logger": TensorBoardLogger(tmp_path / name, "", "", **kwargs), "log_every_n_steps": 1}

    run(make_module, dataset, tmp_path / "whole", **logged("whole_log"))
    folder = tmp_path / "cut"
    # The last saved state is that of step 5; the log of the killed run extends further.
    with pytest.raises(Killed):
        run(make_module, dataset, folder, KillAt("on_validation_epoch_end", 6), **logged("cut_log"))
    steps = read_steps(read_checkpoint(find_checkpoint(folder)))
    assert steps == 5
    run(make_module, dataset, folder, **logged("cut_log", steps))
    whole, cut = curves(tmp_path / "whole_log"), curves(tmp_path / "cut_log")
    assert cut == whole
    assert [step for step, _ in whole["loss/mel"]] == list(range(8))
    assert [step for step, _ in whole["val/mel"]] == [1, 3, 5, 7]


def test_best_checkpoint_is_copied_to_another_folder(make_module, dataset, tmp_path, caplog):
    old, new, third = tmp_path / "old", tmp_path / "new", tmp_path / "third"
    with pytest.raises(Killed):
        run(make_module, dataset, old, KillAt("on_train_batch_start", 3))

    def resume(source, folder):
        best = BestCheckpoint(str(folder), filename="best", monitor="val/mel", enable_version_counter=False)
        best.check_monitor_top_k = lambda *args: False  # no later state is better
        trainer = small_trainer(callbacks=[best])
        trainer.fit(make_module(), small_data(dataset), ckpt_path=source, weights_only=True)
        return best

    best = resume(old / "last.ckpt", new)
    assert best.best_model_path == str(new.resolve() / "best.ckpt")
    assert (new / "best.ckpt").read_bytes() == (old / "best.ckpt").read_bytes()
    key = best.state_key
    assert best.best_model_score == read_checkpoint(old / "last.ckpt")["callbacks"][key]["best_model_score"]
    # A best checkpoint that is gone, or newer than the resumed state, is not used.
    (old / "best.ckpt").unlink()
    assert resume(old / "last.ckpt", third).best_model_path == ""
    assert "was not found: a new one will be chosen" in caplog.text


def test_newest_checkpoint_of_a_run_folder_is_used(make_module, dataset, tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    entries = {"synthesizer": {}, "discriminator": {}, "voice": METADATA, "optimizer_steps": 0}
    content = {"state_dict": {}, "epoch": 0, "global_step": 0, CHECKPOINT_KEY: entries}
    for name in ("previous.ckpt", "last.ckpt", "best.ckpt", "next.ckpt"):
        torch.save(content, folder / name)
    torch.save({}, folder / ".writing-x.ckpt")
    # A kill between the two renames of a save leaves the newest under this name.
    assert find_checkpoint(folder).name == "next.ckpt"
    (folder / "next.ckpt").unlink()
    assert find_checkpoint(tmp_path / "run") == find_checkpoint(folder) == folder / "last.ckpt"
    assert find_checkpoint(folder / "previous.ckpt") == folder / "previous.ckpt"
    (folder / "last.ckpt").unlink()
    assert find_checkpoint(folder).name == "previous.ckpt"
    (folder / "previous.ckpt").unlink()
    assert find_checkpoint(folder).name == "best.ckpt"
    (folder / "best.ckpt").unlink()
    with pytest.raises(VoiceError, match="no readable checkpoint"):
        find_checkpoint(tmp_path / "run")


def test_saves_in_epochs_that_are_not_validated(make_module, dataset, tmp_path):
    saved = []

    class Recording(LastCheckpoint):
        def _save(self, trainer):
            saved.append(trainer.lightning_module.optimizer_steps)
            super()._save(trainer)

    callbacks = [Recording(str(tmp_path), every_n_steps=1)]
    trainer = small_trainer(callbacks=callbacks, max_epochs=2, check_val_every_n_epoch=2, val_check_interval=1)
    trainer.fit(make_module(), small_data(dataset, batch_size=2))
    # In the second epoch, after the validation that follows each step.
    n_steps = trainer.num_training_batches
    assert n_steps > 1 and saved == list(range(1, 2 * n_steps + 1))


@pytest.mark.parametrize("interval", ["every_n_epochs", "every_n_steps", "every_minutes"])
def test_interval_must_be_positive(tmp_path, interval):
    with pytest.raises(ConfigurationError, match=interval.rsplit("_")[-1]):
        LastCheckpoint(str(tmp_path), **{interval: 0})


def test_saves_by_minutes(make_module, dataset, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rvc_lightning.training.callbacks.last_checkpoint.monotonic", lambda: now[0])
    saved = []

    class Minute(Callback):
        def on_train_batch_start(self, trainer, pl_module, *args):
            now[0] += 60.0

    class Counting(LastCheckpoint):
        def _save(self, trainer):
            saved.append(trainer.lightning_module.optimizer_steps)
            super()._save(trainer)

    data = small_data(dataset, batch_size=1, held_out=0.0)
    small_trainer(callbacks=[Minute(), Counting(str(tmp_path), every_minutes=5)]).fit(make_module(), data)
    assert saved == [5, 10, 12]
