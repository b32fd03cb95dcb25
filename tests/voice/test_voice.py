"""Reading and writing voice files (SPECIFICATION.md, section 1)."""

import subprocess
import sys

import pytest
import torch
from golden import GOLDEN
from stubs import make_voice, quick_config
from voices import VOICES, read_entries

from rvc_lightning import Voice
from rvc_lightning.errors import VoiceError
from rvc_lightning.models import Synthesizer
from rvc_lightning.voice.voice import content_hash


def written(content, folder):
    path = folder / "voice.pth"
    torch.save(content, path)
    return path


@pytest.fixture
def content():
    return read_entries(GOLDEN / "voices/v2_f0_40k_hifigan.pth")


@pytest.mark.parametrize("path", VOICES, ids=lambda path: path.stem)
def test_round_trip_keeps_every_entry(path, tmp_path, golden):
    copy = Voice.load(path).save(tmp_path / "folder" / "copy.pth")
    before, after = read_entries(path), read_entries(copy)
    assert {key: value for key, value in after.items() if key != "weight"} == {
        key: value for key, value in before.items() if key != "weight"
    }
    assert after["weight"].keys() == before["weight"].keys()
    for name, tensor in before["weight"].items():
        assert after["weight"][name].dtype == tensor.dtype and torch.equal(after["weight"][name], tensor)
    assert list(after) == ["weight", *(key for key in before if key != "weight")]
    described = golden.table("voices_meta").get(path.stem)
    if described is None:
        return
    assert len(after["weight"]) == described["n_tensors"]
    assert {key: value for key, value in described.items() if key in after} == {
        key: value for key, value in after.items() if key != "weight"
    }


def test_properties_of_a_loaded_voice():
    voice = Voice.load(GOLDEN / "voices/v2_nof0_40k_hifigan.pth")
    assert (voice.sample_rate, voice.pitch_guided, voice.content_encoder) == (40000, False, "contentvec")
    assert not voice.synthesizer.training
    assert voice.synthesizer.posterior_encoder is None


def test_unknown_entries_survive(content, tmp_path):
    content |= {"future": {"values": [1, 2.5, None]}, "config": [*content["config"][:-1], "40k"]}
    copy = read_entries(Voice.load(written(content, tmp_path)).save(tmp_path / "copy.pth"))
    assert copy["future"] == {"values": [1, 2.5, None]}
    assert copy["config"][-1] == "40k"


def test_speaker_table_overrides_the_configuration(content, tmp_path):
    content["config"][-3] = 109
    assert Voice.load(written(content, tmp_path)).config.speaker_count == 3


def test_posterior_encoder_is_omitted(content, tmp_path):
    content["weight"]["enc_q.pre.weight"] = torch.zeros(3)
    assert "enc_q.pre.weight" not in Voice.load(written(content, tmp_path)).weights


def test_synthesizer_does_not_share_memory_with_stored_tensors(content, tmp_path):
    content["weight"] = {name: tensor.float() for name, tensor in content["weight"].items()}
    voice = Voice.load(written(content, tmp_path))
    with torch.no_grad():
        for parameter in voice.synthesizer.parameters():
            parameter.zero_()
    assert voice.weights["emb_g.weight"].abs().max() > 0


def test_from_a_synthesizer(tiny_synthesizer, tmp_path):
    voice = make_voice(tiny_synthesizer, author="someone", rvc_lightning={"content": {"name": "spectral"}})
    again = Voice.load(voice.save(tmp_path / "voice.pth"))
    stored = read_entries(tmp_path / "voice.pth")
    assert again.config == voice.config == tiny_synthesizer
    assert (stored["sr"], stored["f0"], stored["version"], stored["author"]) == (24000, 1, "v2", "someone")
    assert stored["content_hash"] == content_hash(again.weights)
    assert all(tensor.dtype == torch.float16 for tensor in stored["weight"].values())
    for name, tensor in voice.synthesizer.state_dict().items():
        assert torch.equal(tensor, again.synthesizer.state_dict()[name])


def test_diverged_training_is_rejected(tiny_synthesizer):
    state = Synthesizer(tiny_synthesizer).state_dict()
    state["speaker_embedding.weight"][0, 0] = 1e6
    with pytest.raises(VoiceError, match=r"emb_g.weight are not finite in half precision"):
        Voice.from_synthesizer(tiny_synthesizer, state, {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "v1"}, r"1 of another shape: text_encoder.content_projection.weight \(16, 768\) instead of"),
        ({"version": "v3"}, "unknown kind of voice 'v3 HiFi-GAN with pitch'; choose one of: v1 HiFi-GAN with pitch"),
        (
            {"vocoder": "RefineGAN"},
            "declares v2 RefineGAN with pitch, but its tensors fit v2 HiFi-GAN with pitch",
        ),
        ({"vocoder": "BigVGAN"}, "'v2 BigVGAN with pitch'; choose .*but its tensors fit v2 HiFi-GAN with pitch"),
        (
            {"f0": 0},
            "unexpected: .*HiFi-GAN without pitch, but its tensors fit v2 HiFi-GAN with pitch",
        ),
        ({"config": None}, "no entry 'config'"),
        ({"config": [1, 2]}, "no entry 'sample_rate'"),
        ({"weight": [1]}, "list"),
        ({"weight": {}}, "no entry 'emb_g.weight'"),
        ({"weight": {"emb_g.weight": 3}}, "'int'"),
    ],
)
def test_mismatch_is_named(content, tmp_path, change, message):
    path = written(content | change, tmp_path)
    with pytest.raises(VoiceError, match=message) as caught:
        Voice.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("place", "value"), [(3, "wide"), (3, None), (3, -4), (12, [10, 10]), (12, 7), (17, "loud")])
