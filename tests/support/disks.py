"""Disks that are full, and folders that cannot be written to, as far as the system lets a test make them."""

import os
import resource
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest


@contextmanager
def limited(n_bytes):
    """No file of this process grows beyond this, which the system answers as it does on a full disk."""
    if sys.platform == "win32":
        pytest.skip("there are no limits of file sizes")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def mounted(folder, options):
    """A file system in memory at `folder`."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("a file system in memory cannot be mounted here: it takes root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(folder):
    """Nothing in `folder`, with what is in it, can be changed inside."""
    if os.geteuid() != 0:
        mode = folder.stat().st_mode
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        try:
            yield
        finally:
            folder.chmod(mode)
        return
    # Root may write anywhere but on a disk that is read-only.
    bind = ["mount", "--bind", str(folder), str(folder)]
    remount = ["mount", "-o", "remount,ro,bind", str(folder)]
    if any(subprocess.run(command, capture_output=True).returncode for command in (bind, remount)):
        pytest.skip("root writes everywhere, and nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
