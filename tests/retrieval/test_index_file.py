"""Headers of index files, checked before faiss reads them."""

import struct

import faiss
import numpy as np
import pytest

from rvc_lightning.errors import VoiceError
from rvc_lightning.retrieval.index import RetrievalIndex, build_index, save_index
from rvc_lightning.retrieval.index_file import read_header

ROWS = np.random.default_rng(0).standard_normal((80, 4)).astype(np.float32)

# Offsets in the file of `build_index(ROWS)`, see the layout in index_file.py.
CHANNELS, COUNT, METRIC, LISTS, PROBED = 4, 8, 33, 37, 45
CENTRES = PROBED + 8 + 4 + 4


@pytest.fixture
def file(tmp_path):
    return save_index(build_index(ROWS, 0), tmp_path / "anna.index")


def check_rejected(path, message=None):
    with pytest.raises(VoiceError, match=message) as caught:
        RetrievalIndex.load(path)
    assert str(path) in str(caught.value)


def change(path, place, kind, value):
    content = bytearray(path.read_bytes())
    struct.pack_into(kind, content, place, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "rows", "dim"), [("golden", 390, 768), ("added_IVF10_Flat_nprobe_1_golden_v1", 400, 256)]
)
def test_files_of_other_tools(golden, name, rows, dim):
    header = read_header(golden.path(f"indexes/{name}.index"))
    assert (header.rows, header.content_dim, header.lists) == (rows, dim, 10)


@pytest.mark.parametrize("factory", ["Flat", "IVF1,Flat", "IVF30,Flat"])
def test_files_of_faiss(tmp_path, factory):
    index = faiss.index_factory(4, factory)
    index.train(ROWS)
    index.add(ROWS)
    assert read_header(save_index(index, tmp_path / "a.index")).rows == 80
    assert len(RetrievalIndex.load(tmp_path / "a.index").vectors) == 80


@pytest.mark.parametrize("factory", ["PQ2x4", "IVF2,PQ2x4", "HNSW4,Flat", "SQ8", "IVF2,SQ8", "IDMap,Flat", "PCA2,Flat"])
def test_other_kinds_of_index_are_named(tmp_path, factory):
    index = faiss.index_factory(4, factory)
    index.train(ROWS)
    check_rejected(
        save_index(index, tmp_path / "a.index"), r"cannot be read as an index: it is an? \w|it is \w+-quant|trans"
    )


def test_inner_products(tmp_path):
    index = faiss.index_factory(4, "Flat", faiss.METRIC_INNER_PRODUCT)
    index.add(ROWS)
    check_rejected(save_index(index, tmp_path / "a.index"), "inner product")
    index = faiss.index_factory(4, "IVF2,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(ROWS)
    check_rejected(save_index(index, tmp_path / "a.index"), "faiss metric is 0")


def test_truncated_anywhere(file):
    whole = file.read_bytes()
    for length in range(0, len(whole), 5):
        file.write_bytes(whole[:length])
        with pytest.raises(VoiceError):
            read_header(file)
    file.write_bytes(whole + b"more")
    check_rejected(file, "4 bytes follow its end")


@pytest.mark.parametrize("value", [-1, 0, 3, 5, 2**31 - 1])
def test_wrong_number_of_channels(file, value):
    check_rejected(change(file, CHANNELS, "<i", value))


@pytest.mark.parametrize("place", [COUNT, LISTS, CENTRES, PROBED])
@pytest.mark.parametrize("value", [-1, 2**40, 2**63 - 1])
def test_sizes_of_terabytes(file, place, value):
    check_rejected(change(file, place, "<q", value))


@pytest.mark.parametrize("value", [79, 81])
def test_wrong_number_of_rows(file, value):
    check_rejected(change(file, COUNT, "<q", value), f"its header claims {value} vectors, its lists 80")


def test_id_out_of_range(file):
    content = file.read_bytes()
    change(file, len(content) - 8, "<q", 2**33)
    check_rejected(file, "not numbered from 0 on")


def test_byte_changed_anywhere(file):
    """Either an error is raised or faiss reads an index, at worst with another value of a vector."""
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 0xFF
        file.write_bytes(content)
        try:
            index = RetrievalIndex.load(file)
        except VoiceError:
            continue
        assert index.vectors.shape == (80, 4)
        index.mix(ROWS, 0.5)
