"""The buffer between two clocks: drift is followed, late blocks are bridged, and all is counted."""

import numpy as np
import pytest

from rvc_lightning.live.buffer import PlayBuffer, extension


def tone(samples, rate=48000, hz=200, first=0):
    return (0.5 * np.sin(2 * np.pi * hz * (first + np.arange(samples)) / rate)).astype(np.float32)


def jumps(audio):
    return np.abs(np.diff(audio)).max()


class Clocks:
    """An engine that writes every 20 ms of its clock and a device that reads every 10 ms of its own."""

    def __init__(self, buffer, engine_rate, device_rate, engine_ppm=0.0, device_ppm=0.0):
        self.buffer, self.engine_rate, self.device_rate = buffer, engine_rate, device_rate
        self.periods = 0.02 / (1 + engine_ppm * 1e-6), 0.01 / (1 + device_ppm * 1e-6)
        self.due = [0.0, 0.0]
        self.written = 0

    def run(self, seconds, late=lambda time: 0.0):
        """Return what the device plays in `seconds`; a block written at some time is `late` by that many seconds."""
        pieces, ends = [], min(self.due) + seconds
        while min(self.due) < ends:
            if self.due[0] + late(self.due[0]) <= self.due[1]:
                samples = self.engine_rate // 50
                self.buffer.write(tone(samples, self.engine_rate, first=self.written))
                self.written += samples
                self.due[0] += self.periods[0]
            else:
                pieces.append(self.buffer.read(self.device_rate // 100))
                self.due[1] += self.periods[1]
        return np.concatenate(pieces)


@pytest.mark.slow
@pytest.mark.parametrize("engine_ppm, device_ppm, device_rate", [(500, -500, 44100), (-300, 200, 48000), (0, 0, 16000)])
def test_drift_is_followed_without_gaps(engine_ppm, device_ppm, device_rate):
    buffer = PlayBuffer(16000, device_rate, 0.05)
    clocks = Clocks(buffer, 16000, device_rate, engine_ppm, device_ppm)
    clocks.run(50)
    speeds, pieces = [], []
    for _ in range(100):
        pieces.append(clocks.run(0.2))
        speeds.append(buffer.speed)
    played = np.concatenate(pieces)
    assert buffer.underruns == 0 and buffer.skipped_seconds == 0
    # Reads of 10 ms hide where in them the fill is.
    assert (np.mean(speeds) - 1) * 1e6 == pytest.approx(engine_ppm - device_ppm, abs=300)
    assert buffer.fill_seconds == pytest.approx(0.05, abs=0.01)
    spectrum = np.abs(np.fft.rfft(played * np.hanning(len(played))))
    assert spectrum.argmax() / (len(played) / device_rate) == pytest.approx(200, rel=1e-3)
    # The step of a tone of 200 Hz.
    assert jumps(played) < 1.01 * np.pi * 200 / device_rate


def test_late_block_is_bridged_and_counted():
    buffer = PlayBuffer(48000, 48000, 0.03)
    clocks = Clocks(buffer, 48000, 48000)
    clocks.run(1.0)
    played = clocks.run(1.0, late=lambda time: 0.06 if 1.5 < time < 1.53 else 0.0)
    assert buffer.underruns == 1 and buffer.skipped_seconds == 0
    assert jumps(played) < 2 * np.pi * 200 / 48000
    quietest = min(np.abs(played[start : start + 480]).max() for start in range(0, len(played), 240))
    assert quietest > 0.1
    assert 0.03 < buffer.target_seconds < 0.12


def test_latency_added_by_a_late_block_is_removed_again():
    buffer = PlayBuffer(48000, 48000, 0.03)
    clocks = Clocks(buffer, 48000, 48000)
    clocks.run(1.0)
    clocks.run(1.0, late=lambda time: 0.06 if 1.5 < time < 1.53 else 0.0)
    clocks.run(90)
    assert buffer.target_seconds == pytest.approx(0.03)
    clocks.run(60)
    assert buffer.fill_seconds == pytest.approx(0.03, abs=0.01)
    assert (buffer.underruns, buffer.skipped_seconds) == (1, 0)


def test_longer_gap_fades_to_silence_and_nothing_is_lost():
    buffer = PlayBuffer(48000, 48000, 0.03)
    clocks = Clocks(buffer, 48000, 48000)
    clocks.run(1.0)
    played = clocks.run(2.0, late=lambda time: 0.3 if 1.5 < time < 1.53 else 0.0)
    assert buffer.underruns == 1 and buffer.skipped_seconds == 0
    assert (np.abs(played) < 1e-6).sum() > 4800
    assert jumps(played) < 2 * np.pi * 200 / 48000


def test_after_a_long_stall_audio_is_skipped_and_counted():
    buffer = PlayBuffer(48000, 48000, 0.03)
    buffer.write(tone(4800))
    buffer.read(480)
    buffer.write(tone(48000, first=4800))
    assert buffer.skipped_seconds == pytest.approx(1.05, abs=0.05)
    assert len(buffer._waiting) == pytest.approx(0.035 * 48000, abs=2)
    assert jumps(buffer.read(1000)) < 0.15


def test_starts_when_enough_is_waiting():
    buffer = PlayBuffer(48000, 48000, 0.05)
    buffer.write(tone(960))
    assert not buffer.read(480).any() and buffer.underruns == 0
    buffer.write(tone(2400))
    assert buffer.read(480).any()


@pytest.mark.parametrize("hz", [80, 150, 390])
def test_extension_continues_a_voice(hz):
    past = tone(1454, hz=hz)
    following = extension(past, 48000)
    assert len(following) == 4800 and not following[-1] and np.abs(following[:900]).max() > 0.4
    assert jumps(np.concatenate([past, following])) < 0.12
