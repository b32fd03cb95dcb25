"""How time and memory grow with the recordings: of `prepare`, of the data module's start, and of `convert`.

    OMP_NUM_THREADS=1 python tests/parity/growth.py [prepare start convert] [--hours 0.5 1 2 4] [--rows 1000 10000]
        [--slices 1] [--minutes 1 4 16 60] [--work FOLDER]

Every size is a process of its own. Of each: user and system time of its CPU, its peak of resident memory, what both
are multiplied by when the size doubles (2 is linear, 1 is flat), and the time of each further unit, which the start of
Python does not blur. Prints a table in Markdown as it goes.

prepare: recordings of five minutes, put together from the demo's sentences in other orders; one process.
start: a manifest of made-up rows, `--slices` of each recording; until the rows of the first batch are there.
convert: one recording, through random weights of `model=tiny`, which do not change the work; no index.

Not a test: pytest does not collect it.
"""

import argparse
import hashlib
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

# No more is imported here: the peak of a process begins with what the one that started it had.

DEMO = Path(__file__).parents[2] / "rvc_lightning/assets/demo/target"
RECORDING_SECONDS = 300.0
ELSEWHERE = "elsewhere"


class Used(NamedTuple):
    """What a process took."""

    cpu_seconds: float
    peak_mb: float


def measured(*words):
    """What `python WORDS` takes. Raises RuntimeError if it fails."""
    process = subprocess.Popen([sys.executable, *map(str, words)], stdout=sys.stderr)
    # Of this process alone, while resource.getrusage would give the largest of all so far.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(process.args)} ended with status {process.returncode}")
    return Used(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


# ------------------------------------------------------------------ what is measured


def write_speech(path, seconds, seed):
    """A recording of sentences of the demo, one behind the other in an order of its own."""
    noise, rate, missing = np.random.default_rng(seed), 16000, round(seconds * 16000)
    sentences = [soundfile.read(file, dtype="float32")[0] for file in sorted(DEMO.glob("*.flac"))]
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        while missing > 0:
            sentence = sentences[noise.integers(len(sentences))][:missing]
            file.write(sentence)
            missing -= len(sentence)


def prepare(hours, work):
    """Recordings to a dataset at 40 kHz, in one process."""
    for number in range(max(1, round(hours * 3600 / RECORDING_SECONDS))):
        write_speech(work / f"in/{number:04}.flac", min(RECORDING_SECONDS, hours * 3600), number)
    words = (f"audio={work / 'in'}", f"paths.root={work}", "prepare_workers=0", "content=phonetic", "sample_rate=40k")
    return measured("-m", "rvc_lightning.prepare", *words)


def elsewhere(function, *arguments):
    """Runs a function of this file in a process of its own; gives what it takes."""
    return measured(__file__, ELSEWHERE, function.__name__, *arguments)


def made_up_row(number, slices):
    """A row as `prepare` writes them."""
    from rvc_lightning.data.manifest import ManifestRow

    recording, place = divmod(number, slices)
    digits = hashlib.sha256(str(recording).encode()).hexdigest()[:16]
    folder = f"some_sentence_{recording:07}-{digits}"
    where = f"{digits[:2]}/{digits[2]}/{folder}"
    frames = 60 + number * 7919 % 300
    return ManifestRow(
        id=f"{folder}/{place:04}",
        recording=f"speaker/some_sentence_{recording:07}.wav",
        speaker=0,
        sample_rate=40000,
        audio=f"slices-89abcdef/{where}/{place:04}.wav",
        f0=f"pitch-swift_f0-89abcdef/{where}/{place:04}.npy",
        content=f"content-contentvec-89abcdef/{where}/{place:04}.npy",
        samples=400 * frames,
        frames=frames,
        seconds=frames / 100,
    )


def write_rows(work, rows, slices):
    """The manifest of a dataset that is not there."""
    from rvc_lightning.data.manifest import DatasetHeader, write_manifest

    header = DatasetHeader(40000, {"name": "swift_f0"}, {"name": "contentvec", "dim": 768})
    write_manifest(work, header, (made_up_row(number, int(slices)) for number in range(int(rows))))


def read_rows(work):
    """Up to the rows of the first batch."""
    from defaults import make_data

    data = make_data(work)
    data.setup()
    training, _ = data.train_dataloader(), data.val_dataloader()
    rows = [data.training_rows[index] for index in next(iter(training.batch_sampler))]
    assert len(rows) == data.config.batch_size


def start(rows, work, slices):
    """Reading a manifest until training can begin."""
    elsewhere(write_rows, work, rows, slices)
    return elsewhere(read_rows, work)


def write_voice(path):
    """A voice of random weights."""
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
    """A recording to a voice, all in one process."""
    voice, source = work / "voice.pth", work / "in.flac"
    elsewhere(write_voice, voice)
    write_speech(source, 60 * minutes, 0)
    words = (f"voice={voice}", f"input={source}", f"output={work / 'out.wav'}", "num_workers=0")
    return measured("-m", "rvc_lightning.convert", *words)


# ------------------------------------------------------------------ the table


def table(unit, sizes, measure, parent):
    """Measures every size and prints a line of it."""
    say(f"| {unit} | CPU seconds | x a doubling | CPU seconds a further {unit[:-1]} | peak MB | x a doubling |")
    say("|---|---|---|---|---|---|")
    before = None
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=parent) as work:
            used = measure(size, Path(work))
        cells = ["", "", ""]
        if before is not None:
            size_before, used_before = before
            doublings = math.log2(size / size_before)
            time, memory = ((now / then) ** (1 / doublings) for now, then in zip(used, used_before, strict=True))
            further = (used.cpu_seconds - used_before.cpu_seconds) / (size - size_before)
            cells = [f"{time:.2f}", f"{further:.3g}", f"{memory:.2f}"]
        say(f"| {size:g} | {used.cpu_seconds:.1f} | {cells[0]} | {cells[1]} | {used.peak_mb:.0f} | {cells[2]} |")
        before = size, used


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["prepare", "start", "convert"])
    parser.add_argument("--hours", type=float, nargs="+", default=[0.5, 1, 2, 4])
    parser.add_argument("--rows", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--slices", type=int, default=1, help="of each recording of the manifest")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 4, 16, 60])
    parser.add_argument("--work", type=Path, help="where folders for the measures are made and removed")
    arguments = parser.parse_args()
    if arguments.what[0] == ELSEWHERE:
        globals()[arguments.what[1]](*arguments.what[2:])
        return
    tables = {
        "prepare": ("hours", arguments.hours, prepare),
        "start": ("rows", arguments.rows, lambda rows, work: start(rows, work, arguments.slices)),
        "convert": ("minutes", arguments.minutes, convert),
    }
    for name in arguments.what:
        say(f"\n{name}\n")
        table(*tables[name], arguments.work)


if __name__ == "__main__":
    main()
