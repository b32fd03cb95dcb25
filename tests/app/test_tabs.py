"""The tabs of the page, without a browser: what they run, and errors in words."""

import errno
import html
import json
import os
import re
import shutil
import signal
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("gradio", reason="the extra 'app' is not installed")

import gradio as gr
from filelock import FileLock
from sites import LIMITS, make_site
from torch.utils.tensorboard import SummaryWriter

from rvc_lightning.app import estimate as estimate_module
from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.app.commands import composed, dataset_overrides, settings_of, typed_override
from rvc_lightning.app.runs import RunReader, list_runs
from rvc_lightning.app.server import page_of
from rvc_lightning.app.service import ConversionService
from rvc_lightning.app.tabs.train import Seen
from rvc_lightning.app.tabs.workplace import Workplace
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.data.manifest import MANIFEST_NAME, DatasetHeader, ManifestRow, read_header, write_manifest
from rvc_lightning.errors import ConfigurationError, OutOfSpaceError, RVCError
from rvc_lightning.evaluation.output import PAGE_NAME, REPORTS_FOLDER
from rvc_lightning.io.files import write_json
from rvc_lightning.jobs.job import State
from rvc_lightning.jobs.store import JobStore
from rvc_lightning.training.dataset import recipe_of

pytestmark = pytest.mark.slow


class Jobs:
    """Records submitted jobs."""

    def __init__(self, folder):
        self.folder, self.submitted, self.listed = folder, [], []

    def submit(self, command, overrides, title, device="default", job_id=None):
        self.submitted.append((command, list(overrides)))
        job = SimpleNamespace(
            id=job_id or str(len(self.submitted)), folder=self.folder / (job_id or ""), command=command,
            overrides=tuple(overrides), title=title, state=State.WAITING, device=device,
            created=946728000.0 + len(self.submitted),
        )  # fmt: skip
        self.listed.append(job)
        return job

    def check_waiting(self, limit):
        assert limit == LIMITS.max_waiting

    def jobs(self):
        return self.listed


@pytest.fixture
def make_page(tmp_path, write_voice, monkeypatch):
    """Return a function that builds the page of an empty server in a new working folder."""
    monkeypatch.chdir(tmp_path)
    write_voice(tmp_path / "voices" / "anna.pth")

    def make(is_local=True):
        service = ConversionService(VoiceCatalog("voices"), lambda voice, index: None, LIMITS)
        page = page_of(make_site(service, tmp_path), is_local)
        jobs = Jobs(tmp_path / "jobs")
        for name in ("datasets", "train", "judge"):
            getattr(page, name).jobs._jobs = jobs
        return page, jobs

    return make


@pytest.fixture
def uploads(tmp_path):
    files = [tmp_path / "uploads" / str(number) / "é.wav" for number in range(2)]
    for file in files:
        file.parent.mkdir(parents=True)
        write_audio(file, np.zeros(8000, dtype=np.float32), 8000)
    return [str(file) for file in files]


def prepare(page, files, folder="", name="", stored=()):
    """Press Prepare; return the shown message."""
    shown = page.datasets.prepare_dataset(files, folder, name, "quickstart", "numbered", list(stored))
    return html.unescape(shown[page.datasets.plan])


def test_dropped_recordings_are_stored_and_prepared_as_the_command_does(make_page, uploads):
    page, jobs = make_page()
    assert prepare(page, uploads[:1], name="anna") == ""
    assert Path("recordings/anna/é.wav").is_file()
    ((command, overrides),) = jobs.submitted
    assert command == "prepare"
    assert f"audio={Path('recordings/anna').absolute()}" in overrides
    assert "sample_rate=24k_light" in overrides


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "Name the voice first"),
        ("../x", "'../x' cannot be the name of a folder"),
        (".x", "choose another, such as 'x'"),
        ("con", "choose another, such as '_con'"),
        ("a:b?", "choose another, such as 'a_b_'"),
        ("x" * 300, "cannot be the name of a folder"),
        ("taken", "Recordings named 'taken' already exist"),
    ],
)
def test_invalid_names_of_datasets_are_explained(make_page, uploads, name, message):
    page, jobs = make_page()
    Path("recordings/taken").mkdir(parents=True)
    assert message in prepare(page, uploads, name=name)
    assert jobs.submitted == []


def test_files_that_are_no_recordings_are_left_to_the_report(make_page, uploads):
    page, _ = make_page()
    assert page.datasets.files.file_types is None
    text = Path(uploads[0]).with_name("lyrics $(x).txt")
    text.write_text("la la")
    assert prepare(page, [uploads[0], str(text)], name="anna") == ""
    assert sorted(path.name for path in Path("recordings/anna").iterdir()) == ["lyrics _(x).txt", "é.wav"]


