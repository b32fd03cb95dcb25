"""What the commands share: one clear line instead of a traceback, and an exit status that tells the truth."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from rvc_lightning.errors import RVCError

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a user's mistake in `function` one line on the error stream and exit status 1.

    Everything that is no RVCError is a defect of ours and keeps its traceback.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RVCError as error:
            log.error("Error: %s", error)
            raise SystemExit(1) from None

    return guarded
