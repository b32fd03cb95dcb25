"""Manifests: round trip, and errors that name the damaged line."""

import json
from dataclasses import asdict, replace

import pytest

from rvc_lightning.data.manifest import (
    DatasetHeader,
    ManifestRow,
    exclude_slice,
    read_excluded,
    read_header,
    read_manifest,
    read_used_rows,
    write_manifest,
)
from rvc_lightning.errors import DatasetError

ROW = ManifestRow(
    id="å-1/0000",
    recording="sub/å 音.flac",
    speaker=0,
    sample_rate=24000,
    audio="slices-1/å-1/0000.wav",
    f0="pitch-1/å-1/0000.npy",
    content="content-1/å-1/0000.npy",
    samples=24100,
    frames=100,
    seconds=24100 / 24000,
)
HEADER = DatasetHeader(24000, {"name": "a", "options": {}}, {"name": "b", "options": {}, "dim": 8}, {"mode": "skip"})


def append(folder, line):
    with (folder / "manifest.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def test_round_trip(tmp_path):
    write_manifest(tmp_path, HEADER, [ROW, ROW])
    assert read_manifest(tmp_path) == [ROW, ROW]
    assert read_header(tmp_path) == replace(HEADER, slices=2)


def test_excluded_slices_are_not_used_until_restored(tmp_path):
    other = replace(ROW, id="b", audio="slices-1/b/0000.wav")
    write_manifest(tmp_path, HEADER, [ROW, other])
    exclude_slice(tmp_path, ROW.audio, excluded=True)
    exclude_slice(tmp_path, ROW.audio, excluded=True)
    assert (tmp_path / "excluded.txt").read_text(encoding="utf-8") == f"{ROW.audio}\n"
    assert read_used_rows(tmp_path) == [other]
    assert read_manifest(tmp_path) == [ROW, other]
    exclude_slice(tmp_path, ROW.audio, excluded=False)
    assert read_used_rows(tmp_path) == [ROW, other]
    assert read_excluded(tmp_path) == set()
    # As editors of Windows save it.
    (tmp_path / "excluded.txt").write_bytes(f"\ufeff{ROW.audio}\r\n".encode())
    assert read_used_rows(tmp_path) == [other]
    # As `echo PATH >> FILE` of Windows writes it.
    (tmp_path / "excluded.txt").write_bytes(f"{ROW.audio} \r\n".encode())
    assert read_used_rows(tmp_path) == [other]
    (tmp_path / "excluded.txt").write_bytes(f"{ROW.audio}\n".encode("utf-16"))
    with pytest.raises(DatasetError, match=r"excluded\.txt' is not UTF-8 text"):
        read_used_rows(tmp_path)


def test_truncated_manifest_is_rejected(tmp_path):
    write_manifest(tmp_path, HEADER, [ROW, replace(ROW, id="b")])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(DatasetError, match=r"manifest\.jsonl' has 1 slices .* describes 2 slices"):
        read_manifest(tmp_path)


def test_header_never_describes_another_manifest(tmp_path, monkeypatch):
    write_manifest(tmp_path, HEADER, [ROW, ROW])

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr("rvc_lightning.data.manifest.write_json", killed)
    with pytest.raises(SystemExit):
        write_manifest(tmp_path, replace(HEADER, sample_rate=32000), [ROW, ROW])
    with pytest.raises(DatasetError, match="prepare it first"):
        read_manifest(tmp_path)


def test_unchanged_header_stays_while_the_manifest_is_replaced(tmp_path, monkeypatch):
    write_manifest(tmp_path, HEADER, [ROW, ROW])
    found = []
    monkeypatch.setattr("rvc_lightning.data.manifest.write_json", lambda *_: found.append(read_header(tmp_path)))
    write_manifest(tmp_path, HEADER, [ROW, replace(ROW, id="b")])
    assert found == [replace(HEADER, slices=2)]


def test_datasets_of_earlier_versions_are_read(tmp_path):
    write_manifest(tmp_path, HEADER, [ROW])
    values = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    del values["slices"]
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    assert len(read_manifest(tmp_path)) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "must be a mapping, not list"),
        (json.dumps({**asdict(ROW), "frames": "many"}), "frames is 'many'"),
        (json.dumps({**asdict(ROW), "frames": -1}), "frames is -1"),
        (json.dumps({**asdict(ROW), "seconds": float("nan")}), "seconds is nan"),
        (json.dumps({**asdict(ROW), "frames": 1e30}), "frames is 1e"),
        (json.dumps({**asdict(ROW), "samples": 10**400}), "samples is 1000"),
        (json.dumps({**asdict(ROW), "speaker": True}), "speaker is True"),
        (json.dumps({**asdict(ROW), "extra": 1}), "unexpected keyword argument 'extra'"),
        (json.dumps({key: value for key, value in asdict(ROW).items() if key != "f0"}), "missing .*'f0'"),
    ],
)
def test_damaged_line_is_named(tmp_path, line, message):
    write_manifest(tmp_path, HEADER, [ROW])
    append(tmp_path, line)
    with pytest.raises(DatasetError, match=rf"manifest\.jsonl', line 2 is damaged .*{message}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("speaker", [1, 10**9])
def test_speaker_that_the_header_does_not_name(tmp_path, speaker):
    write_manifest(tmp_path, HEADER, [ROW, replace(ROW, speaker=speaker)])
    with pytest.raises(DatasetError, match=rf"2 slices of {speaker + 1} speakers, but 'dataset\.json' .* of 1 speaker"):
        read_manifest(tmp_path)


def test_more_frames_than_samples():
    with pytest.raises(ValueError, match="frames is 101, samples is 24100"):
        replace(ROW, frames=101)


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_rate": 10**12},
        {"sample_rate": 24000.5},
        {"content": {"dim": 10**9}},
        {"content": {"dim": "many"}},
        {"speakers": [1, 2]},
        {"speakers": {"anna": 0}},
        {"silence": ["a.npy"]},
        {"slices": "all"},
        {"precision": None},
    ],
)
def test_wrong_values_of_the_header(tmp_path, changes):
    write_manifest(tmp_path, HEADER, [ROW])
    values = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8")) | changes
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    with pytest.raises(DatasetError, match=rf"dataset\.json' is damaged .*\(.*{next(iter(changes))}"):
        read_manifest(tmp_path)


def test_missing_or_damaged_header(tmp_path):
    with pytest.raises(DatasetError, match="not a prepared dataset"):
        read_manifest(tmp_path)
    with pytest.raises(DatasetError, match="not a prepared dataset"):
        read_header(tmp_path)
    (tmp_path / "dataset.json").write_text('{"rate": 1}')
    with pytest.raises(DatasetError, match="damaged or of another version"):
        read_header(tmp_path)


def test_last_line_without_newline(tmp_path):
    write_manifest(tmp_path, HEADER, [ROW])
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert read_manifest(tmp_path) == [ROW]
