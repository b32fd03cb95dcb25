"""Names of files on all systems."""

from pathlib import Path

import pytest

from rvc_lightning.io import processes
from rvc_lightning.io.names import file_name, folded, is_file_name, numbered_names, plain_name


def test_names_that_windows_rejects_or_changes(monkeypatch):
    names = ("con", "NUL.wav", "lpt1", "a:b", "who?", "anna.", "anna ")
    monkeypatch.setattr(processes, "IS_WINDOWS", False)
    assert all(map(is_file_name, names))
    monkeypatch.setattr(processes, "IS_WINDOWS", True)
    assert not any(map(is_file_name, names))
    assert is_file_name("console") and is_file_name("Anna é.wav")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0"])
def test_paths_are_no_names(name):
    assert not is_file_name(name)


def test_long_names_are_shortened():
    assert file_name("ä" * 300) == "ä" * 50 and file_name("\ud800" * 2) != ""


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.wav", "x/a.wav", "b.wav"], ["a.wav", "a (2).wav", "b.wav"]),
        (["a.wav", "A.WAV", "x/a.wav"], ["a.wav", "A (2).WAV", "a (3).wav"]),
        (["e\u0301.wav", "\u00e9.wav"], ["e\u0301.wav", "\u00e9 (2).wav"]),
        (["a.wav", "x/a.wav", "a (2).wav"], ["a.wav", "a (2).wav", "a (2) (2).wav"]),
    ],
)
def test_numbered_names_differ_on_every_disk(files, names):
    assert numbered_names(list(map(Path, files))) == names
    assert len(set(map(folded, names))) == len(names)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Anna é (2).wav", "Anna é (2).wav"),
        ("$(rm -r *);.wav", "(rm -r _)_.wav"),
        ("-rf", "rf"),
        ("_take.wav", "_take.wav"),
        ("../..", "take"),
        ("con.wav", "_con.wav"),
        ("ä" * 300 + ".wav", "ä" * 48 + ".wav"),
    ],
)
def test_plain_names_have_nothing_that_a_shell_expands(text, name):
    assert plain_name(text, "take") == name
