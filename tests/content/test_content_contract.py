"""Contract of every registered content encoder."""

from functools import partial

import numpy as np
import pytest
import soundfile
import torch
from stubs import make_hubert

import rvc_lightning
from rvc_lightning.audio.frames import content_frames, content_lengths
from rvc_lightning.content import CONTENT_ENCODERS, build_content_encoder
from rvc_lightning.errors import ConfigurationError

# The other names of HubertEncoder differ in their files only.
HUBERT_NAMES = {name for name, constructor in CONTENT_ENCODERS.items() if isinstance(constructor, partial)}


@pytest.fixture(scope="module")
def hubert_folder(tmp_path_factory):
    return make_hubert(tmp_path_factory.mktemp("hubert"))


PARAMS = [*sorted(CONTENT_ENCODERS.keys() - HUBERT_NAMES), pytest.param("hubert", marks=pytest.mark.slow)]


@pytest.fixture(params=PARAMS, scope="module")
def encoder(request, hubert_folder):
    return build_content_encoder(request.param, **{"path": hubert_folder} if request.param == "hubert" else {})


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CONTENT_ENCODERS))
def test_encoders_have_their_registered_names(name, hubert_folder):
    files = {"path": hubert_folder} if name in HUBERT_NAMES else {}
    assert build_content_encoder(name, **files).name == name


def noise(samples, seed=0):
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (400, 1), (719, 1), (720, 2), (16000, 49), (48000, 149)])
def test_frame_count_equals_hubert(samples, frames):
    assert content_frames(samples) == frames
    assert content_lengths(torch.tensor([samples])).tolist() == [frames]


@pytest.mark.parametrize("samples", [1, 2, 399, 400, 401, 719, 720, 16000, 16001])
@pytest.mark.parametrize("kind", ["silence", "noise"])
def test_shape_for_any_length(encoder, samples, kind):
    wav = noise(samples) if kind == "noise" else torch.zeros(1, samples)
    content = encoder(wav, torch.tensor([samples]))
    assert content.shape == (1, content_frames(samples), encoder.dim)
    assert content.dtype == torch.float32 and content.isfinite().all()


def test_item_does_not_depend_on_its_batch(encoder):
    lengths = torch.tensor([1, 500, 9999, 16000])
    batch = torch.zeros(4, 16000)
    for item, length in enumerate(lengths):
        batch[item, :length] = noise(int(length), seed=item)
    together = encoder(batch, lengths)
    for item, length in enumerate(lengths):
        alone = encoder(batch[item : item + 1, :length], lengths[item : item + 1])[0]
        torch.testing.assert_close(together[item, : len(alone)], alone, rtol=1e-4, atol=1e-4)
        assert not together[item, len(alone) :].any()


def test_values_are_of_order_one(encoder):
    content = encoder(noise(48000), torch.tensor([48000]))
    assert 0.05 < content.std() < 5 and content.abs().max() < 1000


def test_spectral_has_no_parameters_and_no_saved_buffers():
    encoder = build_content_encoder("spectral")
    assert not list(encoder.parameters()) and not encoder.state_dict()


def test_spectral_ignores_level():
    encoder = build_content_encoder("spectral")
    wav, lengths = noise(16000), torch.tensor([16000])
    torch.testing.assert_close(encoder(0.2 * wav, lengths), encoder(wav, lengths), rtol=0, atol=2e-3)


def test_spectral_matches_sentences_across_voices():
    """The nearest-frame distance is smallest for the same sentence."""
    encoder = build_content_encoder("spectral")

    def content(voice, number):
        demo = f"{rvc_lightning.__path__[0]}/assets/demo/{voice}/{number:02}.flac"
        wav = torch.from_numpy(soundfile.read(demo, dtype="float32")[0])[None]
        return encoder(wav, torch.tensor([wav.shape[1]]))[0]

    voices = {voice: [content(voice, number) for number in range(1, 6)] for voice in ("counterpart", "source")}
    distance = torch.tensor(
        [[torch.cdist(a, b).amin(dim=1).mean() for b in voices["counterpart"]] for a in voices["source"]]
    )
    assert np.mean((distance.argmin(dim=1) == torch.arange(5)).numpy()) >= 0.8


def test_unknown_names_and_options_raise():
    with pytest.raises(ConfigurationError, match="spectral"):
        build_content_encoder("hubertt")
    with pytest.raises(ConfigurationError, match="size"):
        build_content_encoder("spectral", size=3)
