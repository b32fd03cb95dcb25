"""The waiting line of conversions: one runs at a time, in order of arrival."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from rvc_lightning.errors import BusyError

_POLL_SECONDS = 1.0


class WaitingLine:
    """Tickets in order of arrival; the first one may run."""

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self._tickets: list[object] = []
        self._changed = Condition()

    @contextmanager
    def ticket(self) -> Iterator[Iterator[int]]:
        """Enter the line and leave it at the end of the context.

        Yields:
            An iterator over the number of conversions ahead, about once a second, which ends when none is ahead.

        Raises:
            BusyError: `max_waiting` conversions are waiting.
        """
        ticket = object()
        with self._changed:
            if len(self._tickets) > self.max_waiting:
                raise BusyError(f"{self.max_waiting} conversions are already waiting; try again in a few minutes")
            self._tickets.append(ticket)
        try:
            yield self._until_turn(ticket)
        finally:
            with self._changed:
                self._tickets.remove(ticket)
                self._changed.notify_all()

    def _until_turn(self, ticket: object) -> Iterator[int]:
        while True:
            with self._changed:
                if self._tickets.index(ticket):
                    self._changed.wait(_POLL_SECONDS)
                ahead = self._tickets.index(ticket)
            if not ahead:
                return
            yield ahead
