"""The index of a voice: built once, and rebuilt when its features or settings change."""

import logging

import numpy as np
import pytest
from defaults import make_index_config

from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, write_manifest
from rvc_lightning.errors import DatasetError, VoiceError
from rvc_lightning.retrieval.index import build_index, save_index
from rvc_lightning.retrieval.index_file import read_header
from rvc_lightning.retrieval.pairing import (
    IndexOrigin,
    StoredFeatures,
    check_origin,
    remove_index,
    update_index,
)

DIM = 6


def write_dataset(folder, slices=4, seed=0, content="spectral"):
    folder.mkdir(exist_ok=True)
    draws, rows = np.random.default_rng(seed), []
    for number in range(slices):
        np.save(folder / f"{number}.npy", draws.standard_normal((20 + number, DIM)).astype(np.float16))
        rows.append(ManifestRow(str(number), "a", 0, 24000, "a.wav", "f.npy", f"{number}.npy", 9600, 40, 0.4))
    write_manifest(folder, DatasetHeader(24000, {"name": "none"}, {"name": content, "dim": DIM}), rows)
    return StoredFeatures(folder)


def update(path, features, seed=0, **config):
    """Return whether the index was written."""
    before = path.stat().st_ino if path.exists() else None
    assert update_index(path, features, seed, make_index_config(**config)) == path
    return path.stat().st_ino != before


@pytest.fixture
def path(tmp_path):
    return tmp_path / "voice" / "anna.index"


def test_features_in_the_order_of_the_manifest(tmp_path):
    features = write_dataset(tmp_path / "data")
    assert (len(features), features.content_dim) == (4, DIM)
    assert [len(piece) for piece in features] == [20, 21, 22, 23]
    assert isinstance(features[0], np.memmap)
    again, other = write_dataset(tmp_path / "again"), write_dataset(tmp_path / "other", seed=1)
    assert len(features.fingerprint) == 32
    assert features.fingerprint == again.fingerprint != other.fingerprint
    assert features.fingerprint != write_dataset(tmp_path / "less", slices=3).fingerprint


def test_damaged_features(tmp_path):
    features = write_dataset(tmp_path / "data")
    (tmp_path / "data" / "2.npy").write_bytes(b"cut")
    with pytest.raises(DatasetError, match=r"2\.npy' cannot be read: .* prepare again"):
        _ = features.fingerprint


def test_index_is_rebuilt_when_features_or_settings_change(tmp_path, path):
    features = write_dataset(tmp_path / "data")
    assert update(path, features)
    assert sorted(file.name for file in path.parent.iterdir()) == ["anna.index", "anna.index.json"]
    assert not update(path, features)
    assert not update(path, write_dataset(tmp_path / "copy"))
    assert update(path, features, kind="flat") and read_header(path).lists is None
    assert update(path, features, seed=1, kind="flat")
    assert update(path, write_dataset(tmp_path / "data", slices=5), seed=1, kind="flat")
    assert read_header(path).rows == 20 + 21 + 22 + 23 + 24


def test_index_of_another_tool_is_rebuilt(tmp_path, path):
    features = write_dataset(tmp_path / "data")
    update(path, features)
    theirs = np.random.default_rng(5).standard_normal((86, DIM)).astype(np.float32)
    size_bytes = path.stat().st_size
    save_index(build_index(theirs, 0), path)
    assert path.stat().st_size == size_bytes
    assert IndexOrigin.read(path) is None
    assert update(path, features)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"features": 1, "more": 2}'])
def test_damaged_origin_is_unknown(tmp_path, path, text):
    features = write_dataset(tmp_path / "data")
    update(path, features)
    path.with_name("anna.index.json").write_text(text)
    assert IndexOrigin.read(path) is None
    assert update(path, features)


def test_remove_an_index_and_its_origin(tmp_path, path):
    update(path, write_dataset(tmp_path / "data"))
    remove_index(path)
    remove_index(path)
    assert list(path.parent.iterdir()) == []


def test_index_of_other_features_than_those_of_the_voice(tmp_path, path, caplog):
    features = write_dataset(tmp_path / "data")
    update(path, features)
    check_origin(path, "spectral", None)
    check_origin(path, "spectral", features.fingerprint)
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        check_origin(path, "spectral", "0" * 32)
    assert "was built from other recordings" in caplog.text
    with pytest.raises(VoiceError, match="features of content=spectral, but the voice uses spin"):
        check_origin(path, "spin", None)
    path.with_name("anna.index.json").unlink()
    check_origin(path, "spin", None)
