"""Files of `torch.save`, read without running code or allocating what they claim."""

import collections
import os
import pickle
import re
import struct
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hostile_pickles import LINUX, Calls, limited_memory, write_voice_of_declared_size, write_zip

from rvc_lightning.errors import VoiceError
from rvc_lightning.io.pickles import read_pickle


def write_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("legacy", [False, True])
def test_content_is_independent_of_the_file(tmp_path, legacy):
    path = tmp_path / "voice.pth"
    content = {"weight": {"a": torch.arange(5.0)}, "pair": (torch.ones(2), 3), "text": "é", "none": None, "f0": True}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    content = read_pickle(path, "voice")
    path.write_bytes(b"")
    assert content["weight"]["a"].tolist() == [0, 1, 2, 3, 4]
    assert content["pair"][0].tolist() == [1, 1] and content["pair"][1] == 3
    assert (content["text"], content["none"], content["f0"]) == ("é", None, True)


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    ],
)
def test_types_of_tensors(tmp_path, dtype):
    tensor = torch.tensor([0.0, 1.0, 1.0]).to(dtype)
    torch.save({"a": tensor}, tmp_path / "a.pth")
    read = read_pickle(tmp_path / "a.pth", "voice")["a"]
    assert read.dtype == dtype and torch.equal(read.float(), tensor.float())


def test_containers_of_training_checkpoints(tmp_path):
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(2)).sum().backward()
    optimizer.step()
    content = {
        "model": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "parameter": module.weight,
        "shape": torch.Size([2, 3]),
        "dtype": torch.float16,
        "milestones": collections.Counter([3, 3, 5]),
        "many": {str(number): [number, (number,)] for number in range(3000)},
    }
    torch.save(content, tmp_path / "a.pth")
    read = read_pickle(tmp_path / "a.pth", "checkpoint")
    assert read["optimizer"]["param_groups"] == content["optimizer"]["param_groups"]
    assert torch.equal(read["parameter"], module.weight) and read["many"] == content["many"]
    assert isinstance(read["model"], collections.OrderedDict) and read["dtype"] is torch.float16
    assert read["milestones"] == {3: 2, 5: 1}


def test_name_from_the_memo_of_a_pickle(tmp_path):
    """`os.system`, by a name put together from memoized texts."""
    code = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93\x8c\x02id\x85R."
    (tmp_path / "a.pth").write_bytes(code)
    with pytest.raises(VoiceError, match=r"because it imports posix\.system;"):
        read_pickle(tmp_path / "a.pth", "voice")


BYTES = 2**31 - 1
ALLOCATIONS = {
    "builtins.bytearray": b"c__builtin__\nbytearray\n",
    "torch.Tensor": b"ctorch\nTensor\n",
    "torch.FloatStorage": b"ctorch\nFloatStorage\n",
    "torch.storage.UntypedStorage": b"ctorch.storage\nUntypedStorage\n",
    "torch._utils._rebuild_meta_tensor_no_storage": b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n",
    "_codecs.encode": b"c_codecs\nencode\n",
}


@LINUX
@pytest.mark.parametrize("write", [write_zip, lambda path, code: path.write_bytes(code)], ids=["zip", "plain"])
@pytest.mark.parametrize("name", ALLOCATIONS)
def test_small_file_that_allocates_gigabytes(tmp_path, name, write):
    """146 bytes of a ZIP, or fewer: a call of an allocating function."""
    code = b"\x80\x02}X\x01\x00\x00\x00a" + ALLOCATIONS[name] + b"J" + struct.pack("<i", BYTES) + b"\x85Rs."
    write(tmp_path / "a.pth", code)
    with limited_memory(1 << 26), pytest.raises(VoiceError, match=f"because it imports {name};"):
        read_pickle(tmp_path / "a.pth", "voice")


def tuples(levels, items):
    """Return opcodes of tuples in tuples: each contains the one before `items` times, by reference."""
    code, memo = b"K\x01\x85q\x00", 0
    for level in range(1, levels + 1):
        code += b"(" + items * (b"h" + bytes([memo])) + b"tq" + bytes([level]) + b"0" * (level > 0)
        memo = level
    return code + b"h" + bytes([memo])


@pytest.mark.parametrize(
    "code", [tuples(60, 2), tuples(200, 1), b"K\x01" + b"\x85" * 200_000], ids=["wide", "deep", "deepest"]
)
@pytest.mark.parametrize("legacy", [False, True])
def test_keys_that_take_forever_to_hash(tmp_path, code, legacy):
    code = b"\x80\x02}" + code + b"K\x01s."
    (tmp_path / "a.pth").write_bytes(code) if legacy else write_zip(tmp_path / "a.pth", code)
    with pytest.raises(VoiceError, match="nested deeper than 64 levels, or more than 1000000 entries"):
        read_pickle(tmp_path / "a.pth", "voice")


