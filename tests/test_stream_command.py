"""The command `stream`: raw samples through pipes."""

import io
import shlex
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from live import RATE, make_engine, process_blocks, speech
from stubs import make_voice, quick_config

from rvc_lightning.stream import ENCODINGS, pump


@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
def test_raw_samples(encoding):
    audio = speech(1.0)
    dtype = ENCODINGS[encoding]
    raw = (np.round(audio * 32768).astype(dtype) if encoding == "s16le" else audio.astype(dtype)).tobytes()
    sink = io.BytesIO()
    factor = pump(make_engine(), io.BytesIO(raw + b"\0"), sink, dtype, 16000)
    assert factor > 0
    result = np.frombuffer(sink.getvalue(), dtype).astype(np.float32) / (32768 if encoding == "s16le" else 1)
    whole = make_engine()
    expected = np.concatenate([process_blocks(whole, audio), whole.finish()])
    np.testing.assert_allclose(result, expected, atol=2e-3)


def test_empty_input(caplog):
    sink = io.BytesIO()
    assert pump(make_engine(), io.BytesIO(), sink, ENCODINGS["s16le"], 16000) == 0
    assert sink.getvalue() == b""
    assert "The input is empty" in caplog.text and "factor" not in caplog.text


class InterruptedSource(io.BytesIO):
    """Pipe at whose end Ctrl-C is pressed."""

    def read(self, size):
        if data := super().read(size):
            return data
        raise KeyboardInterrupt


def test_recordings_are_complete_after_ctrl_c(tmp_path):
    engine = make_engine()
    engine.change({"record_output": str(tmp_path / "out.wav")})
    with pytest.raises(KeyboardInterrupt):
        pump(engine, InterruptedSource(bytes(2 * 8000)), io.BytesIO(), ENCODINGS["s16le"], 16000)
    assert soundfile.info(tmp_path / "out.wav").frames == RATE // 2


@pytest.fixture
def command(tmp_path):
    make_voice(quick_config()).save(tmp_path / "anna.pth")
    return [
        *(sys.executable, "-m", "rvc_lightning.stream", f"voice={tmp_path / 'anna.pth'}"),
        *("input_sample_rate=16000", "trainer.accelerator=cpu"),
    ]


@pytest.mark.slow
def test_command(command):
    raw = np.round(speech(1.0) * 32767).astype("<i2").tobytes()
    done = subprocess.run(command, input=raw, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert "real-time factor" in done.stderr.decode() and "latency" in done.stderr.decode()
    samples = np.frombuffer(done.stdout, "<i2")
    assert len(samples) > RATE and samples.any()
    wrong = subprocess.run([*command, "encoding=mp3"], input=raw, capture_output=True)
    assert wrong.returncode == 1 and b"s16le" in wrong.stderr and b"Traceback" not in wrong.stderr and not wrong.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("redirection", "name"), [("<&-", "input"), (">&-", "output")])
def test_closed_streams_are_errors(command, redirection, name):
    done = subprocess.run(f"{shlex.join(command)} {redirection}", shell=True, input=b"", capture_output=True)
    assert done.returncode == 1 and f"Error: standard {name} is closed" in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_closed_reader_is_an_error(command):
    raw = np.zeros(16000 * 20, "<i2").tobytes()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(raw)
    assert process.returncode == 1
    assert b"standard output is closed" in errors and b"Traceback" not in errors
