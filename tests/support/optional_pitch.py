"""Pitch extractors whose packages are optional."""

import pytest

MODULES = {"pm": "parselmouth", "harvest": "pyworld", "dio": "pyworld"}


def skip_without_package(name):
    """Skip the test if the package of a pitch extractor cannot be imported."""
    if name in MODULES:
        # pyworld itself fails to import beside a new setuptools.
        pytest.importorskip(MODULES[name], reason="requires pip install -e '.[pitch]'", exc_type=ImportError)
