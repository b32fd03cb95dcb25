"""The engine in its own process."""

import time
from functools import partial

import numpy as np
import pytest
import soundfile
from live import make_engine, speech

from rvc_lightning.errors import RVCError
from rvc_lightning.live import process as process_module
from rvc_lightning.live.process import EngineProcess

pytestmark = pytest.mark.slow

SECONDS = 120


def make_recorded_engine(path):
    engine = make_engine()
    engine.change({"record_output": path})
    return engine


def wait_until(condition):
    ends = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_recording_is_complete_after_an_error(tmp_path):
    received = []
    process = EngineProcess(partial(make_recorded_engine, str(tmp_path / "out.wav")), received.append)
    process.push(speech(0.5))
    wait_until(lambda: received)
    process.push(np.full(320, np.nan))
    wait_until(lambda: process.error)
    process.close()
    assert "NaN" in str(process.error)
    assert soundfile.info(tmp_path / "out.wav").frames == sum(map(len, received))


def fail_to_make_engine(error):
    raise error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory"),
        (OSError("gone"), "gone"),
        (KeyError("x"), "failed: .x.; see the log"),
    ],
)
def test_any_error_of_the_engine_is_reported(error, message):
    with pytest.raises(RVCError, match=message):
        EngineProcess(partial(fail_to_make_engine, error), lambda audio: None)


def make_stuck_engine():
    engine = make_engine()
    engine.process = lambda audio: time.sleep(SECONDS)
    return engine


def test_engine_that_is_stuck_stalls_neither_input_nor_end(monkeypatch):
    monkeypatch.setattr(process_module, "_END_SECONDS", 0.5)
    process = EngineProcess(make_stuck_engine, lambda audio: None)
    started = time.monotonic()
    for _ in range(100):
        process.push(np.zeros(16000, np.float32))
    process.change({"mute": True})
    process.close()
    assert time.monotonic() - started < SECONDS / 4
