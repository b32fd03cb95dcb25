"""What the page shows after a training."""

import os

import numpy as np
import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

from sites import LIMITS, make_site

from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.server import page_of
from rvc_lightning.app.service import ConversionService
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.io.files import write_json
from rvc_lightning.jobs.job import LOG, PROGRESS, ProcessState
from rvc_lightning.jobs.store import JobStore
from rvc_lightning.training.run import NOTHING_TRAINED

pytestmark = pytest.mark.slow

STARTED, ENDED = 1000.0, 2000.0


@pytest.fixture
def page(tmp_path, write_voice, monkeypatch):
    monkeypatch.setattr(JobStore, "wake", lambda self: None)
    write_voice(tmp_path / "voices" / "anna" / "anna.pth")
    service = ConversionService(VoiceCatalog(tmp_path / "voices"), lambda voice, index: None, LIMITS)
    return page_of(make_site(service, tmp_path), is_local=True)


@pytest.fixture
def job(page, tmp_path):
    """Return a training that has ended well."""
    job = page.train.workplace.jobs.submit("train", [], "Anna")
    ProcessState(started=STARTED).write(job.folder, ended=ENDED, exit_status=0)
    write_json(job.folder / PROGRESS, {"stage": "", "output_folder": str(tmp_path / "runs" / "anna" / "2026")})
    return job


def test_clips_of_a_training_are_played_and_its_voice_is_chosen(page, job, tmp_path):
    trained = page.train.trained
    for name, changed in (("source", 1500.0), ("converted", 1500.0), ("counterpart", 500.0)):
        path = tmp_path / "voices" / "anna" / "listen" / f"01_{name}.wav"
        write_audio(path, np.zeros(800, dtype=np.float32), 8000)
        os.utime(path, (changed, changed))
    shown, button, voice = trained.show(job.id)
    assert "The voice is ready" in shown and button["visible"] and voice == "anna/anna.pth"
    # The counterpart is of an earlier training.
    assert shown.count("<audio") == 2 and shown.index("another voice") < shown.index("converted to the new voice")
    assert page.convert.choose(voice)["value"] == voice


def test_training_at_its_limit_is_explained(page, job):
    (job.folder / LOG).write_text(f"{NOTHING_TRAINED}: the run has reached its limit.\n")
    assert "Enter a new time limit" in page.train.trained.show(job.id)[0]


def test_other_jobs_have_no_result_of_a_training(page):
    job = page.train.workplace.jobs.submit("export", [], "Anna")
    for job_id in (job.id, None, "gone"):
        shown, button, voice = page.train.trained.show(job_id)
        assert not shown and not button["visible"] and not voice
