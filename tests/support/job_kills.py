"""A server with jobs, of which processes are killed at random moments, and the checks after every kill.

The server is a process with a `JobStore`, as in the page. A killed server is started again. A killed supervisor is
replaced by the server, and a killed command is a failed job, which the server resumes as a user would.
"""

import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress

import psutil
from kills import UNFINISHED, KillStatistics, Prepare, start

from rvc_lightning.cli.progress_file import PROGRESS_VARIABLE
from rvc_lightning.jobs.job import State
from rvc_lightning.jobs.store import JobStore

SERVER, SUPERVISOR, COMMAND, WORKER = ROLES = ("server", "supervisor", "command", "worker")
POLL_SECONDS = 0.3
ERRORS = ("killed by signal SIGKILL", "the machine or the process was stopped, so the exit status is unknown")


class Server:
    """A server that submits a preparation for each name, and exits when all of them are done."""

    def __init__(self, recordings, names):
        self.recordings, self.names = recordings, names
        self.dataset = Prepare(recordings, num_workers=1)

    def run(self, folder):
        os.chdir(folder)
        store = JobStore(folder / "jobs")
        while True:
            latest = {job.title: job for job in store.jobs()}
            for name in self.names:
                if name not in latest:
                    store.submit("prepare", self.overrides(folder, name), name)
                elif latest[name].state is State.FAILED:
                    store.resume(latest[name].id)
            if len(latest) == len(self.names) and all(job.state is State.DONE for job in latest.values()):
                break
            store.wake()
            time.sleep(POLL_SECONDS)
        store._supervisor and store._supervisor.wait()

    def overrides(self, folder, name):
        dataset = (f"audio={self.recordings}", f"paths.root={folder}", f"name={name}", "sample_rate=24k_light")
        return *dataset, "pitch=none", "content=spectral", "trainer.accelerator=cpu", "prepare_workers=1"


def processes_of(folder):
    """Return the running processes of the jobs of a server's folder, except the server, by role."""
    found = {role: [] for role in ROLES}
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if process.status() != psutil.STATUS_ZOMBIE and (role := role_of(process, folder)):
                found[role].append(process)
    return found


def role_of(process, folder):
    if process.cmdline()[-2:] == ["rvc_lightning.jobs.supervisor", str(folder / "jobs")]:
        return SUPERVISOR
    if process.environ().get(PROGRESS_VARIABLE, "").startswith(f"{folder}/"):
        # A command leads a process group.
        return COMMAND if os.getpgid(process.pid) == process.pid else WORKER
    return None


class KilledServer:
    """A server in a folder, and the jobs that it has accepted."""

    def __init__(self, server, folder):
        folder.mkdir()
        self.server, self.folder = server, folder
        self.store, self.known, self.hit = JobStore(folder / "jobs"), {}, set()
        self.pieces, self.process = {}, start(server, folder)

    @property
    def is_running(self):
        return self.process.exitcode is None

    def watch(self, seconds):
        """Check the jobs for a time, or to the end of the server."""
        deadline = time.monotonic() + seconds
        while self.is_running and time.monotonic() < deadline:
            self.process.join(min(POLL_SECONDS, max(deadline - time.monotonic(), 0)))
            self.check()

    def check(self):
        """Check that no job is lost, run twice at a time, or changed after its end, and that no piece is redone."""
        assert len(processes_of(self.folder)[COMMAND]) <= 1
        jobs = {job.id: job for job in self.store.jobs()}
        for job_id, job in self.known.items():
            assert jobs[job_id].state is not State.WAITING or job.state is State.WAITING
            assert not job.state.is_final or jobs[job_id] == job
        self.known = jobs

    def kill(self, role):
        """Kill the process of a role, or the server if there is none, and start a killed server again."""
        for process in processes_of(self.folder)[role]:
            with suppress(psutil.NoSuchProcess):
                if role == COMMAND:
                    self.hit.add(os.path.basename(os.path.dirname(process.environ()[PROGRESS_VARIABLE])))
                process.kill()
                return role
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.process = start(self.server, self.folder)
        return SERVER

    def check_pieces(self):
        after = self.server.dataset.check_finished(self.folder / "datasets")
        self.server.dataset.check_not_redone(self.pieces, after)
        self.pieces = after

    def check_end(self):
        """Check that every job has the right state, and that no process and no unfinished file is left."""
        assert self.process.exitcode == 0
        self.check()
        ended = [job.title for job in self.known.values() if job.state is State.DONE]
        assert sorted(ended) == sorted(self.server.names)
        for job in self.known.values():
            assert job.state is State.DONE or (job.state is State.FAILED and job.id in self.hit and job.error in ERRORS)
        deadline = time.monotonic() + 60
        while any(processes_of(self.folder).values()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        assert not any(processes_of(self.folder).values())
        self.server.dataset.check_end(self.folder / "datasets")
        assert [path for prefix in UNFINISHED for path in self.folder.rglob(f"{prefix}*")] == []


def kill_jobs_at_random(server, folder, kills, seed):
    """Kill processes of a server at random moments; return a `KillStatistics`, and how often each role was killed."""
    draws, statistics, roles = random.Random(seed), KillStatistics(), Counter()
    started = time.monotonic()
    whole = KilledServer(server, folder / "whole")
    whole.watch(600)
    duration = time.monotonic() - started
    server.dataset.store_reference(folder / "whole" / "datasets")
    whole.check_end()
    while statistics.kills < kills:
        killed = KilledServer(server, folder / f"killed-{statistics.runs}")
        while killed.is_running:
            moment = draws.uniform(0, duration) if statistics.kills < kills else 600
            killed.watch(moment)
            if killed.is_running and statistics.kills < kills:
                roles[killed.kill(draws.choice((SERVER, SUPERVISOR, COMMAND)))] += 1
                statistics.kills += 1
                statistics.seconds.append(moment)
                killed.check_pieces()
        killed.check_end()
        statistics.runs += 1
        shutil.rmtree(killed.folder)
    return statistics, roles
