"""Imports of modules that numba compiles."""

import os
import subprocess
import sys

import pytest

MODULE = """
import os, time
with open(os.environ["EVENTS"], "a") as events:
    for event in ("start", "end"):
        events.write(f"{event} {os.getpid()}\\n")
        events.flush()
        time.sleep(0.3)
"""


def test_processes_import_one_after_the_other(tmp_path):
    (tmp_path / "slow_module.py").write_text(MODULE)
    events = tmp_path / "events"
    script = "from rvc_lightning.io.imports import import_compiled; import_compiled('slow_module')"
    folders = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"EVENTS": str(events), "PYTHONPATH": folders}
    processes = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    lines = [line.split() for line in events.read_text(encoding="utf-8").splitlines()]
    assert [event for event, _ in lines] == 3 * ["start", "end"]
    assert all(first[1] == second[1] for first, second in zip(lines[::2], lines[1::2], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "metric"),
    [("resemblyzer", "speaker import SpeakerEncoder"), ("speechmos", "mos import OpinionEstimator")],
)
def test_packages_import_librosa_in_their_turn(package, metric):
    pytest.importorskip(package)
    script = f"""
import sys
from rvc_lightning.evaluation.{metric} as Metric
from rvc_lightning.io import imports

def in_turn(name, original=imports.import_module):
    assert "librosa.core" not in sys.modules
    module = original(name)
    print("imported in turn:", "librosa.core" in sys.modules)
    return module

imports.import_module = in_turn
Metric()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "imported in turn: True" in done.stdout, done.stderr