def test_preview_stores_nothing(make_page, uploads):
    page, _ = make_page()
    shown = page.datasets.preview_dataset(uploads, "", "anna", "quickstart", "numbered", [])
    summary = html.unescape(shown)
    assert "/recordings/anna' would be prepared as" in summary and ": 2 recordings" in summary
    assert not Path("recordings").exists()
    assert prepare(page, uploads, name="anna") == ""


def test_same_files_are_prepared_again_and_others_do_not_vanish(make_page, uploads):
    page, jobs = make_page()
    shown = page.datasets.prepare_dataset(uploads[:1], "", "anna", "quickstart", "numbered", [])
    stored = shown[page.datasets.stored]
    assert "already been submitted" in prepare(page, uploads[:1], name="anna", stored=stored)
    jobs.listed[0].state = State.DONE
    assert prepare(page, uploads[:1], name="anna", stored=stored) == "" and len(jobs.submitted) == 2
    assert "Recordings named 'anna' already exist" in prepare(page, uploads, name="anna", stored=stored)


def test_dataset_that_has_just_been_prepared_is_chosen(make_page):
    tab = make_page()[0].datasets
    chosen, known = None, []
    for name in ("ben", "anna"):
        Path("datasets", name).mkdir(parents=True)
        Path("datasets", name, MANIFEST_NAME).touch()
        _, listed, known = tab.list_all(chosen, known)
        chosen = listed["value"]
        assert chosen == name
    assert tab.list_all("ben", known)[1]["value"] == "ben"


def test_deleted_uploads_are_explained(make_page, uploads):
    page, jobs = make_page()
    for file in uploads:
        Path(file).unlink()
    deleted = "The uploads were deleted after 1 minutes: drop the files again."
    assert deleted in prepare(page, uploads, name="anna")
    add_dataset()
    assert deleted in add(page, uploads)
    shown = page.judge.start_evaluation("anna.pth", "conversion", None, None, uploads)
    assert deleted in html.unescape(shown[page.judge.message])
    assert deleted in html.unescape(act(page.voices, page.voices.import_voices, uploads, "")[0])
    assert jobs.submitted == []


def test_unfinished_dataset_is_listed_explained_and_deleted(make_page):
    page, _ = make_page()
    folder = Path("datasets/anna")
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    tab = page.datasets
    _, shown, known = tab.list_all(None, [])
    assert shown["choices"] == [("anna (unfinished)", "anna")] and shown["value"] == "anna" and known == []
    assert "prepare the same recordings" in tab.show_report("anna")[tab.report]
    assert ask_and_delete(tab.deletion, "anna")
    assert not folder.exists()


def test_recordings_of_a_job_that_is_not_submitted_are_removed(make_page, uploads, monkeypatch):
    page, jobs = make_page()

    def fail(*_, **__):
        raise OutOfSpaceError("no space left")

    monkeypatch.setattr(jobs, "submit", fail)
    assert "No space left" in prepare(page, uploads, name="anna")
    assert list(Path("recordings").iterdir()) == []


def add_dataset(name="anna", experiment="quickstart", recordings=("a.wav",), **report):
    """Write the files of a dataset that the page has prepared."""
    folder, audio = Path("datasets", name), Path("recordings", name)
    folder.mkdir(parents=True)
    audio.mkdir(parents=True, exist_ok=True)
    recipe = recipe_of(composed("prepare", dataset_overrides(experiment)))
    parts = {"pitch": dict(recipe.pitch), "content": dict(recipe.content)}
    components = {part: {"name": options.pop("name"), "options": options} for part, options in parts.items()}
    components["content"]["dim"] = 256
    header = DatasetHeader(recipe.sample_rate, **components, slicing=asdict(recipe.slicing))
    used = [{"recording": recording, "left_out": []} for recording in recordings]
    values = {"audio": str(audio), "used": used, "seconds": 1.0, "slices": 0, "slice_seconds": 1.0}
    write_json(folder / "report.json", values | {"skipped": [], "speakers": [{"name": "0"}]} | report)
    write_manifest(folder, header, [])


def add(page, files, name="anna"):
    """Press Add and prepare; return the shown message."""
    return html.unescape(page.datasets.add_recordings(name, files)[page.datasets.message])


