"""Measure speed: `python -m rvc_lightning.benchmark`, of training, preparation, conversion or live."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import Settings, option

log = logging.getLogger(__name__)

resolvers.register()


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(Settings):
    """Settings of all measurements; the defaults are in `conf/benchmark.yaml`."""

    measure: str = option(choices=("training", "preparation", "conversion", "live"))
    rounds: int = option(min=1)
    steps: int = option(min=1)


@command("benchmark")
def main(config: DictConfig) -> None:
    """Measure and print the table."""
    settings = BenchmarkSettings.from_config(config)
    # Imported here to keep --help and error messages fast.
    log.info("%s", import_module(f"rvc_lightning.benchmarks.{settings.measure}").run(config))


if __name__ == "__main__":
    main()
