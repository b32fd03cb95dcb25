"""Files from strangers: nothing in them is run, nothing is allocated for what they merely claim, one error tells why.

Kinds of file: voices, training checkpoints of other tools, our own checkpoints, prepared datasets, configurations in
JSON. Indexes are in test_index_file.py.
"""

import collections
import contextlib
import io
import json
import os
import pickle
import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import GOLDEN
from stubs import make_voice, quick_config

from rvc_lightning import Voice
from rvc_lightning.data.dataset import SliceDataset
from rvc_lightning.data.manifest import HEADER_NAME, MANIFEST_NAME, ManifestRow, read_header, read_manifest
from rvc_lightning.errors import DatasetError, VoiceError
from rvc_lightning.importers.experiment import read_config
from rvc_lightning.io.files import read_json, read_npy
from rvc_lightning.io.pickles import read_pickle
from rvc_lightning.training.checkpoints import read_checkpoint
from rvc_lightning.voice.layouts import convert_layout


def generator_checkpoint(path):
    return convert_layout(path, path.with_name("out.pth"), "applio")


READERS = {"voice.pth": Voice.load, "G_2333333.pth": generator_checkpoint, "last.ckpt": read_checkpoint}
CONTENT = {
    "voice.pth": {"weight": {}, "config": []},
    "G_2333333.pth": {"model": {}, "iteration": 3},
    "last.ckpt": {"state_dict": {}, "rvc": {}},
}


@pytest.fixture(params=READERS)
def kind(request):
    return request.param


class Calls:
    """Unpickled, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Own:
    """A class of somebody's."""


def evil(trace):
    """What a hostile pickle does, by the name of what it imports."""
    return {
        f"{os.mkdir.__module__}.mkdir": Calls(os.mkdir, str(trace)),
        f"{os.system.__module__}.system": Calls(os.system, f"mkdir {trace}"),
        f"{eval.__module__}.eval": Calls(eval, f"__import__('os').mkdir({str(trace)!r})"),
        "runpy.run_path": Calls(runpy.run_path, str(trace)),
        f"{__name__}.Own": Own(),
    }


def as_zip(content, path):
    torch.save(content, path)


def as_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_plain_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


def as_framed_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=4))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [as_zip, as_legacy, as_plain_pickle, as_framed_pickle])
@pytest.mark.parametrize("name", sorted(evil("")))
def test_code_in_a_pickle_is_not_run_but_named(tmp_path, kind, write, name):
    trace, path = tmp_path / "ran", tmp_path / kind
    write(CONTENT[kind] | {"info": {"deep": [evil(trace)[name]]}}, path)
    with pytest.raises(VoiceError, match=f"would run code when loaded, because it imports {name.replace('.', '[.]')};"):
        READERS[kind](path)
    assert not trace.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == [kind]


def test_names_from_the_memory_of_a_pickle_are_found(tmp_path):
    """`os.system`, by a name put together from memoized texts."""
    code = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93\x8c\x02id\x85R."
    (tmp_path / "a.pth").write_bytes(code)
    with pytest.raises(VoiceError, match=r"because it imports posix\.system;"):
        read_pickle(tmp_path / "a.pth", "voice")


def whole_files(folder):
    voice = make_voice(quick_config())
    voice.save(folder / "voice.pth")
    torch.save({"model": voice.weights, "iteration": 3}, folder / "G_2333333.pth")
    torch.save({"state_dict": voice.weights, "rvc": {}}, folder / "last.ckpt")
    as_legacy({"weight": voice.weights, **voice.information}, folder / "legacy.pth")


@pytest.mark.parametrize("file", [*READERS, "legacy.pth"])
def test_cut_anywhere(tmp_path, file):
    whole_files(tmp_path)
    whole, path = (tmp_path / file).read_bytes(), tmp_path / file
    reader = READERS.get(file, Voice.load)
    for length in [*range(0, 64, 7), *np.linspace(64, len(whole) - 1, 20).astype(int)]:
        path.write_bytes(whole[:length])
        with pytest.raises(VoiceError, match=f"{file}' (cannot be read|is rejected) as a"):
            reader(path)


def test_bytes_changed_anywhere(tmp_path):
    """A changed byte may change a number; anything else is refused, with an error of ours."""
    whole_files(tmp_path)
    path = tmp_path / "voice.pth"
    whole = path.read_bytes()
    draws = np.random.default_rng(0)
    for place in [*draws.integers(0, 40_000, 15), *draws.integers(len(whole) - 60_000, len(whole), 15)]:
        content = bytearray(whole)
        content[place] ^= int(draws.integers(1, 255))
        path.write_bytes(content)
        with contextlib.suppress(VoiceError):
            Voice.load(path)


