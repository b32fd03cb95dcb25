"""Conversion of recordings in memory: length, silence, speakers, encoders, chunks, options."""

import logging
import math
import warnings

import golden_rule
import numpy as np
import pytest
import torch
from disks import unreadable
from stubs import StubContent, StubPitch, cpu_trainer, make_voice, quick_config

from rvc_lightning import ConversionOptions, VoiceConverter
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.conversion.lengths import ChunkLengths
from rvc_lightning.conversion.options import option_fields
from rvc_lightning.conversion.streaming import StreamingConverter
from rvc_lightning.errors import AudioError, ConfigurationError, VoiceError
from rvc_lightning.pitch.base import PitchExtractor
from rvc_lightning.pitch.curve import write_curve
from rvc_lightning.retrieval.index import RetrievalIndex, build_index, save_index

RATE = 8000


@pytest.fixture
def voice():
    return make_voice(quick_config())


@pytest.fixture
def converter(voice):
    return VoiceConverter(voice, content=StubContent(), pitch=StubPitch(), trainer=cpu_trainer())


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
@pytest.mark.parametrize("samples", [1, 4801, 10007])
def test_output_is_aligned_with_the_source(converter, samples, sample_rate):
    audio = golden_rule.stub_audio("time", 0.7, 48000)[:samples] + np.float32(0.1)
    converted, rate = converter.convert(audio, sample_rate=sample_rate)
    assert rate == RATE
    assert converted.dtype == np.float32
    assert converted.shape == (math.ceil(samples * RATE / sample_rate),)
    assert np.isfinite(converted).all()


@pytest.mark.parametrize("samples", [0, 1, 16001])
@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_makes_silence(converter, samples, level):
    converted, _ = converter.convert(np.full(samples, level, np.float32), sample_rate=16000)
    assert converted.shape == (math.ceil(samples / 2),)
    assert not converted.any()


def test_loud_audio_is_limited(converter):
    converted, _ = converter.convert(30 * golden_rule.stub_audio("loud", 0.4), sample_rate=16000)
    assert np.isfinite(converted).all() and np.abs(converted).max() <= 0.99 + 1e-6


def test_seed_has_little_effect_without_noise(converter):
    """The harmonic source of hifigan_nsf still draws noise."""
    audio = golden_rule.stub_audio("seed", 0.3)
    noisy, still = (
        [
            converter.convert(audio, ConversionOptions(seed=seed, noise_scale=scale), sample_rate=16000)[0]
            for seed in (1, 2)
        ]
        for scale in (1.0, 0.0)
    )
    assert np.abs(still[0] - still[1]).max() < 0.2 * np.abs(noisy[0] - noisy[1]).max()


def test_seed_determines_the_result_and_the_global_generator_is_unchanged(converter):
    audio = golden_rule.stub_audio("seed", 0.3)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (
        converter.convert(audio, ConversionOptions(seed=seed), sample_rate=16000)[0] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.rand(1), expected)


def test_transposition_reaches_the_voice(converter, monkeypatch):
    contours = []
    infer = converter.voice.synthesizer.infer
    monkeypatch.setattr(
        converter.voice.synthesizer,
        "infer",
        lambda c, n, code, f0_hz, *rest: contours.append(f0_hz) or infer(c, n, code, f0_hz, *rest),
    )
    audio = golden_rule.stub_audio("pitch", 0.3)
    for semitones in (0, 12):
        converter.convert(audio, ConversionOptions(transpose_semitones=semitones), sample_rate=16000)
    assert torch.equal(contours[0][:, 12:70] * 2, contours[1][:, 12:70])
    assert contours[0].dtype == torch.float32 and not contours[1][0, :12].any()


def test_speakers(converter):
    audio = golden_rule.stub_audio("speaker", 0.3)
    first, second = (converter.convert(audio, ConversionOptions(speaker=n), sample_rate=16000)[0] for n in (0, 1))
    assert not np.array_equal(first, second)
    with pytest.raises(VoiceError, match="speaker=2: the voice has 2 speakers; choose 0 to 1"):
        converter.convert(audio, ConversionOptions(speaker=2), sample_rate=16000)


