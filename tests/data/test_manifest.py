"""The manifest reads back what was written, and says where it is damaged."""

import json
from dataclasses import asdict

import pytest

from rvc_lightning.data.manifest import DatasetHeader, ManifestRow, read_header, read_manifest, write_manifest
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


def test_round_trip(tmp_path):
    write_manifest(tmp_path, HEADER, [ROW, ROW])
    assert list(read_manifest(tmp_path)) == [ROW, ROW]
    assert read_header(tmp_path) == HEADER


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        (json.dumps({**asdict(ROW), "frames": "many"}), "frames is 'many'"),
        (json.dumps({**asdict(ROW), "frames": -1}), "below 0"),
        (json.dumps({**asdict(ROW), "speaker": True}), "speaker is True"),
        (json.dumps({**asdict(ROW), "extra": 1}), "unknown extra"),
        (json.dumps({key: value for key, value in asdict(ROW).items() if key != "f0"}), "missing f0"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path, line, message):
    write_manifest(tmp_path, HEADER, [ROW])
    with (tmp_path / "manifest.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    with pytest.raises(DatasetError, match=rf"manifest\.jsonl', line 2: .*{message}"):
        list(read_manifest(tmp_path))


def test_rows_are_streamed(tmp_path):
    write_manifest(tmp_path, HEADER, [ROW])
    with (tmp_path / "manifest.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("{\n")
    assert next(read_manifest(tmp_path)) == ROW


def test_missing_or_foreign(tmp_path):
    with pytest.raises(DatasetError, match="no prepared dataset"):
        list(read_manifest(tmp_path))
    with pytest.raises(DatasetError, match="no prepared dataset"):
        read_header(tmp_path)
    (tmp_path / "dataset.json").write_text('{"rate": 1}')
    with pytest.raises(DatasetError, match="damaged or of another version"):
        read_header(tmp_path)