@pytest.mark.parametrize("experiment", ["quickstart", "voice"])
def test_added_recordings_are_prepared_with_the_settings_of_the_dataset(make_page, uploads, experiment):
    page, jobs = make_page()
    page.datasets.prepare_dataset(uploads[:1], "", "anna", experiment, "numbered", [])
    jobs.listed[0].state = State.DONE
    add_dataset(experiment=experiment, audio=str(Path("recordings/anna").absolute()))
    write_audio(Path(uploads[1]), np.full(8000, 0.1, dtype=np.float32), 8000)
    assert "/recordings/anna': 1. Already there: 1." in add(page, uploads)
    first, second = jobs.submitted
    assert first == second and len(list(Path("recordings/anna").iterdir())) == 2


def test_recordings_are_added_once_and_keep_their_names(make_page, uploads):
    page, jobs = make_page()
    add_dataset()
    stored = Path("recordings/anna/é.wav")
    shutil.copyfile(uploads[0], stored)
    write_audio(Path(uploads[1]), np.full(8000, 0.1, dtype=np.float32), 8000)
    before = stored.read_bytes()
    assert "'recordings/anna': 1. Already there: 1." in add(page, uploads)
    assert stored.read_bytes() == before
    assert Path("recordings/anna/é (2).wav").read_bytes() == Path(uploads[1]).read_bytes()
    assert "already been submitted" in add(page, uploads)
    jobs.listed[0].state = State.DONE
    # Again after a job that failed.
    assert "'recordings/anna': 0. Already there: 2." in add(page, uploads)
    assert len(jobs.submitted) == 2 and len(list(Path("recordings/anna").iterdir())) == 2


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"audio": "elsewhere"}, "are not in the folder"),
        ({"audio": "recordings/gone"}, "are not in the folder"),
        ({"audio": "recordings/../elsewhere"}, "are not in the folder"),
        ({"recordings": ["1/a.wav"]}, "are in subfolders"),
    ],
)
def test_recordings_are_added_only_where_the_page_stores_them(make_page, uploads, report, message):
    page, jobs = make_page()
    Path("elsewhere").mkdir()
    add_dataset(**report)
    assert message in add(page, uploads) and jobs.submitted == []
    assert list(Path("recordings/anna").iterdir()) == list(Path("elsewhere").iterdir()) == []


def test_recordings_are_added_only_with_settings_of_the_page(make_page, uploads):
    page, jobs = make_page()
    add_dataset()
    write_manifest("datasets/anna", replace(read_header("datasets/anna"), slicing={"mode": "skip"}), [])
    assert "settings that this page does not offer" in add(page, uploads) and jobs.submitted == []
    assert list(Path("recordings/anna").iterdir()) == []


def test_added_recordings_of_a_job_that_is_not_submitted_are_removed(make_page, uploads, monkeypatch):
    page, jobs = make_page()
    add_dataset()
    Path("recordings/anna/b.wav").write_bytes(b"x")

    def fail(*_, **__):
        raise OutOfSpaceError("no space left")

    monkeypatch.setattr(jobs, "submit", fail)
    assert "No space left" in add(page, uploads)
    assert [path.name for path in Path("recordings/anna").iterdir()] == ["b.wav"]


def test_dataset_that_was_prepared_again_is_shown_again(make_page):
    tab = make_page()[0].datasets
    add_dataset(recordings=["a.wav"])
    shown = tab.show_report("anna")
    assert tab.show_changes("anna", "a.wav", shown[tab.shown]) == {tab.report: gr.skip()}
    shutil.rmtree("datasets/anna")
    add_dataset(recordings=["a.wav", "b.wav"])
    again = tab.show_changes("anna", "a.wav", shown[tab.shown])
    assert "2, 1.0 s" in again[tab.report]
    assert '<tr><th scope="row">Speakers</th><td>1</td></tr>' in again[tab.report]


def ask_and_delete(deletion, chosen):
    """Press Delete, and confirm; return the question and the message."""
    shown = deletion.show_question(chosen)
    if deletion.asked not in shown:
        return None, html.unescape(shown[deletion.message])
    asked = shown[deletion.asked]
    return html.unescape(shown[deletion.warning]), html.unescape(deletion.delete_asked(asked)[deletion.message])


def test_dataset_is_deleted_after_a_question_about_its_recordings(make_page):
    deletion = make_page()[0].datasets.deletion
    add_dataset()
    add_dataset("ben", audio="gone/ben")
    Path("datasets/damaged").mkdir()
    Path("datasets/damaged", MANIFEST_NAME).touch()
    for name, words in (("anna", "'recordings/anna' are kept"), ("ben", "were not found"), ("damaged", "not found")):
        question, message = ask_and_delete(deletion, name)
        assert f"Delete the dataset '{name}' (0.0 MB)?" in question and words in question
        assert f"The dataset '{name}' is deleted." in message and not Path("datasets", name).exists()
    assert Path("recordings/anna").is_dir()
    assert "Choose a dataset first" in ask_and_delete(deletion, None)[1]
    assert "Unknown dataset 'anna'" in ask_and_delete(deletion, "anna")[1]


