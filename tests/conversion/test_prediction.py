"""Conversion in batches, chunks and ranks: results do not depend on them, and no recording is lost."""

import os
import subprocess
import sys
from pathlib import Path

import faiss
import golden_rule
import numpy as np
import pytest
import soundfile
import torch
from golden import patch_random
from stubs import StubContent, StubPitch, cpu_trainer, make_hubert, make_voice, quick_config

from rvc_lightning import ConversionOptions, VoiceConverter
from rvc_lightning.audio.encode import write_audio
from rvc_lightning.cli.progress import Progress
from rvc_lightning.content import build_content_encoder
from rvc_lightning.conversion import prediction
from rvc_lightning.conversion.folder import convert_files
from rvc_lightning.conversion.inference import Window
from rvc_lightning.conversion.journal import JOURNAL_NAME
from rvc_lightning.conversion.lengths import ChunkLengths
from rvc_lightning.conversion.positional_noise import Position, PositionalNoise
from rvc_lightning.conversion.tasks import Task, Throughput, fitting_count, padded_samples, share_tasks
from rvc_lightning.errors import AudioError, OutOfMemoryError
from rvc_lightning.models import Synthesizer, noise
from rvc_lightning.models.generators import GENERATORS
from rvc_lightning.models.noise import drawing_from
from rvc_lightning.retrieval.index import RetrievalIndex, build_index

SHORT = ChunkLengths(context_seconds=1, search_seconds=1, spacing_seconds=4, longest_seconds=5)
OPTIONS = ConversionOptions()
SCRIPT = Path(__file__).parents[1] / "support/conversion_ranks.py"


class FlatPitch(StubPitch):
    def __call__(self, wav16k):
        return np.full(len(wav16k) // 160 + 1, 200.0, np.float32)


def make_converter(voice, *, pitch=None, content=None, **changes):
    parts = {"content": content or StubContent(), "pitch": pitch or StubPitch(), "trainer": cpu_trainer()}
    return VoiceConverter(voice, **parts | changes)


def sounds(n, shortest=0.3, step=0.41):
    return [golden_rule.stub_audio(f"many {number}", shortest + step * number) for number in range(n)]


@pytest.mark.slow
@pytest.mark.parametrize("generator", GENERATORS)
def test_results_do_not_depend_on_the_batch(generator, tmp_path):
    """Includes HuBERT, an index, and random numbers."""
    content = build_content_encoder("contentvec", path=str(make_hubert(tmp_path, layers=2)))
    rows = content(torch.randn(1, 48000), torch.tensor([48000]))[0].numpy()
    index = RetrievalIndex(build_index(rows, 0))
    voice = make_voice(quick_config(generator=generator))
    together = make_converter(voice, content=content, index=index, lengths=SHORT)
    alone = make_converter(voice, content=content, index=index, lengths=SHORT, throughput=Throughput(1))
    sources = [*sounds(3), golden_rule.stub_audio("long", 9.7)]
    options = ConversionOptions(index_rate=0.5, protect=0.2)
    for source, result in zip(sources, together.convert_many(sources, options, 16000), strict=True):
        expected, _ = alone.convert(source, options, 16000)
        assert result.sample_rate == 8000 and result.audio.std() > 1e-4
        np.testing.assert_allclose(result.audio, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("generator", [name for name, kind in GENERATORS.items() if kind.pitch_guided])
@pytest.mark.parametrize("kind", ["tone", "speech"])
def test_chunk_borders_are_inaudible(generator, kind):
    """Phase and random numbers continue across cuts, also through sound.

    The attention of random weights spans everything and would differ between chunks and the whole, so it is disabled.
    """
    voice = make_voice(quick_config(generator=generator))
    for layer in voice.synthesizer.text_encoder.transformer.attn_layers:
        torch.nn.init.zeros_(layer.conv_o.weight)
    time = np.arange(16000 * 13) / 16000
    audio = 0.3 * np.sin(2 * np.pi * 200 * time) if kind == "tone" else golden_rule.stub_audio("speech", 13.0)
    whole, chunked = (
        make_converter(voice, pitch=FlatPitch(), lengths=lengths).convert(audio.astype(np.float32), OPTIONS, 16000)[0]
        for lengths in (None, SHORT)
    )
    assert whole.std() > 1e-3
    np.testing.assert_allclose(chunked, whole, atol=2e-3 * np.abs(whole).max(), rtol=0)
    assert np.abs(np.diff(chunked)).max() < 1.01 * np.abs(np.diff(whole)).max()


def test_noise_depends_on_the_position():
    def draw_at(places, frames, draw):
        with drawing_from(PositionalNoise(places, frames)):
            noise.rand(len(places), 1, 3, like=torch.zeros(1))
            return draw(len(places), frames)

    def latent(items, frames):
        return noise.randn_like(torch.zeros(items, 4, frames))

    def samples(items, frames):
        return noise.randn_like(torch.zeros(items, 1, frames * 80))

    for draw, values in ((latent, 1), (samples, 80)):
        both = draw_at([Position("a", 700), Position("b", 0)], 900, draw)
        (alone,) = draw_at([Position("a", 0)], 2000, draw)
        assert torch.equal(both[0], alone[:, 700 * values : 1600 * values])
        assert not torch.equal(both[0], both[1])
        assert abs(float(alone.std()) - 1) < 0.05
    with drawing_from(PositionalNoise([Position("a", 0), Position("a", 512), Position("b", 0)], 900)):
        starts = noise.rand(3, 1, 9, like=torch.zeros(1))
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])