def claiming(path, numel, size, stride, compression=zipfile.ZIP_STORED):
    """A voice with a tensor of 4 values that claims to be larger, as `torch.save` would write it."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if value == "THE STORAGE" else None

    pickled = io.BytesIO()
    rebuilt = Calls(torch._utils._rebuild_tensor_v2, "THE STORAGE", 0, size, stride, False, collections.OrderedDict())
    Pickler(pickled, 2).dump({"weight": {"emb_g.weight": rebuilt}, "config": [1] * 18})
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(16))
        archive.writestr("archive/version", "3\n")


@pytest.fixture
def little_memory():
    """No more than a gigabyte beyond what is in use."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
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
def test_tensors_that_claim_more_than_the_file_holds(tmp_path, little_memory, numel, size, stride):
    path = tmp_path / "voice.pth"
    claiming(path, numel, size, stride)
    with pytest.raises(VoiceError, match="cannot be read as a voice"):
        Voice.load(path)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_legacy_file_that_claims_terabytes(tmp_path, little_memory):
    path = tmp_path / "voice.pth"
    as_legacy({"weight": {"emb_g.weight": torch.zeros(77777)}}, path)
    # The number of values, as the pickle of the tensor and of its storage states it.
    path.write_bytes(path.read_bytes().replace(b"J\xd1\x2f\x01\x00", b"\x8a\x06" + (1 << 40).to_bytes(6, "little")))
    with pytest.raises(VoiceError, match="cannot be read as a voice"):
        Voice.load(path)


def test_a_compressed_file_is_refused(tmp_path):
    path = tmp_path / "voice.pth"
    claiming(path, 4, (4,), (1,), zipfile.ZIP_DEFLATED)
    with pytest.raises(VoiceError, match=r"is compressed, which torch\.save never does"):
        Voice.load(path)


def test_what_is_read_does_not_hang_on_the_file(tmp_path):
    path = tmp_path / "voice.pth"
    torch.save({"weight": {"a": torch.arange(5.0)}, "pair": (torch.ones(2), 3)}, path)
    content = read_pickle(path, "voice")
    path.write_bytes(b"")
    assert content["weight"]["a"].tolist() == [0, 1, 2, 3, 4]
    assert content["pair"][0].tolist() == [1, 1] and content["pair"][1] == 3


def nested_without_end():
    inner = [1]
    for _ in range(40):
        inner = [inner] * 10
    return inner


def deep():
    inner = []
    for _ in range(200):
        inner = [inner]
    return inner


@pytest.mark.parametrize("value", [nested_without_end(), deep()], ids=["wide", "deep"])
def test_tables_without_end(tmp_path, value):
    path = tmp_path / "voice.pth"
    torch.save({"weight": {}, "info": value}, path)
    with pytest.raises(VoiceError, match="nested deeper than 64 levels, or more than"):
        Voice.load(path)


HUGE = 10**9
"""Networks of this many layers or channels would take terabytes."""


@pytest.mark.parametrize(
    ("place", "value"),
    [(place, HUGE) for place in (0, 2, 3, 4, 5, 6, 7, 13, 16)]
    + [(6, 10**5), (8, float("inf")), (5, 0), (17, HUGE), (17, "9" * 5000), (17, 10**5000), (12, [1] * 10**6)]
    + [(10, [3] * 10**5), (11, [[1] * 10**6]), (12, [8, 10**400])],
    ids=lambda value: value if isinstance(value, int) and value < 100 else type(value).__name__,
)
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_configurations_of_terabytes(tmp_path, little_memory, place, value):
    voice = make_voice(quick_config())
    path = voice.save(tmp_path / "voice.pth")
    content = torch.load(path, weights_only=True)
    content["config"][place] = value
    torch.save(content, path)
    with pytest.raises(VoiceError, match=r"voice\.pth'"):
        Voice.load(path)