def test_training_is_deleted_after_a_question(make_page):
    page, _ = make_page()
    run = Path("runs/anna/1/checkpoints")
    run.mkdir(parents=True)
    (run / "last.ckpt").write_bytes(bytes(2_500_000))
    tab = page.train
    listed, facts, *_, seen = tab.show_run(None, Seen())
    assert listed["value"] == "anna/1" and "2.5 MB" in facts
    with FileLock(run.parent / ".lock"):
        question, message = ask_and_delete(tab.deletion, "anna/1")
        assert question is None and "is running: stop it first" in message
    question, message = ask_and_delete(tab.deletion, "anna/1")
    assert "Delete the training 'anna/1' (2.5 MB)?" in question and "is deleted" in message
    assert tab.show_run("anna/1", seen)[0]["value"] is None
    assert "Choose a training first" in ask_and_delete(tab.deletion, None)[1]


def test_second_confirmation_deletes_nothing(make_page):
    deletion = make_page()[0].datasets.deletion
    add_dataset()
    shown = deletion.show_question("anna")
    after = deletion.delete_asked(shown[deletion.asked])
    assert after[deletion.asked] is None and after[deletion.question]["visible"] is False
    assert deletion.message not in deletion.delete_asked(after[deletion.asked])


def test_training_that_starts_after_the_question_is_kept(make_page):
    deletion = make_page()[0].train.deletion
    run = Path("runs/anna/1/checkpoints")
    run.mkdir(parents=True)
    asked = deletion.show_question("anna/1")[deletion.asked]
    with FileLock(run.parent / ".lock"):
        assert "is running" in html.unescape(deletion.delete_asked(asked)[deletion.message])
    assert run.is_dir()


def test_list_of_trainings_changes_with_any_of_them(make_page):
    tab = make_page()[0].train
    for name in ("anna/1", "anna/2"):
        Path("runs", name, "checkpoints").mkdir(parents=True)
    *_, seen = tab.show_run("anna/2", Seen())
    shutil.rmtree("runs/anna/1")
    listed, *_ = tab.show_run("anna/2", seen)
    assert (listed["choices"], listed["value"]) == (["anna/2"], "anna/2")


def test_training_without_a_logger_is_shown(make_page):
    Path("runs/anna/1/checkpoints").mkdir(parents=True)
    listed, _, curves, *_ = make_page()[0].train.show_run(None, Seen())
    assert listed["value"] == "anna/1" and "No curves yet" in curves


def test_vanished_and_damaged_datasets_are_explained(make_page):
    page, _ = make_page()
    tab = page.datasets
    for handler, inputs in (
        (tab.list_slices, ("anna", "a.wav")),
        (tab.play, ("anna", "a.wav")),
        (tab.toggle_slice, ("anna", "a.wav", "a.wav")),
        (tab.toggle_slice, ("anna", "a.wav", None)),
    ):
        assert 'class="status error"' in handler(*inputs)[tab.excluded]
    assert "not found" in tab.show_report("anna")[tab.report]
    Path("datasets/anna").mkdir(parents=True)
    Path("datasets/anna/report.json").write_text("{")
    assert "prepare the dataset again" in tab.show_report("anna")[tab.report]
    assert "prepare the dataset again" in train(page, "anna")


def test_recordings_with_equal_names_are_both_stored(make_page, uploads):
    page, _ = make_page()
    prepare(page, uploads, name="anna")
    assert len(list(Path("recordings/anna").iterdir())) == 2


def test_recordings_that_do_not_fit_on_the_disk_leave_no_folder(make_page, uploads, monkeypatch):
    page, jobs = make_page()
    copy = shutil.copyfile

    def copy_until_full(source, target):
        if target.parent.exists() and any(target.parent.iterdir()):
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", copy_until_full)
    assert "No space left" in prepare(page, uploads, name="anna") and jobs.submitted == []
    assert list(Path("recordings").iterdir()) == []
    monkeypatch.setattr(shutil, "copyfile", copy)
    assert prepare(page, uploads, name="anna") == "" and len(list(Path("recordings/anna").iterdir())) == 2


