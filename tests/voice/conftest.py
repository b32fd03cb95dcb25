"""Fixtures of the voice tests."""

import pytest
from stubs import make_voice, quick_config

from rvc_lightning import Voice


@pytest.fixture
def voices(tmp_path):
    """Two voices of the same kind, the second with one speaker fewer."""
    first = make_voice(quick_config(speaker_count=3), model_name="anna", author="\x1b[2Jme", epoch=3, step=40)
    second = make_voice(quick_config(speaker_count=2))
    second = Voice(second.config, {name: tensor / 2 for name, tensor in second.weights.items()}, second.information)
    return first.save(tmp_path / "anna.pth"), second.save(tmp_path / "bob.pth")