@LINUX
@pytest.mark.parametrize(
    ("numel", "size", "stride"),
    [
        (1 << 40, (1 << 40,), (1,)),
        (1 << 20, (1 << 20,), (1,)),
        (4, (1 << 40,), (1,)),
        (4, (1 << 40,), (0,)),
        (4, (1 << 20, 1 << 20), (0, 0)),
        (-4, (4,), (1,)),
    ],
)
def test_tensor_that_claims_more_than_the_file_contains(tmp_path, numel, size, stride):
    path = tmp_path / "voice.pth"
    write_voice_of_declared_size(path, numel, size, stride)
    with limited_memory(), pytest.raises(VoiceError, match="cannot be read as a voice"):
        read_pickle(path, "voice")


@LINUX
def test_legacy_file_that_claims_terabytes(tmp_path):
    path = tmp_path / "voice.pth"
    write_legacy({"weight": {"emb_g.weight": torch.zeros(77777)}}, path)
    # The number of values in the pickles of the tensor and of its storage.
    path.write_bytes(path.read_bytes().replace(b"J\xd1\x2f\x01\x00", b"\x8a\x06" + (1 << 40).to_bytes(6, "little")))
    with limited_memory(), pytest.raises(VoiceError, match="cannot be read as a voice"):
        read_pickle(path, "voice")


@LINUX
def test_text_that_claims_gigabytes(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"\x80\x02}X" + struct.pack("<I", 2**32 - 1) + b"a")
    with limited_memory(), pytest.raises(VoiceError, match="cannot be read as a voice"):
        read_pickle(tmp_path / "a.pth", "voice")


def test_compressed_file(tmp_path):
    path = tmp_path / "voice.pth"
    write_voice_of_declared_size(path, 4, (4,), (1,), zipfile.ZIP_DEFLATED)
    with pytest.raises(VoiceError, match=r"is compressed, which torch\.save never does"):
        read_pickle(path, "voice")


def wide_list():
    inner = [1]
    for _ in range(40):
        inner = [inner] * 10
    return inner


def deep_list():
    inner = []
    for _ in range(200):
        inner = [inner]
    return inner


def cyclic_list():
    first, second = [], []
    first += [second, second]
    second += [first, first]
    return first


@pytest.mark.parametrize("value", [wide_list(), deep_list(), cyclic_list()], ids=["wide", "deep", "cyclic"])
def test_lists_without_end(tmp_path, value):
    path = tmp_path / "voice.pth"
    torch.save({"weight": {}, "info": value}, path)
    with pytest.raises(VoiceError, match="nested deeper than 64 levels, or more than"):
        read_pickle(path, "voice")


@pytest.mark.parametrize(
    "content", [[1], (1,), "text", torch.ones(1), Calls(dict)], ids=lambda value: type(value).__name__
)
def test_other_values_than_a_dict(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(VoiceError, match=r"a\.pth' cannot be read as a voice: it (is a pickled|would run code)"):
        read_pickle(tmp_path / "a.pth", "voice")


def test_pickle_that_torch_did_not_write(tmp_path):
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    with pytest.raises(VoiceError, match=r"a\.pth' cannot be read as a voice"):
        read_pickle(tmp_path / "a.pth", "voice")


UNUSUAL = {
    "extension of another format": pytest.param("a.safetensors"),
    "not UTF-8": pytest.param(
        b"caf\xe9/a.pth", marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
    ),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", UNUSUAL.values(), ids=UNUSUAL)
def test_names_that_torch_does_not_map(tmp_path, name, legacy):
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as stream:
        torch.save({"a": torch.arange(3)}, stream, _use_new_zipfile_serialization=not legacy)
    assert read_pickle(path, "voice")["a"].tolist() == [0, 1, 2]
    if os.name == "nt":
        # Links require privileges there.
        return
    link = tmp_path / "link.safetensors"
    link.symlink_to(path.relative_to(tmp_path))
    assert read_pickle(link, "voice")["a"].tolist() == [0, 1, 2]


def test_voice_of_the_same_name_is_proposed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voices" / "anna").mkdir(parents=True)
    (tmp_path / "voices" / "anna" / "anna.pth").touch()
    for missing in ("anna", "anna.pth", "voices/anna.pth", "voices/anna"):
        proposed = re.escape(f"(did you mean '{Path('voices/anna/anna.pth')}'?)")
        with pytest.raises(VoiceError, match=rf"voice not found: '.*' {proposed}$"):
            read_pickle(Path(missing), "voice")


def test_paths_without_a_file(tmp_path):
    with pytest.raises(VoiceError, match=r"voice not found: '.*none\.pth'$"):
        read_pickle(tmp_path / "none.pth", "voice")
    with pytest.raises(VoiceError, match=r"voice not found: '.*' \(the folder '.*away' does not exist\)$"):
        read_pickle(tmp_path / "away" / "none.pth", "voice")
    (tmp_path / "anna.pth").touch()
    with pytest.raises(VoiceError, match=r"\(it is a folder with anna\.pth\)$"):
        read_pickle(tmp_path, "voice")
    with pytest.raises(VoiceError, match=r"voice not found: '.*ana\.pth' \(its folder has anna\.pth\)$"):
        read_pickle(tmp_path / "ana.pth", "voice")
    with pytest.raises(VoiceError, match=r"checkpoint not found: '.*last\.ckpt'$"):
        read_pickle(tmp_path / "last.ckpt", "checkpoint")
