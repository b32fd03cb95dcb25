"""From recordings to a converted file in the browser, across a killed server."""

import signal
import tempfile
import time
import zipfile
from pathlib import Path

import pytest

from rvc_lightning.cli.resolvers import DEMO_FOLDER

pytest.importorskip("gradio", reason="the extra 'app' is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

from browser import REQUIREMENTS, Visitor, open_browser, start_page

pytestmark = REQUIREMENTS

PATIENCE = 300
"""Seconds to wait for a step on a busy machine."""


@pytest.fixture
def folder():
    # Paths of sockets, which loading processes create in TMPDIR, are limited to 107 characters.
    with tempfile.TemporaryDirectory(prefix="rvc-", ignore_cleanup_errors=True) as path:
        for name in ("tmp", "downloads", "voices"):
            Path(path, name).mkdir()
        yield Path(path)


@pytest.fixture
def servers(folder):
    """Return a function that starts another server, and kill all at the end."""
    processes = []

    def start():
        process, address, _ = start_page(folder)
        processes.append(process)
        return process, address

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def driver(folder):
    driver = open_browser(folder / "downloads")
    yield driver
    driver.quit()


def test_voice_is_made_and_used_in_the_browser(folder, servers, driver):
    server, address = servers()
    visitor = Visitor(driver, address)
    visitor.wait(lambda: visitor.text("#notice"), PATIENCE)

    visitor.open_tab("datasets")
    visitor.drop("#dataset_files", *sorted((DEMO_FOLDER / "target").glob("*.flac"))[:6])
    visitor.type("#dataset_name textarea, #dataset_name input", "anna")
    visitor.click("#prepare")
    visitor.wait_for_text("#prepare_jobs", "done", PATIENCE)
    visitor.wait_for_text("#dataset_report", "recordings/anna")

    visitor.open_tab("train")
    visitor.click("#train_dataset button[aria-label=Refresh]")
    visitor.wait(lambda: visitor.value("#train_dataset input") == "anna")
    visitor.click("#train_settings > button")
    visitor.type("[id='train-data.batch_size'] :is(textarea, input)", "2")
    started = time.monotonic()
    visitor.click("#train_start")
    visitor.wait(lambda: visitor.find_all("#curves img"), PATIENCE)

    # The training continues without the server, and the next server finds it.
    server.send_signal(signal.SIGKILL)
    server.wait()
    _, address = servers()
    visitor = Visitor(driver, address)
    visitor.wait(lambda: visitor.text("#notice"), PATIENCE)
    visitor.open_tab("train")
    visitor.wait_for_text("#train_jobs", "running", PATIENCE)
    visitor.click("#train_stop")
    visitor.wait_for_text("#train_jobs", "stopped", PATIENCE)
    (run,) = (folder / "runs" / "anna").iterdir()
    assert list((run / "checkpoints").glob("*.ckpt"))

    # A little more than the time that the training has had.
    visitor.wait(lambda: visitor.value("#run input") == f"anna/{run.name}")
    minutes, seconds = divmod(round(time.monotonic() - started) + 10, 60)
    visitor.type("#run_limit :is(textarea, input)", f"00:00:{minutes:02}:{seconds:02}")
    visitor.click("#run_resume")
    visitor.wait_for_text("#train_jobs", "Continue", PATIENCE)
    visitor.wait_for_text("#train_jobs", "done", PATIENCE)
    visitor.wait(lambda: len(visitor.find_all("#samples audio")) >= 2, PATIENCE)
    visitor.wait(lambda: len(visitor.find_all("#trained audio")) >= 2, PATIENCE)
    visitor.click("#trained_convert")
    visitor.wait(lambda: visitor.value("#voice input") == "anna/anna.pth", PATIENCE)
    visitor.open_tab("train")

    visitor.click("#run_try > button")
    visitor.drop("#try_recording", DEMO_FOLDER / "source" / "01.flac")
    visitor.wait(lambda: visitor.find_all("#try_recording #waveform, #try_recording button[aria-label=Clear]"))
    visitor.click("#try_button")
    visitor.wait_for_text("#try_status", "Converted with the best checkpoint", PATIENCE)
    visitor.click("#run_export")
    visitor.wait_for_text("#train_jobs", "Export anna", PATIENCE)
    visitor.wait(lambda: (folder / "voices" / "anna" / "anna.pth").is_file(), PATIENCE)

    visitor.open_tab("convert")
    visitor.click("#voice button[aria-label=Refresh]")
    visitor.wait(lambda: visitor.value("#voice input") == "anna/anna.pth", PATIENCE)
    visitor.upload(DEMO_FOLDER / "source" / "01.flac", DEMO_FOLDER / "source" / "02.flac")
    visitor.click("#convert")
    visitor.wait_for_text("#status", "Done in", PATIENCE)
    visitor.wait(lambda: visitor.find_all("#picture img") and len(visitor.find_all("#comparison #waveform")) == 2, 60)
    archive = visitor.download(folder / "downloads")
    assert zipfile.ZipFile(archive).namelist() == ["01_anna.wav", "02_anna.wav"]
