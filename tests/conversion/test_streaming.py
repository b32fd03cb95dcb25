"""A stream gives the output of a whole conversion with a fixed latency."""

from dataclasses import replace

import numpy as np
import pytest
from lightning import Fabric
from live import LocalContent, LocalPitch, speech
from stubs import StubPitch, cpu_trainer, make_voice, quick_config

from rvc_lightning import ConversionOptions, VoiceConverter
from rvc_lightning.audio.frames import FRAME_SAMPLES
from rvc_lightning.conversion.lengths import StreamLengths
from rvc_lightning.conversion.streaming import StreamingConverter
from rvc_lightning.errors import AudioError, ConfigurationError, VoiceError
from rvc_lightning.pitch.base import PitchExtractor

RATE = 8000


@pytest.fixture
def converter():
    return VoiceConverter(make_voice(quick_config()), content=LocalContent(), pitch=LocalPitch(), trainer=cpu_trainer())


def stream(converter, options=None, sample_rate=16000, **lengths):
    fabric = Fabric(accelerator="cpu", devices=1)
    return StreamingConverter(
        converter, options, sample_rate=sample_rate, lengths=StreamLengths(**lengths), fabric=fabric
    )


def streamed(streaming, audio, *block_lengths):
    """Return the output of a stream for audio in blocks of these lengths, repeated."""
    blocks, start = [], 0
    while start < len(audio):
        block = audio[start : start + block_lengths[len(blocks) % len(block_lengths)]]
        blocks.append(streaming.push(block))
        start += len(block)
    return np.concatenate([*blocks, streaming.finish()])


class SteadyPitch(PitchExtractor):
    """200 Hz: whole cycles per second, so that a stream and a whole recording start with the same phase."""

    name = "steady"

    def __call__(self, wav16k):
        return np.full(len(wav16k) // FRAME_SAMPLES + 1, 200, np.float32)


@pytest.mark.parametrize(("sample_rate", "semitones"), [(16000, 0), (44100, 0), (16000, 5), (16000, -12)])
def test_stream_equals_the_whole_conversion(no_noise, sample_rate, semitones):
    voice, options = make_voice(quick_config()), ConversionOptions(formant_semitones=semitones)
    converter = VoiceConverter(voice, content=LocalContent(), pitch=SteadyPitch(), trainer=cpu_trainer())
    audio = speech(4.0, sample_rate)
    whole, rate = converter.convert(audio, replace(options, volume_envelope=1.0), sample_rate)
    # The grids of generated frames start with the context.
    context_seconds = 1.0 if semitones else 2.0
    streaming = stream(converter, options, sample_rate, context_seconds=context_seconds, lookahead_seconds=0.6)
    live = streamed(streaming, audio, sample_rate // 50)
    late = round(streaming.latency_seconds * rate)
    assert len(live) == len(whole) + late
    assert not live[:late].any()
    inner = slice(rate, len(whole) - rate)
    error = np.sqrt(np.mean((live[late:][inner] - whole[inner]) ** 2)) / np.sqrt(np.mean(whole[inner] ** 2))
    assert error < 0.02


def test_block_borders_are_inaudible(converter, no_noise):
    tone = (0.5 * np.sin(2 * np.pi * 200 * np.arange(4 * 16000) / 16000)).astype(np.float32)
    streaming = stream(converter)
    live = streamed(streaming, tone, 320)[round(streaming.latency_seconds * RATE) :][RATE:-RATE]
    jumps = np.abs(np.diff(live, n=2))
    borders = np.zeros(len(jumps), bool)
    for border in range(0, len(jumps), round(0.24 * RATE)):
        borders[max(border - 100, 0) : border + 100] = True
    assert jumps[borders].max() <= 1.05 * jumps[~borders].max()


@pytest.mark.slow
def test_result_does_not_depend_on_the_block_lengths(converter):
    audio = speech(2.0)
    expected = streamed(stream(converter), audio, 320)
    for lengths in ((1, 4000, 77), (len(audio),), (160,)):
        np.testing.assert_allclose(streamed(stream(converter), audio, *lengths), expected, atol=1e-6)


@pytest.mark.parametrize("sample_rate, output_rate", [(16000, 8000), (48000, 44100), (8000, 48000), (44100, 8000)])
def test_every_block_returns_its_length(converter, sample_rate, output_rate):
    streaming = stream(converter, ConversionOptions(output_sample_rate=output_rate), sample_rate)
    audio = speech(1.5, sample_rate)
    taken = given = 0
    for start in range(0, len(audio), 997):
        taken += len(audio[start : start + 997])
        given += len(streaming.push(audio[start : start + 997]))
        assert given == taken * output_rate // sample_rate
    rest = streaming.finish()
    assert given + len(rest) == -(-taken * output_rate // sample_rate) + round(streaming.latency_seconds * output_rate)
    assert rest.any()


@pytest.mark.parametrize("samples", [3840, 3839, 3841, 3680, 7680])
def test_output_is_complete_although_the_input_ends_with_a_block(converter, samples):
    streaming = stream(converter)
    expected = samples // 2 + samples % 2 + round(streaming.latency_seconds * RATE)
    assert len(streamed(streaming, speech(1.0)[:samples], 320)) == expected


def test_latency_is_the_sum_of_its_parts(converter):
    streaming = stream(converter, sample_rate=48000, block_seconds=0.08, lookahead_seconds=0.025, fade_seconds=0.02)
    assert streaming.latency_seconds == pytest.approx(0.08 + 0.025 + 0.01 + 0.0025 + 0.002, abs=1e-4)
    assert stream(converter, block_seconds=0.02, lookahead_seconds=0.025, fade_seconds=0.02).latency_seconds < 0.06


def test_silence_gives_silence(converter):
    assert not streamed(stream(converter), np.zeros(16000, np.float32), 320).any()


def test_empty_stream_returns_the_latency(converter):
    streaming = stream(converter)
    assert len(streaming.finish()) == round(streaming.latency_seconds * RATE)


@pytest.mark.slow
def test_options_change_the_result(converter):
    audio = speech(1.0)
    plain = streamed(stream(converter), audio, 320)
    assert not np.allclose(streamed(stream(converter, ConversionOptions(transpose_semitones=7)), audio, 320), plain)
    assert not np.allclose(streamed(stream(converter, ConversionOptions(seed=1)), audio, 320), plain)


def jumps(audio):
    return np.abs(np.diff(audio, n=2)).max()


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"transpose_semitones": 0.5}, {"formant_semitones": 3}, {"formant_semitones": -6}])
def test_options_change_without_a_click(converter, no_noise, options):
    tone = (0.5 * np.sin(2 * np.pi * 200 * np.arange(4 * 16000) / 16000)).astype(np.float32)
    steady, changed = stream(converter), stream(converter)
    before = changed.push(tone[:32000])
    changed.change(ConversionOptions(**options))
    after = changed.push(tone[32000:])
    expected = np.concatenate([steady.push(tone[:32000]), steady.push(tone[32000:])])
    assert np.array_equal(before, expected[: len(before)]) and not np.allclose(after, expected[len(before) :])
    assert jumps(np.concatenate([before, after])[RATE:]) <= 1.2 * jumps(expected[RATE:])


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 11025])
def test_another_voice_continues_a_stream(converter, rate):
    options, audio = ConversionOptions(output_sample_rate=rate), speech(3.0)
    old, alone, new = stream(converter, options), stream(converter, options), stream(converter, options)
    first = old.push(audio[:20000])
    remaining = new.continue_from(old)
    ours, expected = new.push(audio[20000:]), np.concatenate([alone.push(audio[:20000]), alone.push(audio[20000:])])
    assert 0 < remaining < (new.latency_seconds + 0.01) * rate
    # The phase of a new stream starts with its first frame: only what fades in differs.
    np.testing.assert_allclose(ours[remaining:], expected[len(first) + remaining :], atol=1e-5)
    assert len(ours) == len(expected) - len(first)


