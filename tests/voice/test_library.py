"""The voices of a folder: list, edit, delete and restore."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from disks import limited_file_size, unreadable
from stubs import make_voice, quick_config
from systems import LINKS, POSIX
from voices import read_entries

from rvc_lightning import Voice
from rvc_lightning.errors import ConfigurationError, NotWritableError, OutOfSpaceError, VoiceError
from rvc_lightning.retrieval.index import build_index, save_index
from rvc_lightning.voice.__main__ import main
from rvc_lightning.voice.info import read_voice_info
from rvc_lightning.voice.library import delete_voice, edit_voice, list_trash, list_voices, restore_voice

NAMES = {"rvc_lightning": {"speakers": ["anna", "ben"], "median_f0_hz": 171.6}}


@pytest.fixture
def library(tmp_path, write_voice):
    """Two voices with folders of their own, and two in one folder."""
    folder = tmp_path / "voices"
    for path in ("anna/anna.pth", "ben/ben.pth", "flat/c.pth", "flat/d.pth"):
        write_voice(folder / path, author="me", **NAMES)
        save_index(build_index(np.eye(40, 768, dtype=np.float32), 0), (folder / path).with_suffix(".index"))
    (folder / "anna" / "listen").mkdir()
    (folder / "anna" / "listen" / "01.wav").write_bytes(b"audio")
    return folder


@pytest.fixture
def presets(library):
    folder = library / "flat" / "c.presets"
    folder.mkdir()
    (folder / "song.yaml").write_text("index_rate: 0.5")
    return folder


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_voices_are_listed(library):
    (library / "flat" / "broken.pth").write_bytes(b"nothing")
    (library / ".hidden").mkdir()
    (library / ".hidden" / "x.pth").write_bytes(b"nothing")
    found = {path.relative_to(library).as_posix(): info for path, info in list_voices(library)}
    assert list(found) == ["anna/anna.pth", "ben/ben.pth", "flat/broken.pth", "flat/c.pth", "flat/d.pth"]
    assert "cannot be read as a voice" in found["flat/broken.pth"]
    assert (found["anna/anna.pth"].median_f0_hz, found["anna/anna.pth"].author) == (171.6, "me")


def test_missing_library_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="is not a folder"):
        list(list_voices(tmp_path / "no"))


def test_what_cannot_be_read_is_reported(library):
    with unreadable(library), pytest.raises(PermissionError):
        list(list_voices(library))
    with unreadable(library / "flat"), unreadable(library / "ben" / "ben.pth"):
        voices = {path.relative_to(library).as_posix(): info for path, info in list_voices(library)}
    assert list(voices) == ["anna/anna.pth", "ben/ben.pth", "flat"]
    assert "ben.pth' cannot be read or written: Permission denied; choose" in voices["ben/ben.pth"]
    assert "flat' cannot be read or written: Permission denied; choose" in voices["flat"]


def test_edit_changes_only_the_chosen_entries(library):
    path = library / "anna" / "anna.pth"
    before = read_entries(path)
    assert edit_voice(path, "Añna 2", "you", ["x", "y"]) == path
    after = read_entries(path)
    assert list(after) == [*before, *({"model_name"} - before.keys())]
    assert (after["model_name"], after["author"], after["rvc_lightning"]["speakers"]) == ("Añna 2", "you", ["x", "y"])
    assert after["rvc_lightning"]["median_f0_hz"] == 171.6
    assert all(torch.equal(tensor, before["weight"][name]) for name, tensor in after["weight"].items())
    assert all(tensor.dtype == before["weight"][name].dtype for name, tensor in after["weight"].items())
    info = read_voice_info(path)
    assert (info.name, info.speaker_names, info.unusual) == ("Añna 2", ["x", "y"], [])


def test_edit_keeps_weights_of_other_tools(tmp_path):
    """float32 weights with a posterior encoder, and entries that this project does not use."""
    content = read_entries(make_voice(quick_config(speaker_count=3)).save(tmp_path / "a.pth"))
    content["weight"] = {name: tensor.float() / 3 for name, tensor in content["weight"].items()}
    content |= {"name": "old", "hash": "x", "extra": [1, {"a": torch.ones(2)}]}
    content["weight"]["enc_q.pre.weight"] = torch.ones(3)
    torch.save(content, tmp_path / "a.pth")
    edit_voice(tmp_path / "a.pth", name="new", speakers=["anna", "ben"])
    after = read_entries(tmp_path / "a.pth")
    assert all(torch.equal(tensor, after["weight"][name]) for name, tensor in content["weight"].items())
    assert (after["name"], after["model_name"], after["hash"]) == ("new", "new", "x")
    assert after["speaker_info"] == [{"id": 0, "name": "anna"}, {"id": 1, "name": "ben"}]
    assert Voice.load(tmp_path / "a.pth").speaker_names == ["anna", "ben"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({}, ConfigurationError, "nothing is to be changed"),
        ({"speakers": ["x"]}, VoiceError, r"1 name for 2 speakers \(anna, ben\): name all of them"),
        ({"speakers": ["x", "x"]}, ConfigurationError, "empty or repeated"),
        ({"speakers": ["x", ""]}, ConfigurationError, "empty or repeated"),
    ],
)
def test_invalid_edits_change_nothing(changes, error, message, library):
    path = library / "anna" / "anna.pth"
    before = path.read_bytes()
    with pytest.raises(error, match=message):
        edit_voice(path, **changes)
    assert path.read_bytes() == before


def test_too_many_names_are_an_error(write_voice, tmp_path):
    with pytest.raises(VoiceError, match="3 names, but the speaker table has 2 rows"):
        edit_voice(write_voice(tmp_path / "a.pth"), speakers=["a", "b", "c"])


def test_full_disk_keeps_the_voice(library):
    path = library / "anna" / "anna.pth"
    before = path.read_bytes()
    with limited_file_size(1000), pytest.raises(OutOfSpaceError):
        edit_voice(path, name="new")
    assert path.read_bytes() == before and listing(path.parent) == ["anna.index", "anna.pth", "listen/01.wav"]


def test_deleted_voice_is_restored(library):
    before = listing(library)
    deleted = delete_voice(library / "anna" / "anna.pth", library)
    assert not (library / "anna").exists() and deleted.folder.parent == library / ".trash"
    assert [path.relative_to(library).as_posix() for path, _ in list_voices(library)] == [
        "ben/ben.pth", "flat/c.pth", "flat/d.pth",
    ]  # fmt: skip
    assert list_trash(library) == [deleted]
    assert restore_voice("anna", library) == library / "anna" / "anna.pth"
    assert listing(library) == before and list_trash(library) == []
    assert not any((library / ".trash").iterdir())


def test_empty_trash(library, caplog):
    delete_voice(library / "anna" / "anna.pth", library)
    main(["empty-trash", "--voices", str(library)])
    assert list_trash(library) == [] and "deleted for good: anna" in caplog.text
    assert (library / "ben" / "ben.pth").is_file()


def test_other_voices_of_the_folder_stay(library):
    delete_voice(library / "flat" / "c.pth", library)
    assert listing(library / "flat") == ["d.index", "d.pth"]
    restore_voice("c", library)
    assert listing(library / "flat") == ["c.index", "c.pth", "d.index", "d.pth"]


def test_earlier_voice_of_an_export_goes_along(library, write_voice):
    write_voice(library / "ben" / "ben.previous.pth")
    delete_voice(library / "ben" / "ben.pth", library)
    assert not (library / "ben").exists()
    restore_voice("ben", library)
    assert listing(library / "ben") == ["ben.index", "ben.previous.pth", "ben.pth"]


def test_presets_are_deleted_and_restored_with_their_voice(library, presets):
    delete_voice(library / "flat" / "c.pth", library)
    assert not presets.exists()
    restore_voice("c", library)
    assert (presets / "song.yaml").read_text(encoding="utf-8") == "index_rate: 0.5"


def test_failed_deletion_keeps_all_files(library, presets, monkeypatch):
    """Windows refuses to rename files that another program has open."""
    before, replace = listing(library), os.replace

    def replace_unless_open(source, target):
        if source.suffix == ".index":
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_unless_open)
    with pytest.raises(NotWritableError, match=r"c.index' cannot be written: Access is denied"):
        delete_voice(library / "flat" / "c.pth", library)
    assert listing(library) == before and not list((library / ".trash").iterdir())


def test_failed_restoration_keeps_all_files(library, presets):
    delete_voice(library / "flat" / "c.pth", library)
    presets.write_text("a file in place of the folder")
    before = listing(library)
    with pytest.raises(NotWritableError, match=r"c.presets' cannot be written"):
        restore_voice("c", library)
    assert listing(library) == before
    presets.unlink()
    restore_voice("c", library)
    assert listing(library / "flat") == ["c.index", "c.presets/song.yaml", "c.pth", "d.index", "d.pth"]


def test_index_of_two_voices_stays(library, write_voice):
    """Exports of several epochs have one index."""
    for epoch in (1, 2):
        write_voice(library / "epochs" / f"anna_{epoch}e_{epoch}s.pth")
    (library / "epochs" / "anna.index").write_bytes(b"")
    delete_voice(library / "epochs" / "anna_1e_1s.pth", library)
    assert listing(library / "epochs") == ["anna.index", "anna_2e_2s.pth"]


def test_last_deleted_voice_of_a_name_is_restored(library, write_voice):
    path = library / "anna" / "anna.pth"
    first = delete_voice(path, library)
    write_voice(path, author="second")
    delete_voice(path, library)
    assert [voice.name for voice in list_trash(library)] == ["anna", "anna"]
    assert restore_voice("anna", library) == path
    assert Voice.load(path).information["author"] == "second"
    with pytest.raises(VoiceError, match=r"'anna' cannot be restored: '.*anna.pth' exists"):
        restore_voice("anna", library)
    path.unlink()
    restore_voice(first.folder.name, library)
    assert Voice.load(path).information["author"] == "me"


@LINKS
def test_only_voices_of_the_library_are_deleted(library, write_voice, tmp_path):
    outside = write_voice(tmp_path / "x.pth")
    (library / "link.pth").symlink_to(outside)
    for path in (outside, library / ".." / "x.pth"):
        with pytest.raises(VoiceError, match="is not in the folder of voices"):
            delete_voice(path, library)
    for path in (library / "no.pth", library / "anna", library / "anna" / "anna.index"):
        with pytest.raises(VoiceError, match="voice not found"):
            delete_voice(path, library)
    delete_voice(library / "link.pth", library)
    assert outside.is_file() and not (library / "link.pth").is_symlink()


@pytest.mark.parametrize("name", ["anna [1]", "añna", pytest.param("a*b", marks=POSIX)])
def test_unusual_names_are_deleted_and_restored(name, library, write_voice):
    path = write_voice(library / f"{name}.pth")
    delete_voice(path, library)
    assert not path.exists() and restore_voice(name, library) == path and path.is_file()


@pytest.mark.parametrize("name", ["x", "../anna", "."])
def test_unknown_name_in_the_trash_lists_the_names(name, library):
    with pytest.raises(VoiceError, match=f"has no voice '{name}'; it is empty"):
        restore_voice(name, library)
    delete_voice(library / "anna" / "anna.pth", library)
    with pytest.raises(VoiceError, match=f"has no voice '{name}'; it has anna"):
        restore_voice(name, library)


def test_commands(library, capsys, caplog):
    caplog.set_level("INFO")
    folder = ["--voices", str(library)]
    main(["list", *folder])
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["voice", "name", "rate", "generator", "encoder", "speakers", "pitch", "author", "created"]
    assert " ".join(first.split()) == "anna/anna.pth anna 8 kHz HiFi-GAN spectral 2: anna, ben 172 Hz me"
    main(["edit", str(library / "anna" / "anna.pth"), "--name", "A", "--speakers", "x", "y"])
    main(["delete", str(library / "ben" / "ben.pth"), *folder])
    assert f"voice restore ben --voices {library}" in caplog.text
    main(["list", "--json", *folder])
    listed = json.loads(capsys.readouterr().out)
    assert [(voice["name"], voice["author"]) for voice in listed] == [("A", "me"), ("c", "me"), ("d", "me")]
    main(["list", "--deleted", *folder])
    assert capsys.readouterr().out.startswith("ben  20")
    main(["restore", "ben", *folder])
    main(["list", "--deleted", *folder])
    assert f"No voices in the trash of '{library}'" in caplog.text
    with pytest.raises(SystemExit) as stopped:
        main(["delete", str(library / "no.pth"), *folder])
    assert stopped.value.code == 1
