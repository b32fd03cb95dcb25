"""A shift of the formants moves the envelope of the spectrum, and keeps pitch, length and the joins of chunks."""

import golden_rule
import numpy as np
import pytest
import torch
from live import LocalContent, LocalPitch
from scipy import linalg, signal
from stubs import StubContent, StubPitch, cpu_trainer, make_voice, quick_config

from rvc_lightning import ConversionOptions, VoiceConverter
from rvc_lightning.conversion.formants import Stretch
from rvc_lightning.conversion.lengths import ChunkLengths
from rvc_lightning.conversion.tasks import Throughput
from rvc_lightning.errors import ConfigurationError

RATE, HOP = 16000, 160
FORMANTS_HZ = (700, 1220, 2600)
SHORT = ChunkLengths(context_seconds=1, search_seconds=1, spacing_seconds=4, longest_seconds=5)
SHIFTS = (-12, -5, -0.5, 0, 0.3, 3, 7.3, 12)


def vowel(f0_hz):
    """Return pulses of a pitch per frame [F] through resonances at FORMANTS_HZ: [F * HOP]."""
    phase = np.cumsum(np.repeat(f0_hz, HOP) / RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    # A step of the phase lies between samples; two weights keep the pitch exact.
    late = np.where(pulses > 0, (phase % 1) / (np.repeat(f0_hz, HOP) / RATE), 0)
    pulses = pulses * (1 - late) + np.roll(pulses * late, -1)
    for hz in FORMANTS_HZ:
        radius, angle = np.exp(-np.pi * 80 / RATE), 2 * np.pi * hz / RATE
        pulses = signal.lfilter([1.0], [1, -2 * radius * np.cos(angle), radius**2], pulses)
    return (0.3 * pulses / np.abs(pulses).max()).astype(np.float32)


def resonances(audio, sample_rate, order=10):
    """Return the frequencies in Hz of the sharpest poles of a linear prediction."""
    windowed = audio * np.hanning(len(audio))
    correlation = signal.correlate(windowed, windowed)[len(audio) - 1 :][: order + 1]
    correlation[0] *= 1 + 1e-6
    weights = linalg.solve_toeplitz(correlation[:-1], correlation[1:])
    poles = np.roots([1, *-weights])
    poles = poles[np.imag(poles) > 0]
    sharpest = poles[np.argsort(-np.abs(poles))[: len(FORMANTS_HZ)]]
    return np.sort(np.angle(sharpest) * sample_rate / (2 * np.pi))


def played(stretch, f0_hz):
    """Return the output of a voice that has the formants of `vowel`."""
    audio = vowel(stretch.contour(f0_hz, 0))
    return stretch.played(audio, stretch.start(0), 0, len(f0_hz), HOP)


@pytest.mark.parametrize("semitones", SHIFTS)
def test_formants_move_and_the_pitch_stays(semitones):
    stretch, f0_hz = Stretch.by(semitones), np.full(200, 60, np.float32)
    output, unchanged = played(stretch, f0_hz), vowel(f0_hz)
    assert len(output) == len(unchanged) == 200 * HOP
    inner = slice(20 * HOP, -20 * HOP)
    ratio = 2 ** (semitones / 12)
    assert abs(1200 * np.log2(float(stretch.ratio) / ratio)) < 1
    # Formants that are lowered leave the highest frequencies empty.
    rate = RATE * min(ratio, 1)
    found = resonances(signal.resample(output[inner], round(160 * HOP * rate / RATE)), rate)
    np.testing.assert_allclose(found, np.multiply(FORMANTS_HZ, ratio), rtol=0.025)
    spectrum = np.abs(np.fft.rfft(output[inner] * np.hanning(160 * HOP), 1 << 20))
    harmonic = np.argmax(spectrum[: int(90 / RATE * (1 << 20))]) * RATE / (1 << 20)
    assert abs(1200 * np.log2(harmonic / 60)) < 5


@pytest.mark.parametrize("semitones", SHIFTS)
def test_windows_get_the_frames_of_the_whole_recording(semitones):
    stretch, noise = Stretch.by(semitones), np.random.default_rng(0)
    f0_hz = np.where(noise.random(500) < 0.2, 0, noise.uniform(80, 400, 500)).astype(np.float32)
    content = torch.from_numpy(noise.normal(size=(1, 500, 2)).astype(np.float32))
    whole, (features, _) = stretch.contour(f0_hz, 0), stretch.content(content, [500], [0])
    audio = noise.normal(size=len(whole) * 8).astype(np.float32)
    output = stretch.played(audio, stretch.start(0), 0, 500, 8)
    for frame in (0, 2, 150, 331):
        first, count = stretch.count(0, frame), stretch.count(frame, 100)
        np.testing.assert_array_equal(stretch.contour(f0_hz[frame:], frame)[:count], whole[first:][:count])
        part, counts = stretch.content(content[:, frame:], [500 - frame], [frame])
        assert torch.equal(part[:, :count], features[:, first:][:, :count]) and counts[0] <= part.shape[1]
        played = stretch.played(audio[first * 8 :], stretch.start(frame), frame, 100, 8)
        # The filter needs 48 samples, and the first generated frame may start later than the first frame.
        np.testing.assert_allclose(played[160:], output[frame * 8 :][160:800], atol=1e-5)


def test_no_shift_changes_nothing():
    stretch, audio, content = Stretch.by(0.0), np.ones(80, np.float32), torch.ones(1, 10, 2)
    assert stretch.contour(audio, 7) is audio and stretch.content(content, [10], [7])[0] is content
    assert stretch.played(audio, 7, 7, 10, 8).base is audio and stretch.start(7) == 7


@pytest.mark.parametrize("semitones", SHIFTS)
def test_phase_at_a_frame_is_that_of_the_output(semitones):
    f0_hz, frame, later = np.linspace(100, 140, 300).astype(np.float32), 41, 200
    stretch = Stretch.by(semitones)
    # Integral of the glide, whose values lie at the centres of frames, from the first generated frame on.
    start = float(stretch.start(frame) / stretch.ratio - frame)
    integral = np.interp(np.arange(start, later, 0.01) - 0.495, np.arange(300), f0_hz).mean() * (later - start) / 100
    assert abs((stretch.phase(f0_hz, frame, later) - integral + 0.5) % 1 - 0.5) < 0.02


def make_converter(generator="hifigan_nsf", pitch=None, **changes):
    voice = make_voice(quick_config(generator=generator))
    # The attention of random weights spans everything, and would differ between chunks and the whole.
    for layer in voice.synthesizer.text_encoder.transformer.attn_layers:
        torch.nn.init.zeros_(layer.conv_o.weight)
    parts = {"content": StubContent(), "pitch": pitch or StubPitch(), "trainer": cpu_trainer()}
    return VoiceConverter(voice, **parts | changes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("generator", "semitones"),
    [("hifigan_nsf", 4.0), ("hifigan_nsf", -12.0), ("mrf_hifigan", 4.0), ("refinegan", -3.0), ("source_filter", 12.0)],
)
def test_chunk_borders_are_inaudible(generator, semitones):
    audio, options = golden_rule.stub_audio("formants", 11.0)[:170_007], ConversionOptions(formant_semitones=semitones)
    parts = {"content": LocalContent(), "pitch": LocalPitch()}
    whole, chunked = (
        make_converter(generator, **parts, lengths=lengths).convert(audio, options, 16000)[0]
        for lengths in (None, SHORT)
    )
    assert len(whole) == len(chunked) == 85_004 and whole.std() > 1e-3
    np.testing.assert_allclose(chunked, whole, atol=2e-3 * np.abs(whole).max(), rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("semitones", [-5.5, 6.0])
def test_results_do_not_depend_on_the_batch(semitones):
    options = ConversionOptions(formant_semitones=semitones)
    sources = [golden_rule.stub_audio(f"formants {number}", 0.3 + 1.1 * number) for number in range(5)]
    together = make_converter(lengths=SHORT).convert_many(sources, options, 16000)
    alone = make_converter(lengths=SHORT, throughput=Throughput(1))
    for source, result in zip(sources, together, strict=True):
        expected, rate = alone.convert(source, options, 16000)
        assert len(expected) == -(-len(source) * rate // 16000) and np.isfinite(expected).all()
        np.testing.assert_allclose(result.audio, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [1, 100, 400, 401, 16001])
def test_short_recordings_keep_their_length(samples):
    converter, audio = make_converter(), golden_rule.stub_audio("short", 2.0)[:samples]
    for semitones in (-12, 12):
        converted, rate = converter.convert(audio, ConversionOptions(formant_semitones=semitones), 16000)
        assert len(converted) == -(-samples * rate // 16000) and np.isfinite(converted).all()


def test_voices_without_pitch_are_rejected():
    with pytest.raises(ConfigurationError, match="formant_semitones=2: the voice has no pitch"):
        make_converter("hifigan").convert(np.zeros(16000, np.float32), ConversionOptions(formant_semitones=2), 16000)
