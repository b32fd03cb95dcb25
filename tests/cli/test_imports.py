"""Heavy libraries are imported only where they are used, so that commands start quickly."""

import json
import subprocess
import sys
from functools import cache

import pytest
from commanding import PACKAGES

from rvc_lightning.__main__ import COMMANDS

HEAVY = (
    "av", "faiss", "fastapi", "gradio", "librosa", "lightning", "matplotlib.pyplot", "numba", "onnxruntime", "pandas",
    "pedalboard", "scipy.signal", "sklearn", "sounddevice", "tensorboard", "torch", "torchmetrics", "transformers",
)  # fmt: skip
"""Modules that take 0.05 s or more to import."""

SCRIPT = """
import importlib, json, sys
heavy, seen, imported = json.loads(sys.argv[1]), set(), {}
for name in json.loads(sys.argv[2]):
    if name.startswith("--help"):
        module = importlib.import_module(name.removeprefix("--help "))
        sys.argv[1:] = ["--help"]
        try:
            module.main()
        except SystemExit:
            pass
    else:
        importlib.import_module(name)
    imported[name] = sorted(set(heavy) & set(sys.modules) - seen)
    seen |= set(sys.modules)
sys.stderr.write(json.dumps(imported))
"""
NOT_SPLIT = "pretraining.augment_speakers"
"""A tool of developers whose only module imports torch."""
HELP = [f"rvc_lightning.{name}{'.__main__' * (name in PACKAGES)}" for name in COMMANDS if name != NOT_SPLIT]
PRINTED = ["--help rvc_lightning.train", "--help rvc_lightning.convert", "--help rvc_lightning.voice.__main__"]
CONVERSION = ["rvc_lightning.training.converting", "rvc_lightning.conversion.folder"]
TRAINING = ["rvc_lightning.training.run"]


@cache
def imported():
    """Return the heavy modules that each step adds to those of the steps before it, in one process."""
    steps = [*HELP, *PRINTED, "lightning", *CONVERSION, *TRAINING]
    script = [sys.executable, "-c", SCRIPT, json.dumps(HEAVY), json.dumps(steps)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr)


@pytest.mark.slow
def test_help_imports_nothing_heavy():
    assert {name: modules for name in [*HELP, *PRINTED] if (modules := imported()[name])} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "allowed"), [(CONVERSION, {"av", "faiss", "librosa"}), (TRAINING, {"matplotlib.pyplot"})]
)
def test_command_adds_only_what_it_uses_to_lightning(steps, allowed):
    assert {module for name in steps for module in imported()[name]} <= allowed
