"""Effects are audible, keep the timing, and do not depend on how a recording is cut into blocks."""

import importlib.util
import sys

import numpy as np
import pytest

from rvc_lightning.audio.stages import run
from rvc_lightning.config.options import option_fields
from rvc_lightning.conversion.effect_stages import check_installed, effect_stages
from rvc_lightning.conversion.effects import EFFECTS, Delay, Gain, PitchShift, Reverb
from rvc_lightning.conversion.finishing import finishing_chain, output_samples
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.errors import ConfigurationError

needs_pedalboard = pytest.mark.skipif(
    importlib.util.find_spec("pedalboard") is None, reason="the extra is not installed: pip install -e '.[effects]'"
)
needs_stretch = pytest.mark.skipif(
    importlib.util.find_spec("python_stretch") is None, reason="the extra is not installed: pip install -e '.[effects]'"
)
RATE = 24000
# A delay shorter than the recording, and thresholds below or within its level.
AUDIBLE = {
    "delay": {"delay_seconds": 0.1, "feedback": 0.3},
    "limiter": {"threshold_db": -12},
    "gate": {"threshold_db": -12},
}


def voice(seconds=2.0):
    """A swelling tone with overtones and pauses."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = (
        sum(np.sin(2 * np.pi * 220 * n * time) / n for n in (1, 2, 3)) * np.abs(np.sin(2.2 * time)) * (time % 1 > 0.2)
    )
    return (0.6 * wave).astype(np.float32)


def apply(effects, audio, block=None, sample_rate=RATE):
    blocks = [audio] if block is None else np.split(audio, range(block, len(audio), block))
    for stage in effect_stages(effects, sample_rate):
        blocks = list(run(stage, blocks))
    return np.concatenate(blocks)


@needs_pedalboard
@needs_stretch
@pytest.mark.parametrize("name", EFFECTS)
def test_every_effect_is_audible_and_keeps_the_length(name):
    audio = voice()
    changed = apply([EFFECTS[name](**AUDIBLE.get(name, {}))], audio)
    assert changed.dtype == np.float32 and changed.shape == audio.shape and np.isfinite(changed).all()
    assert np.std(changed - audio) > 1e-3 and np.std(changed) > 0.01


@needs_pedalboard
@needs_stretch
@pytest.mark.parametrize(
    ("effect", "parameter"), [(effect, option) for effect in EFFECTS.values() for option in option_fields(effect)],
    ids=lambda value: value.name,
)  # fmt: skip
def test_every_parameter_is_audible(effect, parameter):
    base = AUDIBLE.get(effect.name, {})
    bounds = (False, True) if bool in parameter.kinds else (parameter.min, parameter.max)
    lowest, highest = (apply([effect(**base | {parameter.name: value})], voice()) for value in bounds)
    assert np.isfinite(lowest).all() and np.isfinite(highest).all()
    assert np.abs(lowest - highest).max() > 1e-4


@needs_pedalboard
@needs_stretch
@pytest.mark.parametrize("name", EFFECTS)
def test_results_do_not_depend_on_blocks(name):
    audio = voice(1.3)
    whole = apply([EFFECTS[name]()], audio)
    for block in (333, 16000):
        # Filters set values below 1e-8 to zero at the end of a block.
        np.testing.assert_allclose(apply([EFFECTS[name]()], audio, block), whole, atol=1e-9, rtol=0)


@needs_pedalboard
@needs_stretch
@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("samples", [0, 1, 100, RATE])
def test_silence_stays_silent(name, samples):
    changed = apply([EFFECTS[name]()], np.zeros(samples, np.float32))
    assert len(changed) == samples and not changed.any()


@needs_stretch
def test_shifted_clicks_stay_in_place_across_parts():
    audio = np.zeros(25 * RATE, np.float32)
    clicks = np.arange(RATE // 2, len(audio), RATE)
    audio[clicks] = 0.9
    shifted = apply([PitchShift(semitones=4)], audio, 50000)
    found = [click - 2000 + int(np.argmax(np.abs(shifted[click - 2000 : click + 2000]))) for click in clicks]
    assert np.abs(found - clicks).max() < 0.002 * RATE


@needs_stretch
@pytest.mark.parametrize("semitones", [-7, 5])
def test_pitch_is_shifted(semitones):
    spectrum = np.abs(np.fft.rfft(apply([PitchShift(semitones=semitones)], voice(4.0))))
    assert abs(np.argmax(spectrum) / 4.0 - 220 * 2 ** (semitones / 12)) < 3


@needs_pedalboard
@pytest.mark.parametrize(("name", "lost_hz"), [("highpass", 100), ("lowpass", 1600)])
def test_filters_attenuate_by_6_db_per_octave(name, lost_hz):
    time = np.arange(RATE) / RATE
    for hz, expected_db in ((lost_hz, -12.3), (400, -3.0), (160000 / lost_hz, -0.3)):
        tone = (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)
        filtered = apply([EFFECTS[name](cutoff_frequency_hz=400)], tone)[RATE // 2 :]
        assert 20 * np.log10(filtered.std() / tone.std()) == pytest.approx(expected_db, abs=1.0 if hz != 400 else 0.2)


@needs_pedalboard
def test_order_matters():
    effects = [Gain(gain_db=20), EFFECTS["clipping"]()]
    assert np.abs(apply(effects, voice())).max() < 0.51 < np.abs(apply(effects[::-1], voice())).max()


@needs_pedalboard
def test_tail_extends_the_result():
    for tail_seconds, samples in ((0, RATE), (1.5, 2.5 * RATE)):
        options = ConversionOptions(effects=[Delay(mix=1.0, delay_seconds=1.0)], tail_seconds=tail_seconds)
        length = output_samples(options, RATE, RATE, RATE)
        finished = np.concatenate(list(run(finishing_chain(options, RATE, length), [voice(1.0)])))
        assert len(finished) == length == samples
    np.testing.assert_allclose(finished[RATE : 2 * RATE], voice(1.0), atol=1e-5)


@needs_pedalboard
def test_clipping_is_logged(caplog):
    def finished(*effects):
        return np.concatenate(list(run(finishing_chain(ConversionOptions(effects=effects), RATE), [voice()])))

    assert np.abs(finished(Gain(gain_db=20))).max() == 1
    assert "samples exceeded full scale and were clipped: add limiter as the last effect" in caplog.text
    caplog.clear()
    assert 0.5 < np.abs(finished(Gain(gain_db=20), "limiter")).max() <= 1
    assert not caplog.text


def test_missing_pedalboard_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "pedalboard", None)
    check_installed([])
    with pytest.raises(ConfigurationError, match=r'effects=\[gain, reverb\] requires .*rvc-lightning\[effects\]"'):
        check_installed([PitchShift(), Gain(), Reverb()])


def test_missing_stretch_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "python_stretch", None)
    with pytest.raises(ConfigurationError, match=r"requires the package python-stretch.*rvc-lightning\[effects\]"):
        check_installed([PitchShift()])
