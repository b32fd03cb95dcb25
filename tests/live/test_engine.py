"""The engine of live conversion: the same audio as a stream, and changes without clicks."""

import shutil
import time

import numpy as np
import pytest
import soundfile
import torch
from lightning import Fabric
from live import LENGTHS, RATE, load_converter, make_engine, process_blocks, speech

from rvc_lightning import ConversionOptions
from rvc_lightning.conversion.inference import VoiceInference
from rvc_lightning.conversion.streaming import StreamingConverter
from rvc_lightning.errors import ConfigurationError, RVCError
from rvc_lightning.io.threads import threads_per_operation
from rvc_lightning.live.engine import Engine
from rvc_lightning.live.options import parse

pytestmark = pytest.mark.slow


def jumps(audio):
    return np.abs(np.diff(audio, n=2)).max()


def wait_for_voice(engine):
    """Wait until another voice is loaded."""
    engine._preparation.join()


def test_is_a_stream():
    audio = speech(0.5)
    stream = StreamingConverter(
        load_converter(),
        ConversionOptions(output_sample_rate=RATE),
        sample_rate=16000,
        lengths=LENGTHS,
        fabric=Fabric(accelerator="cpu", devices=1),
    )
    engine = make_engine()
    np.testing.assert_array_equal(engine.process(audio), stream.push(audio))
    np.testing.assert_array_equal(engine.finish(), stream.finish())


@pytest.mark.parametrize("is_mixed", [True, False])
def test_voice_uses_the_fastest_precision(monkeypatch, is_mixed):
    convert = VoiceInference.convert

    def slow_in_the_other(*arguments):
        if torch.is_autocast_enabled("cpu") != is_mixed:
            time.sleep(0.1)
        return convert(*arguments)

    monkeypatch.setattr(VoiceInference, "convert", slow_in_the_other)
    fabrics = [Fabric(accelerator="cpu", devices=1, precision=name) for name in ("bf16-mixed", "32-true")]
    engine = make_engine(fabrics=fabrics)
    assert engine._stream.fabric is engine._plan.fabric is fabrics[1 - is_mixed]
    engine.change({"voice": "other"})
    wait_for_voice(engine)
    process_blocks(engine, speech(0.2))
    assert engine._changes.voice == "other" and engine._stream.fabric is fabrics[1 - is_mixed]


@pytest.mark.parametrize(("seconds", "threads"), [(0.05, 2), (0.09, 1)])
def test_several_threads_are_only_used_for_voices_that_they_make_faster(monkeypatch, seconds, threads):
    convert, used = VoiceInference.convert, set()

    def watched(*arguments):
        used.add(torch.get_num_threads())
        return convert(*arguments)

    with threads_per_operation(2):
        monkeypatch.setattr(Engine, "_rehearse", lambda *arguments: [0.1 if arguments[-1].threads == 1 else seconds])
        engine = make_engine(fabrics=[Fabric(accelerator="cpu", devices=1)])
        monkeypatch.setattr(VoiceInference, "convert", watched)
        engine.process(speech(0.2))
        assert used == {threads} and torch.get_num_threads() == 2


@pytest.mark.parametrize("count", [1, 2])
def test_rehearsal_uses_the_threads_of_its_plan(monkeypatch, count):
    engine, convert, used = make_engine(), VoiceInference.convert, set()

    def watched(*arguments):
        used.add(torch.get_num_threads())
        return convert(*arguments)

    monkeypatch.setattr(VoiceInference, "convert", watched)
    engine._rehearse(load_converter(), ConversionOptions(), engine._plan._replace(threads=count))
    assert used == {count}


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_compiled_networks_give_the_same_audio_with_other_noise():
    def compiled(path):
        converter = load_converter(path)
        converter.inference.compile_networks()
        return converter

    audio, options = speech(0.5), {"noise_scale": 0.0}
    expected = make_engine(conversion=options).process(audio)
    output = make_engine(load=compiled, conversion=options).process(audio)
    difference = np.abs(output - expected).max()
    assert 0 < difference < 0.1 * np.abs(expected).max()


