"""The manifest reads back what was written, and says where it is damaged."""

import json
import pickle
from dataclasses import asdict, replace

import pytest

from rvc_lightning.data.manifest import (
    DatasetHeader,
    ManifestRow,
    ManifestTable,
    open_manifest,
    read_header,
    read_manifest,
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


def test_round_trip(tmp_path):
    write_manifest(tmp_path, HEADER, [ROW, ROW])
    assert list(read_manifest(tmp_path)) == [ROW, ROW]
    assert read_header(tmp_path) == replace(HEADER, slices=2)


@pytest.mark.parametrize("reader", [open_manifest, lambda folder: list(read_manifest(folder))])
def test_a_manifest_that_ends_with_another_line_than_it_did_is_no_smaller_dataset(tmp_path, reader):
    write_manifest(tmp_path, HEADER, [ROW, replace(ROW, id="b")])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(DatasetError, match=r"manifest\.jsonl' has 1 slices where 2 were written"):
        reader(tmp_path)


def test_a_header_is_never_beside_a_manifest_that_it_does_not_speak_of(tmp_path, monkeypatch):
    write_manifest(tmp_path, HEADER, [ROW, ROW])

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr("rvc_lightning.data.manifest.write_json", killed)
    with pytest.raises(SystemExit):
        write_manifest(tmp_path, replace(HEADER, sample_rate=32000), [ROW, ROW])
    with pytest.raises(DatasetError, match="prepare it first"):
        open_manifest(tmp_path)


def test_who_reads_finds_a_header_while_the_same_is_written_again(tmp_path, monkeypatch):
    write_manifest(tmp_path, HEADER, [ROW, ROW])
    found = []
    monkeypatch.setattr("rvc_lightning.data.manifest.write_json", lambda *_: found.append(read_header(tmp_path)))
    write_manifest(tmp_path, HEADER, [ROW, replace(ROW, id="b")])
    assert found == [replace(HEADER, slices=2)]


def test_datasets_of_earlier_versions_are_read(tmp_path):
    write_manifest(tmp_path, HEADER, [ROW])
    values = json.loads((tmp_path / "dataset.json").read_text())
    del values["slices"]
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    assert len(open_manifest(tmp_path)) == 1


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


def test_a_table_of_rows(tmp_path):
    rows = [replace(ROW, id=str(number), recording=f"{number % 3}.wav", frames=number) for number in range(100)]
    write_manifest(tmp_path, HEADER, rows)
    table = open_manifest(tmp_path)
    assert list(table) == rows == list(ManifestTable.of(rows)) and table[-1] == rows[-1] and len(table) == 100
    assert table.frames.tolist() == list(range(100)) and table.seconds.sum() == pytest.approx(100 * ROW.seconds)
    assert table.recording.tolist() == [table.recording[number % 3] for number in range(100)]
    assert len(set(table.recording)) == 3 and (table.recording == ManifestTable.of(rows).recording).all()
    part = table.part(table.frames % 2 == 1)
    assert list(part) == rows[1::2] and list(part[1:3]) == rows[3:7:2]
    assert list(pickle.loads(pickle.dumps(part))) == rows[1::2]
    assert len(ManifestTable.of([])) == 0


def test_a_last_line_without_end_is_read(tmp_path):
    write_manifest(tmp_path, HEADER, [ROW])
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert list(open_manifest(tmp_path)) == [ROW]


@pytest.mark.parametrize("line", ['{"seconds": NaN}', '{"frames": 1e30}', '{"samples": 1180591620717411303424}'])
def test_impossible_numbers_are_refused(tmp_path, line):
    write_manifest(tmp_path, HEADER, [ROW])
    with (tmp_path / "manifest.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(ROW) | json.loads(line)) + "\n")
    with pytest.raises(DatasetError, match="line 2"):
        open_manifest(tmp_path)
