"""Check and measure this machine's accelerator in ten minutes: python tests/accelerator/check.py --output FOLDER

Sections run one after the other in separate processes. Each writes a log, and its tables as Markdown and CSV;
`summary.md` has all tables in the form of tests/parity/README.md. `--sizes tiny` runs the same commands with tiny
networks, also on a CPU, to test this script.
"""

from __future__ import annotations

import argparse
import csv
import logging
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
_MIN_SECONDS = 20
VOICE = """
import sys
import torch
from hydra import compose, initialize_config_module
from rvc_lightning.cli import resolvers
from rvc_lightning.config.values import plain
from rvc_lightning.models import Synthesizer, SynthesizerConfig
from rvc_lightning.voice.voice import Voice

resolvers.register()
path, *overrides = sys.argv[1:]
with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
    sizes = plain(compose("benchmark", overrides=overrides).model)["synthesizer"] | {"content_dim": 256}
torch.manual_seed(0)
config = SynthesizerConfig.from_values(sizes)
Voice.from_synthesizer(config, Synthesizer(config).state_dict(), {"embedder_model": "phonetic"}).save(path)
"""
"""Saves a voice with random weights; speed does not depend on their values."""


@dataclass(frozen=True)
class Section:
    """One command.

    Attributes:
        name: Name of the files.
        title: Heading in the summary.
        command: Arguments of Python.
        share: Largest share of the whole time.
        fails: Whether a clean refusal, status 1 with one line of error, counts as success.
    """

    name: str
    title: str
    command: Sequence[str]
    share: float = 0.2
    fails: bool = False


@dataclass(frozen=True)
class Sizes:
    """What the commands measure, as overrides separated by spaces."""

    networks: str = ""
    rounds: str = "rounds=1 steps=8 conversion.clips=100"
    batches: str = "[8,32]"
    precisions: tuple[str, ...] = ("32-true", "bf16-mixed", "16-mixed")
    converted_precisions: tuple[str, ...] = ("32-true", "bf16-mixed")
    checkpointing: str = "[none,all]"
    compiled: str = "table.precision=[bf16-mixed] table.compile=[true]"
    presets: str = "[lowest_latency,low_latency,balanced]"
    quickstart: str = "trainer.max_time=00:00:01:00"


SIZES = {
    "full": Sizes(),
    "tiny": Sizes(
        networks="model=tiny sample_rate=24k_light",
        rounds="discriminator=tiny rounds=1 steps=2 seconds=0.4 content_dim=768 encoder.num_hidden_layers=1 "
        "encoder.intermediate_size=16 conversion.clips=2 conversion.seconds=0.5 conversion.index_rows=100 live.clips=1",
        batches="[1]",
        precisions=("32-true",),
        converted_precisions=("32-true",),
        checkpointing="[none]",
        compiled="table.precision=[32-true] table.compile=[false]",
        presets="[quality]",
        quickstart="model=tiny pretrained=none showcase=null trainer.max_steps=4",
    ),
}


def sections(folder: Path, sizes: Sizes, accelerator: str) -> list[Section]:
    """Return the sections, the most important first."""
    device, voice = f"trainer.accelerator={accelerator}", folder / "random.pth"
    benchmark = f"-m rvc_lightning.benchmark {device} {sizes.networks} {sizes.rounds}".split()
    training = [*benchmark, f"table.batch_size={sizes.batches}"]
    table = [f"table.precision=[{','.join(sizes.precisions)}]", f"table.checkpoint_activations={sizes.checkpointing}"]
    live = [*benchmark, "measure=live", f"live.voice={voice}", f"live.presets={sizes.presets}"]
    quickstart = f"-m rvc_lightning.train +experiment=quickstart {device} {sizes.quickstart}".split()
    quickstart.append(f"paths.root={folder}")
    two = ["trainer.devices=2", "strategy=ddp", "name=two", "showcase=null"]
    return [
        Section("tests", "GPU tests", ["-m", "pytest", str(ROOT / "tests/test_gpu.py"), "-q", "-rs"]),
        Section("training", "Training step", [*training, *table], share=0.4),
        *(
            Section(
                f"conversion_{precision}",
                f"Conversion in {precision}",
                [*benchmark, "measure=conversion", f"precision={precision}"],
            )
            for precision in sizes.converted_precisions
        ),
        Section("voice", "A voice with random weights", ["-c", VOICE, str(voice), *sizes.networks.split()]),
        Section("live", "Live conversion", live),
        Section("live_compiled", "Live conversion, compiled", [*live, "live.compile=true"]),
        Section("quickstart", "Quickstart", quickstart),
        Section("two_processes", "Two processes on one device", [*quickstart, *two], fails=True),
        Section("compiled", "Compiled training step", [*training, *sizes.compiled.split(), "loops=[ours]"], share=0.4),
    ]


def run(section: Section, folder: Path, seconds: float) -> str:
    """Run a section for at most `seconds`, write its log and tables, and return its part of the summary."""
    started, log_file = time.monotonic(), folder / f"{section.name}.log"
    with log_file.open("w") as stream:
        try:
            status = subprocess.run(
                [sys.executable, *section.command], stdout=stream, stderr=subprocess.STDOUT, cwd=folder, timeout=seconds
            ).returncode
        except subprocess.TimeoutExpired:
            status = None
    text = log_file.read_text(errors="replace")
    refused = section.fails and status == 1 and text.count("Error: ") == 1
    outcome = "stopped at its time limit" if status is None else "refused" if refused else f"exit status {status}"
    log.info("%s: %s, %.0f s", section.title, outcome, time.monotonic() - started)
    tables = [match.group(0).strip() for match in re.finditer(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)]
    for number, table in enumerate(tables):
        _write_csv(table, folder / f"{section.name}{number or ''}.csv")
    last = "" if tables else "\n".join(text.strip().splitlines()[-3:])
    details = "\n\n".join(tables) or f"```\n{last}\n```"
    return f"## {section.title}\n\n{outcome.capitalize()} after {time.monotonic() - started:.0f} s.\n\n{details}\n"


def _write_csv(table: str, path: Path) -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(row for row in rows if set("".join(row)) != {"-"})


def machine() -> str:
    """Return a line about the machine."""
    script = (
        "import os, platform, torch\n"
        "name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or 'CPU'\n"
        "print(f'{name}, {os.cpu_count()} cores, torch {torch.__version__}')"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    """Run all sections that fit in the time; return 0 if all succeeded, 1 otherwise."""
    parser = argparse.ArgumentParser(description="Check and measure this machine's accelerator.")
    parser.add_argument("--output", type=Path, default=Path("accelerator"), help="folder of the results")
    parser.add_argument("--sizes", choices=SIZES, default="full", help="tiny tests this script")
    parser.add_argument("--accelerator", default="gpu", help="accelerator of Lightning")
    parser.add_argument("--minutes", type=float, default=10.0, help="time for all sections")
    settings = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder, total = settings.output.absolute(), 60 * settings.minutes
    folder.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + total
    parts = [f"# Accelerator check\n\n{machine()}\n"]
    for section in sections(folder, SIZES[settings.sizes], settings.accelerator):
        left = ends - time.monotonic()
        if left < _MIN_SECONDS:
            parts.append(f"## {section.title}\n\nLeft out: no time.\n")
        else:
            parts.append(run(section, folder, min(section.share * total, left)))
        # Written after each section, in case the machine is taken away.
        (folder / "summary.md").write_text("\n".join(parts))
    return int(bool(re.search(r"Exit status (?!0)|Stopped at|Left out", "\n".join(parts))))


if __name__ == "__main__":
    sys.exit(main())
