"""Live conversion between real devices: null sinks of a PulseAudio server that the tests start."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pulse
import pytest
import soundfile
from spectral_distance import distance, mels
from stubs import make_voice, quick_config

from rvc_lightning import Voice, VoiceConverter
from rvc_lightning.cli.resolvers import DEMO_FOLDER

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
termios = pytest.importorskip("termios", reason="Windows has no pseudo-terminals")

pytestmark = [pytest.mark.program, pytest.mark.slow]

SPEECH = DEMO_FOLDER / "source" / "01.flac"
READY_SECONDS = 240


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pulse.require()
    server = pulse.Pulse(tmp_path_factory.mktemp("pulse"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    path = tmp_path_factory.mktemp("voices") / "anna.pth"
    make_voice(quick_config()).save(path)
    return path


class Live:
    """The running command, controlled by lines on its standard input."""

    def __init__(self, server, voice, log, *arguments):
        self.log = log
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "rvc_lightning.live", f"voice={voice}", "trainer.accelerator=cpu"),
                *("preset=quality", "report_seconds=1", *arguments),
            ],
            env=server.environment, stdin=subprocess.PIPE, stdout=log.open("w"), stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def wait_for(self, text, seconds=READY_SECONDS):
        deadline = time.monotonic() + seconds
        while not re.search(text, self.printed):
            assert self.process.poll() is None and time.monotonic() < deadline, self.printed
            time.sleep(0.1)

    @property
    def printed(self):
        return self.log.read_text()

    def type(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(READY_SECONDS) == 0, self.printed
        assert "Traceback" not in self.printed
        return self.printed


@pytest.fixture
def live(server, voice, tmp_path):
    started = []

    def start(*arguments):
        command = Live(server, voice, tmp_path / "log", *arguments)
        started.append(command)
        command.wait_for("Algorithmic latency")
        command.wait_for(r"late \d")
        return command

    yield start
    for command in started:
        command.process.kill()
        command.process.wait()


def run_live(server, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "rvc_lightning.live", *arguments],
        env=server.environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=READY_SECONDS,
    )  # fmt: skip


def test_devices_are_listed_with_rates(server):
    listed = run_live(server, "devices=true")
    assert listed.returncode == 0, listed.stderr
    for name, rate in (("microphone", 44100), ("loudspeaker", 44100), ("headphones", 44100)):
        assert re.search(rf"ALSA: {name} +\d+ +\d+ +{rate}, .*48000", listed.stderr), listed.stderr
    assert "ALSA lib" not in listed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["input=kazoo"],
            r"input=kazoo matches no device; choose a part of one name: ALSA: microphone; ALSA: loudspeaker",
        ),
        (
            ["input=phone"],
            r"input=phone matches 2 devices; choose a part of one name: ALSA: microphone; ALSA: headphones",
        ),
        (
            ["input=micro", "output=loud", "output_sample_rate=9"],
            r"output_sample_rate=9: choose a whole number from 8000",
        ),
        (["voice=null"], r"voice=\.\.\. is missing: the voice, a \.pth file"),
        (["voice=none.pth", "input=micro", "output=loud"], r"none\.pth"),
        (["input=micro", "output=loud", "gate_db=3"], r"gate_db=3: choose a number from -120 to 0 dB or null"),
    ],
)
def test_invalid_settings_are_one_line(server, voice, arguments, message):
    result = run_live(server, f"voice={voice}", *arguments)
    assert result.returncode == 1 and re.search(message, result.stdout + result.stderr), result.stdout + result.stderr
    assert "Traceback" not in result.stderr and (result.stdout + result.stderr).count("Error:") == 1


def play_and_stop(server, recorders):
    """Play the sentence into the microphone, wait for what comes out, and end the recorders."""
    time.sleep(0.5)
    server.play(SPEECH)
    time.sleep(2.0)
    for recorder in recorders:
        recorder.terminate()
        recorder.wait()


@pytest.mark.long
def test_speech_is_converted(server, voice, live, tmp_path):
    command = live(
        "input=microphone", "output=loudspeaker", "monitor=headphones", f"record_input={tmp_path / 'in.wav'}"
    )
    recorders = [server.record(tmp_path / "out.wav"), server.record(tmp_path / "ear.wav", "headphones")]
    play_and_stop(server, recorders)
    command.type("bypass=true")
    play_and_stop(server, [server.record(tmp_path / "original.wav")])
    command.type("transpose_semitones=99")
    command.wait_for("transpose_semitones=99: choose a number from -48 to 48")
    printed = command.end()
    assert "ALSA: microphone -> ALSA: loudspeaker" in printed and "waiting for a device" not in printed
    expected, rate = VoiceConverter(Voice.load(voice)).convert(SPEECH)
    other, _ = VoiceConverter(Voice.load(voice)).convert(DEMO_FOLDER / "source" / "02.flac")
    for name in ("out.wav", "ear.wav"):
        played, played_rate = soundfile.read(tmp_path / name, dtype="float32")
        assert np.abs(played).max() > 0.01
        near, far = (distance(mels(played, played_rate), mels(audio, rate)) for audio in (expected, other))
        # Voices with random weights sound alike.
        assert near < far
    for name in ("in.wav", "original.wav"):
        played, played_rate = soundfile.read(tmp_path / name, dtype="float32")
        assert distance(mels(played, played_rate), mels(*soundfile.read(SPEECH, dtype="float32"))) < 0.5


@pytest.mark.long
def test_reconnected_device_is_used_again(server, live, tmp_path):
    command = live("input=microphone", "output=loudspeaker")
    # PulseAudio moves a stream from a source that vanishes to another, but not from a sink.
    server.unplug("loudspeaker")
    command.wait_for("Disconnected: ALSA: loudspeaker; waiting for the device")
    server.plug_in("loudspeaker")
    command.wait_for("All devices are back")
    recorder = server.record(tmp_path / "out.wav")
    server.play(SPEECH)
    time.sleep(2.0)
    recorder.terminate()
    recorder.wait()
    command.end()
    assert np.abs(soundfile.read(tmp_path / "out.wav")[0]).max() > 0.01


@pytest.mark.long
def test_latency_is_measured(server):
    result = run_live(server, "latency_test=true", "input=cable", "output=loudspeaker")
    assert result.returncode == 0, result.stdout + result.stderr
    assert 1 < float(re.search(r"Round trip (\d+) ms", result.stderr)[1]) < 1000
    nothing = run_live(server, "latency_test=true", "input=microphone", "output=loudspeaker")
    assert nothing.returncode == 1 and "nothing came back from 'ALSA: loudspeaker' to 'ALSA: microphone'" in (
        nothing.stdout + nothing.stderr
    )


@pytest.mark.long
def test_ten_minutes_without_growth(server, live):
    command = live("input=microphone", "output=loudspeaker", "preset=low_latency")
    sizes = []
    for _ in range(10):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            server.play(SPEECH)
        sizes.append(resident(command.process.pid))
    assert sizes[-1] < 1.1 * sizes[1]
    command.end()


def resident(pid):
    """Return the memory of a process and its children in kilobytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = int(re.search(r"VmRSS:\s+(\d+)", status)[1])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(resident(child) for child in children)


