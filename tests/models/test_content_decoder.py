"""Networks without a random latent: context, padding, training and voices."""

import pytest
import torch
from stubs import StubContent, make_voice, quick_config
from torch.testing import assert_close

from rvc_lightning import ConversionOptions, Voice, VoiceConverter
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models import Synthesizer
from rvc_lightning.models.content_decoder import ContentDecoder

CONFIG = quick_config(generator="source_filter", variational=False, n_layers=3)


def inputs(batch=2, frames=40):
    content = torch.randn(batch, frames, 768)
    f0_hz = torch.full((batch, frames), 120.0)
    return content, torch.full((batch, frames), 60), f0_hz


def test_padding_does_not_affect_the_latent():
    decoder, code = ContentDecoder(CONFIG, pitch_guided=True), torch.randn(2, CONFIG.speaker_channels, 1)
    content, coarse, _ = inputs()
    both = decoder(content, coarse, torch.tensor([40, 25]), code)
    alone = decoder(content[1:, :25], coarse[1:, :25], torch.tensor([25]), code[1:])
    assert_close(both[1:, :, :25], alone, atol=1e-5, rtol=0)
    assert not both[1, :, 25:].any() and alone.std() > 0.1


def test_every_input_has_an_effect():
    decoder = ContentDecoder(CONFIG, pitch_guided=True)
    content, coarse, _ = inputs(1)
    lengths, code = torch.tensor([40]), torch.randn(1, CONFIG.speaker_channels, 1)
    latent = decoder(content, coarse, lengths, code)
    for changed in ((content + 1, coarse, lengths, code), (content, coarse + 1, lengths, code)):
        assert not torch.equal(decoder(*changed), latent)
    assert not torch.equal(decoder(content, coarse, lengths, code + 1), latent)


def test_training_pass_updates_all_networks():
    synthesizer = Synthesizer(CONFIG)
    content, coarse, f0_hz = inputs()
    torch.nn.init.normal_(synthesizer.generator.conv_post.weight, std=0.1)
    lengths, speaker = torch.tensor([40, 30]), torch.tensor([0, 1])
    output = synthesizer(content, lengths, coarse, f0_hz, speaker, torch.rand(2, CONFIG.spec_channels, 40), 20)
    assert output.waveform.shape == (2, 1, 20 * CONFIG.hop_samples) and output.latent is None
    output.waveform.square().mean().backward()
    assert all(parameter.grad is not None for parameter in synthesizer.parameters())


def test_training_pass_generates_as_conversion_does(monkeypatch):
    synthesizer = Synthesizer(CONFIG)
    torch.nn.init.normal_(synthesizer.generator.conv_post.weight, std=0.1)
    monkeypatch.setattr("rvc_lightning.models.generators.source_filter.randn_like", torch.zeros_like)
    content, coarse, f0_hz = inputs(1, 60)
    speaker, lengths = torch.tensor([1]), torch.tensor([60])
    whole = synthesizer.infer(content, lengths, coarse, f0_hz, speaker)
    output = synthesizer(content, lengths, coarse, f0_hz, speaker, torch.rand(1, CONFIG.spec_channels, 60), 60)
    assert_close(output.waveform, whole, atol=1e-5, rtol=0)


def test_voice_is_read_as_written(tmp_path):
    voice = make_voice(CONFIG)
    loaded = Voice.load(voice.save(tmp_path / "voice.pth"))
    assert loaded.config == CONFIG
    assert not any(name.startswith(("enc_p.", "flow.")) for name in loaded.weights)
    source = torch.sin(torch.arange(16000) * 0.06).numpy()
    audio = [
        VoiceConverter(each, content=StubContent()).convert(source, sample_rate=16000)[0] for each in (voice, loaded)
    ]
    assert (audio[0] == audio[1]).all() and audio[0].std() > 1e-3


def test_scale_of_absent_noise_is_rejected():
    converter = VoiceConverter(make_voice(CONFIG), content=StubContent())
    with pytest.raises(ConfigurationError, match=r"noise_scale=0\.5: the voice has no random features"):
        converter.check(ConversionOptions(noise_scale=0.5))


def test_other_generators_need_a_random_latent():
    with pytest.raises(ConfigurationError, match="only generator=source_filter supports it, not hifigan_nsf"):
        quick_config(variational=False)