@pytest.mark.parametrize(
    "options",
    [
        {"proposed_pitch_hz": 200.0},
        {"volume_envelope": 0.5},
        {"clean_noise": 0.5},
        {"split_on_silence": True},
        {"effects": ["pitch_shift"]},
    ],
)
def test_options_for_whole_recordings_are_rejected(converter, options):
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))}=.*: not in a stream"):
        stream(converter, ConversionOptions(**options))


def test_invalid_arguments_are_rejected(converter):
    with pytest.raises(VoiceError, match="speaker=99"):
        stream(converter, ConversionOptions(speaker=99))
    with pytest.raises(ConfigurationError, match=r"lookahead_seconds=0\.01"):
        StreamLengths(lookahead_seconds=0.01)
    with pytest.raises(AudioError, match="NaN"):
        stream(converter).push(np.full(10, np.nan))
    with pytest.raises(AudioError, match="not mono"):
        stream(converter).push(np.zeros((10, 2)))


@pytest.mark.parametrize("sample", [3e38, -3e38])
def test_huge_samples_are_clipped(converter, caplog, sample):
    audio = speech(2.0)
    audio[8000:8004] = sample
    streaming = stream(converter)
    live = streamed(streaming, audio, 320)[round(streaming.latency_seconds * RATE) :]
    expected = streamed(stream(converter), speech(2.0), 320)[round(streaming.latency_seconds * RATE) :]
    np.testing.assert_array_equal(live[: RATE // 8], expected[: RATE // 8])
    assert np.isfinite(live).all() and np.abs(live).max() <= 1 and live[-RATE // 4 :].any()
    assert caplog.text.count("exceed full scale") == 1


def test_pitch_that_depends_on_the_window():
    """The pitch of a frame does not change after its first use."""
    voice = make_voice(quick_config())
    streaming = stream(VoiceConverter(voice, content=LocalContent(), pitch=StubPitch(), trainer=cpu_trainer()))
    assert np.isfinite(streamed(streaming, speech(2.0), 320)).all()
