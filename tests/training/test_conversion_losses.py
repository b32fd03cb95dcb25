"""The losses of conversions compare phones with the source and the speaker with the recordings."""

from dataclasses import replace
from importlib.resources import files
from types import SimpleNamespace

import pytest
import torch
from runs import noise_batch
from tiny import SYNTHESIZER, WEIGHTS, tiny_module

from rvc_lightning.audio.decode import load_audio
from rvc_lightning.cli.resolvers import DEMO_FOLDER
from rvc_lightning.data.batch import collate
from rvc_lightning.training.conversion_losses import ConversionLosses, move_pitch, random_excerpts, read_excerpts

RATE, SECONDS = 24000, 1.6
DIRECT = replace(SYNTHESIZER, variational=False, generator="source_filter", content_dim=256)
CONVERTING = WEIGHTS | {"content": 30.0, "speaker": 30.0}


def speech(name, start_s=0.3, sample_rate=RATE):
    """Return 1.6 s of a recording of the demo, [1, N]."""
    start, samples = round(start_s * sample_rate), round(SECONDS * sample_rate)
    return torch.from_numpy(load_audio(DEMO_FOLDER / name, sample_rate)[0])[None, start : start + samples]


def batch_of(waveforms, speakers=None):
    count = len(waveforms)
    return collate(noise_batch(count, frames=160))._replace(
        waveform=waveforms,
        waveform_lengths=torch.full((count,), waveforms.shape[1]),
        speaker=torch.zeros(count, dtype=torch.long) if speakers is None else speakers,
    )


def losses_of(converted, source, target, sample_rate=RATE):
    """Return both losses for a synthesizer that converts `source` to `converted`, to the speaker of `target`."""
    losses = ConversionLosses(sample_rate)
    wav16k = losses._to_16k(source)
    content = losses.encoder(wav16k, torch.tensor([wav16k.shape[1]]))
    losses.content = torch.cat([content, content[:, -1:]], dim=1)[:, :80]
    losses.f0_hz = torch.full((1, 160), 150.0)

    def synthesizer(content, lengths, coarse_pitch, f0_hz, speaker, spec, segment_frames):
        assert content.shape == (6, 160, 256) and lengths.tolist() == [160] * 6 and segment_frames == 160
        return SimpleNamespace(waveform=converted[None].expand(6, -1, -1))

    return {name: loss.item() for name, loss in losses(synthesizer, batch_of(target)).items()}


@pytest.mark.parametrize("sample_rate", [16000, 24000, 40000])
def test_content_loss_compares_the_phones_of_source_and_conversion(sample_rate):
    first, other = (speech(f"source/0{n}.flac", sample_rate=sample_rate) for n in (1, 2))
    same = losses_of(0.7 * first, first, first, sample_rate)["content"]
    assert same < 0.1 < 0.4 < losses_of(other, first, first, sample_rate)["content"]


def test_speaker_loss_compares_conversion_and_recordings():
    source, target = speech("source/01.flac"), torch.cat([speech(f"target/{n:02}.flac") for n in (9, 10, 11)])
    same, other = (losses_of(x, source, target)["speaker"] for x in (speech("counterpart/02.flac"), source))
    assert same < other / 2


def test_recordings_of_a_batch_are_averaged_by_speaker():
    losses, target = ConversionLosses(RATE), torch.cat([speech(f"target/{n:02}.flac") for n in (9, 10, 11)])
    means = losses._speakers_of(batch_of(target, torch.tensor([1, 0, 1])))
    torch.testing.assert_close(means[0], means[2])
    torch.testing.assert_close(means[1], losses._embed(losses._to_16k(target[1:2]))[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(means.norm(dim=1), torch.ones(3))


def test_excerpts_start_at_random_and_short_items_are_repeated():
    waveform, lengths = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 9, 0, 0, 0]]), torch.tensor([6, 3])
    torch.manual_seed(0)
    excerpts = [random_excerpts(waveform, lengths, 4).tolist() for _ in range(50)]
    assert {tuple(first) for first, _ in excerpts} == {(1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)}
    assert all(second == [7, 8, 9, 7] for _, second in excerpts)


