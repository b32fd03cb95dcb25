"""Selection of recordings, and their speakers."""

from pathlib import Path

import pytest

from rvc_lightning.audio.discovery import Discovery
from rvc_lightning.data.selection import SelectionConfig, speaker_numbers
from rvc_lightning.errors import ConfigurationError, DatasetError

PATHS = [
    Path(name) for name in ("a.wav", "b.flac", "anna/take1.wav", "anna/old/take2.wav", "ben/take[3].wav", "7/c.WAV")
]


def select(**changes):
    return SelectionConfig.from_values({"speakers": "numbered"} | changes)


def used(**changes):
    found = select(**changes).apply(Discovery(recordings=list(PATHS)))
    assert len(found.recordings) + len(found.skipped) == len(PATHS)
    return [path.as_posix() for path in found.recordings]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.flac", ["b.flac"]),
        ("*.wav", ["a.wav", "anna/take1.wav", "anna/old/take2.wav", "ben/take[3].wav"]),
        ("anna", ["anna/take1.wav", "anna/old/take2.wav"]),
        ("old", ["anna/old/take2.wav"]),
        ("anna/*", ["anna/take1.wav", "anna/old/take2.wav"]),
        ("anna/old/", ["anna/old/take2.wav"]),
        ("*/take*", ["anna/take1.wav", "anna/old/take2.wav", "ben/take[3].wav"]),
        ("take?.wav", ["anna/take1.wav", "anna/old/take2.wav"]),
        ("take[[]3].wav", ["ben/take[3].wav"]),
        ("take", []),
    ],
)
def test_include_and_exclude_are_complements(pattern, expected):
    assert used(include=[pattern]) == expected
    assert sorted(used(exclude=pattern) + expected) == sorted(path.as_posix() for path in PATHS)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("numbered", ["0", "0", "0", "0", "0", "7"]),
        ("folders", ["anna", "anna", "ben", "7"]),
        ("one", ["0", "0", "0", "0", "0", "0"]),
    ],
)
def test_speakers(rule, expected):
    selection = select(speakers=rule)
    assert [selection.speaker(path) for path in selection.apply(Discovery(list(PATHS))).recordings] == expected


def test_numbers_precede_names():
    assert speaker_numbers(["ben", "10", "9", "anna", "9"]) == {"9": 0, "10": 1, "anna": 2, "ben": 3}


def test_notes_hint_at_mistakes():
    discovery = Discovery(list(PATHS))
    (note,) = select().notes(discovery)
    assert "speakers=folders" in note and "anna, ben" in note
    assert select(speakers="folders", exclude=["*.mp3"]).notes(discovery) == ["exclude: '*.mp3' matches no recording"]


@pytest.mark.parametrize("values", [{"speakers": "by name"}, {"include": 3}, {"speakers": None}])
def test_wrong_values_are_named(values):
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        select(**values)


FOLDERS = [Path(name) for name in ("ben_3_2/a.wav", "Anna B_10_1/b.wav", "ben_3_1/deep/c.wav", "d.wav", "x_1_0/e.wav")]


def test_folders_of_the_webui():
    selection = select(speakers="name_id_repeat")
    found = selection.apply(Discovery(recordings=list(FOLDERS)))
    assert [tuple(selection.speaker_folder(path)) for path in found.recordings] == [
        ("ben", 3, 2), ("Anna B", 10, 1), ("ben", 3, 1),
    ]  # fmt: skip
    assert [selection.speaker(path) for path in found.recordings] == ["ben", "Anna B", "ben"]
    assert [(file.path, "NAME_ID_REPEAT" in file.reason) for file in found.skipped] == [
        ("d.wav", 1),
        ("x_1_0/e.wav", 1),
    ]
    assert selection.notes(Discovery(FOLDERS)) == ["speaker ben: slices are used 2 times in an epoch"]
    assert speaker_numbers(["ben", "Anna B"], {"ben": 3, "Anna B": 10}) == {"ben": 0, "Anna B": 1}


@pytest.mark.parametrize("names", [("anna_0_1", "ben_0_1"), ("anna_0_1", "anna_1_1")])
def test_contradictory_numbers_are_an_error(names):
    with pytest.raises(DatasetError, match=r"anna_0 and .*_. contradict each other"):
        select(speakers="name_id_repeat").apply(Discovery([Path(name, "a.wav") for name in names]))


def test_other_rules_ignore_the_names_of_the_webui():
    path = Path("ben_3_2/a.wav")
    assert select(speakers="folders").speaker(path) == "ben_3_2" and select().speaker_folder(path) is None
    (note,) = select().notes(Discovery([path]))
    assert note.endswith("speakers=name_id_repeat if they are NAME_ID_REPEAT")
