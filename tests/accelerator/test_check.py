"""The accelerator check with tiny sizes on a CPU."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "check.py"


@pytest.mark.long
def test_all_sections_run_on_a_cpu(tmp_path):
    settings = ["--output", tmp_path, "--sizes", "tiny", "--accelerator", "cpu", "--minutes", "30"]
    result = subprocess.run([sys.executable, SCRIPT, *settings], capture_output=True, text=True)
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert result.returncode == 0, f"{result.stdout}\n{summary}"
    for name, column in (("training", "s/step"), ("conversion_32-true", "s/audio-s"), ("live", "latency")):
        with (tmp_path / f"{name}.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) >= 2 and all(row[column] for row in rows)
    assert "| plain |" in summary and (tmp_path / "voices" / "quickstart" / "quickstart.pth").exists()
