"""Messages of libraries that do not concern the user."""

from __future__ import annotations

import logging
import warnings

_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"The number of training batches .* is smaller than the logging interval",
    r"The '\w+_dataloader' does not have many workers",
    # The schedule of a discriminator that joins later, see model.adversarial_from_step.
    r"Detected call of `lr_scheduler\.step\(\)` before",
    r"You defined a `validation_step` but have no `val_dataloader`",
    # Every slice is prepared already, nothing is held out, or a rank has no recordings.
    r"Total length of `\w+` across ranks is zero",
    # A run folder that was moved.
    r"The dirpath has changed from",
    # The folder of a resumed run.
    r"Checkpoint directory .* exists and is not empty",
    # data.num_workers is small by design: workers mostly wait for the disk.
    r"This DataLoader will create \d+ worker processes",
    # torchmetrics gathers these from all ranks.
    r"It is recommended to use `self\.log\('val/",
    # The frozen networks of the losses of conversions.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # Warns of in-place changes to the output of a sharded network, which this package does not make.
    r"FSDP2-wrapped module .* returned a view tensor",
)
"""Warnings of libraries that do not concern the user."""

_LOGGERS = ("lightning.pytorch", "lightning.fabric")
"""Loggers whose informational messages concern developers, or advertise."""


def silence_libraries() -> None:
    """Hide messages that do not concern the user. Importing Lightning shows its own again."""
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
