"""Progress of long work, with the remaining time."""

from __future__ import annotations

import logging
from time import perf_counter
from types import TracebackType

from tqdm import tqdm

from rvc_lightning.cli.progress_file import report_progress

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 60.0
_ROWS = 20


class Progress:
    """A progress bar on a terminal, one log line per minute elsewhere, and the progress file. A context manager."""

    def __init__(self, description: str, total: float, unit: str, enabled: bool = True) -> None:
        """Start the bar.

        Args:
            description: Name of the work.
            total: Amount of work, in units.
            unit: Name of the unit, in the plural.
            enabled: Whether to show the progress.
        """
        self.description, self.total, self.unit, self.enabled = description, total, unit, enabled
        self.done = 0.0
        self._started_at = self._last_line = perf_counter()
        layout = "{desc} {percentage:3.0f}% {bar} {elapsed}, {remaining} left"
        self._bar = tqdm(
            total=total,
            desc=description,
            bar_format=layout,
            disable=None if enabled else True,
            leave=False,
            # Terminals of unknown size report 0 rows, in which tqdm prints no bar.
            nrows=_ROWS,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def update(self, amount: float) -> None:
        """Advance by `amount`, at most to the total, which may be an estimate."""
        amount = min(amount, self.total - self.done)
        self.done += amount
        self._bar.update(amount)
        if not self.enabled or not self.done:
            return
        now, share = perf_counter(), self.done / self.total
        seconds_left = (now - self._started_at) * (1 / share - 1)
        report_progress(self.description, share, seconds_left)
        if self._bar.disable and now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            log.info(
                "%s: %.0f of %.0f %s (%.0f %%), %.0f min left",
                self.description, self.done, self.total, self.unit, 100 * share, seconds_left / 60,
            )  # fmt: skip