class Terminal:
    """A pseudo-terminal in which the command runs."""

    def __init__(self, server, voice):
        self._keyboard, screen = pty.openpty()
        self._settings = termios.tcgetattr(screen)
        command = [sys.executable, "-m", "rvc_lightning.live", f"voice={voice}", "trainer.accelerator=cpu"]
        self.process = subprocess.Popen(
            [*command, "preset=quality", "input=microphone", "output=loudspeaker"],
            env=server.environment, stdin=screen, stdout=screen, stderr=screen,
        )  # fmt: skip
        self._screen, self.shown = screen, ""

    def press(self, keys):
        os.write(self._keyboard, keys.encode())

    def wait_for(self, text, seconds=READY_SECONDS):
        deadline, start = time.monotonic() + seconds, len(self.shown)
        while text not in self.shown[start:]:
            assert self.process.poll() is None and time.monotonic() < deadline, self.shown
            if select.select([self._keyboard], [], [], 0.2)[0]:
                self.shown += os.read(self._keyboard, 4096).decode()

    def is_restored(self):
        return termios.tcgetattr(self._screen) == self._settings


def test_keys_change_options_in_a_terminal(server, voice):
    terminal = Terminal(server, voice)
    try:
        terminal.wait_for("q quit")
        terminal.wait_for("algorithm")
        terminal.press("+")
        terminal.wait_for("transpose_semitones=1")
        terminal.press("m")
        terminal.wait_for("mute=True")
        terminal.press(":index_rate=7\n")
        terminal.wait_for("index_rate=7: choose a number from 0 to 1")
        terminal.press("q")
        terminal.wait_for("Ended:")
        assert terminal.process.wait(READY_SECONDS) == 0 and terminal.is_restored()
    finally:
        terminal.process.kill()
