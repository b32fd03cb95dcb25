"""Jobs: order, states, stops, and what is left after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("psutil", reason="the extra 'app' is not installed")

import psutil
from disks import limited_file_size
from systems import POSIX_SHELL

from rvc_lightning.cli.overrides import format_override
from rvc_lightning.errors import InUseError, OutOfSpaceError, UnknownJobError
from rvc_lightning.io.files import TEMPORARY_PREFIX
from rvc_lightning.io.locks import exclusive_lock
from rvc_lightning.io.processes import kill
from rvc_lightning.jobs import supervisor as supervising
from rvc_lightning.jobs.job import PROGRESS, STATE, STOP, ProcessState, State
from rvc_lightning.jobs.store import JobStore
from rvc_lightning.jobs.supervisor import Supervisor

PATIENCE_SECONDS = 180
WAIT = "import time; print('ready', flush=True); time.sleep(300)"
SAVE = f"""
try:
    {WAIT}
except KeyboardInterrupt:
    print("saved"); raise SystemExit(130)
"""
IGNORE = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {WAIT}"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store whose jobs are scripts, run by a supervisor in this process."""
    monkeypatch.setattr(JobStore, "wake", lambda self: None)
    monkeypatch.setattr(supervising, "command_line", lambda job: [sys.executable, "-c", *job.overrides])
    # Ignored where the tests run in the background; children would inherit that.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    store = JobStore(tmp_path / "jobs")
    yield store
    signal.signal(signal.SIGINT, handler)
    for job in store.jobs():
        if job.started and not job.ended:
            kill(json.loads((job.folder / STATE).read_text(encoding="utf-8"))["pid"])


def until(condition):
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def step_until(supervisor, store, job, state):
    until(lambda: (supervisor.step(), store.job(job.id).state is state)[1])


def started(supervisor, store, job):
    supervisor.step()
    until(lambda: "ready" in store.log(job.id))


@pytest.mark.slow
def test_jobs_of_a_device_run_in_order(store, tmp_path):
    note = "import pathlib, sys; pathlib.Path({!r}).open('a').write({!r})"
    for name in "ab":
        store.submit("train", [note.format(str(tmp_path / "notes"), name)], name)
    Supervisor(store).run()
    assert [job.state for job in store.jobs()] == [State.DONE, State.DONE]
    assert (tmp_path / "notes").read_text(encoding="utf-8") == "ab"
    first, second = store.jobs()
    assert first.created <= first.started <= first.ended <= second.started and first.exit_status == 0


@pytest.mark.slow
def test_job_waits_for_its_own_device_only(store):
    jobs = [store.submit("train", [WAIT], "", device) for device in ("0", "0", "1")]
    Supervisor(store).step()
    assert [store.job(job.id).state for job in jobs] == [State.RUNNING, State.WAITING, State.RUNNING]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("print('Error: voices=x: no such folder'); print('more'); raise SystemExit(1)", "voices=x: no such folder"),
        ("raise ValueError('défaut')", "ValueError: défaut"),
        ("raise SystemExit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "killed by signal SIGKILL"),
        pytest.param(
            "import os; os.kill(os.getpid(), 40)",
            "killed by signal 40",
            marks=pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="this system has no such signals"),
        ),
    ],
)
def test_failed_job_has_the_error_of_its_command(store, script, error):
    job = store.submit("train", [script], "")
    Supervisor(store).run()
    job = store.job(job.id)
    assert (job.state, job.error) == (State.FAILED, error) and job.exit_status != 0


