"""A private PulseAudio server with null sinks as microphone, loudspeaker and headphones."""

import os
import shutil
import subprocess
import time

import pytest

PROGRAMS = ("pulseaudio", "pactl", "paplay", "parec")
ASOUND = """
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.microphone { type pulse device microphone.monitor }
pcm.loudspeaker { type pulse device loudspeaker }
pcm.headphones { type pulse device headphones }
pcm.cable { type pulse device loudspeaker.monitor }
"""
SINKS = {"microphone": (44100, 1), "loudspeaker": (48000, 2), "headphones": (44100, 2)}
"""Rate and channels of each sink."""


def missing():
    """Return the reason why the tests cannot run, or None."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} is not installed"
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        return f"sounddevice: {error}"
    del sounddevice
    return None


def require():
    """Skip the test if PulseAudio or sounddevice is missing."""
    if reason := missing():
        pytest.skip(reason)


class Pulse:
    """A server, with the environment of its clients."""

    def __init__(self, folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "asound.conf").write_text(ASOUND)
        (folder / "alsa.conf").write_text(f"</usr/share/alsa/alsa.conf>\n<{folder / 'asound.conf'}>\n")
        folders = {name: str(folder) for name in ("HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH")}
        self.environment = {**os.environ, **folders, "ALSA_CONFIG_PATH": str(folder / "alsa.conf")}
        modules = ["module-native-protocol-unix", *(self._sink(name) for name in SINKS)]
        loads = [argument for module in modules for argument in ("-L", module)]
        self.log = (folder / "log").open("w")
        self._server = subprocess.Popen(
            ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--log-level=error", *loads],
            env=self.environment, stdout=self.log, stderr=self.log,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while self.run("pactl", "info", check=False).returncode:
            assert self._server.poll() is None and time.monotonic() < deadline, (folder / "log").read_text(
                encoding="utf-8"
            )
            time.sleep(0.1)

    @staticmethod
    def _sink(name):
        rate, channels = SINKS[name]
        return f"module-null-sink sink_name={name} rate={rate} channels={channels}"

    def run(self, *command, check=True):
        return subprocess.run(command, env=self.environment, check=check, capture_output=True, text=True)

    def unplug(self, name):
        """Remove a sink and its monitor."""
        rows = self.run("pactl", "list", "short", "modules").stdout.splitlines()
        (number,) = [row.split()[0] for row in rows if f"sink_name={name} " in row]
        self.run("pactl", "unload-module", number)

    def plug_in(self, name):
        self.run("pactl", "load-module", *self._sink(name).split())

    def play(self, path, sink="microphone"):
        """Play a file into a sink, and return when it has finished."""
        self.run("paplay", f"--device={sink}", str(path))

    def record(self, path, sink="loudspeaker"):
        """Record what a sink plays until the process is terminated: mono, 48 kHz."""
        return subprocess.Popen(
            ["parec", f"--device={sink}.monitor", "--file-format=wav", "--rate=48000", "--channels=1",
             "--latency-msec=50", str(path)],
            env=self.environment,
        )  # fmt: skip

    def close(self):
        self._server.terminate()
        self._server.wait()
        self.log.close()
