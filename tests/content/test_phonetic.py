"""Phonetic encoder: receptive field, precision and included weights."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from phonetic import phonetic_network

import rvc_lightning
from rvc_lightning.content.phonetic import EDITION, SHIPPED, PhoneticEncoder
from rvc_lightning.errors import ConfigurationError
from rvc_lightning.models.network_file import to_file
from rvc_lightning.models.phonetic import mel_filters
from rvc_lightning.pretraining.phones import PHONES
from rvc_lightning.voice.rvc_format import CONTENT_DIMS

MAX_BYTES = 8_000_000


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("phonetic") / "phonetic.pt"
    torch.save(to_file(phonetic_network(channels=16)), path)
    return PhoneticEncoder(path=str(path))


def noise(samples):
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(1))


def content(encoder, wav):
    return encoder(wav, torch.tensor([wav.shape[1]]))[0]


def test_receptive_field_is_under_a_second(encoder):
    wav = noise(5 * 16000)
    whole, part = content(encoder, wav), content(encoder, wav[:, 16000:])
    # The part starts at frame 50; up to a second may differ.
    torch.testing.assert_close(part[50:], whole[100:], rtol=1e-4, atol=1e-4)
    part = content(encoder, wav[:, : 4 * 16000])
    torch.testing.assert_close(part[:-50], whole[: len(part) - 50], rtol=1e-4, atol=1e-4)


def test_lookahead_is_under_a_third_of_a_second(encoder):
    wav = noise(3 * 16000)
    changed = wav.clone()
    changed[:, 2 * 16000 :] = 0
    differs = (content(encoder, wav) - content(encoder, changed)).abs().amax(dim=1) > 1e-4
    first = int(differs.nonzero()[0])
    assert 2.0 - 0.3 < (first * 320 + 200) / 16000 < 2.0


def test_content_has_a_constant_norm(encoder):
    norms = content(encoder, noise(16000)).norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, 16.0), rtol=1e-3, atol=1e-3)


def test_content_is_similar_in_every_precision(encoder):
    wav = noise(16000)
    plain = content(encoder, wav)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(content(encoder, wav), plain, rtol=0, atol=0)
    double = content(encoder.double(), wav.double())
    encoder.float()
    assert double.dtype == torch.float32
    torch.testing.assert_close(double, plain, rtol=1e-3, atol=1e-3)


def test_warped_mel_filters_align_formants():
    spectrum_bins = torch.arange(257)
    heights = []
    for ratio in (0.85, 1.0, 1.2):
        formant_bin = 1500 * ratio / 8000 * 256
        power = torch.exp(-((spectrum_bins - formant_bin) ** 2) / 20)
        heights.append(int((mel_filters(40, ratio) @ power).argmax()))
    assert max(heights) - min(heights) <= 1
    assert torch.equal(mel_filters(40), mel_filters(40, 1.0)) and (mel_filters(80, 1.2).sum(1) > 0).all()


def test_included_weights_are_small_and_match_the_format():
    path = SHIPPED[EDITION]
    assert path.stat().st_size <= MAX_BYTES
    assert (path.parent / "README.md").is_file()
    encoder = PhoneticEncoder()
    assert encoder.dim == CONTENT_DIMS["v1"] and encoder.network.config.n_phones == len(PHONES)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_other_editions_require_a_path(tmp_path, encoder):
    with pytest.raises(ConfigurationError, match=r"edition=1: .*edition \d.*content\.path=FILE"):
        PhoneticEncoder(edition=1)
    torch.save(to_file(encoder.network), tmp_path / "first.pt")
    assert PhoneticEncoder(path=str(tmp_path / "first.pt"), edition=1).dim == encoder.dim


def test_voices_of_an_earlier_edition_find_their_encoder():
    editions = [PhoneticEncoder(edition=edition).network.phones.weight for edition in SHIPPED]
    assert EDITION in SHIPPED and len(editions) == len({tuple(weight.flatten().tolist()) for weight in editions})


def test_configured_edition_is_included():
    settings = OmegaConf.load(Path(rvc_lightning.__file__).parents[1] / "conf/content/phonetic.yaml")
    assert settings.edition == EDITION