@pytest.mark.slow
def test_job_whose_folder_has_vanished_fails(store, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    job = store.submit("train", ["pass"], "")
    (tmp_path / "gone").rmdir()
    Supervisor(store).run()
    assert store.job(job.id).state is State.FAILED and "No such file" in store.job(job.id).error


@pytest.mark.slow
def test_stopped_job_is_interrupted_once_and_saves(store):
    job, supervisor = store.submit("train", [SAVE], ""), Supervisor(store)
    started(supervisor, store, job)
    assert store.stop(job.id).state is State.STOPPING
    step_until(supervisor, store, job, State.STOPPED)
    job = store.job(job.id)
    assert store.log(job.id) == "ready\nsaved\n" and (job.exit_status, job.error) == (130, None)
    assert store.stop(job.id).state is State.STOPPED


@pytest.mark.slow
def test_job_that_ignores_the_stop_is_killed_after_the_grace(store):
    job = store.submit("train", [IGNORE], "")
    patient, impatient = Supervisor(store), Supervisor(store, grace_seconds=0)
    started(patient, store, job)
    store.stop(job.id)
    assert patient.step() and patient.step()
    # Another supervisor, which did not start the job, stops it as well.
    impatient.step()
    step_until(patient, store, job, State.STOPPED)
    assert store.job(job.id).exit_status == -signal.SIGKILL


def test_stopped_waiting_job_never_starts(store):
    job = store.submit("train", ["pass"], "")
    assert store.stop(job.id).state is State.STOPPED
    assert not Supervisor(store).step()
    assert store.job(job.id).started is None


@pytest.mark.slow
def test_job_of_a_killed_supervisor_is_watched_by_the_next(store):
    job, later = store.submit("train", [WAIT], ""), store.submit("train", ["pass"], "")
    first, second = Supervisor(store), Supervisor(store)
    started(first, store, job)
    assert second.step() and store.job(later.id).state is State.WAITING
    first._children[job.id].kill()
    until(lambda: psutil.Process(first._children[job.id].pid).status() == psutil.STATUS_ZOMBIE)
    second.step()
    assert (store.job(job.id).state, store.job(job.id).exit_status) == (State.FAILED, None)
    assert "the exit status is unknown" in store.job(job.id).error
    step_until(second, store, later, State.DONE)


@pytest.mark.slow
def test_process_that_a_killed_supervisor_did_not_record_is_adopted(store, monkeypatch):
    job, first = start_unrecorded(store, monkeypatch, WAIT)
    assert store.job(job.id).state is State.WAITING
    second = Supervisor(store)
    started(second, store, job)
    assert json.loads((job.folder / STATE).read_text())["pid"] == first._children[job.id].pid
    assert not second._children and store.log(job.id) == "ready\n"


@pytest.mark.slow
def test_job_that_is_stopped_before_its_process_is_recorded_ends(store, monkeypatch):
    job, _ = start_unrecorded(store, monkeypatch, SAVE)
    until(lambda: store.log(job.id) == "ready\n")
    assert store.stop(job.id).state is State.STOPPED
    second = Supervisor(store)
    assert second.step() and store.job(job.id).state is State.STOPPING
    step_until(second, store, job, State.STOPPED)
    assert store.log(job.id) == "ready\nsaved\n"


def start_unrecorded(store, monkeypatch, script):
    """Submit a job; its supervisor is killed before it records the process. Return both."""
    job, supervisor = store.submit("train", [script], ""), Supervisor(store)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ProcessState, "write", end_abruptly)
        supervisor.step()
    return job, supervisor


def end_abruptly(*args, **options):
    """Stand for SIGKILL at this moment."""
    raise KeyboardInterrupt


@pytest.mark.slow
def test_supervisor_waits_while_the_disk_is_full(store, tmp_path, monkeypatch):
    job = store.submit("train", [f"import tempfile; tempfile.mkdtemp(dir={str(tmp_path)!r}, prefix='ran')"], "")
    sleep, full = time.sleep, ExitStack()
    # The first record of the process fails, then there is space again.
    monkeypatch.setattr(supervising.time, "sleep", lambda seconds: (full.close(), sleep(seconds)))
    with full:
        full.enter_context(limited_file_size(0))
        Supervisor(store).run()
    job = store.job(job.id)
    assert (job.state, job.exit_status, len(list(tmp_path.glob("ran*")))) == (State.DONE, 0, 1)


@pytest.mark.slow
def test_exit_status_survives_a_full_disk(store, monkeypatch):
    job, supervisor = store.submit("train", ["raise SystemExit(3)"], ""), Supervisor(store)
    supervisor.step()
    supervisor._children[job.id].wait()
    with limited_file_size(0), pytest.raises(OutOfSpaceError):
        supervisor.step()
    supervisor.step()
    assert (store.job(job.id).state, store.job(job.id).exit_status) == (State.FAILED, 3)


