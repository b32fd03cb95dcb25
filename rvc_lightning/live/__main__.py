"""Convert your voice while you speak: `python -m rvc_lightning.live voice=… input=… output=…`."""

from __future__ import annotations

import logging
import signal
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import option_fields
from rvc_lightning.config.values import required, switch
from rvc_lightning.conversion import options as conversion_options

if TYPE_CHECKING:
    from rvc_lightning.live.session import DeviceSettings

log = logging.getLogger(__name__)

resolvers.register()
conversion_options.register()


@command("live")
def main(config: DictConfig) -> None:
    """List or test the devices, or convert until Ctrl-C."""
    # Imported here to keep --help and error messages fast.
    from rvc_lightning.live.devices import listing
    from rvc_lightning.live.session import DeviceSettings

    if switch(config, "devices"):
        log.info("%s", listing())
        return
    settings = DeviceSettings.from_values({one.name: config[one.name] for one in option_fields(DeviceSettings)})
    if switch(config, "latency_test"):
        test_latency(settings)
    else:
        convert(config, settings)


def test_latency(settings: DeviceSettings) -> None:
    """Print the round trip of output and input."""
    from rvc_lightning.live.devices import choose
    from rvc_lightning.live.latency import measure_round_trip

    source, sink = choose(settings.input, "input"), choose(settings.output, "output")
    rates = settings.input_sample_rate or source.sample_rate, settings.output_sample_rate or sink.sample_rate
    log.info("Sweeps from '%s' to '%s'", sink.name, source.name)
    delays = measure_round_trip(source, sink, rates, settings.device_latency_seconds)
    listed = ", ".join(f"{1000 * delay:.0f}" for delay in delays)
    log.info("Round trip %.0f ms, the median of %s ms; the voice adds block, lookahead and computation",
             1000 * median(delays), listed)  # fmt: skip


def convert(config: DictConfig, settings: DeviceSettings) -> None:
    """Convert between the devices until Ctrl-C, SIGTERM or the key q."""
    from rvc_lightning.live.build import build_engine, changes_from, settings_of
    from rvc_lightning.live.panel import run
    from rvc_lightning.live.session import Session

    required(config, "voice", "the voice, a .pth file")
    changes_from(config)
    log.info("Loading the voice")
    session = Session(settings, partial(build_engine, settings_of(config)))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(session, config)
    finally:
        session.close()


if __name__ == "__main__":
    main()
