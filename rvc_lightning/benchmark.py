"""`python -m rvc_lightning.benchmark`: what training takes, or with measure=…, preparation or conversion."""

from __future__ import annotations

import logging
from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.validation import check_whole
from rvc_lightning.errors import unknown_choice

log = logging.getLogger(__name__)

resolvers.register()


@command("benchmark")
def main(config: DictConfig) -> None:
    """Measures and prints the table."""
    if config.measure not in _TABLES:
        raise unknown_choice("measure", config.measure, _TABLES)
    for name, least in (("rounds", 1), ("steps", 1), ("conversion.clips", 1), ("conversion.index_rows", 0)):
        check_whole(name, OmegaConf.select(config, name), least)
    log.info("%s", _TABLES[config.measure](config))


# torch and transformers take seconds to import, and --help should not.


def _training(config: DictConfig) -> str:
    from rvc_lightning.benchmarks.training import as_table, run_table

    return as_table(run_table(config), config.seconds)


def _preparation(config: DictConfig) -> str:
    from rvc_lightning.benchmarks.preparation import as_table, run_table

    return as_table(run_table(config))


def _conversion(config: DictConfig) -> str:
    from rvc_lightning.benchmarks.conversion import as_table, clips_of, run_table

    return as_table(run_table(config), clips_of(config))


_TABLES: dict[str, Callable[[DictConfig], str]] = {
    "training": _training,
    "preparation": _preparation,
    "conversion": _conversion,
}


if __name__ == "__main__":
    main()
