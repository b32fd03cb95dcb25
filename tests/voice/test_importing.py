"""Import of published voices: files are recognized by content, and nothing half-written remains."""

import json
import os
import pickle
import shutil
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from disks import limited_file_size, read_only
from huggingface_hub import constants
from stubs import make_voice, quick_config
from tls_server import tls_server

from rvc_lightning import Voice
from rvc_lightning.errors import AssetError, ConfigurationError, NotWritableError, OutOfSpaceError, VoiceError
from rvc_lightning.io.names import file_name
from rvc_lightning.retrieval.discovery import find_index
from rvc_lightning.retrieval.index import build_index, save_index
from rvc_lightning.voice import importing
from rvc_lightning.voice.__main__ import main
from rvc_lightning.voice.importing import import_voices
from rvc_lightning.voice.library import delete_voice


@pytest.fixture(scope="module")
def voice_file(tmp_path_factory):
    return make_voice(quick_config()).save(tmp_path_factory.mktemp("voice") / "v.pth")


@pytest.fixture(scope="module")
def v1_voice_file(tmp_path_factory):
    return make_voice(quick_config(content_dim=256)).save(tmp_path_factory.mktemp("voice") / "v1.pth")


@pytest.fixture
def library(tmp_path):
    return tmp_path / "library"


@cache
def index_bytes(dim=768, rows=40):
    with tempfile.TemporaryDirectory() as folder:
        return save_index(build_index(np.eye(rows, dim, dtype=np.float32), 0), Path(folder, "a.index")).read_bytes()