def test_only_local_visitors_may_name_any_folder(make_page, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "recordings" / "ben").mkdir(parents=True)
    for is_local, folder, allowed in [
        (True, tmp_path / "elsewhere", True),
        (False, tmp_path / "elsewhere", False),
        (False, "../elsewhere", False),
        (False, "ben", True),
        (True, "missing", False),
    ]:
        page, jobs = make_page(is_local)
        message = prepare(page, [], str(folder))
        assert (len(jobs.submitted) == 1) == allowed
        assert bool(message) != allowed


def test_missing_recordings_are_reported(make_page):
    page, _ = make_page()
    assert "Drop recordings, or choose a folder." in prepare(page, [], name="anna")


def train(page, dataset="", **settings):
    given = {page.train.dataset: dataset, page.train.experiment: "quickstart"}
    given |= {control: settings.get(name, "") for name, control in page.train.controls.items()}
    return html.unescape(page.train.start_training(given)[page.train.message])


def test_training_on_the_demo_passes_only_changed_settings(make_page):
    page, jobs = make_page()
    shown = train(page, **{"trainer.max_time": "00:00:00:30", "data.batch_size": "4"})
    ((command, overrides),) = jobs.submitted
    assert command == "train"
    assert overrides[0] == "+experiment=quickstart" and overrides[1].startswith("audio=")
    assert overrides[2:4] == ['trainer.max_time="00:00:00:30"', "data.batch_size=4"]
    assert "python -m rvc_lightning.train" in shown


@pytest.mark.parametrize(
    "settings",
    [
        {"data.batch_size": "[", "seed": ""},
        {"precision": "8"},
        {"trainer.max_time": "2 minutes"},
        {"optimizer.lr": "abc"},
        {"optimizer.lr": "0"},
        {"trainer.max_epochs": "-5"},
    ],
)
def test_invalid_settings_are_explained_before_the_start(make_page, settings):
    page, jobs = make_page()
    assert "error" in train(page, **settings)
    assert jobs.submitted == []


def test_dataset_whose_recordings_have_moved_is_trained_by_name(make_page):
    page, jobs = make_page()
    Path("datasets/anna").mkdir(parents=True)
    Path("datasets/anna/report.json").write_text(json.dumps({"audio": "gone/anna"}))
    train(page, "anna")
    assert jobs.submitted[0][1][1:3] == ["audio=null", "name=anna"]


def test_dataset_of_another_tool_is_trained_by_name(make_page):
    page, jobs = make_page()
    Path("datasets/anna").mkdir(parents=True)
    Path("datasets/anna/report.json").write_text(json.dumps({"experiment": "logs/anna", "used": 3}))
    train(page, "anna")
    assert jobs.submitted[0][1][1:3] == ["audio=null", "name=anna"]


def test_second_click_does_not_train_twice(make_page):
    page, jobs = make_page()
    train(page)
    assert "This job has already been submitted" in train(page) and len(jobs.submitted) == 1
    train(page, seed="7")
    assert len(jobs.submitted) == 2


def test_same_files_are_not_evaluated_twice_and_others_are(make_page, uploads):
    page, jobs = make_page()

    def evaluate():
        shown = page.judge.start_evaluation("anna.pth", "conversion", None, None, uploads[:1])
        return html.unescape(str(shown[page.judge.message]))

    assert "already been submitted" not in evaluate() and "already been submitted" in evaluate()
    write_audio(uploads[0], np.ones(8000, dtype=np.float32), 8000)
    assert "already been submitted" not in evaluate() and len(jobs.submitted) == 2


def test_jobs_ahead_of_a_new_one_are_named(make_page):
    page, jobs = make_page()
    page.train.jobs.submit("train", [], "Anna")
    page.train.jobs.submit("export", [], "Export", device="export")
    page.judge.jobs.submit("evaluate", [], "Ben")
    assert [page.train.jobs._ahead(job, jobs.listed) for job in jobs.listed] == ["", "", "Before it: Anna."]


def test_resumed_training_finds_the_experiments_of_the_user(make_page, tmp_path):
    page, jobs = make_page()
    (tmp_path / "runs" / "anna" / "1" / "checkpoints").mkdir(parents=True)
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    page.train.workplace = replace(page.train.workplace, config_dir=str(tmp_path / "mine"))
    page.train.resume_run("anna/1", "")
    assert jobs.submitted[0][1][0] == f"hydra.searchpath=[file://{tmp_path}/mine]"


