"""The index beside a voice, by its name."""

import os
import unicodedata

import pytest
from systems import NAMES_IN_BYTES

from rvc_lightning.retrieval.discovery import explain_no_index, find_index, speaker_indexes

ADDED = "added_IVF256_Flat_nprobe_1"


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    "index",
    [
        "anna.index",
        "ANNA.index",
        "added_IVF256_Flat_nprobe_1_anna_v2.index",
        "added_IVF256_Flat_nprobe_1_anna.index",
        "added_anna_v1.index",
        "anna_IVF256_Flat_nprobe_1_anna_v2.index",
        "anna_IVF7_Flat_nprobe_1.index",
        "anna (1).index",
        "anna(2).index",
        "anna - Copy.index",
        "anna copy 2.index",
        "Copy of anna.index",
        "added_IVF256_Flat_nprobe_1_anna_v2 (1).index",
    ],
)
@pytest.mark.parametrize(
    "voice",
    [
        "anna",
        "anna_e100_s2000",
        "anna_e100",
        "anna_100e_2000s",
        "anna_100e_2000s_best_epoch",
        "anna_best",
        "anna (1)",
        "anna_e100_s2000 (3)",
    ],
)
def test_names_of_rvc_tools(tmp_path, index, voice):
    touch(
        tmp_path,
        *(index, f"{voice}.pth", "bob.pth", "bob.index"),
        *("trained_IVF256_Flat_nprobe_1_anna_v2.index", "added_IVF9_Flat_nprobe_1_hanna_v2.index"),
    )
    assert find_index(tmp_path / f"{voice}.pth") == tmp_path / index


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("index", ["{}.index", "added_IVF5_Flat_nprobe_1_{}_v2.index"])
def test_names_in_different_unicode_normalization(tmp_path, forms, index):
    voice, name = (unicodedata.normalize(form, "Zoë Müller") for form in forms)
    touch(tmp_path, index.format(name), f"{voice}.pth", "bob.pth")
    assert find_index(tmp_path / f"{voice}.pth") == tmp_path / index.format(name)


def test_spaces_and_underscores(tmp_path):
    touch(tmp_path, "My Voice.pth", f"{ADDED}_My_Voice_v2.index", "bob.pth")
    assert find_index(tmp_path / "My Voice.pth").name == f"{ADDED}_My_Voice_v2.index"
    touch(tmp_path, "My Voice.index", "My_Voice.index")
    assert find_index(tmp_path / "My Voice.pth").name == "My Voice.index"
    assert find_index(tmp_path / "My_Voice.pth").name == "My_Voice.index"


@NAMES_IN_BYTES
def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    touch(tmp_path, f"{name}.pth", f"{name}.index", "bob.pth")
    assert find_index(tmp_path / f"{name}.pth") == tmp_path / f"{name}.index"


@pytest.mark.parametrize(
    "index", [f"{ADDED}.index", f"{ADDED}_v2.index", "added.index", "index.index", "IVF7_Flat.index"]
)
def test_index_without_a_name_belongs_to_the_only_voice(tmp_path, index):
    voice = tmp_path / "anna_e20_s40.pth"
    touch(
        tmp_path,
        index,
        "trained_IVF256_Flat_nprobe_1.index",
        voice.name,
        "anna_e10_s20.pth",
        "G_2333333.pth",
        "D_1.pth",
    )
    assert find_index(voice) == tmp_path / index
    touch(tmp_path, "bob.pth")
    assert find_index(voice) is None
    assert explain_no_index(voice).endswith(
        f"one of {index}, choose it by index=FILE, or rename it to {voice.stem}.index"
    )


@pytest.mark.parametrize("suffix", [".pth", ".PTH", ".onnx", ".safetensors"])
def test_index_without_a_name_beside_two_voices_belongs_to_none(tmp_path, suffix):
    touch(tmp_path, f"{ADDED}.index", f"anna{suffix}")
    assert find_index(tmp_path / f"anna{suffix}")
    touch(tmp_path, f"bob{suffix}")
    assert find_index(tmp_path / f"anna{suffix}") is None


def test_uncertain_indexes_are_candidates(tmp_path):
    voice = tmp_path / "anna.pth"
    assert explain_no_index(voice) == "no index beside 'anna.pth'"
    touch(tmp_path, "trained_IVF256_Flat_nprobe_1_anna_v2.index")
    assert explain_no_index(voice).endswith("has no vectors; copy the file added_….index as well")
    touch(tmp_path, "trained_IVF256_Flat_nprobe_1_anna_v2.index", "anna2.index", "joanna.index", "anna_e1_s2.index")
    assert find_index(voice) is None
    assert "one of anna2.index, anna_e1_s2.index, joanna.index, choose it by index=FILE" in explain_no_index(voice)
    assert find_index(tmp_path / "gone" / "anna.pth") is None


def test_indexes_of_other_voices_are_no_candidates(tmp_path):
    touch(tmp_path, "anna.pth", "bob_e10_s20.pth", "Eve.pth", "bob.index", f"{ADDED}_eve_v2.index")
    explanation = explain_no_index(tmp_path / "anna.pth")
    assert f"beside 'anna.pth' belong to other voices ({ADDED}_eve_v2.index, bob.index); " in explanation
    touch(tmp_path, "carol.index")
    assert "if it is one of carol.index, choose it" in explain_no_index(tmp_path / "anna.pth")


def test_nearest_name_is_preferred(tmp_path, caplog):
    added = [f"added_IVF{lists}_Flat_nprobe_1_anna_v{version}.index" for lists, version in ((12, 1), (12, 2))]
    touch(tmp_path, *added)
    assert find_index(tmp_path / "anna_e10_s20.pth").name == added[1]
    assert f"Several indexes match 'anna_e10_s20.pth': {added[0]}, {added[1]}; the last is used" in caplog.text
    touch(tmp_path, "anna (1).index", "anna.index")
    assert find_index(tmp_path / "anna.pth").name == "anna.index"
    assert find_index(tmp_path / "anna_e10_s20.pth").name == "anna.index"
    touch(tmp_path, "anna_e10_s20.index")
    assert find_index(tmp_path / "anna_e10_s20.pth").name == "anna_e10_s20.index"


SPEAKERS = [
    "added_IVF{}_Flat_nprobe_1_anna_v2_spkid{}.index",
    "anna_added_IVF{}_Flat_nprobe_1_anna_v2_spkid{}.index",
    "anna_spkid{1}.index",
]


@pytest.mark.parametrize("name", SPEAKERS)
def test_indexes_of_speakers(tmp_path, name, caplog):
    names = {0: name.format(256, 0), 2: name.format(99, 2), 10: name.format(7, 10)}
    touch(tmp_path, *names.values(), "anna_e100_s2000.pth", "ben.pth", "ben_spkid0.index", "ben.index")
    found = find_index(tmp_path / "anna_e100_s2000.pth")
    assert found == tmp_path / names[0] and caplog.text == ""
    assert speaker_indexes(found) == {row: tmp_path / file for row, file in names.items()}
    assert speaker_indexes(tmp_path / "ben.index") == {}
    assert find_index(tmp_path / "ben.pth") == tmp_path / "ben.index"
