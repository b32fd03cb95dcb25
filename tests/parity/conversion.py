"""Measure how well voices trained by a command convert other speakers: similarity, melody, words and estimated MOS.

    python tests/parity/conversion.py SOURCES TARGET... [--train +experiment=quickstart ...] [--work FOLDER]

Each TARGET is a folder of recordings of one speaker. A voice is trained on it, and `rvc_lightning.evaluate` converts
the recordings in SOURCES with it, transposed to the pitch of the target. Requires the extra `evaluate` and
resemblyzer.

gain: change in speaker similarity relative to the target's own clips, 0 to 1, mean and lowest clip.
phone error: against the source; a vocoder that only shifts the pitch has 0.34, the target saying the same words 0.56.
MOS: estimated by DNSMOS, beside that of the sources.

A measurement, not collected by pytest.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path


def run(command, *words):
    line = [sys.executable, "-m", f"rvc_lightning.{command}", *map(str, words)]
    sys.stderr.write(" ".join(line) + "\n")
    subprocess.run(line, check=True, stdout=sys.stderr)


def evaluate(target, sources, training, work):
    """Return the seconds of the training, None for an existing voice, and the report of `evaluate`."""
    voice, output = work / "voices" / target.name / f"{target.name}.pth", work / "evaluations" / target.name
    seconds = None
    if not voice.exists():
        start = time.monotonic()
        run("train", *training, f"audio={target}", f"paths.root={work}", "showcase=null")
        seconds = time.monotonic() - start
    run(
        "evaluate",
        f"voice={voice}",
        f"audio={sources}",
        f"reference={target}",
        f"output={output}",
        "require_metrics=true",
    )
    return seconds, json.loads((output / "evaluation.json").read_text(encoding="utf-8"))


def line(name, figures, sources, gains):
    cells = [sum(gains) / len(gains) if gains else None, min(gains, default=None), figures.get("pitch_correlation"),
             figures.get("phone_error"), figures.get("mos_overall"), sources.get("mos_overall")]  # fmt: skip
    return f"{name:24} " + " ".join(f"{'-' if cell is None else format(cell, '.3f'):>7}" for cell in cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path)
    parser.add_argument("targets", type=Path, nargs="+")
    parser.add_argument("--train", nargs="+", default=["+experiment=quickstart"], help="overrides of the command train")
    parser.add_argument("--work", type=Path, default=Path("conversion"), help="folder for voices and reports")
    arguments = parser.parse_args()
    heads = ("gain", "lowest", "melody", "phones", "MOS", "sources")
    sys.stdout.write(f"{'':24} " + " ".join(f"{head:>7}" for head in heads) + "\n")
    for target in arguments.targets:
        seconds, report = evaluate(target.resolve(), arguments.sources, arguments.train, arguments.work.resolve())
        gains = []
        for clip in report["clips"]:
            own = [gain] if (gain := clip["converted"].get("speaker_gain")) is not None else []
            sys.stdout.write(line(f"  {Path(clip['name']).stem}"[:24], clip["converted"], clip["source"], own) + "\n")
            gains += own
        trained = "existing" if seconds is None else f"{seconds:.0f} s"
        sys.stdout.write(line(target.name, report["mean"], report["mean_of_sources"], gains) + f"  {trained}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