@pytest.mark.slow
def test_job_whose_log_finds_no_space_fails(store):
    job = store.submit("train", ["print('x\\n' * 100_000, flush=True)"], "")
    with limited_file_size(1000):
        Supervisor(store).run()
    assert (store.job(job.id).state, store.job(job.id).exit_status) == (State.FAILED, 1)
    assert store.log(job.id) == "x\n" * 500


def test_half_removed_job_does_not_run_again(store, monkeypatch):
    job, supervisor = store.submit("train", ["pass"], ""), Supervisor(store)
    store.stop(job.id)
    ProcessState(1.0, ended=2.0, exit_status=0).write(job.folder)

    def remove_some(folder, **options):
        (Path(folder) / STATE).unlink()
        (Path(folder) / STOP).unlink()
        end_abruptly()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", remove_some)
        store.remove(job.id)
    assert store.jobs() == [] and not supervisor.step()
    with exclusive_lock(store.folder):
        assert not list(store.folder.glob(f"{TEMPORARY_PREFIX}*"))


def test_supervisor_removes_unfinished_files_of_a_killed_one(store):
    job = store.submit("train", ["pass"], "")
    (job.folder / f"{TEMPORARY_PREFIX}1.json").touch()
    Supervisor(store)
    assert {path.name for path in job.folder.iterdir()} == {"job.json"}


@pytest.mark.slow
def test_success_is_known_without_a_supervisor(store):
    job, first = store.submit("train", ["pass"], ""), Supervisor(store)
    first.step()
    (job.folder / PROGRESS).write_text(
        '{"stage": "training", "share": 1.0, "seconds_left": 0.0, "finished": true, "output_folder": "runs/a"}'
    )
    first._children[job.id].wait()
    Supervisor(store).step()
    assert store.job(job.id).state is State.DONE


@pytest.mark.slow
def test_another_process_with_the_number_of_a_job_is_not_taken_for_it(store):
    job = store.submit("train", ["pass"], "")
    Supervisor(store).run()
    state = json.loads((job.folder / STATE).read_text(encoding="utf-8"))
    state |= {"pid": os.getpid(), "pid_created": 1.0, "ended": None, "exit_status": None}
    (job.folder / STATE).write_text(json.dumps(state))
    (job.folder / STOP).touch()
    assert not Supervisor(store).step()
    assert store.job(job.id).state is State.STOPPED


@pytest.mark.parametrize("name", ["", "..", "../jobs", "20260101-000000-abcdef", "a\0b", "é" * 300])
def test_unknown_job_is_an_error(store, name):
    for method in (store.job, store.stop, store.resume, store.remove, store.log, store.progress, store.shell_command):
        with pytest.raises(UnknownJobError, match="unknown job"):
            method(name)


@pytest.mark.slow
def test_only_ended_jobs_are_removed_and_resumed(store):
    job, supervisor = store.submit("train", [SAVE], ""), Supervisor(store)
    for method in (store.remove, store.resume):
        with pytest.raises(InUseError, match="is waiting; stop it first"):
            method(job.id)
    started(supervisor, store, job)
    with pytest.raises(InUseError, match="is running; stop it first"):
        store.remove(job.id)
    store.stop(job.id)
    step_until(supervisor, store, job, State.STOPPED)
    store.remove(job.id)
    assert store.jobs() == []


def test_training_resumes_from_its_run_and_other_jobs_run_again(store, tmp_path):
    for command, overrides in (
        ("prepare", ("hydra.searchpath=[a]", "name=7")),
        ("train", ("hydra.searchpath=[a]", format_override("checkpoint", tmp_path / "runs" / "anna" / "1"))),
    ):
        job = store.submit(command, ["hydra.searchpath=[a]", "name=7"], "Anna", "gpu")
        (tmp_path / "runs/anna/1/checkpoints").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs/anna/1/checkpoints/last.ckpt").touch()
        (job.folder / PROGRESS).write_text(json.dumps({"output_folder": f"{tmp_path}/runs/anna/1"}))
        store.stop(job.id)
        again = store.resume(job.id)
        assert (again.command, again.overrides, again.title, again.device) == (command, overrides, "Anna", "gpu")


