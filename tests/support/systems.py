"""Marks of tests about what only some systems have."""

import os
import sys

import pytest

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals between processes, and other exit statuses")
POSIX_SHELL = pytest.mark.skipif(os.name == "nt", reason="commands are quoted for shells of Windows there")
LINKS = pytest.mark.skipif(os.name == "nt", reason="links require privileges on Windows")
NAMES_IN_BYTES = pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode on Windows and macOS")
