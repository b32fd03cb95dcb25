"""Number of threads that torch uses for an operation on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads_per_operation(count: int) -> Iterator[int]:
    """Make torch run each operation on `count` threads, and yield the number of threads it used before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield before
    finally:
        torch.set_num_threads(before)