@pytest.mark.parametrize("content", ["{", "[]", '{"command": "train"}', '{"unknown": 1}'])
@pytest.mark.parametrize("name", ["job.json", STATE])
def test_damaged_job_is_left_out_and_reported_once(store, caplog, name, content):
    damaged, whole = store.submit("prepare", [], "Anna"), store.submit("prepare", [], "Ben")
    (damaged.folder / name).write_text(content)
    assert [job.id for job in store.jobs()] == [job.id for job in store.jobs()] == [whole.id]
    assert caplog.text.count(str(damaged.folder)) == 1
    with pytest.raises(UnknownJobError):
        store.job(damaged.id)


def test_job_that_is_run_again_twice_is_submitted_once(store):
    job = store.submit("prepare", ["name=7"], "Anna")
    store.stop(job.id)
    again = store.resume(job.id)
    assert store.resume(job.id).id == again.id != job.id
    store.stop(again.id)
    later = store.resume(again.id)
    assert store.resume(job.id).id == later.id
    assert [one.id for one in store.jobs()] == [job.id, again.id, later.id]


def test_clients_that_resume_a_job_at_the_same_time_get_the_same_job(store):
    job = store.submit("prepare", ["name=7"], "Anna")
    store.stop(job.id)
    with ThreadPoolExecutor(8) as clients:
        assert len({again.id for again in clients.map(store.resume, [job.id] * 8)}) == 1


@POSIX_SHELL
def test_shell_command_can_be_pasted(store):
    job = store.submit("train", ["name='a b'", "+experiment=quickstart"], "")
    text = store.shell_command(job.id)
    assert text == "python -m rvc_lightning.train 'name='\"'\"'a b'\"'\"'' +experiment=quickstart"


def test_log_returns_the_end_of_a_long_output(store):
    job = store.submit("train", [], "")
    assert store.log(job.id) == ""
    (job.folder / "log.txt").write_text("first\nlast\n")
    assert (store.log(job.id, 5), store.log(job.id)) == ("last\n", "first\nlast\n")


def test_progress_without_a_file_is_unknown(store):
    job = store.submit("train", [], "")
    assert store.progress(job.id).share is None
    for content in ('{"stage"', "{}", '{"unknown": 1, "output_folder": "a"}'):
        (job.folder / PROGRESS).write_text(content)
        assert store.progress(job.id).stage == ""


SUBMIT = """
import sys, time
from rvc_lightning.jobs.store import JobStore
store = JobStore(sys.argv[1])
for name in ("a", "b"):
    print(store.submit("prepare", ["audio=missing_" + name], name).id, flush=True)
time.sleep(300)
"""


@pytest.mark.slow
def test_queue_continues_after_the_server_is_killed(tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-c", SUBMIT, str(tmp_path / "jobs")], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    ids = [server.stdout.readline().strip() for _ in range(2)]
    server.kill()
    server.communicate()
    store = JobStore(tmp_path / "jobs")
    until(lambda: all(job.state.is_final for job in store.jobs()))
    assert [job.id for job in store.jobs()] == ids
    assert [job.state for job in store.jobs()] == [State.FAILED, State.FAILED]
    assert "missing_b" in store.job(ids[1]).error and store.job(ids[1]).exit_status == 1


@pytest.mark.slow
def test_killed_supervisor_is_replaced_and_loses_no_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = JobStore(tmp_path / "jobs")
    jobs = [store.submit("prepare", ["audio=missing_a"], "a")]
    until(lambda: store.job(jobs[0].id).started)
    jobs.append(store.submit("prepare", ["audio=missing_b"], "b"))
    store._supervisor.kill()
    store._supervisor.wait()
    store.wake()
    until(lambda: all(job.state.is_final for job in store.jobs()))
    assert [job.state for job in store.jobs()] == [State.FAILED, State.FAILED]
    assert "missing_b" in store.job(jobs[1].id).error
    store.wake()
    assert store._supervisor.wait(PATIENCE_SECONDS) == 0
