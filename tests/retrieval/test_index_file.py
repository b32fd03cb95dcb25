"""Index files: checked before faiss reads them, and found beside their voice."""

import struct

import faiss
import numpy as np
import pytest

from rvc_lightning.errors import VoiceError
from rvc_lightning.retrieval.index import RetrievalIndex, build_index, save_index
from rvc_lightning.retrieval.index_file import find_index, read_header

ROWS = np.random.default_rng(0).standard_normal((80, 4)).astype(np.float32)

# Places in the file of `build_index(ROWS)`, see the drawing in index_file.py.
CHANNELS, COUNT, METRIC, LISTS, PROBED = 4, 8, 33, 37, 45
CENTRES = PROBED + 8 + 4 + 4


@pytest.fixture
def file(tmp_path):
    return save_index(build_index(ROWS, 0), tmp_path / "anna.index")


def refused(path, message=None):
    with pytest.raises(VoiceError, match=message) as caught:
        RetrievalIndex.load(path)
    assert str(path) in str(caught.value)


def changed(path, place, kind, value):
    content = bytearray(path.read_bytes())
    struct.pack_into(kind, content, place, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "rows", "dim"), [("golden", 390, 768), ("added_IVF10_Flat_nprobe_1_golden_v1", 400, 256)]
)
def test_files_of_the_peers(golden, name, rows, dim):
    header = read_header(golden.path(f"indexes/{name}.index"))
    assert (header.rows, header.content_dim, header.lists) == (rows, dim, 10)


@pytest.mark.parametrize("factory", ["Flat", "IVF1,Flat", "IVF30,Flat"])
def test_what_faiss_writes_is_understood(tmp_path, factory):
    index = faiss.index_factory(4, factory)
    index.train(ROWS)
    index.add(ROWS)
    assert read_header(save_index(index, tmp_path / "a.index")).rows == 80
    assert len(RetrievalIndex.load(tmp_path / "a.index").vectors) == 80


@pytest.mark.parametrize("factory", ["PQ2x4", "IVF2,PQ2x4", "HNSW4,Flat", "SQ8", "IVF2,SQ8", "IDMap,Flat", "PCA2,Flat"])
def test_other_kinds_are_refused_by_name(tmp_path, factory):
    index = faiss.index_factory(4, factory)
    index.train(ROWS)
    refused(save_index(index, tmp_path / "a.index"), r"cannot be read as an index: it is an? \w|it is \w+-quant|trans")


def test_inner_products_are_refused(tmp_path):
    index = faiss.index_factory(4, "Flat", faiss.METRIC_INNER_PRODUCT)
    index.add(ROWS)
    refused(save_index(index, tmp_path / "a.index"), "inner product")
    index = faiss.index_factory(4, "IVF2,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(ROWS)
    refused(save_index(index, tmp_path / "a.index"), "metric 0")


def test_cut_anywhere(file):
    whole = file.read_bytes()
    for length in range(0, len(whole), 5):
        file.write_bytes(whole[:length])
        with pytest.raises(VoiceError):
            read_header(file)
    file.write_bytes(whole + b"more")
    refused(file, "4 bytes follow its end")


@pytest.mark.parametrize("value", [-1, 0, 3, 5, 2**31 - 1])
def test_a_wrong_number_of_channels(file, value):
    refused(changed(file, CHANNELS, "<i", value))


@pytest.mark.parametrize("place", [COUNT, LISTS, CENTRES, PROBED])
@pytest.mark.parametrize("value", [-1, 2**40, 2**63 - 1])
def test_sizes_of_terabytes(file, place, value):
    refused(changed(file, place, "<q", value))


@pytest.mark.parametrize("value", [79, 81])
def test_a_wrong_number_of_rows(file, value):
    refused(changed(file, COUNT, "<q", value), f"its header claims {value} vectors, its lists 80")


def test_ids_that_are_not_there(file):
    content = file.read_bytes()
    changed(file, len(content) - 8, "<q", 2**33)
    refused(file, "not numbered from 0 on")


def test_a_byte_changed_anywhere_ends_in_one_error_or_in_an_index(file):
    """What faiss is given is sound, whatever was changed: at worst a value of a vector."""
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


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    "name",
    [
        "anna.index",
        "ANNA.index",
        "added_IVF256_Flat_nprobe_1_anna_v2.index",
        "added_IVF256_Flat_nprobe_1_anna.index",
        "added_anna_v1.index",
        "anna_IVF256_Flat_nprobe_1_anna_v2.index",
        "anna_IVF7_Flat_nprobe_1.index",
    ],
)
@pytest.mark.parametrize("voice", ["anna", "anna_e100_s2000", "anna_100e_2000s", "anna_best"])
def test_the_index_beside_a_voice(tmp_path, name, voice):
    touch(
        tmp_path,
        name,
        "bob.index",
        "trained_IVF256_Flat_nprobe_1_anna_v2.index",
        "added_IVF9_Flat_nprobe_1_hanna_v2.index",
    )
    assert find_index(tmp_path / f"{voice}.pth") == tmp_path / name


def test_no_index_beside_a_voice(tmp_path):
    touch(tmp_path, "trained_IVF256_Flat_nprobe_1_anna_v2.index", "anna2.index", "joanna.index", "anna_e1_s2.index")
    assert find_index(tmp_path / "anna.pth") is None
    assert find_index(tmp_path / "gone" / "anna.pth") is None


def test_the_nearest_name_comes_first_and_of_equals_the_last(tmp_path, caplog):
    added = [f"added_IVF{lists}_Flat_nprobe_1_anna_v{version}.index" for lists, version in ((12, 1), (12, 2))]
    touch(tmp_path, *added)
    assert find_index(tmp_path / "anna_e10_s20.pth").name == added[1]
    assert f"Several indexes fit 'anna_e10_s20.pth': {added[0]}, {added[1]}" in caplog.text
    touch(tmp_path, "anna.index")
    assert find_index(tmp_path / "anna_e10_s20.pth").name == "anna.index"
    touch(tmp_path, "anna_e10_s20.index")
    assert find_index(tmp_path / "anna_e10_s20.pth").name == "anna_e10_s20.index"