def test_length_and_latency_at_other_rates():
    engine = make_engine(input_rate=44100, output_rate=48000)
    audio = speech(1.0, 44100)
    assert len(process_blocks(engine, audio, 441)) == 48000
    assert engine.latency_seconds < 0.15
    rest = engine.finish()
    assert len(rest) == round(engine.latency_seconds * 48000)


def test_bypass_is_the_original_with_the_latency_of_the_voice():
    engine, audio = make_engine(input_rate=16000, output_rate=16000, bypass=True), speech(0.5)
    output = process_blocks(engine, audio)
    delay = round(engine.latency_seconds * 16000)
    np.testing.assert_allclose(output[delay:], audio[: len(audio) - delay], atol=1e-6)


def test_mute_is_silence_and_gains_are_decibels():
    audio = speech(0.5)
    plain = process_blocks(make_engine(), audio)
    assert not process_blocks(make_engine(mute=True), audio).any()
    np.testing.assert_allclose(process_blocks(make_engine(output_gain_db=-6.0206), audio), plain / 2, atol=1e-5)


def test_noise_is_reduced_with_a_known_latency():
    noise = np.random.default_rng(0).normal(0, 0.01, 32000).astype(np.float32)
    plain = make_engine(output_rate=16000, bypass=True)
    engine = make_engine(output_rate=16000, bypass=True, input_noise_reduction=1.0)
    expected, output = (np.concatenate([process_blocks(each, noise), each.finish()]) for each in (plain, engine))
    late = round((engine.latency_seconds - plain.latency_seconds) * 16000)
    assert late == 128 and len(output) == len(expected) + late
    # The first half second is not changed.
    np.testing.assert_allclose(output[2400 + late : 7000 + late], expected[2400:7000], atol=1e-5)
    assert output[20000:30000].std() < 0.3 * expected[20000:30000].std()
    engine.change({"input_noise_reduction": 0.0})
    assert engine.latency_seconds == plain.latency_seconds


