"""Files from strangers: no code is run, no memory is allocated for claimed sizes, and the error is one line.

Kinds: voices, training checkpoints of other tools, our checkpoints, prepared datasets, and configurations in JSON.
"""

import contextlib
import json
import os
import pickle
import runpy

import numpy as np
import pytest
import torch
from golden import GOLDEN
from hostile_pickles import LINUX, Calls, limited_memory, npy_bytes
from stubs import make_voice, quick_config

from rvc_lightning import Voice
from rvc_lightning.data.dataset import SliceDataset
from rvc_lightning.data.manifest import HEADER_NAME, MANIFEST_NAME, ManifestRow, read_header, read_manifest
from rvc_lightning.errors import DatasetError, VoiceError
from rvc_lightning.importers.experiment import import_experiment
from rvc_lightning.io.files import read_json
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


class Custom:
    """A class that is not available when the file is read."""


def hostile_objects(trace):
    """Return hostile objects by the name that their pickles import."""
    return {
        f"{os.mkdir.__module__}.mkdir": Calls(os.mkdir, str(trace)),
        f"{os.system.__module__}.system": Calls(os.system, f"mkdir {trace}"),
        f"{eval.__module__}.eval": Calls(eval, f"__import__('os').mkdir({str(trace)!r})"),
        "runpy.run_path": Calls(runpy.run_path, str(trace)),
        f"{__name__}.Custom": Custom(),
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
@pytest.mark.parametrize("name", sorted(hostile_objects("")))
def test_code_in_a_pickle_is_named_and_not_run(tmp_path, kind, write, name):
    trace, path = tmp_path / "ran", tmp_path / kind
    write(CONTENT[kind] | {"info": {"deep": [hostile_objects(trace)[name]]}}, path)
    with pytest.raises(VoiceError, match=f"would run code when loaded, because it imports {name.replace('.', '[.]')};"):
        READERS[kind](path)
    assert not trace.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == [kind]


def write_files(folder):
    voice = make_voice(quick_config())
    voice.save(folder / "voice.pth")
    torch.save({"model": voice.weights, "iteration": 3}, folder / "G_2333333.pth")
    torch.save({"state_dict": voice.weights, "rvc": {}}, folder / "last.ckpt")
    as_legacy({"weight": voice.weights, **voice.information}, folder / "legacy.pth")


@pytest.mark.parametrize("file", [*READERS, "legacy.pth"])
def test_truncated_anywhere(tmp_path, file):
    write_files(tmp_path)
    whole, path = (tmp_path / file).read_bytes(), tmp_path / file
    reader = READERS.get(file, Voice.load)
    for length in [*range(0, 64, 7), *np.linspace(64, len(whole) - 1, 20).astype(int)]:
        path.write_bytes(whole[:length])
        with pytest.raises(VoiceError, match=f"{file}' cannot be read as a"):
            reader(path)


@pytest.mark.slow
def test_bytes_changed_anywhere(tmp_path):
    """A changed byte either changes a number or raises VoiceError."""
    write_files(tmp_path)
    path = tmp_path / "voice.pth"
    whole = path.read_bytes()
    draws = np.random.default_rng(0)
    for place in [*draws.integers(0, 40_000, 15), *draws.integers(len(whole) - 60_000, len(whole), 15)]:
        content = bytearray(whole)
        content[place] ^= int(draws.integers(1, 255))
        path.write_bytes(content)
        with contextlib.suppress(VoiceError):
            Voice.load(path)


HUGE = 10**9
"""Networks with this many layers or channels take terabytes."""


@pytest.mark.parametrize(
    ("place", "value"),
    [(place, HUGE) for place in (0, 2, 3, 4, 5, 6, 7, 13, 16)]
    + [(6, 10**5), (8, float("inf")), (5, 0), (17, HUGE), (17, "9" * 5000), (17, 10**5000), (12, [1] * 10**6)]
    + [(10, [3] * 10**5), (11, [[1] * 10**6]), (12, [8, 10**400])],
    ids=lambda value: value if isinstance(value, int) and value < 100 else type(value).__name__,
)
@LINUX
@pytest.mark.slow
def test_configurations_of_terabytes(tmp_path, place, value):
    voice = make_voice(quick_config())
    path = voice.save(tmp_path / "voice.pth")
    content = torch.load(path, weights_only=True)
    content["config"][place] = value
    torch.save(content, path)
    with limited_memory(), pytest.raises(VoiceError, match=r"voice\.pth'"):
        Voice.load(path)


@pytest.mark.parametrize("vocoder", ["MRF HiFi-GAN", "RefineGAN"])
def test_resampler_with_a_huge_rate(tmp_path, vocoder):
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


@pytest.mark.parametrize("broken", ["audio", "f0", "content"])
@pytest.mark.parametrize("hostile", ["pickle", "cut", "text", "huge"])
def test_hostile_slice(tmp_path, broken, hostile):
    import soundfile

    trace = tmp_path / "ran"
    soundfile.write(tmp_path / "a.wav", np.zeros(800, np.float32), 8000)
    (tmp_path / "a.f0.npy").write_bytes(npy_bytes(np.zeros(11, np.float32)))
    (tmp_path / "a.npy").write_bytes(npy_bytes(np.zeros((5, 4), np.float16)))
    dataset = SliceDataset(tmp_path, [ROW], 100)
    assert dataset[0].frames == 10
    file = tmp_path / getattr(ROW, broken)
    huge = npy_bytes(np.zeros((1, 7), np.float32)).replace(b"(1, 7), }          ", b"(99999999999, 7), }")
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
def test_hostile_manifest(tmp_path, text):
    (tmp_path / MANIFEST_NAME).write_text(text or "\n")
    (tmp_path / HEADER_NAME).write_text(text)
    with pytest.raises(DatasetError, match=MANIFEST_NAME):
        list(read_manifest(tmp_path))
    with pytest.raises(DatasetError, match=HEADER_NAME):
        read_header(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", DEEP_JSON, "\x00"])
def test_hostile_configuration(tmp_path, text):
    write_files(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError):
        read_json(tmp_path / "config.json")
    with pytest.raises(VoiceError, match=r"config\.json' cannot be used: "):
        generator_checkpoint(tmp_path / "G_2333333.pth")
    with pytest.raises(DatasetError, match=r"cannot be imported: .*config\.json"):
        import_experiment(tmp_path, tmp_path / "dataset")


@pytest.mark.parametrize("values", [{}, {"data": 3, "model": {}}, {"data": {}, "model": []}])
def test_configuration_without_entries(tmp_path, values):
    write_files(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(VoiceError, match=r"config\.json' cannot be used: "):
        generator_checkpoint(tmp_path / "G_2333333.pth")
