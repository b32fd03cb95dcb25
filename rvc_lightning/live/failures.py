"""Errors of the engine, in its process and in the thread that loads a voice, as errors for its user."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rvc_lightning.errors import OutOfMemoryError, RVCError, one_line
from rvc_lightning.io.disk import explain
from rvc_lightning.models.memory import is_out_of_memory

log = logging.getLogger(__name__)


@contextmanager
def user_errors() -> Iterator[None]:
    """Convert every error to an RVCError; a defect is also logged, with its traceback.

    Raises:
        OutOfMemoryError: The device or the host has too little memory.
        RVCError: For any other error.
    """
    try:
        yield
    except RVCError:
        raise
    except OSError as error:
        raise RVCError(explain(error)) from error
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_out_of_memory(error)):
            raise OutOfMemoryError(
                "out of memory: end other programs that use the device, choose a smaller voice, or use another device, "
                "such as trainer.accelerator=cpu"
            ) from error
        log.exception("The engine failed")
        raise RVCError(f"the engine failed: {one_line(error) or type(error).__name__}; see the log") from error
