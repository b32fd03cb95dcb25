"""Suffixes of voices; kinds of files by their content, to explain why a file cannot be used."""

from __future__ import annotations

import zipfile
from pathlib import Path
from struct import Struct

from rvc_lightning.io.zips import open_zip

VOICE_SUFFIXES = (".pth", ".safetensors", ".onnx")
"""Suffixes of voices."""

_HEAD_BYTES = 1024
_RVC_FILES = "RVC tools use .pth files for voices and .index files for indexes"

PYTORCH = "a PyTorch file"
INDEX = "a faiss index; the voice that it belongs to is a .pth file"
SAFETENSORS = "a safetensors file"
ONNX = f"an ONNX model; {_RVC_FILES}"
ARCHIVE = "a ZIP archive; unpack it"
"""Start of the description of an archive."""

_MAGIC = {
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer; download the file itself, or run 'git lfs pull'",
    b"Rar!\x1a\x07": "a RAR archive; unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF model",
    b"%PDF-": "a PDF document",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"RIFF": "a recording",
    b"fLaC": "a recording",
    b"OggS": "a recording",
    b"ID3": "a recording",
}
_FAISS_MAGIC = (b"Ix", b"Iw", b"Iv", b"IH")
"""Starts of the four letters at the start of a faiss index."""
_LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_HTML = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")
_UINT64 = Struct("<Q")


def is_zip(path: Path) -> bool:
    """Return whether a file starts like a ZIP archive, such as those of `torch.save`."""
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def describe_kind(path: Path) -> str | None:
    """Describe a file by its content, such as 'an HTML page', with the remedy; None if the kind is unknown.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    size_bytes = path.stat().st_size
    if not head:
        return "empty"
    for magic, description in _MAGIC.items():
        if head.startswith(magic):
            return description
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_HTML):
        return "an HTML page: a web page was saved instead of the file; download the file itself"
    if head.startswith(b"PK"):
        return _describe_zip(path)
    if head.startswith(_LEGACY_TORCH_MAGIC):
        return PYTORCH
    if head.startswith(_FAISS_MAGIC) and head[:4].isalnum():
        return INDEX
    if len(head) > 8 and head[8:9] == b"{" and 2 <= _UINT64.unpack_from(head)[0] <= size_bytes - 8:
        return SAFETENSORS
    # Protocol buffer: field 1 is the version of the format; field 2, 3, 7 or 8 (producer, graph, operator set) follows.
    if head[:1] == b"\x08" and b"\0" < head[1:2] < b"\x40" and head[2:3] in (b"\x12", b"\x1a", b"\x3a", b"\x42"):
        return ONNX
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it"
    if text.startswith((b"{", b"[")):
        return "a JSON file"
    return "a text file" if _is_text(head) else None


def _describe_zip(path: Path) -> str | None:
    """Describe a ZIP archive: a file of `torch.save`, or an archive to unpack."""
    try:
        with open_zip(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return None
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript model"
    if any(name.endswith("/data.pkl") for name in names):
        return PYTORCH
    usable = [name for name in names if name.lower().endswith((*VOICE_SUFFIXES, ".index", ".ckpt"))]
    return f"{ARCHIVE} and use {', '.join(usable[:5])}" if usable else ARCHIVE


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", "strict" if len(head) < _HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\r\n\t" for character in text)
