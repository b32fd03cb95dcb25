"""`python -m rvc_lightning.pretraining.synthesize corpus=FOLDER`: create a corpus with all speech synthesizers."""

from __future__ import annotations

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command

resolvers.register()


@command("pretraining_synthesize")
def main(config: DictConfig) -> None:
    """Write the corpus."""
    # Imported here to keep --help fast.
    from rvc_lightning.pretraining.synthesis import synthesize

    synthesize(config)


if __name__ == "__main__":
    main()
