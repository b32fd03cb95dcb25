"""Measure how time and memory of `prepare`, of the start of the data module and of `convert` grow with the input.

    OMP_NUM_THREADS=1 python tests/parity/growth.py [prepare whole preview files again start convert]
        [--hours 0.5 1 2 4] [--files 1000 10000] [--rows 1000 10000] [--slices 1] [--minutes 1 4 16 60] [--work FOLDER]

Each size runs in a separate process. The table in Markdown contains its CPU time (user and system), its peak resident
memory, the factor of both when the size doubles (2 is linear, 1 is constant), and the time of each further unit, which
excludes the start of Python.

prepare: recordings of five minutes, concatenated from the demo's sentences in random order; one process.
whole: the same, as one recording.
preview, files, again: recordings of one second; their preview, their preparation, and a second preparation.
start: a synthetic manifest with `--slices` of each recording, until the rows of the first batch are read.
convert: one recording with random weights of `model=tiny`, whose values do not affect the speed; no index.

A measurement, not collected by pytest.
"""

import argparse
import hashlib
import math
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

# Nothing else is imported here: the peak memory of a process includes that of its parent at the fork.

DEMO = Path(__file__).parents[2] / "rvc_lightning/assets/demo/target"
RECORDING_SECONDS = 300.0
SUBPROCESS = "subprocess"


class Usage(NamedTuple):
    """Resources usage by a process."""

    cpu_seconds: float
    peak_mb: float


def measured(*words):
    """Run `python WORDS` and return its usage. Raises RuntimeError if it fails."""
    process = subprocess.Popen([sys.executable, *map(str, words)], stdout=sys.stderr)
    # Usage of this process alone; resource.getrusage returns the maximum over all children.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(process.args)} exited with status {process.returncode}")
    return Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


# ------------------------------------------------------------------ measurements


@cache
def read_sentences():
    return [soundfile.read(file, dtype="float32")[0] for file in sorted(DEMO.glob("*.flac"))]


def write_speech(path, seconds, seed):
    """Write a recording of the demo's sentences in random order."""
    noise, rate, missing = np.random.default_rng(seed), 16000, round(seconds * 16000)
    sentences = read_sentences()
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        while missing > 0:
            sentence = sentences[noise.integers(len(sentences))][:missing]
            file.write(sentence)
            missing -= len(sentence)


def run_prepare(work, *overrides):
    """Measure the preparation of the recordings in `work/in` at 40 kHz in one process."""
    words = (f"audio={work / 'in'}", f"paths.root={work}", "prepare_workers=0", "content=phonetic", "sample_rate=40k")
    return measured("-m", "rvc_lightning.prepare", *words, *overrides)


def prepare(hours, work):
    """Measure the preparation of recordings of five minutes."""
    for number in range(max(1, round(hours * 3600 / RECORDING_SECONDS))):
        write_speech(work / f"in/{number:04}.flac", min(RECORDING_SECONDS, hours * 3600), number)
    return run_prepare(work)


def whole(hours, work):
    """Measure the preparation of one recording."""
    write_speech(work / "in/whole.flac", hours * 3600, 0)
    return run_prepare(work)


def write_short_recordings(count, work):
    """Write recordings of one second in folders of a thousand."""
    for number in range(count):
        write_speech(work / f"in/{number // 1000:03}/{number:06}.flac", 1.0, number)


def preview(count, work):
    """Measure the preview of short recordings."""
    write_short_recordings(count, work)
    return run_prepare(work, "preview=true", "speakers=one")


def files(count, work):
    """Measure the preparation of short recordings."""
    write_short_recordings(count, work)
    return run_prepare(work, "speakers=one")


def again(count, work):
    """Measure a second preparation of short recordings, which finds everything done."""
    files(count, work)
    return run_prepare(work, "speakers=one")


def in_process(function, *arguments):
    """Run a function of this file in a separate process and return its usage."""
    return measured(__file__, SUBPROCESS, function.__name__, *arguments)


def synthetic_row(number, slices):
    """Return a row as written by `prepare`."""
    from rvc_lightning.data.manifest import ManifestRow

    recording, slice_number = divmod(number, slices)
    digits = hashlib.sha256(str(recording).encode()).hexdigest()[:16]
    folder = f"some_sentence_{recording:07}-{digits}"
    subfolder = f"{digits[:2]}/{digits[2]}/{folder}"
    frames = 60 + number * 7919 % 300
    return ManifestRow(
        id=f"{folder}/{slice_number:04}",
        recording=f"speaker/some_sentence_{recording:07}.wav",
        speaker=0,
        sample_rate=40000,
        audio=f"slices-89abcdef/{subfolder}/{slice_number:04}.wav",
        f0=f"pitch-swift_f0-89abcdef/{subfolder}/{slice_number:04}.npy",
        content=f"content-contentvec-89abcdef/{subfolder}/{slice_number:04}.npy",
        samples=400 * frames,
        frames=frames,
        seconds=frames / 100,
    )


