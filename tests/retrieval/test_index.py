"""Building, saving and searching an index (SPECIFICATION.md, section 11)."""

import os
import weakref

import faiss
import numpy as np
import pytest
import torch
from defaults import make_index_config
from systems import NAMES_IN_BYTES
from torch.testing import assert_close

from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.retrieval import index as retrieval
from rvc_lightning.retrieval.index import RetrievalIndex, build_index, save_index


def features_of(rows, dim=16, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


@pytest.fixture(scope="module")
def reference(golden):
    return RetrievalIndex.load(golden.path("indexes/golden.index"))


def test_golden_data_v1(golden):
    data = golden.arrays("retrieval_v1")
    index = RetrievalIndex.load(golden.path("indexes/added_IVF10_Flat_nprobe_1_golden_v1.index"))
    assert_close(index.mix(data["query"], 0.75), data["mixed_075"][0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("index_rate", "key"), [(0.75, "mixed_075"), (1.0, "mixed_100")])
def test_golden_data(golden, reference, index_rate, key):
    data = golden.arrays("retrieval_v2")
    assert_close(reference.mix(data["query"], index_rate), data[key][0], atol=1e-4, rtol=0)
    assert_close(reference.mix(data["query"][None], index_rate), data[key], atol=1e-4, rtol=0)
    mixed = reference.mix(data["query"].numpy(), index_rate)
    assert isinstance(mixed, np.ndarray) and mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, data[key][0], atol=1e-4)
    np.testing.assert_allclose(reference.vectors[:4], data["reconstructed_first"])


def test_index_rate_zero_returns_the_source(reference):
    query = torch.randn(2, 5, 768)
    assert_close(reference.mix(query, 0.0), query, atol=0, rtol=0)


def test_stored_vector_is_unchanged():
    features = features_of(400)
    index = RetrievalIndex(build_index(features, 0))
    np.testing.assert_allclose(index.mix(features, 1.0), features, atol=1e-5)
    np.testing.assert_allclose(RetrievalIndex(build_index(features * 0, 0)).mix(features * 0, 0.5), features * 0)


def test_feature_without_neighbours_is_unchanged():
    # One centre is near the query, but all vectors are in the list of the other.
    quantizer = faiss.IndexFlatL2(2)
    quantizer.add(np.array([[0, 0], [10, 10]], np.float32))
    inverted = faiss.IndexIVFFlat(quantizer, 2, 2)
    inverted.train(np.array([[0, 0], [10, 10]], np.float32))
    inverted.add(np.array([[9, 9], [11, 10]], np.float32))
    index = RetrievalIndex(inverted)
    query = np.array([[0, 0.5], [9, 9.5]], np.float32)
    mixed = index.mix(query, 1.0)
    np.testing.assert_allclose(mixed[0], query[0])
    # Two neighbours of the eight: ids of -1 must not count. Squared distances 0.25 and 4.25.
    weights = np.array([1 / 0.25**2, 1 / 4.25**2])
    np.testing.assert_allclose(mixed[1], weights @ index.vectors / weights.sum(), rtol=1e-5)


@pytest.mark.parametrize(("rows", "lists"), [(1, 1), (38, 1), (78, 2), (400, 10), (100_000, 2564)])
def test_number_of_lists(rows, lists):
    assert retrieval.list_count(rows) == lists


@pytest.mark.parametrize("rows", [1, 3, 38, 500])
def test_save_and_load(tmp_path, rows):
    features = features_of(rows)
    path = save_index(build_index(features, 1), tmp_path / "deep" / "voice.index")
    index = RetrievalIndex.load(path)
    assert index.content_dim == 16
    assert sorted(map(tuple, index.vectors)) == sorted(map(tuple, features))
    assert np.isfinite(index.mix(features_of(7, seed=2), 0.5)).all()
    assert [file.name for file in path.parent.iterdir()] == ["voice.index"]


def test_equal_seeds_build_equal_indexes():
    first, again, other = (faiss.serialize_index(build_index(features_of(300), seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rows_are_shuffled_by_the_seed():
    features = features_of(300)
    stored = RetrievalIndex(build_index(features, 7)).vectors
    assert np.array_equal(stored, np.random.default_rng(7).permutation(features))


@pytest.mark.parametrize("kind", ["auto", "kmeans", "flat"])
def test_arrays_of_any_size_build_the_same_index(kind):
    features = features_of(700)
    config = make_index_config(kind=kind, max_rows=1000, centres=1000)
    pieces = [piece.astype(np.float64) for piece in np.split(features, [0, 1, 150, 650])]
    whole, streamed = (faiss.serialize_index(build_index(parts, 3, config)) for parts in (features, pieces))
    assert np.array_equal(whole, streamed)


@pytest.mark.parametrize(("kind", "rows", "stored"), [("auto", 500, 500), ("auto", 501, 60), ("kmeans", 61, 60)])
def test_many_rows_are_replaced_by_centres(kind, rows, stored):
    config = make_index_config(kind=kind, max_rows=500, centres=60)
    index = build_index(features_of(rows), 0, config)
    assert isinstance(index, faiss.IndexIVFFlat) and index.ntotal == stored
    again = build_index(features_of(rows), 0, config)
    assert np.array_equal(faiss.serialize_index(index), faiss.serialize_index(again))


def test_no_centres_for_as_many_rows():
    index = RetrievalIndex(build_index(features_of(60), 0, make_index_config(kind="kmeans", centres=60)))
    assert sorted(map(tuple, index.vectors)) == sorted(map(tuple, features_of(60)))


class CountingList(list):
    """Arrays; `max_held` is the largest number of their rows in memory."""

    def __init__(self, pieces):
        super().__init__(pieces)
        self.held, self.max_held, self.read = 0, 0, set()

    def __getitem__(self, i):
        piece = super().__getitem__(i).copy()
        self.read.add(i)
        self.held += len(piece)
        self.max_held = max(self.max_held, self.held)
        weakref.finalize(piece, self._release, len(piece))
        return piece

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def _release(self, rows):
        self.held -= rows


def test_centres_are_found_in_batches():
    sounds = 100 * features_of(25)
    pieces = CountingList([sounds[i % 25] + features_of(100, seed=i) for i in range(600)])
    index = build_index(pieces, 0, make_index_config(kind="auto", max_rows=1000, centres=200))
    assert pieces.max_held <= 4096 + 100 < 60_000 and len(pieces.read) > 100
    centres = RetrievalIndex(index).vectors
    nearest = np.square(centres[:, None] - sounds).sum(2).argmin(1)
    # Every sound has centres, nearer to its middle than its frames, which are 16 (squared) away.
    assert len(set(nearest)) == 25
    assert np.square(centres - sounds[nearest]).sum(1).mean() < 16


def test_flat_index_is_exact(tmp_path):
    features = features_of(3000)
    path = save_index(build_index(features, 0, make_index_config(kind="flat")), tmp_path / "a.index")
    theirs = faiss.read_index(str(path))
    assert np.array_equal(theirs.reconstruct_n(0, theirs.ntotal), features)
    query = features_of(50, seed=1)
    nearest = np.sort(np.square(query[:, None] - features).sum(2))[:, :8]
    np.testing.assert_allclose(theirs.search(query, 8)[0], nearest, rtol=1e-4)
    mixed = RetrievalIndex.load(path).mix(query, 1.0)
    many = RetrievalIndex(build_index(features, 0)).mix(query, 1.0)
    assert np.isfinite(mixed).all() and not np.allclose(mixed, many)


def test_long_recordings_are_mixed_in_blocks(monkeypatch):
    index = RetrievalIndex(build_index(features_of(400), 0))
    query = features_of(50, seed=1)
    whole = index.mix(query, 0.5)
    monkeypatch.setattr(retrieval, "_MIX_FRAMES", 7)
    np.testing.assert_allclose(index.mix(query, 0.5), whole, atol=1e-6)


def test_index_file_is_read_on_first_use(tmp_path):
    path = save_index(build_index(features_of(80), 0), tmp_path / "a.index")
    index = RetrievalIndex.load(path)
    assert (index.rows, index.content_dim) == (80, 16)
    query = features_of(3, seed=1)
    path.write_bytes(b"gone")
    assert index.mix(query, 0.0) is query
    with pytest.raises(VoiceError, match=r"a.index' cannot be read as an index"):
        index.mix(query, 0.5)


@pytest.mark.parametrize("wrong", [{"kind": "ivf"}, {"max_rows": 0}, {"centres": 0}, {"centres": 1.5}])
def test_invalid_settings(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        make_index_config(**wrong)


def test_arrays_of_different_sizes():
    with pytest.raises(VoiceError, match=r"channels \[4, 5\]|of \[4, 5\] channels"):
        build_index([np.zeros((2, 4)), np.zeros((2, 5))], 0)


def test_no_features():
    with pytest.raises(VoiceError, match="an index cannot be built from"):
        build_index(np.zeros((0, 4), np.float32), 0)


@pytest.mark.parametrize(
    "config", [make_index_config(), make_index_config(kind="kmeans", centres=10), make_index_config(kind="flat")]
)
def test_nan_in_features(config):
    with pytest.raises(VoiceError, match="NaN"):
        build_index(np.full((40, 4), np.nan, np.float32), 0, config)


def test_nan_in_an_index():
    index = faiss.IndexFlatL2(4)
    index.add(np.full((40, 4), np.nan, np.float32))
    with pytest.raises(VoiceError, match="NaN"):
        RetrievalIndex(index).mix(np.ones((1, 4), np.float32), 0.5)


def test_files_of_other_kinds(tmp_path, golden):
    whole = golden.path("indexes/golden.index").read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "text": b"not an index", "empty": b""}.items():
        path = tmp_path / f"{name}.index"
        path.write_bytes(content)
        with pytest.raises(VoiceError, match=f"{name}.index' cannot be read as an index"):
            RetrievalIndex.load(path)
    with pytest.raises(VoiceError, match=r"index not found: '.*none.index'; choose one of those in '.*': cut.index"):
        RetrievalIndex.load(tmp_path / "none.index")
    with pytest.raises(VoiceError, match=r"index not found: '.*' \(it is a folder\); choose one .*: cut.index, "):
        RetrievalIndex.load(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(VoiceError, match=r"index not found: '.*' \(it is a folder\)$"):
        RetrievalIndex.load(tmp_path / "folder")


def test_empty_index(tmp_path):
    index = build_index(features_of(80), 0)
    index.reset()
    with pytest.raises(VoiceError, match="contains no vectors"):
        RetrievalIndex.load(save_index(index, tmp_path / "trained.index"))


def test_number_of_channels_is_checked(reference):
    reference.check_fits(768)
    with pytest.raises(VoiceError, match="768 channels, but the voice uses 256"):
        reference.check_fits(256)


@NAMES_IN_BYTES
def test_folder_name_that_is_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    features = features_of(80)
    index = RetrievalIndex.load(save_index(build_index(features, 0), folder / "a.index"))
    assert sorted(map(tuple, index.vectors)) == sorted(map(tuple, features))
