"""Synthetic speech, and its preparation."""

import numpy as np
import soundfile
from defaults import make_extraction, make_recipe
from stubs import cpu_trainer

from rvc_lightning.data.preparation import prepare

RATE = 16000


def speech(seconds=2.0, sample_rate=RATE, seed=0, level=0.3):
    """Return a buzz with noise, float32 [N]."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    buzz = sum(np.sin(2 * np.pi * (120 + 10 * seed) * k * time) / k for k in range(1, 6))
    return (level * (0.5 * buzz + 0.1 * np.random.default_rng(seed).normal(0, 1, len(time)))).astype(np.float32)


def write(path, audio, sample_rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, sample_rate, **options)
    return path


def run(audio, output, **changes):
    """Prepare a folder with changed settings of the recipe or the extraction."""
    extraction = make_extraction(
        **{name: changes.pop(name) for name in ("num_workers", "batch_slices") if name in changes}
    )
    parts = changes.pop("parts", None)
    return prepare(audio, output, make_recipe(**changes), trainer=cpu_trainer(), extraction=extraction, parts=parts)


def all_files(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def speech_with_pauses(seconds, seed=0):
    """Return speech with pauses, float32 [N]."""
    audio = speech(seconds, seed=seed)
    time_seconds = np.arange(len(audio)) / RATE
    return np.where(time_seconds % 5 < 3.5 + 0.5 * np.sin(time_seconds), audio, 0).astype(np.float32)
