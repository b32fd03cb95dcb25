"""Kinds of files that a user may put in the place of a voice, a checkpoint or an index."""

import io
import json
import struct
import tarfile
import zipfile

import faiss
import numpy as np
import pytest
import torch

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.kinds import PYTORCH, describe_kind
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.retrieval.index import RetrievalIndex, save_index


def zip_bytes(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


def tar_bytes():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("anna.pth"))
    return stream.getvalue()


def safetensors_bytes():
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 57581\n"
FILES = {
    "zip": (zip_bytes("model/anna.pth", "model/added_anna.index", "readme.txt"), "a ZIP archive; unpack it and use "),
    "empty zip": (zip_bytes(), "a ZIP archive; unpack it"),
    "html": (b"\n<!DOCTYPE html><html><head><title>Sign in</title>", "an HTML page: "),
    "old html": (b"\xef\xbb\xbf<HTML>\n<body>404", "an HTML page: "),
    "lfs": (LFS, "a Git LFS pointer; "),
    "safetensors": (safetensors_bytes(), "a safetensors file"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.6.0:", "an ONNX model"),
    "rar": (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive"),
    "gzip": (b"\x1f\x8b\x08\x00", "a gzip archive"),
    "tar": (tar_bytes(), "a tar archive"),
    "json": (b'{"error": "not found"}', "a JSON file"),
    "text": ("Zugriff verweigert: später\n".encode(), "a text file"),
    "recording": (b"RIFF\x24\x00\x00\x00WAVEfmt ", "a recording"),
    "picture": (b"\x89PNG\r\n\x1a\n", "a picture"),
    "array": (b"\x93NUMPY\x01\x00", "a NumPy array"),
    "nothing": (b"", "empty"),
}


@pytest.mark.parametrize("name", FILES)
def test_other_files_in_place_of_a_voice_or_an_index(tmp_path, name):
    content, description = FILES[name]
    path = tmp_path / "anna.bin"
    path.write_bytes(content)
    with pytest.raises(VoiceError) as caught:
        read_pickle(path, "voice")
    assert str(caught.value).startswith(f"'{path}' cannot be read as a voice: it is {description}")
    assert "\n" not in str(caught.value)
    with pytest.raises(VoiceError) as caught:
        RetrievalIndex.load(path)
    assert str(caught.value).startswith(f"'{path}' cannot be read as an index: it is {description}")


def test_zip_message_lists_the_files_to_use(tmp_path):
    (tmp_path / "a.pth").write_bytes(FILES["zip"][0])
    assert describe_kind(tmp_path / "a.pth").endswith("use model/anna.pth, model/added_anna.index")


def test_index_in_place_of_a_voice(tmp_path):
    index = faiss.IndexFlatL2(4)
    index.add(np.ones((3, 4), np.float32))
    path = save_index(index, tmp_path / "anna.pth")
    with pytest.raises(VoiceError, match=r"it is a faiss index; the voice that it belongs to is a \.pth file"):
        read_pickle(path, "voice")


@pytest.mark.parametrize("legacy", [False, True])
def test_voice_in_place_of_an_index(tmp_path, legacy):
    torch.save({"a": torch.ones(3)}, tmp_path / "a.index", _use_new_zipfile_serialization=not legacy)
    assert describe_kind(tmp_path / "a.index") == PYTORCH
    with pytest.raises(VoiceError, match="cannot be read as an index: it is a PyTorch file"):
        RetrievalIndex.load(tmp_path / "a.index")


def test_torchscript_model(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "a.pth")
    with pytest.raises(VoiceError, match="cannot be read as a voice: it is a TorchScript model"):
        read_pickle(tmp_path / "a.pth", "voice")


def test_model_of_the_onnx_package(tmp_path):
    helper = pytest.importorskip("onnx.helper")
    graph = helper.make_graph([], "empty", [], [])
    (tmp_path / "a.pth").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(VoiceError, match="it is an ONNX model"):
        read_pickle(tmp_path / "a.pth", "voice")


@pytest.mark.parametrize("content", [b"\x00" * 100, b"\x80\x04\x95", b"IwFl"[:2], b"\x08", bytes(range(256))])
def test_unknown_kinds(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(VoiceError, match=r"cannot be read as a voice"):
        read_pickle(tmp_path / "a.pth", "voice")
    with pytest.raises(VoiceError, match=r"cannot be read as an index"):
        RetrievalIndex.load(tmp_path / "a.pth")