def write_zip(path, members, **options):
    """Write an archive of contents or files by name."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content if isinstance(content, bytes) else content.read_bytes())
    return path


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_voice_and_index_of_two_files(voice_file, library, tmp_path):
    shutil.copy(voice_file, tmp_path / "anna_e100_s2000.pth")
    (tmp_path / "added_IVF1_Flat_nprobe_1_anna_v2.index").write_bytes(index_bytes())
    (voice,) = import_voices(
        [tmp_path / "added_IVF1_Flat_nprobe_1_anna_v2.index", tmp_path / "anna_e100_s2000.pth"], library
    ).voices
    assert voice.voice == library / "anna_e100_s2000" / "anna_e100_s2000.pth"
    assert voice.voice.read_bytes() == voice_file.read_bytes()
    assert find_index(voice.voice) == voice.index and voice.index.read_bytes() == index_bytes()


def test_index_beside_a_voice_is_imported_if_it_belongs_to_it(voice_file, library, tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("anna.pth", "ben.pth"):
        shutil.copy(voice_file, tmp_path / name)
    for name in ("added_IVF1_Flat_nprobe_1_anna_v2.index", "other.index"):
        (tmp_path / name).write_bytes(index_bytes())
    report = import_voices([tmp_path / "anna.pth"], library)
    assert report.voices[0].index == library / "anna" / "anna.index" and report.unused == {}
    assert f"Index beside the voice: {tmp_path / 'added_IVF1_Flat_nprobe_1_anna_v2.index'}" in caplog.text
    report = import_voices([tmp_path / "ben.pth"], library)
    assert report.voices[0].index is None
    assert report.unused == {"other.index": "an index that may belong to 'ben.pth'; if it does, import both together"}
    report = import_voices([tmp_path / "anna.pth", tmp_path / "other.index"], library, "carl")
    assert report.voices[0].index == library / "carl" / "carl.index" and report.unused == {}


def test_archive_with_other_files(voice_file, library, tmp_path):
    members = {
        "anna/model.pth": voice_file,
        "anna/added_IVF1_Flat.index": index_bytes(),
        "anna/readme.txt": b"hello",
        "anna/G_2333333.pth": pickle.dumps({}),
        "__MACOSX/._model.pth": b"\0\5\26\7",
        "anna/song.mp3": b"ID3" + b"\0" * 100,
    }
    report = import_voices([write_zip(tmp_path / "download.zip", members)], library)
    assert listing(library) == ["anna/anna.index", "anna/anna.pth"]
    assert report.voices[0].name == "anna"
    assert sorted(report.unused) == sorted(set(members) - {"anna/model.pth", "anna/added_IVF1_Flat.index"})
    assert report.unused["anna/readme.txt"] == "a text file" and report.unused["anna/song.mp3"] == "a recording"


def test_kinds_are_recognized_without_suffixes(voice_file, library, tmp_path):
    """A .pth that is an archive, an index without suffix, and a voice called .zip."""
    inner = {"data": index_bytes(), "ben.zip": voice_file}
    archive = write_zip(tmp_path / "ben.pth", inner, compression=zipfile.ZIP_DEFLATED)
    (voice,) = import_voices([archive], library).voices
    assert voice.name == "ben" and voice.index is not None


def test_archive_in_an_archive(voice_file, library, tmp_path):
    inner = write_zip(tmp_path / "inner.zip", {"model.pth": voice_file})
    (voice,) = import_voices([write_zip(tmp_path / "outer.zip", {"inner.zip": inner})], library).voices
    assert voice.name == "inner"


def test_too_deep_archives_are_not_unpacked(voice_file, library, tmp_path):
    path = voice_file
    for depth in range(5):
        path = write_zip(tmp_path / f"{depth}.zip", {f"a{depth}": path})
    with pytest.raises(VoiceError, match="an archive in 3 others"):
        import_voices([path], library)


def test_indexes_are_paired_by_dimension_and_name(voice_file, v1_voice_file, library, tmp_path):
    members = {
        "anna.pth": voice_file,
        "benno.pth": voice_file,
        "carl.pth": v1_voice_file,
        "indexes/added_IVF1_Flat_nprobe_1_Bennos_v2.index": index_bytes(rows=41),
        "indexes/anna.index": index_bytes(rows=42),
        "indexes/x.index": index_bytes(256),
        "indexes/unknown.index": index_bytes(rows=43),
        "indexes/odd.index": index_bytes(100),
    }
    report = import_voices([write_zip(tmp_path / "a.zip", members)], library)
    sizes = {voice.name: len(voice.index.read_bytes()) for voice in report.voices}
    expected = {"anna": index_bytes(rows=42), "benno": index_bytes(rows=41), "carl": index_bytes(256)}
    assert sizes == {name: len(content) for name, content in expected.items()}
    assert report.unused == {
        "indexes/unknown.index": "an index that cannot be assigned to one of the voices with certainty",
        "indexes/odd.index": "an index of 100 channels, which fits none of the voices",
    }


def test_indexes_are_paired_within_folders(voice_file, library, tmp_path):
    members = {}
    for rows, name in enumerate(("anna", "ben"), 40):
        members |= {f"{name}/model.pth": voice_file, f"{name}/added.index": index_bytes(rows=rows)}
    report = import_voices([write_zip(tmp_path / "a.zip", members)], library)
    assert [(voice.name, len(voice.index.read_bytes())) for voice in report.voices] == [
        ("anna", len(index_bytes(rows=40))),
        ("ben", len(index_bytes(rows=41))),
    ]


def test_indexes_of_speakers_are_imported_and_deleted(voice_file, library, tmp_path):
    members = {"anna.pth": voice_file}
    members |= {f"added_IVF{40 - row}_Flat_nprobe_1_anna_v2_spkid{row}.index": index_bytes() for row in (0, 1)}
    (voice,) = import_voices([write_zip(tmp_path / "a.zip", members)], library, "ben").voices
    assert listing(library) == ["ben/ben.pth", "ben/ben_spkid0.index", "ben/ben_spkid1.index"]
    assert voice.index == library / "ben" / "ben_spkid0.index"
    shutil.copy(voice_file, library / "ben" / "other.pth")
    delete_voice(voice.voice, library)
    assert listing(library / "ben") == ["other.pth"]


def test_names_never_leave_the_library(voice_file, library, tmp_path):
    names = ["../../evil.pth", "/etc/evil.pth", "C:\\evil\\..\\x.pth", "a/../../../b.pth", "con.pth", "..pth"]
    archive = write_zip(tmp_path / "a.zip", dict.fromkeys(names, voice_file))
    report = import_voices([archive], library)
    assert len(report.voices) == len(names)
    assert all(voice.voice.resolve().is_relative_to(library.resolve()) for voice in report.voices)
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "library"}


def test_links_in_archives_are_not_followed(voice_file, library, tmp_path):
    link = zipfile.ZipInfo("secret.pth")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.write(voice_file, "anna.pth")
    report = import_voices([tmp_path / "a.zip"], library)
    assert report.unused == {"secret.pth": "a link"} and listing(library) == ["anna/anna.pth"]


def test_archive_bomb_is_stopped(library, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "_MAX_UNPACKED_BYTES", 10 << 20)
    bomb = bytes(20 << 20)
    archive = write_zip(tmp_path / "a.zip", {"a.pth": bomb}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(VoiceError, match=r"larger than 0\.0 GB when unpacked"):
        import_voices([archive], library)
    assert listing(library) == []


def test_many_members_are_rejected(library, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "_MAX_MEMBERS", 20)
    inner = write_zip(tmp_path / "inner.zip", {f"{number}": b"" for number in range(15)})
    with pytest.raises(VoiceError, match="contains more than 20 files"):
        import_voices([write_zip(tmp_path / "a.zip", {"a": inner, "b": inner})], library)


def test_hostile_voice_is_not_run(voice_file, library, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(VoiceError, match=r"there is no voice in .*evil\.pth: evil\.pth: .* would run code"):
        import_voices([tmp_path / "evil.pth"], library)
    report = import_voices([tmp_path / "evil.pth", voice_file], library)
    assert "would run code" in report.unused["evil.pth"] and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04", b"PK\x03\x04" + b"\0" * 100, b"IwFl", b"\x80\x02"])
def test_other_files_are_named(content, library, tmp_path):
    (tmp_path / "añna.pth").write_bytes(content)
    with pytest.raises(VoiceError, match=r"there is no voice in .*: añna\.pth: "):
        import_voices([tmp_path / "añna.pth"], library)
    assert listing(library) == []


def test_encrypted_members_are_named(voice_file, library, tmp_path):
    # Compressed, so that the signatures of the voices, which are archives as well, do not occur in it.
    write_zip(tmp_path / "a.zip", {"a.pth": voice_file, "b.pth": voice_file}, compression=zipfile.ZIP_DEFLATED)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    report = import_voices([tmp_path / "a.zip"], library)
    assert "encrypted" in report.unused["a.pth"] and [voice.name for voice in report.voices] == ["b"]


def test_taken_name_is_one_error(voice_file, library):
    import_voices([voice_file], library, "anna")
    before = listing(library)
    with pytest.raises(VoiceError, match=r"the name 'anna' is taken in '.*'; choose another name, or delete"):
        import_voices([voice_file], library, "anna")
    assert listing(library) == before
    assert import_voices([voice_file], library, "ben").voices[0].name == "ben"


@pytest.mark.parametrize(("name", "better"), [("a/b", "a_b"), ("..", "_"), ("con", "_con"), ("", "_"), ("a.", "a")])
def test_unusable_names_are_rejected(name, better, voice_file, library):
    assert file_name(name) == better
    with pytest.raises(ConfigurationError, match=f"not a name for a file on every system; try '{better}'"):
        import_voices([voice_file], library, name)


def test_names_that_differ_in_case_only_are_numbered(voice_file, library, tmp_path):
    """On most disks of Windows and macOS, one voice would replace the other."""
    archive = write_zip(tmp_path / "a.zip", {"x/Anna.pth": voice_file, "y/anna.pth": voice_file})
    assert [voice.name for voice in import_voices([archive], library).voices] == ["Anna", "anna 2"]


def test_one_name_for_two_voices_is_an_error(voice_file, v1_voice_file, library):
    with pytest.raises(ConfigurationError, match=r"there are 2 voices \(v.pth, v1.pth\)"):
        import_voices([voice_file, v1_voice_file], library, "anna")
    assert listing(library) == []


def test_missing_file_is_an_error(library, tmp_path):
    for source in (tmp_path / "no.pth", tmp_path):
        with pytest.raises(ConfigurationError, match="is not a file; import takes files"):
            import_voices([source], library)


def test_failure_leaves_nothing(voice_file, library, tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a.pth": voice_file, "b.pth": voice_file})
    with limited_file_size(voice_file.stat().st_size // 2), pytest.raises(OutOfSpaceError):
        import_voices([archive], library)
    with limited_file_size(voice_file.stat().st_size // 2), pytest.raises(OutOfSpaceError):
        import_voices([voice_file], library)
    assert list(library.iterdir()) == []


def test_voices_are_placed_all_or_none(voice_file, library, tmp_path, monkeypatch):
    """Another import takes the second name after it was checked."""
    monkeypatch.setattr(importing, "_choose_names", lambda voices, *_: dict(zip(voices, ("a", "b"), strict=True)))
    import_voices([voice_file, voice_file], tmp_path / "other")
    (library / "b").mkdir(parents=True)
    (library / "b" / "b.pth").write_bytes(b"")
    with pytest.raises(VoiceError, match="the name 'b' is taken"):
        import_voices([write_zip(tmp_path / "a.zip", {"x.pth": voice_file, "y.pth": voice_file})], library)
    assert listing(library) == ["b/b.pth"]


def test_read_only_library_is_one_error(voice_file, library):
    library.mkdir()
    with read_only(library), pytest.raises(NotWritableError):
        import_voices([voice_file], library)


def test_abandoned_folders_are_removed(voice_file, library):
    old, new = library / ".import-old", library / ".import-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    import_voices([voice_file], library)
    assert not old.exists() and new.exists()


@pytest.fixture
def server():
    with tls_server() as server:
        yield server


def test_link_is_imported(voice_file, library, server, tmp_path):
    server.files["/x/anna.zip"] = write_zip(tmp_path / "a.zip", {"anna.pth": voice_file}).read_bytes()
    (voice,) = import_voices([f"{server.url}/x/anna.zip?a=b"], library, client=server.client()).voices
    assert voice.voice.read_bytes() == voice_file.read_bytes()
    assert listing(library) == ["anna/anna.pth"]


def test_repository_of_the_hub_is_imported(voice_file, library, server, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    names = ("anna/model.pth", "anna/added_IVF1_Flat.index", "README.md")
    server.files["/api/models/me/voices/tree/main"] = json.dumps(
        [{"type": "file", "path": name, "size": 10} for name in names]
    ).encode()
    contents = zip(names, (voice_file.read_bytes(), index_bytes(), b"text"), strict=True)
    server.files |= {f"/me/voices/resolve/main/{name}": content for name, content in contents}
    (voice,) = import_voices([f"{server.url}/me/voices"], library, client=server.client()).voices
    assert (voice.name, voice.index.name) == ("anna", "anna.index")
    assert "/me/voices/resolve/main/README.md" not in server.requests


def test_large_repository_is_rejected(library, server, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    entries = [{"type": "file", "path": f"{number}.zip", "size": 10} for number in range(30)]
    server.files["/api/models/me/voices/tree/main"] = json.dumps(entries).encode()
    with pytest.raises(VoiceError, match=r"lists 30 files of 0\.0 GB"):
        import_voices([f"{server.url}/me/voices"], library, client=server.client())


def test_links_can_be_switched_off(library, server):
    with pytest.raises(ConfigurationError, match=r"links are switched off \(links=false\)"):
        import_voices([f"{server.url}/anna.pth"], library)
    assert server.requests == []


def test_failed_download_leaves_nothing(voice_file, library, server):
    server.files["/anna.pth"], server.cut_at = voice_file.read_bytes(), 100
    with pytest.raises(AssetError, match="ended after 100"):
        import_voices([f"{server.url}/anna.pth"], library, client=server.client())
    assert list(library.iterdir()) == []


def test_import_command(voice_file, library, tmp_path, caplog):
    caplog.set_level("INFO")
    archive = write_zip(tmp_path / "a.zip", {"model.pth": voice_file, "added.index": index_bytes(), "b\x1b.txt": b"b"})
    main(["import", str(archive), "--voices", str(library), "--name", "anna"])
    assert [record.message for record in caplog.records if "rvc_lightning.voice" in record.name] == [
        "not used: b\\x1b.txt: a text file",
        f"voice: {library / 'anna' / 'anna.pth'}",
        f"index: {library / 'anna' / 'anna.index'}",
    ]
    Voice.load(library / "anna" / "anna.pth")
    with pytest.raises(SystemExit) as stopped:
        main(["import", str(archive), "--voices", str(library), "--name", "anna"])
    assert stopped.value.code == 1 and "the name 'anna' is taken" in caplog.text
