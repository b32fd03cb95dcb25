"""The catalog of voices: listing, broken files, links and names that lead elsewhere."""

import os

import numpy as np
import pytest
import torch
from disks import unreadable
from stubs import make_voice, quick_config
from systems import LINKS

from rvc_lightning.app.catalog import VoiceCatalog
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.retrieval.index import build_index, save_index


@pytest.fixture
def folder(tmp_path, write_voice):
    write_voice(tmp_path / "voices" / "anna.pth", author="Anna")
    write_voice(tmp_path / "voices" / "deep" / "er" / "ben.PTH")
    write_voice(tmp_path / "outside.pth")
    return tmp_path / "voices"


def test_voices_in_subfolders_are_listed(folder, write_voice):
    (folder / ".hidden").mkdir()
    write_voice(folder / ".hidden" / "x.pth")
    (folder / "notes.txt").touch()
    catalog = VoiceCatalog(folder)
    assert list(catalog.examine()) == ["anna.pth", "deep/er/ben.PTH"]
    assert catalog.names == ["anna.pth", "deep/er/ben.PTH"]
    assert catalog.unusable == {}
    assert list(catalog.examine()) == []


def test_voice_precedes_the_one_that_it_has_replaced(folder, write_voice):
    write_voice(folder / "anna.previous.pth")
    assert VoiceCatalog(folder).names[:2] == ["anna.pth", "anna.previous.pth"]


def test_broken_files_are_listed_with_a_reason_and_without_folders(folder):
    (folder / "cut.pth").write_bytes(b"PK\x03\x04")
    torch.save({"model": {}}, folder / "deep" / "G_2333.pth")
    catalog = VoiceCatalog(folder)
    assert catalog.unusable == {}
    assert list(catalog.examine()) == ["anna.pth", "cut.pth", "deep/G_2333.pth", "deep/er/ben.PTH"]
    assert catalog.names == ["anna.pth", "deep/er/ben.PTH"]
    assert list(catalog.unusable) == ["cut.pth", "deep/G_2333.pth"]
    assert "'cut.pth' cannot be read as a voice" in catalog.unusable["cut.pth"]
    assert "'deep/G_2333.pth' is a training checkpoint" in catalog.unusable["deep/G_2333.pth"]
    assert not any(str(folder) in reason for reason in catalog.unusable.values())
    with pytest.raises(VoiceError, match=r"^'cut.pth' cannot be read"):
        catalog.facts("cut.pth")


@pytest.mark.parametrize(
    "name",
    ["../outside.pth", "{folder}/anna.pth", "{outside}", "./anna.pth", "deep/../anna.pth", "anna", "", "..", "\0"],
)
def test_names_never_become_paths(folder, name):
    catalog = VoiceCatalog(folder)
    name = name.format(folder=folder, outside=folder.parent / "outside.pth")
    for lookup in (catalog.path, catalog.facts, catalog.index):
        with pytest.raises(VoiceError, match=r"unknown voice .*; choose another, or refresh"):
            lookup(name)


@LINKS
def test_links_out_of_the_folder_are_not_followed(folder):
    (folder / "file.pth").symlink_to(folder.parent / "outside.pth")
    (folder / "up").symlink_to(folder.parent, target_is_directory=True)
    (folder / "dangling.pth").symlink_to(folder / "nothing.pth")
    (folder / "inside.pth").symlink_to(folder / "anna.pth")
    catalog = VoiceCatalog(folder)
    assert catalog.names == ["anna.pth", "deep/er/ben.PTH", "inside.pth"]
    assert list(catalog.unusable) == ["dangling.pth", "file.pth", "up"]
    assert "such links are not followed" in catalog.unusable["file.pth"]
    assert catalog.facts("inside.pth").author == "Anna"


