"""Errors of processes that torch has spawned, such as the ranks of strategy=ddp_spawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from rvc_lightning import errors


@contextmanager
def errors_of_ranks() -> Iterator[None]:
    """Raise an error of this package in a spawned rank as such: torch raises its traceback as text.

    Raises:
        LostRankError: A signal, or the end of its process, has ended a rank.
        RVCError: The error of the rank.
        ProcessRaisedException: The rank has raised another error.
    """
    try:
        yield
    except ProcessExitedException as error:
        raise errors.LostRankError(f"a rank is lost: {error}, usually for lack of memory") from None
    except ProcessRaisedException as error:
        name, _, message = str(error).rstrip().rpartition("\n")[2].partition(": ")
        kind = getattr(errors, name.removeprefix(f"{errors.__name__}."), None)
        if isinstance(kind, type) and issubclass(kind, errors.RVCError):
            raise kind(message) from None
        raise
