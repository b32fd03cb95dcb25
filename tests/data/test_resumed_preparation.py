"""Preparation in several processes: killed and resumed, or shared by ranks."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kills import FORK
from preparation import all_files, run, speech_with_pauses, write

from rvc_lightning.data.manifest import read_manifest

pytestmark = pytest.mark.slow

WORKER = Path(__file__).parents[1] / "support/prepare_worker.py"


def wait_for(pattern, folder, process):
    """Wait until a matching file exists, or the process has ended."""
    while not any(folder.glob(pattern)) and process.is_alive():
        time.sleep(0.005)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_run_resumes_to_the_same_manifest(tmp_path):
    for seed in range(4):
        write(tmp_path / f"in/{seed}.wav", speech_with_pauses(6.0, seed))
    run(tmp_path / "in", tmp_path / "whole")
    reached = 0
    for pattern in (
        "slices-*/*/*/*/*.wav",
        "slices-*/*/*/2*/recording.json",
        "pitch-*/*/*/*/*.npy",
        "content-*/*/*/3*/*.npy",
    ):
        process = FORK.Process(target=run, args=(tmp_path / "in", tmp_path / "killed"))
        process.start()
        wait_for(pattern, tmp_path / "killed", process)
        reached += process.is_alive()
        process.kill()
        process.join()
    assert reached
    run(tmp_path / "in", tmp_path / "killed")
    for name in ("manifest.jsonl", "dataset.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    whole, killed = (
        {path for path in all_files(tmp_path / name) if len(path.parts) > 1} for name in ("whole", "killed")
    )
    assert killed == whole


def run_on_two_ranks(*arguments):
    """Run the worker; Lightning starts the second rank."""
    paths = os.pathsep.join([str(WORKER.parent), str(WORKER.parent.parent)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, str(WORKER), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_ranks_share_the_slices(tmp_path):
    for seed in range(3):
        write(tmp_path / f"in/{seed}.wav", speech_with_pauses(6.0, seed))
    run(tmp_path / "in", tmp_path / "one")
    run_on_two_ranks(tmp_path / "in", tmp_path / "two")
    assert (tmp_path / "one/manifest.jsonl").read_bytes() == (tmp_path / "two/manifest.jsonl").read_bytes()
    written = [(tmp_path / f"two/by-rank-{rank}").read_text(encoding="utf-8").split() for rank in (0, 1)]
    assert all(written) and not set(written[0]) & set(written[1])
    assert len(written[0]) + len(written[1]) == len(list(read_manifest(tmp_path / "two"))) + 1
    report = json.loads((tmp_path / "two/report.json").read_text(encoding="utf-8"))
    assert set(report["speeds"]) == {"slicing", "pitch", "content"} and min(report["speeds"].values()) > 0


def test_failure_to_write_the_manifest_ends_both_ranks(tmp_path):
    write(tmp_path / "in/a.wav", speech_with_pauses(3.0))
    run_on_two_ranks(tmp_path / "in", tmp_path / "two", "--fail")
    for rank in (0, 1):
        assert (tmp_path / f"two/error-of-rank-{rank}").read_text(encoding="utf-8") == "no space left on device"