def write_rows(work, rows, slices):
    """Write the manifest of a dataset without files."""
    from rvc_lightning.data.manifest import DatasetHeader, write_manifest

    header = DatasetHeader(40000, {"name": "swift_f0"}, {"name": "contentvec", "dim": 768})
    write_manifest(work, header, (synthetic_row(number, int(slices)) for number in range(int(rows))))


def read_rows(work):
    """Read a manifest up to the rows of the first batch."""
    from defaults import make_data

    data = make_data(work)
    data.setup()
    training, _ = data.train_dataloader(), data.val_dataloader()
    rows = [data.training_rows[index] for index in next(iter(training.batch_sampler))]
    assert len(rows) == data.config.batch_size


def start(rows, work, slices):
    """Measure the start of the data module."""
    in_process(write_rows, work, rows, slices)
    return in_process(read_rows, work)


def write_voice(path):
    """Write a voice with random weights."""
    from hydra import compose, initialize_config_module

    from rvc_lightning.cli import resolvers
    from rvc_lightning.config.values import plain
    from rvc_lightning.content import build_content_encoder
    from rvc_lightning.models import Synthesizer, SynthesizerConfig
    from rvc_lightning.voice.voice import Voice

    resolvers.register()
    with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
        config = compose("train", ["model=tiny", "sample_rate=40k", "content=phonetic"])
    encoder = build_content_encoder("phonetic")
    sizes = SynthesizerConfig.from_values(plain(config.model.synthesizer) | {"content_dim": encoder.dim})
    facts = {"content": {"name": "phonetic", "options": {}}, "pitch": {"name": "swift_f0", "options": {}}}
    Voice.from_synthesizer(sizes, Synthesizer(sizes).state_dict(), {"rvc_lightning": facts}).save(path)


def convert(minutes, work):
    """Measure the conversion of a recording in one process."""
    voice, source = work / "voice.pth", work / "in.flac"
    in_process(write_voice, voice)
    write_speech(source, 60 * minutes, 0)
    words = (f"voice={voice}", f"input={source}", f"output={work / 'out.wav'}", "num_workers=0")
    return measured("-m", "rvc_lightning.convert", *words)


# ------------------------------------------------------------------ the table


def table(unit, sizes, measure, parent):
    """Measure every size and print a row of the table."""
    write(f"| {unit} | CPU seconds | x per doubling | CPU seconds per further {unit[:-1]} | peak MB | x per doubling |")
    write("|---|---|---|---|---|---|")
    before = None
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=parent) as work:
            usage = measure(size, Path(work))
        cells = ["", "", ""]
        if before is not None:
            size_before, usage_before = before
            doublings = math.log2(size / size_before)
            time, memory = ((now / then) ** (1 / doublings) for now, then in zip(usage, usage_before, strict=True))
            further = (usage.cpu_seconds - usage_before.cpu_seconds) / (size - size_before)
            cells = [f"{time:.2f}", f"{further:.3g}", f"{memory:.2f}"]
        write(f"| {size:g} | {usage.cpu_seconds:.1f} | {cells[0]} | {cells[1]} | {usage.peak_mb:.0f} | {cells[2]} |")
        before = size, usage


def write(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["prepare", "start", "convert"])
    parser.add_argument("--hours", type=float, nargs="+", default=[0.5, 1, 2, 4])
    parser.add_argument("--files", type=int, nargs="+", default=[10**2, 10**3, 10**4])
    parser.add_argument("--rows", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--slices", type=int, default=1, help="slices of each recording in the manifest")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 4, 16, 60])
    parser.add_argument("--work", type=Path, help="parent of the temporary folders")
    arguments = parser.parse_args()
    if arguments.what[0] == SUBPROCESS:
        globals()[arguments.what[1]](*arguments.what[2:])
        return
    tables = {
        "prepare": ("hours", arguments.hours, prepare),
        "whole": ("hours", arguments.hours, whole),
        "preview": ("files", arguments.files, preview),
        "files": ("files", arguments.files, files),
        "again": ("files", arguments.files, again),
        "start": ("rows", arguments.rows, lambda rows, work: start(rows, work, arguments.slices)),
        "convert": ("minutes", arguments.minutes, convert),
    }
    for name in arguments.what:
        write(f"\n{name}\n")
        table(*tables[name], arguments.work)


if __name__ == "__main__":
    main()