def test_invalid_configuration_is_rejected(content, tmp_path, place, value):
    content["config"][place] = value
    with pytest.raises(VoiceError, match=r"voice.pth' cannot be used: .*(model.synthesizer|upsample_rates|loud)"):
        Voice.load(written(content, tmp_path))


def test_hash_depends_on_the_weights_and_other_hashes_are_kept(tmp_path):
    loaded = Voice.load(make_voice(quick_config(), model_hash="ab").save(tmp_path / "a.pth"))
    assert loaded.information["model_hash"] == "ab"
    assert loaded.information["content_hash"] == content_hash(loaded.weights)
    changed = loaded.weights | {"dec.conv_pre.bias": loaded.weights["dec.conv_pre.bias"] + 1}
    assert content_hash(changed) != content_hash(loaded.weights)


def test_missing_tensors_are_named(content, tmp_path):
    del content["weight"]["dec.conv_post.weight"]
    with pytest.raises(VoiceError, match=r"1 missing: generator.conv_post.weight"):
        Voice.load(written(content, tmp_path))


@pytest.mark.slow
def test_nan_in_weights_is_rejected(content, tmp_path):
    content["weight"]["dec.conv_pre.bias"][0] = torch.nan
    with pytest.raises(VoiceError, match=r"NaN or infinity, the training diverged \(dec.conv_pre.bias\)"):
        Voice.load(written(content, tmp_path))


def test_missing_file_and_folder_are_reported(tmp_path):
    with pytest.raises(VoiceError, match=r"voice not found: '.*anna.pth'$"):
        Voice.load(tmp_path / "anna.pth")
    with pytest.raises(VoiceError, match=r"\(it is a folder\)"):
        Voice.load(tmp_path)
    for name in "abcdefg":
        (tmp_path / f"{name}.pth").touch()
    with pytest.raises(VoiceError, match=r"\(it is a folder with a.pth, b.pth, c.pth, d.pth, e.pth, …\)"):
        Voice.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("model", "rvc_lightning.voice convert-format {} OUT.pth --to applio"),
        ("state_dict", "rvc_lightning.export checkpoint={}"),
    ],
)
def test_checkpoint_error_names_the_command(tmp_path, key, command):
    path = written({key: {}, "epoch": 3}, tmp_path)
    with pytest.raises(VoiceError, match="is a training checkpoint") as caught:
        Voice.load(path)
    assert str(caught.value).endswith(f"python -m {command.format(path)}")


def test_repr_is_one_line():
    own = {"speakers": ["anna", "ben"]}
    named = make_voice(quick_config(), model_name="duo", rvc_lightning=own)
    assert repr(named) == (
        "Voice(name='duo', generator='hifigan_nsf', sample_rate=8000, content_encoder='spectral', "
        "speakers=['anna', 'ben'])"
    )
    unknown = make_voice(quick_config(speaker_count=109), model_name="x" * 10000)
    assert repr(unknown).endswith("speakers=109)") and len(repr(unknown)) < 200


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], torch.zeros(3)])
def test_other_torch_files_are_rejected(tmp_path, content):
    with pytest.raises(VoiceError, match=r"(is not|cannot be read as) a voice"):
        Voice.load(written(content, tmp_path))


@pytest.mark.slow
def test_loading_does_not_import_the_compiler():
    """The import would take longer than reading a full-size voice."""
    path = str(GOLDEN / "voices/v2_f0_24k_hifigan.pth")
    script = (
        f"import sys\nfrom rvc_lightning import Voice\nVoice.load({path!r})\nassert 'torch._dynamo' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr == ""


def test_saved_bytes_do_not_depend_on_the_name(tiny_synthesizer, tmp_path):
    voice = make_voice(tiny_synthesizer)
    paths = [voice.save(tmp_path / name) for name in ("a.pth", "b.pth", "c")]
    assert len({path.read_bytes() for path in paths}) == 1


def test_failed_save_keeps_the_old_file(tiny_synthesizer, tmp_path, monkeypatch):
    voice = make_voice(tiny_synthesizer)
    path = voice.save(tmp_path / "voice.pth")
    before = path.read_bytes()

    def interrupted(content, stream):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        voice.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["voice.pth"]
