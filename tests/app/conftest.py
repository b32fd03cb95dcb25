"""One small voice for all tests, written wherever one is wanted."""

from dataclasses import replace

import pytest
from stubs import make_voice, quick_config


@pytest.fixture(scope="session")
def put_voice():
    voice = make_voice(quick_config())

    def put(path, **information):
        return replace(voice, information=voice.information | information).save(path)

    return put