def test_files_and_arrays(converter, tmp_path):
    audio = golden_rule.stub_audio("file", 0.5, 22050)
    write_audio(tmp_path / "in.wav", audio, 22050, "FLOAT")
    from_file, _ = converter.convert(tmp_path / "in.wav")
    assert np.array_equal(from_file, converter.convert(audio, sample_rate=22050)[0])
    with pytest.raises(AudioError, match="or a file without a rate"):
        converter.convert(tmp_path / "in.wav", sample_rate=22050)


def test_recording_that_cannot_be_read_is_named(converter, tmp_path):
    write_audio(tmp_path / "in.wav", np.zeros(16000, np.float32), 16000)
    with (
        unreadable(tmp_path / "in.wav"),
        pytest.raises(AudioError, match=r"in\.wav' cannot be read: Permission denied"),
    ):
        converter.convert(tmp_path / "in.wav")


@pytest.mark.parametrize(
    ("audio", "sample_rate", "message"),
    [
        (np.zeros(9, np.float32), None, "with sample_rate=None"),
        (np.zeros(9, np.float32), 0, "with their rate in Hz"),
        (np.zeros((2, 9), np.float32), 16000, "expected mono"),
        (np.zeros(9, np.int16), 16000, "type int16"),
        (np.full(9, np.nan, np.float32), 16000, "NaN"),
    ],
)
def test_invalid_arrays_are_rejected(converter, audio, sample_rate, message):
    with pytest.raises(AudioError, match=message):
        converter.convert(audio, sample_rate=sample_rate)


def test_rate_in_place_of_the_options_is_explained(converter):
    with pytest.raises(TypeError, match=r"options=48000 is not a ConversionOptions; .* sample_rate=RATE"):
        converter.convert(np.zeros(9, np.float32), 48000)


def test_encoder_and_pitch_default_to_those_of_the_voice():
    own = {"content": {"name": "spectral", "options": {}}, "pitch": {"name": "pyin", "options": {"fmin_hz": 70.0}}}
    converter = VoiceConverter(make_voice(quick_config(), rvc_lightning=own), trainer=cpu_trainer())
    assert converter.content.name == "spectral"
    assert (converter.pitch.name, converter.pitch.fmin_hz) == ("pyin", 70.0)
    assert VoiceConverter(make_voice(quick_config()), trainer=cpu_trainer()).pitch.name == "swift_f0"


@pytest.mark.parametrize(
    ("information", "message"),
    [
        ({"embedder_model": "my-own"}, "requires the content encoder 'my-own': content_path=FOLDER is missing"),
        ({"rvc_lightning": {"content": {"name": "future"}}}, "choose one of: .*contentvec"),
        (
            {"rvc_lightning": {"pitch": {"name": "ear"}}},
            "'ear'.*choose one of: .*swift_f0.* Any other works: pitch=swift_f0",
        ),
        ({"rvc_lightning": {"pitch": {"name": "pyin", "options": {"volume": 3}}}}, "invalid options"),
        ({"rvc_lightning": {"pitch": {"name": "pyin", "options": [1]}}}, "invalid options"),
        ({"rvc_lightning": {"content": "os.system"}}, "unknown content encoder 'os.system'"),
    ],
)
def test_unknown_encoders_are_rejected(information, message):
    with pytest.raises(VoiceError, match=message):
        VoiceConverter(make_voice(quick_config(), **information), trainer=cpu_trainer())


def test_encoder_with_other_channels_is_rejected(voice):
    with pytest.raises(VoiceError, match="768 channels, but the content encoder 'stub' has 256"):
        VoiceConverter(voice, content=StubContent(256), trainer=cpu_trainer())


def test_index_of_another_voice_is_rejected(voice, tmp_path):
    path = save_index(build_index(np.eye(40, 256, dtype=np.float32), 0), tmp_path / "other.index")
    with pytest.raises(VoiceError, match=r"other.index' has features of 256 channels, but the voice uses 768"):
        VoiceConverter(voice, path)
    with pytest.raises(VoiceError, match=r"index not found: .*gone.index"):
        VoiceConverter(voice, tmp_path / "gone.index")