def test_gate_silences_quiet_sound_only():
    loud = 0.3 * np.sin(2 * np.pi * 200 * np.arange(16000) / 16000).astype(np.float32)
    quiet = 0.001 * loud
    engine = make_engine(output_rate=16000, gate_db=-50, bypass=True)
    output = process_blocks(engine, np.concatenate([quiet, loud, quiet, quiet]))[
        round(engine.latency_seconds * 16000) :
    ]
    assert not output[8000:15999].any() and not output[40000:].any()
    np.testing.assert_allclose(output[16100:31000], loud[100:15000], atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"output_gain_db": -6}, {"input_gain_db": -3}, {"input_noise_reduction": 1.0},
        {"bypass": True}, {"mute": True}, {"transpose_semitones": 1},
        {"formant_semitones": 3}, {"speaker": 1}, {"voice": "benjamin.pth"},
        {"effects": [{"name": "gain", "gain_db": -3}]},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_change_is_audible_without_a_click(no_noise, change):
    tone = (0.5 * np.sin(2 * np.pi * 200 * np.arange(24000) / 16000)).astype(np.float32)
    steady, engine = make_engine(), make_engine()
    expected = process_blocks(steady, tone)
    before = process_blocks(engine, tone[:12000])
    engine.change(change)
    if engine.is_preparing:
        wait_for_voice(engine)
    after = process_blocks(engine, tone[12000:])
    assert not engine.status.message and not engine.is_preparing
    np.testing.assert_array_equal(before, expected[: len(before)])
    assert not np.allclose(after[-RATE // 4 :], expected[-RATE // 4 :], atol=1e-4)
    settled = max(jumps(expected[RATE // 4 :]), jumps(after[-RATE // 4 :]))
    assert jumps(np.concatenate([before, after])[RATE // 4 :]) <= 1.3 * settled


def test_invalid_change_changes_nothing():
    audio, engine, steady = speech(0.5), make_engine(), make_engine()
    for values, message in (
        ({"speaker": 99}, "speaker=99"),
        ({"transpose_semitones": 99}, "transpose_semitones=99"),
        ({"transpos": 1}, "unknown live option 'transpos'"),
        ({"gate_db": "loud"}, "gate_db='loud'"),
        ({"proposed_pitch_hz": 200.0}, "not in a stream"),
        ({"voice": None}, "voice=null"),
        ({"record_output": "song.mp4"}, "song.mp4"),
    ):
        with pytest.raises(RVCError, match=message):
            engine.change(values)
    np.testing.assert_array_equal(process_blocks(engine, audio), process_blocks(steady, audio))


def test_voice_that_cannot_be_loaded_is_reported_and_the_old_one_stays():
    audio, engine, steady = speech(0.5), make_engine(), make_engine()
    engine.change({"voice": "none.pth"})
    wait_for_voice(engine)
    np.testing.assert_array_equal(process_blocks(engine, audio), process_blocks(steady, audio))
    assert engine.status.message == "'none.pth' does not exist" and engine.status.voice == "anna.pth"


def test_memory_that_runs_out_for_another_voice_is_reported():
    def load(path):
        if path == "large.pth":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return load_converter(path)

    engine = make_engine(load=load)
    engine.change({"voice": "large.pth"})
    wait_for_voice(engine)
    assert "out of memory: end other programs" in engine.status.message and engine.status.voice == "anna.pth"


def test_options_changed_while_a_voice_loads_apply_to_it():
    engine = make_engine()
    engine.change({"voice": "benjamin.pth"})
    with pytest.raises(ConfigurationError, match="being loaded"):
        engine.change({"voice": "clara.pth"})
    engine.change({"output_gain_db": -3, "transpose_semitones": 2})
    wait_for_voice(engine)
    process_blocks(engine, speech(0.5))
    assert engine.status.voice == "benjamin.pth"
    assert engine._changes.live.output_gain_db == -3 and engine._changes.conversion.transpose_semitones == 2


def test_levels_apply_at_once_while_a_voice_loads():
    engine = make_engine()
    engine.change({"voice": "benjamin.pth", "mute": True})
    output = process_blocks(engine, speech(0.5))
    assert not output[RATE // 10 :].any()
    engine.change({"mute": False})
    wait_for_voice(engine)
    assert process_blocks(engine, speech(1.0))[-RATE // 4 :].any()
    assert engine.status.voice == "benjamin.pth"


def test_rejected_change_starts_no_recording(tmp_path):
    engine = make_engine()
    with pytest.raises(RVCError, match="speaker=99"):
        engine.change({"record_output": str(tmp_path / "out.wav"), "speaker": 99})
    process_blocks(engine, speech(0.5))
    engine.finish()
    assert not list(tmp_path.iterdir())


def test_recording_stops_although_the_voice_of_the_same_change_failed(tmp_path):
    engine = make_engine()
    engine.change({"voice": "none.pth", "record_output": str(tmp_path / "out.wav")})
    wait_for_voice(engine)
    process_blocks(engine, speech(0.5))
    engine.change({"record_output": None})
    assert soundfile.info(tmp_path / "out.wav").frames == RATE // 2


def test_input_and_output_are_recorded(tmp_path):
    audio, engine = speech(1.0), make_engine()
    first = process_blocks(engine, audio[:8000])
    engine.change({"record_input": str(tmp_path / "in.wav"), "record_output": str(tmp_path / "out.flac")})
    second = process_blocks(engine, audio[8000:])
    engine.change({"record_output": None})
    assert len(first) == RATE // 2
    recorded, rate = soundfile.read(tmp_path / "out.flac")
    assert rate == RATE and not (tmp_path / "in.wav").exists()
    np.testing.assert_allclose(recorded, second, atol=1e-4)
    engine.finish()
    np.testing.assert_allclose(soundfile.read(tmp_path / "in.wav")[0], audio[8000:], atol=1e-4)


def test_status_and_warm_up():
    engine = make_engine()
    median, worst = engine.warm_up()
    assert 0 < median <= worst
    process_blocks(engine, speech(1.0))
    status = engine.status
    assert status.blocks == 12 and 0 < status.compute_median_seconds <= status.compute_p99_seconds < 5
    assert -40 < status.input_db < 0 and -120 < status.output_db < 0 and status.f0_hz > 100


def test_lines_are_read_as_the_command_line():
    assert parse("transpose_semitones=3 mute=true voice=ben.pth gate_db=null\n") == {
        "transpose_semitones": 3, "mute": True, "voice": "ben.pth", "gate_db": None,
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match="NAME=VALUE"):
        parse("louder")