@LINKS
def test_voice_replaced_by_a_link_out_of_the_folder_is_rejected(folder):
    catalog = VoiceCatalog(folder)
    (folder / "anna.pth").unlink()
    (folder / "anna.pth").symlink_to(folder.parent / "outside.pth")
    with pytest.raises(VoiceError, match="unknown voice"):
        catalog.facts("anna.pth")


@LINKS
def test_folder_itself_can_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert VoiceCatalog(tmp_path / "link").facts("anna.pth").author == "Anna"


def test_removed_voice(folder):
    catalog = VoiceCatalog(folder)
    catalog.facts("anna.pth")
    (folder / "anna.pth").unlink()
    with pytest.raises(VoiceError, match=r"unknown voice 'anna.pth'; choose another, or refresh"):
        catalog.facts("anna.pth")
    assert list(catalog.examine()) == ["deep/er/ben.PTH"]
    catalog.refresh()
    assert catalog.names == ["deep/er/ben.PTH"]


def test_changed_files_are_read_again(folder, write_voice):
    catalog = VoiceCatalog(folder)
    assert catalog.facts("anna.pth") is catalog.facts("anna.pth")
    write_voice(folder / "anna.pth", author="Somebody else")
    os.utime(folder / "anna.pth", ns=(1, 1))
    assert catalog.facts("anna.pth").author == "Somebody else"


@LINKS
def test_index_beside_the_voice_is_found(folder):
    catalog = VoiceCatalog(folder)
    assert catalog.index("anna.pth") is None
    assert catalog.facts("anna.pth").index is None
    features = np.random.default_rng(0).standard_normal((50, 768)).astype(np.float32)
    save_index(build_index(features, 0), folder / "anna.index")
    assert catalog.index("anna.pth") == folder / "anna.index"
    facts = VoiceCatalog(folder).facts("anna.pth")
    assert (facts.file, facts.index, facts.index_rows) == ("anna.pth", "anna.index", 50)
    (folder / "anna.index").rename(folder.parent / "away.index")
    (folder / "anna.index").symlink_to(folder.parent / "away.index")
    assert catalog.index("anna.pth") is None
    assert VoiceCatalog(folder).facts("anna.pth").index_rows is None


def test_options_that_a_voice_does_not_use(folder):
    catalog, index = VoiceCatalog(folder), {"index_rate", "protect"}
    assert catalog.unused_options("anna.pth") == index
    make_voice(quick_config(generator="hifigan")).save(folder / "plain.pth")
    make_voice(quick_config(generator="source_filter", variational=False)).save(folder / "direct.pth")
    catalog.refresh()
    pitch = {"transpose_semitones", "formant_semitones", "autotune", "proposed_pitch_hz", "f0_file"}
    assert catalog.unused_options("plain.pth") == {*index, *pitch}
    assert catalog.unused_options("direct.pth") == {*index, "noise_scale"}


def test_what_cannot_be_read_is_listed_with_a_reason(folder):
    with unreadable(folder / "deep"), unreadable(folder / "anna.pth"):
        catalog = VoiceCatalog(folder)
        with pytest.raises(VoiceError, match=r"'anna\.pth' cannot be read or written: Permission denied; choose"):
            catalog.facts("anna.pth")
        assert catalog.unusable["deep"] == "not accessible: Permission denied"
    with unreadable(folder), pytest.raises(PermissionError):
        VoiceCatalog(folder)


def test_list_may_change_while_it_is_read(folder, write_voice, monkeypatch):
    catalog = VoiceCatalog(folder)
    examine = VoiceCatalog._examine

    def examine_and_refresh(self, name, path):
        result = examine(self, name, path)
        os.rename(path, path.with_suffix(".moved"))
        self.refresh()
        return result

    monkeypatch.setattr(VoiceCatalog, "_examine", examine_and_refresh)
    assert catalog.facts(catalog.names[0]).sample_rate == 8000


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"voices=.*nowhere: no such folder"):
        VoiceCatalog(tmp_path / "nowhere")