def test_index_changes_the_result(voice, converter):
    features = np.random.default_rng(0).standard_normal((100, 768)).astype(np.float32)
    indexed = VoiceConverter(
        voice,
        RetrievalIndex(build_index(features, 0)),
        content=StubContent(),
        pitch=StubPitch(),
        trainer=cpu_trainer(),
    )
    audio = golden_rule.stub_audio("index", 0.4)
    plain, _ = converter.convert(audio, sample_rate=16000)
    assert np.array_equal(indexed.convert(audio, ConversionOptions(index_rate=0.0), sample_rate=16000)[0], plain)
    assert not np.array_equal(indexed.convert(audio, sample_rate=16000)[0], plain)


def test_volume_envelope_of_the_source(converter):
    audio = np.concatenate([0.05 * golden_rule.stub_audio("env", 1.3), golden_rule.stub_audio("env", 1.3)])
    converted, _ = converter.convert(audio, ConversionOptions(volume_envelope=0.0), sample_rate=16000)
    middle = len(converted) // 2
    quiet, loud = (np.sqrt(np.mean(half**2)) for half in (converted[: middle // 2], converted[-middle // 2 :]))
    assert quiet < 0.2 * loud


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_precision_comes_from_the_trainer(precision):
    trainer = cpu_trainer(precision=precision)
    audio = golden_rule.stub_audio("precision", 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Of Lightning.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
        converter = VoiceConverter(make_voice(quick_config()), pitch=StubPitch(), trainer=trainer)
        converted, _ = converter.convert(audio, sample_rate=16000)
    exact = VoiceConverter(make_voice(quick_config()), pitch=StubPitch(), trainer=cpu_trainer())
    assert converted.dtype == np.float32 and np.isfinite(converted).all()
    np.testing.assert_allclose(converted, exact.convert(audio, sample_rate=16000)[0], atol=0.05)


def test_default_trainer_hides_messages_of_lightning(voice):
    logger = logging.getLogger("lightning.pytorch")
    logger.setLevel(logging.INFO)
    VoiceConverter(voice, content=StubContent(), pitch=StubPitch())
    assert not logger.isEnabledFor(logging.INFO)


def test_several_devices_are_rejected(voice):
    with pytest.raises(ConfigurationError, match=r"devices=2: .*on one device"):
        VoiceConverter(voice, trainer=cpu_trainer(devices=2, strategy="ddp_spawn")).convert("a.wav")


def test_long_recording_in_chunks(no_noise):
    # Attention depends on the chunk, so the two agree closely, not exactly; test_chunking.py tests a local network.
    voice = make_voice(quick_config(generator="hifigan"))
    lengths = ChunkLengths(context_seconds=1, search_seconds=1, spacing_seconds=4, longest_seconds=5)
    audio = golden_rule.stub_audio("long", 6.3)
    whole, chunked = (
        VoiceConverter(voice, content=StubContent(), trainer=cpu_trainer(), lengths=value).convert(
            audio, ConversionOptions(speaker=1), sample_rate=16000
        )[0]
        for value in (None, lengths)
    )
    assert chunked.shape == whole.shape == (math.ceil(6.3 * RATE),)
    error = chunked - whole
    assert np.sqrt(np.mean(error**2)) < 0.03 * np.std(whole)
    # No jump at a border.
    assert np.abs(np.diff(chunked)).max() < 1.05 * np.abs(np.diff(whole)).max()


CHANGES = {
    "transpose_semitones": 3,
    "autotune": 0.7,
    "proposed_pitch_hz": 400,
    "f0_file": "curve.csv",
    "index_rate": 0.2,
    "protect": 0.1,
    "volume_envelope": 0.3,
    "speaker": "ben",
    "formant_semitones": 3,
    "noise_scale": 0.2,
    "seed": 5,
    "split_on_silence": True,
    "clean_noise": 0.9,
    "effects": ["compressor"],
    "output_sample_rate": 11025,
}
TESTED_ELSEWHERE = {
    "write_f0": "tests/conversion/test_folder.py",
    "output_format": "tests/conversion/test_folder.py",
    "tail_seconds": "tests/conversion/test_effects.py",
}


@pytest.fixture
def full_converter(tmp_path, monkeypatch):
    """Converter with an index, named speakers, and a curve in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_curve("curve.csv", np.full(200, 321, np.float32))
    features = np.random.default_rng(0).standard_normal((100, 768)).astype(np.float32)
    return VoiceConverter(
        make_voice(quick_config(), rvc_lightning={"speakers": ["anna", "ben"]}),
        RetrievalIndex(build_index(features, 0)),
        content=StubContent(),
        pitch=StubPitch(),
        trainer=cpu_trainer(),
    )


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_changes_the_result(full_converter, name):
    if name == "effects":
        pytest.importorskip("pedalboard", reason="the extra is not installed: pip install -e '.[effects]'")
    assert {*CHANGES, *TESTED_ELSEWHERE} == {option.name for option in option_fields(ConversionOptions)}
    noise = golden_rule.stub_audio("options", 0.6)
    audio = np.concatenate([noise, np.zeros(8000, np.float32), noise])
    plain, plain_rate = full_converter.convert(audio, sample_rate=16000)
    changed, rate = full_converter.convert(audio, ConversionOptions(**{name: CHANGES[name]}), sample_rate=16000)
    assert np.isfinite(changed).all() and len(changed) == -(-len(audio) * rate // 16000)
    assert rate != plain_rate if name == "output_sample_rate" else np.abs(changed - plain).max() > 1e-4


def test_speaker_by_name(full_converter):
    audio = golden_rule.stub_audio("names", 0.3)
    by_name, by_number = (
        full_converter.convert(audio, ConversionOptions(speaker=speaker), sample_rate=16000)[0]
        for speaker in ("ben", 1)
    )
    np.testing.assert_array_equal(by_name, by_number)


def test_split_on_silence_gives_exact_silence(full_converter):
    sound = golden_rule.stub_audio("pauses", 1.0)
    audio = np.concatenate([np.zeros(24000), sound, np.zeros(32000), sound, np.zeros(20001)]).astype(np.float32)
    converted, _ = full_converter.convert(audio, ConversionOptions(split_on_silence=True), sample_rate=16000)
    assert len(converted) == math.ceil(len(audio) / 2)
    sounds = np.abs(converted.reshape(-1)[: len(converted) // 1000 * 1000].reshape(-1, 1000)).max(axis=1) > 0
    # Eighths of a second: sound from 1.5 to 2.5 s and from 4.5 to 5.5 s, with a margin.
    assert set(np.flatnonzero(sounds)) <= {*range(10, 23), *range(34, 47)}
    assert sounds[13:19].all() and sounds[37:43].all()


def test_pitch_of_the_output_serves_as_f0_file(full_converter):
    audio = golden_rule.stub_audio("contour", 0.7)
    (first,) = full_converter.convert_many([audio], ConversionOptions(transpose_semitones=2, autotune=0.4), 16000)
    assert first.f0_hz.shape == (71,) and first.f0_hz.dtype == np.float32
    write_curve("first.csv", first.f0_hz)
    (again,) = full_converter.convert_many([audio], ConversionOptions(f0_file="first.csv"), 16000)
    np.testing.assert_array_equal(again.f0_hz, first.f0_hz)


def test_proposed_pitch_ignores_pauses_and_reflected_ends(voice):
    class TwoPitches(PitchExtractor):
        name = "two_pitches"

        def __call__(self, wav16k):
            """100 Hz in quiet frames, 400 Hz in loud ones, and unvoiced in silence."""
            frames = np.pad(np.abs(wav16k), (0, 160))[: (len(wav16k) // 160 + 1) * 160].reshape(-1, 160).mean(axis=1)
            return np.select([frames > 0.1, frames > 0.005], [400.0, 100.0], 0.0).astype(np.float32)

    converter = VoiceConverter(voice, content=StubContent(), pitch=TwoPitches(), trainer=cpu_trainer())
    noise = np.sign(golden_rule.stub_audio("levels", 0.6))
    quiet, loud = 0.02 * noise, 0.5 * noise[:4800]
    audio = np.concatenate([loud, np.zeros(32000), quiet, np.zeros(16000)]).astype(np.float32)
    (converted,) = converter.convert_many([audio], ConversionOptions(proposed_pitch_hz=200), 16000)
    # The median of 0.6 s at 100 Hz and 0.3 s at 400 Hz.
    assert set(np.unique(converted.f0_hz)) == {0, 200, 800}


def test_curve_of_another_recording_is_rejected(full_converter):
    with open("late.csv", "w") as stream:
        stream.write("5,100\n6,100\n")
    with pytest.raises(ConfigurationError, match=r"late.csv' covers 5 to 6 s, but the recording ends at 0.30 s"):
        full_converter.convert(golden_rule.stub_audio("x", 0.3), ConversionOptions(f0_file="late.csv"), 16000)


def test_silence_has_the_requested_rate(full_converter):
    options = ConversionOptions(output_sample_rate=44100)
    (silent,) = full_converter.convert_many([np.zeros(16001, np.float32)], options, 16000)
    assert (len(silent.audio), silent.sample_rate, len(silent.f0_hz)) == (math.ceil(16001 * 44100 / 16000), 44100, 101)


@pytest.mark.parametrize("options", [{"autotune": 1}, {"proposed_pitch_hz": 200}, {"write_f0": True}])
def test_pitch_options_are_rejected_for_a_voice_without_pitch(options):
    voice = make_voice(quick_config(generator="hifigan"))
    converter = VoiceConverter(voice, content=StubContent(), trainer=cpu_trainer())
    converter.check(ConversionOptions(transpose_semitones=3))
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))}=.*: the voice has no pitch to change"):
        converter.convert(np.ones(1600, np.float32) / 2, ConversionOptions(**options), 16000)


@pytest.fixture
def speaker_converter(voice, tmp_path):
    """A converter with an index for the first of two speakers and a third row, but not for the second."""
    features = np.random.default_rng(0).standard_normal((2, 50, 768)).astype(np.float32)
    for row, rows in ((0, features[0]), (2, features[1])):
        save_index(build_index(rows, 0), tmp_path / f"added_IVF{row + 1}_Flat_nprobe_1_a_v2_spkid{row}.index")
    index = tmp_path / "added_IVF1_Flat_nprobe_1_a_v2_spkid0.index"
    voice = make_voice(quick_config(speaker_count=3))
    return VoiceConverter(voice, index, content=StubContent(), pitch=StubPitch(), trainer=cpu_trainer())


def test_index_of_the_speaker_is_used(speaker_converter, tmp_path, caplog):
    caplog.set_level("INFO")
    audio = golden_rule.stub_audio("speakers", 0.3)
    options = ConversionOptions(speaker=2, index_rate=1.0)
    converted, _ = speaker_converter.convert(audio, options, 16000)
    alone = VoiceConverter(
        speaker_converter.voice,
        RetrievalIndex.load(tmp_path / "added_IVF3_Flat_nprobe_1_a_v2_spkid2.index"),
        content=StubContent(),
        pitch=StubPitch(),
        trainer=cpu_trainer(),
    )
    np.testing.assert_array_equal(converted, alone.convert(audio, options, 16000)[0])
    assert "Index of speaker 2: " in caplog.text
    prints = {speaker_converter.fingerprint(ConversionOptions(speaker=row, index_rate=1.0)) for row in (0, 2)}
    assert len(prints) == 2


def test_speaker_without_an_index_is_converted_without(speaker_converter, caplog):
    audio = golden_rule.stub_audio("speakers", 0.3)
    converted, _ = speaker_converter.convert(audio, ConversionOptions(speaker=1, index_rate=1.0), 16000)
    plain, _ = speaker_converter.convert(audio, ConversionOptions(speaker=1, index_rate=0.0), 16000)
    np.testing.assert_array_equal(converted, plain)
    assert "Speaker 1 has no index beside" in caplog.text


def test_stream_follows_the_speaker(speaker_converter):
    stream = StreamingConverter(speaker_converter, ConversionOptions(index_rate=1.0), sample_rate=16000)
    assert stream._index is speaker_converter.index
    stream.change(ConversionOptions(index_rate=1.0, speaker=2))
    assert stream._index.path.stem.endswith("_spkid2")
