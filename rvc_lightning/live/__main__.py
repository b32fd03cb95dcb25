"""Convert your voice while you speak: `python -m rvc_lightning.live voice=… input=… output=…`."""

from __future__ import annotations

import logging
import signal
from dataclasses import dataclass
from functools import partial
from statistics import median

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import Settings, option
from rvc_lightning.config.values import plain
from rvc_lightning.conversion import options as conversion_options
from rvc_lightning.io.processes import raise_priority
from rvc_lightning.live.device_settings import DeviceSettings

log = logging.getLogger(__name__)

resolvers.register()
conversion_options.register()


@dataclass(frozen=True, kw_only=True)
class Task(Settings):
    """What the command does and reports, as in `conf/live.yaml`."""

    devices: bool
    latency_test: bool
    report_seconds: float = option(unit="s", min=0.1)


@command("live")
def main(config: DictConfig) -> None:
    """List or test the devices, or convert until Ctrl-C."""
    task = Task.from_config(config)
    # Imported in these functions to keep --help and error messages fast.
    if task.devices:
        from rvc_lightning.live.devices import listing

        log.info("%s", listing())
    elif task.latency_test:
        test_latency(DeviceSettings.from_config(config))
    else:
        convert(config, task.report_seconds)


def test_latency(settings: DeviceSettings) -> None:
    """Measure and log the round-trip latency from the output to the input."""
    from rvc_lightning.live.devices import choose
    from rvc_lightning.live.latency import measure_round_trip

    source, sink = choose(settings.input, "input"), choose(settings.output, "output")
    rates = settings.input_sample_rate or source.sample_rate, settings.output_sample_rate or sink.sample_rate
    log.info("Playing sweeps on '%s', recording them with '%s'", sink.name, source.name)
    delays = measure_round_trip(source, sink, rates, settings.device_latency_seconds)
    listed = ", ".join(f"{1000 * delay:.0f}" for delay in delays)
    log.info("Round trip %.0f ms, the median of %s ms; conversion adds the block, the lookahead and the computation",
             1000 * median(delays), listed)  # fmt: skip


def convert(config: DictConfig, report_seconds: float) -> None:
    """Convert between the devices until Ctrl-C, SIGTERM or the key q; `report_seconds` is as in `run`."""
    from rvc_lightning.live.build import build_engine, changes_from
    from rvc_lightning.live.panel import run
    from rvc_lightning.live.session import Session

    settings, devices = plain(config), DeviceSettings.from_config(config)
    changes_from(settings)
    raise_priority()
    log.info("Loading the voice")
    session = Session(devices, partial(build_engine, settings))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(session, settings, report_seconds)
    finally:
        session.close()


if __name__ == "__main__":
    main()
