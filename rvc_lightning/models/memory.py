"""Detection of out-of-memory errors of devices and of the host."""

from __future__ import annotations

import torch

_HOST_ERRORS = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
"""Messages of torch's allocator for host memory, which raises a plain RuntimeError."""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether `error` reports that a device or the host has run out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _HOST_ERRORS)