@pytest.mark.parametrize("vocoder", ["MRF HiFi-GAN", "RefineGAN"])
def test_a_resampler_of_a_hostile_rate(tmp_path, vocoder):
    content = torch.load(GOLDEN / "voices/v2_f0_32k_refinegan.pth", weights_only=True)
    rate = 10**9
    content |= {"vocoder": vocoder, "config": [*content["config"][:12], [rate // 100], 128, [8], 3, 256, rate]}
    torch.save(content, tmp_path / "voice.pth")
    with pytest.raises(VoiceError, match=r"voice\.pth'"):
        Voice.load(tmp_path / "voice.pth")


@pytest.mark.parametrize(
    "change",
    [
        {"weight": None},
        {"weight": {3: torch.zeros(3)}},
        {"weight": {"emb_g.weight": torch.tensor(1.0)}},
        {"weight": {"emb_g.weight": torch.zeros(2, 2, dtype=torch.int64)}},
        {"weight": {"emb_g.weight": torch.zeros(2, 2).to_sparse()}},
        {"weight": {"emb_g.weight": torch.zeros(2, 2, device="meta")}},
        {"config": "ab"},
        {"config": [None] * 18},
        {"config": [[]] * 18},
        {"config": [{}] * 18},
        {"version": [1]},
        {"version": {}},
        {"vocoder": 3},
        {"f0": "no"},
    ],
)
def test_values_of_the_wrong_type(tmp_path, change):
    content = torch.load(make_voice(quick_config()).save(tmp_path / "a.pth"), weights_only=True) | change
    torch.save(content, tmp_path / "voice.pth")
    if change == {"f0": "no"}:
        assert Voice.load(tmp_path / "voice.pth").pitch_guided
        return
    with pytest.raises(VoiceError, match=r"voice\.pth'"):
        Voice.load(tmp_path / "voice.pth")


ROW = ManifestRow("a", "a.wav", 0, 8000, "a.wav", "a.f0.npy", "a.npy", 800, 10, 0.1)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def an_npz():
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(3))
    return stream.getvalue()


def test_arrays_are_neither_unpickled_nor_believed(tmp_path):
    trace, path = tmp_path / "ran", tmp_path / "a.npy"
    good = np.arange(12, dtype=np.float32).reshape(3, 4)
    path.write_bytes(npy(good))
    assert np.array_equal(read_npy(path, 2), good)
    claims = npy(good).replace(b"(3, 4), }          ", b"(99999999999, 4), }")
    for content in (
        npy(np.array([Calls(os.mkdir, str(trace))], dtype=object)),
        pickle.dumps(Calls(os.mkdir, str(trace))),
        an_npz(),
        claims,
        npy(np.array(["text"])),
        npy(np.zeros(3)),
        *(npy(good)[:length] for length in (0, 1, 8, 40, 100, 128, 140, 175)),
    ):
        path.write_bytes(content)
        with pytest.raises((ValueError, OSError)):
            read_npy(path, 2)
    assert not trace.exists()


@pytest.mark.parametrize("broken", ["audio", "f0", "content"])
@pytest.mark.parametrize("hostile", ["pickle", "cut", "text", "huge"])
def test_a_hostile_slice_is_one_error(tmp_path, broken, hostile):
    import soundfile

    trace = tmp_path / "ran"
    soundfile.write(tmp_path / "a.wav", np.zeros(800, np.float32), 8000)
    (tmp_path / "a.f0.npy").write_bytes(npy(np.zeros(11, np.float32)))
    (tmp_path / "a.npy").write_bytes(npy(np.zeros((5, 4), np.float16)))
    dataset = SliceDataset(tmp_path, [ROW], 100)
    assert dataset[0].frames == 10
    file = tmp_path / getattr(ROW, broken)
    huge = npy(np.zeros((1, 7), np.float32)).replace(b"(1, 7), }          ", b"(99999999999, 7), }")
    hostile_content = {
        "pickle": pickle.dumps(Calls(os.mkdir, str(trace))),
        "cut": file.read_bytes()[:30],
        "text": b"{}",
        "huge": huge,
    }
    file.write_bytes(hostile_content[hostile])
    with pytest.raises(DatasetError, match=r"slice 'a' in .* cannot be read"):
        dataset[0]
    assert not trace.exists()


DEEP_JSON = "[" * 100_000


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"id": 3}', "\x00", DEEP_JSON, '{"sample_rate": 1e999}'])
def test_a_hostile_manifest(tmp_path, text):
    (tmp_path / MANIFEST_NAME).write_text(text or "\n")
    (tmp_path / HEADER_NAME).write_text(text)
    with pytest.raises(DatasetError, match=MANIFEST_NAME):
        list(read_manifest(tmp_path))
    with pytest.raises(DatasetError, match=HEADER_NAME):
        read_header(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", DEEP_JSON, "\x00"])
def test_a_hostile_configuration(tmp_path, text):
    whole_files(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError):
        read_json(tmp_path / "config.json")
    with pytest.raises(VoiceError, match=r"config\.json' cannot be read as JSON"):
        generator_checkpoint(tmp_path / "G_2333333.pth")
    with pytest.raises(DatasetError, match=r"config\.json' is no JSON object"):
        read_config(tmp_path)


@pytest.mark.parametrize("values", [{}, {"data": 3, "model": {}}, {"data": {}, "model": []}])
def test_a_configuration_without_its_entries(tmp_path, values):
    whole_files(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(VoiceError, match=r"config\.json': .*is not that of an RVC experiment"):
        generator_checkpoint(tmp_path / "G_2333333.pth")
