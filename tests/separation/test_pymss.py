"""Separation by pymss-core, with tiny networks of random weights that are loaded as published models are."""

import builtins

import numpy as np
import pytest
import torch
import yaml
from lightning import Fabric
from separation import CHUNK, write_model

from rvc_lightning.errors import AssetError, ConfigurationError
from rvc_lightning.separation import build_separator
from rvc_lightning.separation.base import PARTS

pytestmark = pytest.mark.slow

RATE = 44100
NOTHING = {"path": None, "stem": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model(folder):
    return write_model(folder)


def build(name="pymss", **parts):
    fabric = Fabric(accelerator="cpu", devices=1)
    return build_separator(fabric, name, **{part: NOTHING | parts.get(part, {}) for part in PARTS})


def noise(samples=CHUNK + 1000, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (samples, 2)).astype(np.float32)


def extract(separator, audio, part="vocals", sample_rate=RATE, cuts=()):
    return np.concatenate(list(separator.extract(part, np.split(audio, cuts), sample_rate)))


@pytest.mark.parametrize("kind", ["mel_band_roformer", "bs_roformer"])
def test_networks_are_loaded_and_used(folder, kind):
    core = pytest.importorskip("pymss_core")
    path = write_model(folder, kind, kind)
    network, _ = core.get_model_from_config(kind, path.with_suffix(".yaml"))
    network.load_state_dict(torch.load(path))
    window = noise(CHUNK)
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(window.T[None])).numpy()[0].T
    separator = build(vocals={"path": str(path)})
    extract(separator, window[:10])
    result = separator._models["vocals"](separator._fabric, window)
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-3


def test_result_does_not_depend_on_the_blocks(model):
    separator, audio = build(vocals={"path": str(model)}), noise()
    whole = extract(separator, audio)
    assert whole.shape == audio.shape
    np.testing.assert_array_equal(extract(separator, audio, cuts=(1, 9000, 9000)), whole)


@pytest.mark.parametrize("sample_rate", [8000, 22050, 48000, 192000])
@pytest.mark.parametrize("samples", [1, 4801])
def test_length_is_kept_at_any_rate(model, sample_rate, samples):
    audio = noise(samples)
    assert extract(build(vocals={"path": str(model)}), audio, sample_rate=sample_rate).shape == audio.shape


def test_silence_stays_finite(model):
    result = extract(build(vocals={"path": str(model)}), np.zeros((5000, 2), np.float32))
    assert np.isfinite(result).all()


def test_part_that_a_model_leaves_is_the_remainder(folder):
    music = write_model(folder, "music", target="other")
    voice = write_model(folder, "voice", target="vocals")
    audio = noise()
    # The same weights under both names.
    remainder = extract(build(vocals={"path": str(music)}), audio)
    np.testing.assert_allclose(remainder + extract(build(vocals={"path": str(voice)}), audio), audio, atol=1e-5)


def test_stem_is_chosen_by_name(folder):
    path = write_model(folder, "karaoke", target="Karaoke", instruments=("Karaoke", "Rest"))
    found = extract(build(lead={"path": str(path)}), noise(), "lead")
    chosen = extract(build(lead={"path": str(path), "stem": "rest"}), noise(), "lead")
    np.testing.assert_allclose(found + chosen, noise(), atol=1e-5)
    with pytest.raises(AssetError, match=r"it has no stem 'vocals'; choose stem= from: Karaoke, Rest"):
        extract(build(vocals={"path": str(path)}), noise())


def test_mono_network_gets_both_channels(folder):
    path = write_model(folder, "mono", stereo=False)
    audio = noise()
    result = extract(build(vocals={"path": str(path)}), audio)
    alone = extract(build(vocals={"path": str(path)}), np.repeat(audio[:, 1:], 2, axis=1))
    np.testing.assert_allclose(result[:, 1], alone[:, 1], atol=1e-6)


def test_identity_changes_with_model_and_stem(folder, model):
    other = write_model(folder, "other", "bs_roformer")
    settings = [{"path": str(model)}, {"path": str(model), "stem": "other"}, {"path": str(other)}]
    identities = [build(vocals=values).identity("vocals") for values in settings]
    assert len(set(identities)) == 3 and build(vocals=settings[0]).identity("vocals") == identities[0]


def test_missing_file_is_named(tmp_path, model):
    with pytest.raises(AssetError, match=r"separator.vocals.path=.*gone.ckpt: '.*gone.ckpt' does not exist"):
        extract(build(vocals={"path": str(tmp_path / "gone.ckpt")}), noise())
    lonely = tmp_path / "lonely.ckpt"
    lonely.write_bytes(model.read_bytes())
    with pytest.raises(AssetError, match=r"'.*lonely.yaml' does not exist"):
        extract(build(vocals={"path": str(lonely)}), noise())


def damaged(path, kind):
    config = path.with_suffix(".yaml")
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif kind == "no yaml":
        config.write_text("{")
    elif kind == "unknown network":
        config.write_text(yaml.dump({"model": {}, "training": {}, "audio": {}}))
    elif kind == "other sizes":
        config.write_text(config.read_text(encoding="utf-8").replace("dim: 8", "dim: 16"))
    elif kind == "code":
        torch.save({"state_dict": builtins.print}, path)


@pytest.mark.parametrize("kind", ["truncated", "no yaml", "unknown network", "other sizes", "code"])
def test_damaged_model_is_one_error(tmp_path, kind):
    path = write_model(tmp_path)
    damaged(path, kind)
    with pytest.raises(AssetError, match=r"separator.vocals: '.*tiny.ckpt' cannot be used: "):
        extract(build(vocals={"path": str(path)}), noise())


def test_hub_models_are_named_when_there_is_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match=r"MelBandRoformer.ckpt.* separator.vocals.path=FILE.ckpt, with FILE.yaml"):
        build().identity("vocals")


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pymss_core", None)
    with pytest.raises(ConfigurationError, match=r'package pymss-core .*pip install "rvc-lightning\[covers\]"'):
        build()


def test_unknown_settings_are_rejected():
    with pytest.raises(ConfigurationError, match="pathh"):
        build(vocals={"pathh": "x"})
    with pytest.raises(ConfigurationError, match="unknown separator 'spleeter'; choose one of: pymss"):
        build("spleeter")