def test_padding_does_not_change_the_speaker():
    losses, recording = ConversionLosses(RATE), speech("target/09.flac")
    padded = batch_of(torch.nn.functional.pad(recording, (0, recording.shape[1])))
    padded = padded._replace(waveform_lengths=torch.tensor([recording.shape[1]]))
    torch.testing.assert_close(losses._speakers_of(padded), losses._speakers_of(batch_of(recording)))


def test_pitch_moves_to_the_median_of_the_recording():
    f0_hz = torch.tensor([[100.0, 0.0, 110.0, 120.0], [0.0, 0.0, 0.0, 0.0], [100.0, 100.0, 0.0, 0.0]])
    target_hz = torch.tensor([[0.0, 220.0, 220.0], [150.0, 150.0, 150.0], [0.0, 0.0, 0.0]])
    moved = move_pitch(f0_hz, target_hz)
    torch.testing.assert_close(moved, torch.stack([2 * f0_hz[0], f0_hz[1], f0_hz[2]]))


def test_included_excerpts():
    excerpts = read_excerpts(files("rvc_lightning") / "assets/conversion/speech.npz")
    assert excerpts.content.shape == (306, 80, 256) and excerpts.f0_hz.shape == (306, 160)
    assert excerpts.content.isfinite().all()
    # A frame of the phonetic encoder has a norm of the root of its channels.
    torch.testing.assert_close(excerpts.content.norm(dim=2), torch.full((306, 80), 16.0), rtol=0.025, atol=0)
    voiced = excerpts.f0_hz[excerpts.f0_hz > 0]
    assert voiced.min() >= 50 and voiced.max() <= 2000 and (excerpts.f0_hz > 0).float().mean(1).min() > 0.3


def test_training_step_with_both_losses():
    module = tiny_module(synthesizer=DIRECT, segment_frames=40, adversarial_from_step=None, loss_weights=CONVERTING)
    module.train()
    batch = batch_of(0.1 * torch.randn(2, 160 * 240))
    losses = module.conversion_losses
    before = {name: value.clone() for name, value in losses.named_buffers()}
    terms = losses(module.synthesizer, batch)
    assert all(0 < loss < 2 for loss in terms.values())
    module.weighted_sum({"mel": torch.tensor(1.0)} | terms).backward()
    decoder, generator = module.synthesizer.content_decoder, module.synthesizer.generator
    for network in (decoder, generator):
        assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in losses.parameters())
    # Batch norm does not update its statistics either.
    for name, value in losses.named_buffers():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_shortest_recording():
    losses = ConversionLosses(RATE)
    assert losses._speakers_of(batch_of(torch.randn(2, RATE // 100))).isfinite().all()


@pytest.mark.parametrize("loads", [CONVERTING, WEIGHTS])
@pytest.mark.parametrize("saves", [CONVERTING, WEIGHTS])
def test_state_of_a_run_with_other_losses(saves, loads):
    saved, loaded = (tiny_module(synthesizer=DIRECT, loss_weights=weights) for weights in (saves, loads))
    torch.nn.init.normal_(saved.synthesizer.speaker_embedding.weight)
    state = saved.state_dict()
    assert not any(name.startswith("conversion_losses") for name in state)
    loaded.load_state_dict(state)
    torch.testing.assert_close(loaded.synthesizer.speaker_embedding.weight, saved.synthesizer.speaker_embedding.weight)
    del state["synthesizer.speaker_embedding.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*speaker_embedding"):
        loaded.load_state_dict(state)


def test_no_networks_without_these_losses():
    assert tiny_module().conversion_losses is None
    assert tiny_module(loss_weights=CONVERTING | {"content": 0.0, "speaker": 0.0}).conversion_losses is None


def test_state_is_empty():
    assert not ConversionLosses(RATE).state_dict()