def test_estimate_counts_repeats_and_neither_held_out_slices_nor_steps_of_other_devices(tmp_path, monkeypatch):
    rows = [
        ManifestRow(f"{number}/{part}", f"{number}.wav", 0, 8000, "a.wav", "f0.npy", "c.npy", 8000, 100, 1.0, 2)
        for number in range(4)
        for part in range(5)
    ]
    write_manifest(
        tmp_path, DatasetHeader(sample_rate=8000, pitch={"name": "pyin"}, content={"name": "spectral"}), rows
    )
    monkeypatch.setattr(estimate_module, "_measured", lambda *_: SimpleNamespace(seconds=[1.0], peak_bytes=1))
    overrides = ["+experiment=quickstart", "data.batch_size=1", "trainer.max_epochs=10", "trainer.max_time=null"]
    for devices, steps in ((1, 300), (2, 150)):
        config = composed("train", [*overrides, f"trainer.devices={devices}"])
        assert estimate_module.estimate(config, tmp_path).steps == steps


def test_errors_of_runs_are_explained(make_page, tmp_path):
    page, jobs = make_page()
    (tmp_path / "runs" / "anna" / "1" / "checkpoints").mkdir(parents=True)
    tab = page.train
    for handler, inputs in (
        (tab.resume_run, (None, "")),
        (tab.resume_run, ("anna/1", "soon")),
        (tab.export_run, ("x",)),
    ):
        assert 'class="status error"' in handler(*inputs)[tab.run_message]
    assert jobs.submitted == []


def end_process(*_):
    os.kill(os.getpid(), signal.SIGTERM)


def test_killed_measurement_is_explained(make_page, monkeypatch):
    tab = make_page()[0].train
    monkeypatch.setattr(estimate_module, "measure", end_process)
    monkeypatch.setattr(estimate_module, "get_context", lambda _: get_context("fork"))
    given = {tab.dataset: "", tab.experiment: "quickstart"} | dict.fromkeys(tab.controls.values(), "")
    assert "lower &#x27;Batch size&#x27;" in tab.estimate_training(given)[tab.message]


def test_settings_have_the_values_of_the_experiment_and_help():
    settings = settings_of("quickstart")
    assert settings["sample_rate"].value == "24k_light" and "40k" in settings["sample_rate"].choices
    assert settings["trainer.max_time"].value == "00:00:07:00"
    assert all(setting.help for setting in settings.values())
    assert dataset_overrides("voice") == ["content=contentvec"]
    # The page has no fields for its files.
    assert "files" not in settings["pretrained"].choices


def test_experiments_of_the_user_are_found_in_their_folder(tmp_path):
    experiment = tmp_path / "my files" / "experiment" / "small.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text("# @package _global_\n# Mine.\ndefaults:\n  - quickstart\nseed: 77\n")
    names = ("blocks", "service", "jobs", "folders", "text")
    workplace = Workplace(**dict.fromkeys(names), is_local=True, config_dir=str(tmp_path / "my files"))
    assert workplace.own_experiments() == ["small"]
    assert workplace.search_path("quickstart") == ()
    assert settings_of("small", workplace.search_path("small"))["seed"].value == "77"


def test_wrong_override_raises_the_message_of_the_command():
    with pytest.raises(RVCError, match="unknown sample_rate '7k'; choose one of"):
        composed("train", ["sample_rate=7k"])
    with pytest.raises(ConfigurationError, match=r"unknown setting 'seeed'\. Did you mean seed"):
        composed("train", ["seeed=1"])
    assert typed_override("author", "Anna B.") == 'author="Anna B."'


def test_voice_is_edited_deleted_and_restored(make_page):
    page, _ = make_page()
    tab = page.voices
    assert "saved" in tab.save_information("anna.pth", "Anna", "Zoë", "")
    assert tab.describe("anna.pth")[:2] == ("Anna", "Zoë")
    assert "trash" in tab.delete_voice("anna.pth")
    shown, *_, trash = tab.list_voices("", None)
    assert "No voices in" in shown
    ((label, folder),) = trash["choices"]
    assert label.startswith("anna, ")
    assert "Restored" in tab.restore_voice(folder)
    assert "Zoë" in tab.list_voices("zoë", None)[0]
    assert "No voice matches." in tab.list_voices("ben", None)[0]


def act(tab, action, *inputs):
    """Return what an action on a chosen voice shows: the message, the lists and the fields."""
    return tab._acting(action)("", "anna.pth", *inputs)


def test_fields_of_a_voice_are_kept_after_an_error(make_page):
    tab = make_page()[0].voices
    message, *_, name, author, speakers, facts = act(tab, tab.save_information, "anna.pth", "Anna", "Zoë", "a, a")
    assert "error" in message and name == author == speakers == facts == gr.skip()
    message, *_, name, author, _, _ = act(tab, tab.save_information, "anna.pth", "Anna", "Zoë", "")
    assert "saved" in message and (name, author) == ("Anna", "Zoë")
    assert act(tab, tab.delete_voice, "anna.pth")[-4:] == ("", "", "", "")


