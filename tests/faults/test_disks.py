"""A full or read-only disk is one error, keeps the old files, and leaves no partial ones."""

import os
import signal
from contextlib import ExitStack

import faiss
import numpy as np
import pytest
import soundfile
import torch
from configurations import compose_config
from conversion_ranks import make_converter
from disks import limited_file_size, mounted_tmpfs, read_only
from folders import OPTIONS, Doubler, recording
from lightning import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from preparation import run, speech_with_pauses, write
from tiny import tiny_data, tiny_module, tiny_trainer, write_tiny_dataset

from rvc_lightning.audio.encode import WRITE_SUBTYPES, write_audio
from rvc_lightning.cli.command import errors_as_exit_status
from rvc_lightning.conversion.folder import convert_files
from rvc_lightning.conversion.journal import JOURNAL_NAME
from rvc_lightning.errors import NotWritableError, OutOfSpaceError
from rvc_lightning.io.files import atomic_path, write_json, write_npy
from rvc_lightning.live.recorder import Recorder
from rvc_lightning.retrieval.index import save_index
from rvc_lightning.training import run as workflow
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint
from rvc_lightning.training.checkpoints import CHECKPOINT_KEY, AtomicCheckpointIO
from rvc_lightning.training.dataset import prepare_dataset

ROOM = 20 << 10
NOISE = np.random.default_rng(0).normal(0, 0.1, 300_000).astype(np.float32)


def torch_file(path):
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save({"a": torch.from_numpy(NOISE)}, stream)


def index_file(path):
    index = faiss.IndexFlatL2(8)
    index.add(NOISE.reshape(-1, 8))
    save_index(index, path)


WRITERS = {f"a{extension}": lambda path: write_audio(path, NOISE, 24000) for extension in WRITE_SUBTYPES} | {
    "a.npy": lambda path: write_npy(path, NOISE),
    "a.json": lambda path: write_json(path, {"values": NOISE.tolist()}),
    "a.pth": torch_file,
    "a.ckpt": lambda path: AtomicCheckpointIO().save_checkpoint({"a": torch.from_numpy(NOISE)}, path),
    "a.index": index_file,
}


def check_full(path, write):
    path.write_text("old")
    with pytest.raises(OutOfSpaceError, match=f"no space left for .*{path.name}'"):
        write(path)
    assert path.read_text(encoding="utf-8") == "old" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", WRITERS)
def test_full_disk(tmp_path, name):
    with mounted_tmpfs(tmp_path / "disk", f"size={ROOM}") as folder:
        check_full(folder / name, WRITERS[name])


@pytest.mark.parametrize("name", WRITERS)
def test_limited_file_size(tmp_path, name):
    (tmp_path / "disk").mkdir()
    with limited_file_size(ROOM):
        check_full(tmp_path / "disk" / name, WRITERS[name])


