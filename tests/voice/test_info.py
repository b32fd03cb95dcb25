"""Facts about voice files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stubs import make_voice, quick_config
from voices import VOICES, read_entries, with_parametrizations

from rvc_lightning.retrieval.index import build_index, save_index
from rvc_lightning.voice.info import as_rows, as_summary, read_voice_info


@pytest.mark.parametrize("path", VOICES, ids=lambda path: path.stem)
def test_info_of_golden_voices(path):
    info = read_voice_info(path)
    content = read_entries(path)
    assert info.parameters == sum(tensor.numel() for tensor in content["weight"].values())
    assert (info.sample_rate, info.version) == (content["config"][-1], content.get("version", "v1"))
    assert (info.generator, info.pitch_guided) == (content.get("vocoder", "HiFi-GAN"), bool(content["f0"]))
    assert info.content_dim == (256 if info.version == "v1" else 768)
    assert set(info.entries) == set(content) - {"weight"}
    assert any("version" in line for line in info.unusual) == ("version" not in content)


def test_unusual_properties_are_listed(voices, tmp_path):
    content = read_entries(voices[0])
    content |= {
        "sr": "48k",
        "weight": with_parametrizations({name: t.float() for name, t in content["weight"].items()}),
    }
    content["config"][-3] = 109
    content["weight"]["emb_g.weight"] += 1
    del content["embedder_model"]
    torch.save(content, tmp_path / "odd.pth")
    save_index(build_index(np.eye(40, 256, dtype=np.float32), 0), tmp_path / "odd.index")
    unusual = "\n".join(read_voice_info(tmp_path / "odd.pth").unusual)
    for part in (
        "contentvec is assumed",
        "the entry sr is '48k', but the configuration, which takes precedence, has 8000",
        "the configuration has 109 speakers, the table 3 rows",
        "torch.float32",
        "names of newer torch",
        "do not match the entry content_hash",
        "of another voice: 256 channels",
    ):
        assert part in unusual
    assert read_voice_info(voices[0]).unusual == []


@pytest.mark.parametrize("pitch", [None, "rmvpe", {"name": 3}, {}])
def test_malformed_pitch_entry_is_ignored(pitch, tmp_path):
    path = make_voice(quick_config(), rvc_lightning={"pitch": pitch}).save(tmp_path / "voice.pth")
    assert read_voice_info(path).pitch_extractor is None


def test_single_speaker_without_a_name_and_date_are_readable(tmp_path):
    voice = make_voice(quick_config(speaker_count=1), creation_date="2025-01-02T03:04:05.678901")
    voice.save(tmp_path / "anna.pth")
    info = replace(read_voice_info(tmp_path / "anna.pth"), speaker_names=["0"])
    assert as_summary(info, "anna.pth")[5] == "1"
    assert ("creation date", "2025-01-02 03:04") in as_rows(info)
    assert as_summary(replace(info, creation_date="in the rain of June"), "")[-1] == "in the rain of June"
