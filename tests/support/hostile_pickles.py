"""Files that run code when unpickled, or declare larger tensors than they contain."""

import collections
import contextlib
import io
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="requires Linux to limit the memory of the process")


class Calls:
    """Calls a function when unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def write_voice_of_declared_size(path, numel, size, stride, compression=zipfile.ZIP_STORED):
    """Write a voice with a tensor of four values that declares another size, in the format of `torch.save`."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if value == "THE STORAGE" else None

    pickled = io.BytesIO()
    rebuilt = Calls(torch._utils._rebuild_tensor_v2, "THE STORAGE", 0, size, stride, False, collections.OrderedDict())
    Pickler(pickled, 2).dump({"weight": {"emb_g.weight": rebuilt}, "config": [1] * 18})
    write_zip(path, pickled.getvalue(), compression)


def write_zip(path, pickled, compression=zipfile.ZIP_STORED):
    """Write a pickle in the format of `torch.save`, with one storage of 16 bytes."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(16))
        archive.writestr("archive/version", "3\n")


@contextlib.contextmanager
def limited_memory(more_bytes=1 << 30):
    """Limit the address space of this process to `more_bytes` beyond its present size."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def npy_bytes(array):
    """Return the content of an `.npy` file, pickled if necessary."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()