@pytest.mark.parametrize("extension", [".wav", ".flac", ".mp3", ".ogg"])
@pytest.mark.parametrize("missing", [1, 700])
def test_missing_space_for_the_end_of_a_recording_is_an_error(tmp_path, extension, missing):
    """libsndfile reports no error if its last write fails."""
    path = tmp_path / f"a{extension}"
    write_audio(path, NOISE[:20_000], 24000)
    size = path.stat().st_size
    path.unlink()
    with limited_file_size(size - missing), pytest.raises(OutOfSpaceError):
        write_audio(path, NOISE[:20_000], 24000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_preparation_resumes_after_a_full_disk(tmp_path):
    """A slice that cannot be written does not make its recording a skipped file."""
    for seed in range(3):
        write(tmp_path / f"in/{seed}.wav", speech_with_pauses(6.0, seed))
    run(tmp_path / "in", tmp_path / "whole")
    with limited_file_size(100_000), pytest.raises(OutOfSpaceError) as raised:
        run(tmp_path / "in", tmp_path / "full", num_workers=1)
    # Torch puts the traceback of the worker process before the message.
    assert str(raised.value).startswith("no space left for") and "\n" not in str(raised.value)
    assert not (tmp_path / "full/manifest.jsonl").exists()
    run(tmp_path / "in", tmp_path / "full")
    for name in ("manifest.jsonl", "dataset.json"):
        assert (tmp_path / "full" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_training_on_a_full_disk_keeps_its_checkpoints(tmp_path):
    write_tiny_dataset(tmp_path)
    last_checkpoint = LastCheckpoint(str(tmp_path / "kept"), every_n_steps=1)

    class Fill(Callback):
        def on_train_batch_start(self, trainer, pl_module, *args):
            if pl_module.optimizer_steps == 2:
                fill.enter_context(limited_file_size(1 << 12))

    trainer = tiny_trainer(
        callbacks=[Fill(), last_checkpoint], plugins=[AtomicCheckpointIO()], enable_checkpointing=True
    )
    with ExitStack() as fill, pytest.raises(OutOfSpaceError, match=r"next\.ckpt"):
        trainer.fit(tiny_module(), tiny_data(tmp_path))
    assert torch.load(last_checkpoint.path, weights_only=True)[CHECKPOINT_KEY]["optimizer_steps"] == 2
    assert {path.name for path in last_checkpoint.folder.iterdir()} == {"last.ckpt", "previous.ckpt"}


def test_conversion_resumes_after_a_full_disk(tmp_path):
    for name, seconds in (("a", 0.1), ("b", 3.0), ("c", 0.1)):
        recording(tmp_path / f"in/{name}.wav", seconds)

    def convert():
        return convert_files(make_converter(), tmp_path / "in", tmp_path / "out", OPTIONS)

    with limited_file_size(30_000), pytest.raises(OutOfSpaceError, match=r"no space left for '.*b.wav'"):
        convert()
    assert {path.name for path in tmp_path.rglob("out/*")} <= {"a.wav", "c.wav", JOURNAL_NAME}
    report = convert()
    assert tmp_path / "out/b.wav" in report.converted and len(report.converted) + len(report.kept) == 3
    assert soundfile.info(tmp_path / "out/b.wav").duration == pytest.approx(3.0)


def error_line(function, caplog):
    """Return the line that a failing command prints."""
    with pytest.raises(SystemExit) as end:
        errors_as_exit_status()(function)()
    assert end.value.code == 1
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    return line


def test_full_disk_for_other_files_is_one_line(tmp_path, caplog):
    """Logs and scratch files are not written by `atomic_path`."""

    def write_log():
        with (tmp_path / "log").open("wb") as stream:
            stream.write(bytes(ROOM))

    with limited_file_size(ROOM // 2):
        assert error_line(write_log, caplog).startswith("Error: no space left on the disk")


@pytest.mark.parametrize("missing", [1, 700, 20_000])
def test_live_recording_on_a_full_disk_is_an_error(tmp_path, missing):
    """libsndfile reports no error if its last write fails, and the blocks after an error are not kept in memory."""
    path = tmp_path / "a.flac"
    write_audio(path, NOISE[:24_000], 24000)
    size = path.stat().st_size
    path.unlink()
    with limited_file_size(size - missing):
        recorder = Recorder(str(path), 24000)
        for start in range(0, 24_000, 480):
            recorder.push(NOISE[start : start + 480])
        recorder.close()
    assert recorder.error.startswith(f"no space left for '{path}'") and list(tmp_path.iterdir()) == []
    waiting = recorder._blocks.qsize()
    recorder.push(NOISE)
    assert recorder._blocks.qsize() == waiting


@pytest.fixture
def restored_signals():
    """Restore the handlers that Lightning leaves when its logger fails again at the end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_training_on_a_disk_without_room_for_its_curves_keeps_its_checkpoints(tmp_path, caplog, restored_signals):
    """TensorBoard writes in a thread, which ends at the first error."""
    write_tiny_dataset(tmp_path)
    last_checkpoint = LastCheckpoint(str(tmp_path / "kept"), every_n_steps=1)

    class Fill(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                fill.enter_context(limited_file_size(1 << 10))
                for number in range(30):
                    trainer.logger.experiment.add_text("note", "x" * 1000, number)

    trainer = tiny_trainer(
        callbacks=[last_checkpoint, Fill()],
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=True,
        max_epochs=3,
        logger=TensorBoardLogger(tmp_path / "curves"),
    )
    with ExitStack() as fill:
        line = error_line(lambda: trainer.fit(tiny_module(), tiny_data(tmp_path)), caplog)
    assert line.startswith("Error: no space left on the disk")
    assert torch.load(last_checkpoint.path, weights_only=True)["epoch"] == 1
    assert {path.name for path in last_checkpoint.folder.iterdir()} == {"last.ckpt", "previous.ckpt"}


@pytest.mark.slow
def test_read_only_folder(tmp_path, caplog):
    folder = tmp_path / "folder"
    write_audio(folder / "in/a.wav", NOISE[:9000], 16000)
    data = compose_config(f"audio={folder}/in", f"paths.root={folder}", "trainer.accelerator=cpu", command="prepare")
    with read_only(folder):
        for name, write_one in WRITERS.items():
            with pytest.raises(NotWritableError, match=f"new(/{name})?' cannot be written: "):
                write_one(folder / "new" / name)
        line = error_line(lambda: prepare_dataset(data), caplog)
        assert "cannot be written: Read-only file system" in line or "Permission denied" in line
        for name in ("out", "out.wav"):
            with pytest.raises(NotWritableError, match=f"^'{folder / name}' cannot be written: [^']*$"):
                convert_files(Doubler(), folder / "in" / ("a.wav" if "." in name else ""), folder / name, OPTIONS)
        overrides = (f"audio={folder}/in", f"paths.root={tmp_path}", f"paths.voices={folder}/voices")
        with pytest.raises(NotWritableError, match=r"voices.*cannot be written"):
            workflow.train(compose_config(*overrides, run=str(tmp_path / "run")))
        with pytest.raises(NotWritableError, match=r"run.*cannot be written"):
            workflow.train(compose_config(f"audio={folder}/in", f"paths.root={folder}", run=str(folder / "run")))
    assert sorted(os.listdir(folder)) == ["in"] and sorted(os.listdir(tmp_path)) == ["folder"]


def test_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(NotWritableError, match=r"a.json' cannot be written: '.*out' is a file, not a folder; choose"):
        write_json(tmp_path / "out" / "a.json", {})