def test_noise_calls_the_functions_of_torch(monkeypatch):
    patch_random(monkeypatch, normal=2.0)
    with drawing_from(PositionalNoise([Position("a", 3)], 5)):
        assert torch.equal(noise.randn_like(torch.zeros(1, 5)), torch.full((1, 5), 2.0))


def test_window_is_converted_without_a_trainer():
    converter = make_converter(make_voice(quick_config()))
    wave = golden_rule.stub_audio("window", 0.5)
    window = Window(wave, np.full(60, 150, np.float32), Position("here", 40))
    (audio,) = converter.inference.convert([window], OPTIONS)
    assert audio.shape == ((8000 - 400) // 320 * 160 + 160,) and np.isfinite(audio).all()


def test_index_is_only_read_if_used(tmp_path, monkeypatch):
    from rvc_lightning.retrieval.index import save_index

    path = save_index(build_index(np.eye(40, 768, dtype=np.float32), 0), tmp_path / "a.index")
    read = []
    load = faiss.read_index
    monkeypatch.setattr("faiss.read_index", lambda path: read.append(path) or load(path))
    converter = make_converter(make_voice(quick_config()), index=path)
    converter.convert(sounds(1)[0], ConversionOptions(index_rate=0.0), 16000)
    assert read == []
    for _ in range(2):
        converter.convert(sounds(1)[0], ConversionOptions(index_rate=0.1), 16000)
    assert len(read) == 1


@pytest.mark.slow
def test_batches_are_halved_when_memory_runs_out(monkeypatch, caplog):
    voice, sources = make_voice(quick_config()), sounds(5, shortest=1.0, step=0.0)
    expected_results = make_converter(voice).convert_many(sources, OPTIONS, 16000)
    infer, sizes = Synthesizer.infer, []

    def infer_with_little_memory(self, content, *rest):
        sizes.append(len(content))
        if len(content) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return infer(self, content, *rest)

    monkeypatch.setattr(Synthesizer, "infer", infer_with_little_memory)
    results = make_converter(voice).convert_many(sources, OPTIONS, 16000)
    assert sizes == [5, 2, 2, 1] and "Out of memory with 5 chunks per batch; continuing with 2" in caplog.text
    for result, expected in zip(results, expected_results, strict=True):
        np.testing.assert_allclose(result.audio, expected.audio, atol=1e-5, rtol=0)


def test_single_chunk_that_exceeds_memory_is_an_error(monkeypatch):
    def infer_with_little_memory(*args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Synthesizer, "infer", infer_with_little_memory)
    with pytest.raises(OutOfMemoryError, match=r"single chunk.*chunks.spacing_seconds=10"):
        make_converter(make_voice(quick_config())).convert(sounds(1)[0], OPTIONS, 16000)


@pytest.mark.slow
def test_progress_counts_silence_and_failures(monkeypatch, tmp_path):
    bars = []

    class RecordedProgress(Progress):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            self.steps = []
            bars.append(self)

        def update(self, amount):
            self.steps.append(amount)
            super().update(amount)

    monkeypatch.setattr(prediction, "Progress", RecordedProgress)
    speech = golden_rule.stub_audio("watched", 7.0)
    write_audio(tmp_path / "in/gap.wav", np.concatenate([speech, np.zeros(16000 * 9, np.float32), speech]), 16000)
    write_audio(tmp_path / "in/silent.wav", np.zeros(16000 * 2, np.float32), 16000)
    (tmp_path / "in/broken.wav").write_bytes(b"no recording")
    convert = make_converter(make_voice(quick_config()), lengths=SHORT)
    with pytest.raises(AudioError, match="1 of 3 recordings failed"):
        convert_files(convert, tmp_path / "in", tmp_path / "out", ConversionOptions(split_on_silence=True))
    (progress,) = bars
    assert (progress.description, progress.unit, progress.enabled) == ("converting", "s", True)
    assert sum(progress.steps) == pytest.approx(25.0) == progress.total and len(progress.steps) > 5


@pytest.mark.parametrize(
    ("seconds", "count"), [([5.0], 1), ([3, 3, 3, 3], 3), ([1, 9, 1], 1), ([1, 2, 3, 4], 3), ([99, 1], 1)]
)
def test_fitting_count(seconds, count):
    assert fitting_count(seconds, 9.0) == fitting_count([5.0, *seconds], 9.0, 1) == count


@pytest.mark.parametrize("samples", [1, 7, 8, 9, 15, 17, 3519, 32768, 32769, 428160])
def test_lengths_are_padded_by_less_than_an_eighth(samples):
    assert samples <= padded_samples(samples) < samples * 9 / 8
    assert len({padded_samples(length) for length in range(samples, 2 * samples)}) <= 9


@pytest.mark.slow
def test_many_lengths_give_few_shapes(monkeypatch):
    """torch caches kernels for each shape."""
    infer, shapes = Synthesizer.infer, set()

    def infer_and_record(self, content, *rest, **others):
        shapes.add(tuple(content.shape))
        return infer(self, content, *rest, **others)

    monkeypatch.setattr(Synthesizer, "infer", infer_and_record)
    one_by_one = make_converter(make_voice(quick_config()), throughput=Throughput(1))
    one_by_one.convert_many(sounds(20, shortest=0.3, step=0.05), OPTIONS, 16000)
    assert len(shapes) <= 5


def test_tasks_are_shared_evenly():
    tasks = [Task(f"{n}.wav", None, float(seconds), OPTIONS) for n, seconds in enumerate([1, 90, 3, 3, 2, 40, 41, 5])]
    for ranks in (1, 2, 3):
        shards = share_tasks(tasks, 60.0, ranks)
        names = [task.source for batches in shards for batch in batches for task in batch]
        assert sorted(names) == sorted(task.source for task in tasks)
        loads = [sum(task.seconds for batch in batches for task in batch) for batches in shards]
        assert max(loads) <= max(90, sum(loads) / ranks + 60)


@pytest.fixture
def folder(tmp_path):
    for number, audio in enumerate(sounds(5)):
        write_audio(tmp_path / "in" / f"{number}.wav", audio, 16000, "FLOAT")
    (tmp_path / "in" / "broken.wav").write_bytes(b"no recording")
    make_voice(quick_config()).save(tmp_path / "voice.pth")
    return tmp_path


def outputs(folder):
    return {path.name: soundfile.read(path)[0] for path in sorted(folder.glob("*.wav"))}


@pytest.mark.slow
def test_broken_file_does_not_affect_its_batch(folder):
    converter = make_converter(make_voice(quick_config()), throughput=Throughput(60, num_workers=1))
    with pytest.raises(AudioError, match=r"1 of 6 recordings failed:\n.*broken.wav: .*cannot be decoded"):
        convert_files(converter, folder / "in", folder / "out", OPTIONS)
    assert list(outputs(folder / "out")) == [f"{number}.wav" for number in range(5)]
    assert sorted(os.listdir(folder / "out")) == [JOURNAL_NAME, *(f"{number}.wav" for number in range(5))]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_two_ranks_give_the_results_of_one(folder, strategy):
    with pytest.raises(AudioError, match="1 of 6"):
        convert_files(make_converter(make_voice(quick_config())), folder / "in", folder / "one", OPTIONS)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parent)}
    command = [sys.executable, str(SCRIPT), str(folder), strategy]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 1 and "1 of 6 recordings failed" in done.stderr, done.stderr[-3000:]
    one, two = outputs(folder / "one"), outputs(folder / "out")
    assert list(one) == list(two)
    for name, audio in one.items():
        np.testing.assert_allclose(two[name], audio, atol=1e-4)
    # Each is written once. Logging is not configured in spawned processes.
    assert done.stderr.count("Wrote ") == (5 if strategy == "ddp" else 0)
    assert len((folder / "out" / JOURNAL_NAME).read_text(encoding="utf-8").splitlines()) == 5


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path):
    """From a file to a file; samples beyond a minute are on the disk."""
    peaks = []
    for minutes in (2, 6):
        command = [sys.executable, str(SCRIPT), str(tmp_path), "long", "--minutes", str(minutes)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parent)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
        assert done.returncode == 0, done.stderr[-3000:]
        peaks.append(int(done.stdout.split()[-1]))
        info = soundfile.info(tmp_path / "long_out.wav")
        assert info.frames == minutes * 60 * 8000
    # Four minutes are 15 MB at 16 kHz, and as much in every copy.
    assert peaks[1] - peaks[0] < 60 * 1024