def test_no_other_voice_is_chosen_after_one_is_deleted(make_page, write_voice, tmp_path):
    write_voice(tmp_path / "voices" / "ben.pth")
    tab = make_page()[0].voices
    tab.delete_voice("anna.pth")
    assert tab.list_voices("", "anna.pth")[1]["value"] is None


def test_trash_is_emptied_after_a_question_with_its_size(make_page):
    tab = make_page()[0].voices
    with pytest.raises(RVCError, match="the trash is empty"):
        tab.ask_to_empty("")
    tab.delete_voice("anna.pth")
    assert re.match(r"Delete the voices in the trash \(1, \d+\.\d MB\)", tab.ask_to_empty(""))
    tab.empty_trash("")
    assert tab.list_voices("", None)[-1]["choices"] == []


def test_imported_voice_gets_another_name(make_page, write_voice, tmp_path):
    tab = make_page()[0].voices
    upload = write_voice(tmp_path / "uploads" / "anna.pth") or tmp_path / "uploads" / "anna.pth"
    assert "is taken" not in tab.import_voices([str(upload)], "", "ben")
    assert "ben/ben.pth" in tab.list_voices("", None)[0]
    assert "Name = a/b: not a name for a file" in act(tab, tab.import_voices, [str(upload)], "", "a/b")[0]


def test_voice_actions_without_a_choice_are_explained(make_page):
    tab = make_page()[0].voices
    for action, inputs in [
        (tab.import_voices, (None, " ")),
        (tab.delete_voice, (None,)),
        (tab.restore_voice, (None,)),
        (tab.blend_voices, ("anna.pth", "anna.pth", 0.5, "../x")),
        (tab.blend_voices, ("anna.pth", "anna.pth", 0.5, "")),
        (tab.save_information, (None, "", "", "")),
    ]:
        assert 'class="status error"' in act(tab, action, *inputs)[0]


def test_missing_index_of_a_blend_is_stated(make_page):
    tab = make_page()[0].voices
    assert "A blend has no index" in act(tab, tab.blend_voices, "anna.pth", "anna.pth", 0.5, "mix")[0]


def test_failed_import_names_the_upload_without_its_folder(make_page, tmp_path):
    upload = tmp_path / "uploads" / "song.pth"
    upload.parent.mkdir()
    upload.write_text("hello")
    tab = make_page()[0].voices
    message, *_ = act(tab, tab.import_voices, [str(upload)], "")
    assert "no voice in song.pth" in message and "uploads" not in message


@pytest.mark.parametrize("link", ["uploads/ben.pth", "/etc/passwd", "https://example.com/ben.pth"])
def test_files_of_the_server_and_links_without_permission_are_not_imported(make_page, write_voice, tmp_path, link):
    write_voice(tmp_path / "uploads" / "ben.pth")
    tab = make_page()[0].voices
    tab.workplace = replace(tab.workplace, links=False)
    message = html.unescape(act(tab, tab.import_voices, None, link)[0])
    assert "is not a link" in message or "links are switched off" in message.lower()
    assert tab.list_voices("", None)[1]["choices"] == ["anna.pth"]


def test_new_job_is_listed_beside_the_earlier_ones(make_page):
    view = make_page()[0].judge.jobs
    view.submit("evaluate", ["voice=anna"], "first")
    shown = view.submit("evaluate", ["voice=ben"], "second")[view.choice]
    assert [value for _, value in shown["choices"]] == ["2", "1"] and shown["value"] == "2"


def test_evaluation_is_submitted(make_page, tmp_path):
    page, jobs = make_page()
    (tmp_path / "recordings" / "ben").mkdir(parents=True)
    page.judge.start_evaluation("anna.pth", "resynthesis", "ben", None)
    ((command, overrides),) = jobs.submitted
    assert command == "evaluate" and overrides[-1] == "task=resynthesis"
    for voice, audio in ((None, "ben"), ("anna.pth", None), ("anna.pth", "../x")):
        assert "error" in page.judge.start_evaluation(voice, "conversion", audio, None)[page.judge.message]


def test_new_report_is_chosen(make_page, tmp_path):
    tab, seen = make_page()[0].judge, ""
    for number, name in enumerate(("anna", "ben")):
        page = tmp_path / REPORTS_FOLDER / name / PAGE_NAME
        page.parent.mkdir(parents=True)
        page.touch()
        os.utime(page, (number + 1, number + 1))
        *_, report, seen = tab.list_all(None, "anna", seen)
        assert report["value"] == name
    assert tab.list_all(None, "anna", seen)[-2]["value"] == "anna"


