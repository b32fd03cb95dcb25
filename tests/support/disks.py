"""Full disks, and read-only and unreadable folders; tests are skipped where these cannot be created."""

import ctypes
import os
import stat
import subprocess
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from fnmatch import fnmatch
from unittest import mock

import pytest

from rvc_lightning.io import files


@contextmanager
def limited_file_size(n_bytes):
    """Limit the size of files that this process writes; larger writes fail as on a full disk."""
    if sys.platform == "win32":
        pytest.skip("Windows does not limit file sizes")
    # The module only exists on POSIX.
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def full_for(pattern):
    """Fill the disk whenever a file of a pattern is written atomically; yield the list of these files."""
    explain, full = files.explain_write_errors, []

    @contextmanager
    def explain_when_full(path, written=None):
        with ExitStack() as stack:
            if written is not None and fnmatch(str(path), f"*{pattern}"):
                full.append(path)
                stack.enter_context(limited_file_size(0))
            stack.enter_context(explain(path, written))
            yield

    with mock.patch.object(files, "explain_write_errors", explain_when_full):
        yield full


@contextmanager
def mounted_tmpfs(folder, options):
    """Mount a file system in memory at `folder`."""
    if sys.platform != "linux":
        pytest.skip("mounting a file system in memory requires Linux")
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a file system in memory requires root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(folder):
    """Make `folder` and everything in it read-only."""
    if sys.platform == "win32":
        pytest.skip("Windows has no permissions of folders")
    if os.geteuid() != 0:
        mode = folder.stat().st_mode
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        try:
            yield
        finally:
            folder.chmod(mode)
        return
    # Root can write everywhere except on a read-only disk.
    bind = ["mount", "--bind", str(folder), str(folder)]
    remount = ["mount", "-o", "remount,ro,bind", str(folder)]
    if any(subprocess.run(command, capture_output=True).returncode for command in (bind, remount)):
        pytest.skip("root can write everywhere, and bind mounts are not permitted")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def unreadable(path):
    """Forbid this process to read a file or folder."""
    if sys.platform == "win32":
        pytest.skip("Windows has no permissions of this kind")
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        with _without_privileges() if os.geteuid() == 0 else nullcontext():
            yield
    finally:
        path.chmod(mode)


@contextmanager
def _without_privileges():
    """Take the right to read every file from root, in this thread."""
    if sys.platform != "linux":
        pytest.skip("root can read everything")
    libc, header, before = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, before)
    # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of the effective set.
    libc.capset(header, (ctypes.c_uint32 * 6)(before[0] & ~0b110, *before[1:]))
    try:
        yield
    finally:
        libc.capset(header, before)