def test_dropped_recordings_are_evaluated(make_page, uploads):
    page, jobs = make_page()
    assert "error" not in page.judge.start_evaluation("anna.pth", "conversion", None, None, uploads)[page.judge.message]
    ((_, overrides),) = jobs.submitted
    folder = Path(composed("evaluate", overrides).audio)
    assert len(list(folder.iterdir())) == 2 and folder.parent.name == "input"
    missing = page.judge.start_evaluation("anna.pth", "conversion", "/nowhere", None)[page.judge.message]
    assert "No such folder" in missing and len(jobs.submitted) == 1


def test_settings_of_a_missing_callback_are_disabled(make_page):
    tab = make_page()[0].train
    control = tab.controls["callbacks.overtraining.action"]
    assert not control.interactive  # the quickstart has no such callback
    for experiment in ("voice", "quickstart"):
        assert tab.show_settings(experiment)[control]["interactive"] == (experiment == "voice")
    assert tab.show_settings("quickstart")[tab.controls["author"]]["interactive"]


def test_curves_and_samples_of_a_run_grow(tmp_path):
    run = tmp_path / "runs" / "anna" / "2000-01-01_00-00-00"
    with SummaryWriter(str(run / "tensorboard")) as writer:
        writer.add_scalar("val/mel", 0.5, 1)
        writer.flush()
        reader = RunReader(run).refresh()
        assert (reader.step, reader.best(), reader.samples()) == (1, pytest.approx(0.5), [])
        writer.add_scalar("val/mel", 0.25, 2)
        for kind in ("recorded", "rebuilt"):
            writer.add_audio(f"clip0/{kind}", np.zeros((1, 800)), 2, 8000)
    assert reader.refresh().best() == 0.25
    assert [(sample.title, sample.step) for sample in reader.samples()] == [("1", 2)]
    assert reader.samples()[0].rebuilt.startswith(b"RIFF")
    assert reader.draw().startswith(b"\x89PNG")
    assert list_runs(tmp_path / "runs") == [run]
    sweep = tmp_path / "runs" / "anna" / "sweep_2000-01-02_00-00-00"
    for number in ("2", "10"):
        (sweep / number / "checkpoints").mkdir(parents=True)
    assert list_runs(tmp_path / "runs") == [sweep / "10", sweep / "2", run]


def test_new_run_is_chosen_and_unchanged_runs_are_not_sent_again(make_page, tmp_path):
    tab = make_page()[0].train
    assert "No training yet." in tab.show_run(None, Seen())[1]
    chosen, seen = None, Seen()
    for day in (1, 2):
        run = f"anna/2000-01-0{day}_00-00-00"
        with SummaryWriter(str(tmp_path / "runs" / run / "tensorboard")) as writer:
            writer.add_scalar("val/mel", 0.5, 1)
        listed, facts, curves, _, seen = tab.show_run(chosen, seen)
        chosen = listed["value"]
        assert chosen == run and seen.step == 1
        assert "0.5" in facts and "<img" in curves
        assert tab.show_run(chosen, seen) == (gr.skip(),) * 5


def test_buttons_of_jobs_are_enabled_where_they_have_an_effect(make_page, tmp_path, monkeypatch):
    def enabled(chosen):
        return [button["interactive"] for button in view.refresh(chosen, "")[4:]]

    view = make_page()[0].judge.jobs
    monkeypatch.setattr(JobStore, "wake", lambda self: None)
    store = view._jobs = JobStore(tmp_path / "jobs")
    assert enabled(None) == [False, False, False]
    job = store.submit("evaluate", ["voice=anna"], "Anna")
    assert enabled(job.id) == [True, False, False]
    store.stop(job.id)
    assert enabled(job.id) == [False, True, True]


def test_job_that_is_run_again_twice_is_queued_once(make_page, tmp_path, monkeypatch):
    view = make_page()[0].judge.jobs
    monkeypatch.setattr(JobStore, "wake", lambda self: None)
    store = view._jobs = JobStore(tmp_path / "jobs")
    job = store.submit("evaluate", ["voice=anna"], "Anna")
    store.stop(job.id)
    run_again = view._acting("resume")
    assert run_again(job.id)[0] == ""
    message, chosen = run_again(job.id)
    assert "This job has already been submitted: Anna" in message
    assert chosen["value"] == store.jobs()[-1].id and len(store.jobs()) == 2
