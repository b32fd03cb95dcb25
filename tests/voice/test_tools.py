"""`python -m rvc_lightning.voice`: information, blends, spellings of the tools, voices out of checkpoints."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from golden import GOLDEN
from stubs import make_voice, quick_config

from rvc_lightning import Voice
from rvc_lightning.errors import ConfigurationError, VoiceError
from rvc_lightning.models import Synthesizer
from rvc_lightning.retrieval.index import build_index, save_index
from rvc_lightning.voice import rvc_format
from rvc_lightning.voice.__main__ import main
from rvc_lightning.voice.blend import blend, blend_files
from rvc_lightning.voice.info import facts_of_voice
from rvc_lightning.voice.layouts import convert_layout, in_layout

VOICES = sorted((GOLDEN / "voices").glob("*.pth"))


def raw(path):
    return torch.load(path, weights_only=True)


@pytest.fixture
def voices(tmp_path):
    """Two voices of the same kind, the second with one speaker less."""
    first = make_voice(quick_config(speaker_count=3), model_name="anna", author="\x1b[2Jme", epoch=3, step=40)
    second = make_voice(quick_config(speaker_count=2))
    second = Voice(second.config, {name: tensor / 2 for name, tensor in second.weights.items()}, second.information)
    return first.save(tmp_path / "anna.pth"), second.save(tmp_path / "bob.pth")


def test_the_blend_of_the_peers():
    content = raw(GOLDEN / "voices/v2_f0_40k_hifigan.pth")
    first = Voice.from_file_content(content)
    halved = {name: (tensor.float() / 2).half() for name, tensor in content["weight"].items()}
    second = Voice.from_file_content(content | {"weight": halved})
    expected = raw(GOLDEN / "voices/v2_f0_40k_blend.pth")
    mixed = blend(first, second, 0.3, "mixed")
    assert mixed.weights.keys() == expected["weight"].keys()
    for name, tensor in expected["weight"].items():
        assert mixed.weights[name].dtype == torch.float16 and torch.equal(mixed.weights[name], tensor)
    about = {key: mixed.information[key] for key in expected if key not in ("weight", "info")}
    assert about == {key: value for key, value in expected.items() if key not in ("weight", "info")}


def test_a_blend_has_the_speakers_of_both(voices, tmp_path):
    path = blend_files(*voices, 0.25, tmp_path / "out" / "mixed.pth")
    first, second, mixed = (Voice.load(file) for file in (*voices, path))
    assert (mixed.config.speaker_count, mixed.information["model_name"]) == (2, "mixed")
    expected = 0.25 * first.weights["emb_g.weight"][:2].float() + 0.75 * second.weights["emb_g.weight"].float()
    assert torch.equal(mixed.weights["emb_g.weight"], expected.half())
    assert mixed.content_encoder == "spectral"


def test_blends_of_either_spelling_of_weight_norm(voices):
    first, second = (Voice.load(path) for path in voices)
    renamed = parametrized(second.weights)
    other = Voice(second.config, renamed, second.information)
    mixed, same = (blend(first, voice, 0.5, "a").weights for voice in (other, second))
    assert all(torch.equal(mixed[name], tensor) for name, tensor in same.items())


def parametrized(weights):
    spellings = (("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1"))
    renamed = dict(weights)
    for old, new in spellings:
        renamed = {name.replace(old, new): tensor for name, tensor in renamed.items()}
    assert renamed.keys() != weights.keys()
    return renamed


@pytest.mark.parametrize(
    ("changes", "information", "message"),
    [
        ({"sample_rate": 16000, "upsample_rates": (10, 16), "upsample_kernel_sizes": (20, 32)}, {}, "sample_rate 8000"),
        ({"generator": "hifigan"}, {}, "generator hifigan_nsf and hifigan"),
        ({"content_dim": 256}, {}, "content_dim 768 and 256"),
        ({"filter_channels": 20}, {}, "filter_channels 16 and 20"),
        ({}, {"embedder_model": "spin"}, "content encoder spectral and spin"),
        (
            {},
            {"rvc_lightning": {"content": {"name": "spectral", "options": {"bands": 3}}}},
            "content encoder spectral and spectral {'bands': 3}",
        ),
    ],
)  # fmt: skip
def test_voices_that_cannot_be_blended(changes, information, message):
    first, second = make_voice(quick_config()), make_voice(quick_config(**changes), **information)
    with pytest.raises(VoiceError, match=message):
        blend(first, second, 0.5, "a")


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_out_of_range(voices, ratio):
    first, second = map(Voice.load, voices)
    with pytest.raises(ConfigurationError, match="ratio="):
        blend(first, second, ratio, "a")


def test_neither_input_is_overwritten(voices):
    before = [path.read_bytes() for path in voices]
    for path in voices:
        with pytest.raises(ConfigurationError, match="is the same file as"):
            blend_files(*voices, 0.5, path.parent / "." / path.name)
    with pytest.raises(ConfigurationError, match="is the same file as"):
        convert_layout(voices[0], voices[0], "webui")
    assert [path.read_bytes() for path in voices] == before


@pytest.mark.parametrize("path", VOICES, ids=lambda path: path.stem)
def test_every_voice_is_described(path):
    facts = facts_of_voice(path)
    content = raw(path)
    assert facts.values == sum(tensor.numel() for tensor in content["weight"].values())
    assert (facts.sample_rate, facts.version) == (content["config"][-1], content.get("version", "v1"))
    assert (facts.generator, facts.pitch_guided) == (content.get("vocoder", "HiFi-GAN"), bool(content["f0"]))
    assert facts.content_dim == (256 if facts.version == "v1" else 768)
    assert set(facts.entries) == set(content) - {"weight"}
    assert any("version" in line for line in facts.unusual) == ("version" not in content)


def test_what_is_unusual_is_said(voices, tmp_path):
    content = raw(voices[0])
    content |= {"sr": "48k", "weight": parametrized({name: t.float() for name, t in content["weight"].items()})}
    content["config"][-3] = 109
    content["weight"]["emb_g.weight"] += 1
    del content["embedder_model"]
    torch.save(content, tmp_path / "odd.pth")
    save_index(build_index(np.eye(40, 256, dtype=np.float32), 0), tmp_path / "odd.index")
    said = "\n".join(facts_of_voice(tmp_path / "odd.pth").unusual)
    for part in (
        "contentvec is assumed",
        "sr says 48k, the configuration 8000",
        "says 109 speakers, the table has 3",
        "torch.float32",
        "names of newer torch",
        "not those its content_hash was made of",
        "of another voice: 256 channels",
    ):
        assert part in said
    assert facts_of_voice(voices[0]).unusual == []


def test_info_for_people(voices, tmp_path, capsys):
    save_index(build_index(np.eye(40, 768, dtype=np.float32), 0), tmp_path / "anna.index")
    main(["info", str(voices[0])])
    lines = capsys.readouterr().out.splitlines()
    assert "name            anna" in lines
    assert "speakers        3: speaker=0 to 2, without names" in lines
    assert not any(line.startswith(("pitch extractor", "median pitch")) for line in lines)
    assert "generator       HiFi-GAN, with pitch" in lines
    assert "training        3 epochs, 40 steps" in lines
    assert "author          \\x1b[2Jme" in lines
    assert "                40 vectors of 768 channels" in lines


@pytest.mark.parametrize(
    ("names", "rows", "speakers", "pitch"),
    [
        (["anna"], 1, "1: speaker=0 anna", "172 Hz, which proposed_pitch_hz=172 brings speech to"),
        (
            ["0"],
            3,
            "1: speaker=0; 2 more rows of its table are not trained",
            "172 Hz, which proposed_pitch_hz=172 brings speech to",
        ),
        (["anna", "ben"], 2, "2: speaker=0 anna, speaker=1 ben", "172 Hz"),
    ],
)
def test_info_tells_speakers_and_pitch(names, rows, speakers, pitch, tmp_path, capsys):
    own = {"speakers": names, "pitch": {"name": "rmvpe", "options": {}}, "median_f0_hz": 171.6}
    path = make_voice(quick_config(speaker_count=rows), rvc_lightning=own).save(tmp_path / "voice.pth")
    main(["info", str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert f"speakers        {speakers}" in lines and f"median pitch    {pitch}" in lines
    assert "pitch extractor rmvpe" in lines
    main(["info", "--json", str(path)])
    (facts,) = json.loads(capsys.readouterr().out)
    assert (facts["speakers"], facts["speaker_rows"], facts["median_f0_hz"]) == (len(names), rows, 171.6)


@pytest.mark.parametrize("pitch", [None, "rmvpe", {"name": 3}, {}])
def test_pitch_extractors_of_strangers_may_be_anything(pitch, tmp_path):
    path = make_voice(quick_config(), rvc_lightning={"pitch": pitch}).save(tmp_path / "voice.pth")
    assert facts_of_voice(path).pitch_extractor is None


def test_an_index_is_called_so(tmp_path, caplog):
    path = save_index(build_index(np.eye(40, 768, dtype=np.float32), 0), tmp_path / "anna.index")
    with pytest.raises(SystemExit):
        main(["info", str(path)])
    assert f"'{path}' cannot be read as a voice: it is a faiss index" in caplog.text and "run code" not in caplog.text


def test_info_of_several_files_one_of_them_broken(voices, tmp_path, capsys, caplog):
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    with pytest.raises(SystemExit) as stopped:
        main(["info", str(voices[0]), str(tmp_path / "broken.pth"), str(voices[1]), "--json"])
    assert stopped.value.code == 1
    first, broken, second = json.loads(capsys.readouterr().out)
    assert (first["name"], first["speakers"], second["name"]) == ("anna", 3, "bob")
    assert first["entries"]["author"] == "\x1b[2Jme"
    assert "broken.pth' cannot be read as a voice" in broken["error"]
    assert "1 of 3 files cannot be used" in caplog.text


@pytest.mark.parametrize("path", VOICES, ids=lambda path: path.stem)
def test_a_voice_as_applio_and_back_as_the_webui_write_it(path, tmp_path):
    before = raw(path)
    applio = raw(convert_layout(path, tmp_path / "applio.pth", "applio"))
    assert (applio["sr"], applio["f0"]) == (before["config"][-1], bool(before["f0"]))
    assert applio["vocoder"] == before.get("vocoder", "HiFi-GAN")
    assert applio["version"] == before.get("version", "v1")
    assert applio["embedder_model"] == before.get("embedder_model", "contentvec")
    assert isinstance(applio["epoch"] if "epoch" in before or "epoch" in before["info"] else 0, int)
    if applio["vocoder"] != "HiFi-GAN":
        with pytest.raises(VoiceError, match="and the WebUI reads HiFi-GAN alone; train one for it"):
            convert_layout(tmp_path / "applio.pth", tmp_path / "webui.pth", "webui")
        return
    webui = raw(convert_layout(tmp_path / "applio.pth", tmp_path / "webui.pth", "webui"))
    assert webui["sr"] == f"{before['config'][-1] // 1000}k" and type(webui["f0"]) is int
    assert isinstance(webui["info"], str)
    for content in (applio, webui):
        assert content["config"] == before["config"]
        assert content["weight"].keys() == before["weight"].keys()
        assert all(torch.equal(content["weight"][name], tensor) for name, tensor in before["weight"].items())


def test_unknown_entries_are_kept_and_names_made_normal(voices):
    voice = Voice.load(voices[0])
    odd = Voice(voice.config, parametrized(voice.weights), voice.information | {"nobody": "knows"})
    normal = in_layout(odd, "webui", "a")
    assert normal.weights.keys() == voice.weights.keys()
    assert normal.information["nobody"] == "knows"
    with pytest.raises(ConfigurationError, match="choose one of: applio, webui"):
        convert_layout(voices[0], voices[0].with_name("out.pth"), "other")


@pytest.mark.parametrize("layout", ["applio", "webui"])
def test_a_generator_that_the_tool_lacks_is_refused(layout, tmp_path):
    path = make_voice(quick_config(generator="source_filter")).save(tmp_path / "ours.pth")
    with pytest.raises(VoiceError, match=r"this voice is Source-Filter, and .* reads .*; train one for it with gen"):
        convert_layout(path, tmp_path / "theirs.pth", layout)
    assert not (tmp_path / "theirs.pth").exists()


@pytest.mark.parametrize(
    ("encoder", "layout", "warned"),
    [
        ("phonetic", "applio", True),
        ("spectral", "webui", True),
        ("spin", "webui", True),
        ("spin", "applio", False),
        ("contentvec", "webui", False),
    ],
)
def test_a_content_encoder_that_the_tool_lacks_is_told(encoder, layout, warned, tmp_path, caplog):
    path = make_voice(quick_config(), embedder_model=encoder).save(tmp_path / "ours.pth")
    convert_layout(path, tmp_path / "theirs.pth", layout)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == warned
    for line in told:
        assert f"content encoder '{encoder}'" in line and "train with content=contentvec" in line


@pytest.fixture
def checkpoint(tmp_path):
    """What an RVC training leaves: generator, sizes, and what is known of the data."""

    def make(rate_key="sample_rate", **changes):
        config = quick_config(posterior_layers=16, **changes)
        torch.manual_seed(1)
        model = rvc_format.weights_for_file(Synthesizer(config).state_dict(), config)
        torch.save(
            {"model": model, "iteration": 7, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}},
            tmp_path / "G_1200.pth",
        )
        values = rvc_format.config_to_list(config)
        (tmp_path / "config.json").write_text(json.dumps({
            "train": {"seed": 1234},
            "data": {rate_key: config.sample_rate, "filter_length": config.n_fft},
            "model": dict(zip(rvc_format._EXPERIMENT_FIELDS, values[2:], strict=False)),
        }))  # fmt: skip
        (tmp_path / "model_info.json").write_text(
            json.dumps({"embedder_model": "spin", "total_dataset_duration": "00:12:34"})
        )
        return tmp_path / "G_1200.pth", config, model

    return make


@pytest.mark.parametrize(
    ("generator", "content_dim", "rate_key"),
    [
        ("hifigan_nsf", 768, "sample_rate"),
        ("hifigan_nsf", 256, "sampling_rate"),
        ("hifigan", 768, "sampling_rate"),
        ("mrf_hifigan", 768, "sample_rate"),
    ],
)
def test_the_voice_in_a_checkpoint(checkpoint, tmp_path, generator, content_dim, rate_key):
    path, config, model = checkpoint(rate_key, generator=generator, content_dim=content_dim)
    written = convert_layout(path, tmp_path / "voice.pth", "applio")
    voice = Voice.load(written)
    assert voice.config == config
    assert voice.weights.keys() == {name for name in model if not name.startswith("enc_q.")}
    assert all(torch.equal(tensor, model[name].half()) for name, tensor in voice.weights.items())
    expected = {"epoch": 7, "step": 1200, "embedder_model": "spin", "dataset_length": "00:12:34", "sr": 8000}
    assert expected.items() <= voice.information.items()


def test_checkpoints_that_give_no_voice(checkpoint, tmp_path):
    path, _, model = checkpoint()
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    with pytest.raises(VoiceError, match=r"there is no '.*config.json'; name the config.json .* by --config FILE"):
        convert_layout(path, tmp_path / "voice.pth", "applio")
    assert convert_layout(path, tmp_path / "voice.pth", "webui", tmp_path / "other.json").is_file()
    model.pop("dec.conv_post.weight")
    torch.save({"model": model}, path)
    with pytest.raises(VoiceError, match="fit no generator of the sizes in"):
        convert_layout(path, tmp_path / "b.pth", "applio", tmp_path / "other.json")
    torch.save({"model": {"discriminators.0.convs.0.bias": torch.zeros(3)}}, path)
    with pytest.raises(VoiceError, match=r"no speaker table, so it is no generator; take G_….pth, not D_….pth"):
        convert_layout(path, tmp_path / "b.pth", "applio", tmp_path / "other.json")
    torch.save({"state_dict": {}}, path)
    with pytest.raises(VoiceError, match=r"its voice: python -m rvc_lightning\.export checkpoint="):
        convert_layout(path, tmp_path / "b.pth", "applio")
    torch.save({"nothing": 3}, path)
    with pytest.raises(VoiceError, match="neither a voice nor a checkpoint"):
        convert_layout(path, tmp_path / "b.pth", "applio")
    assert not (tmp_path / "b.pth").exists()


def test_the_commands_write(voices, tmp_path, caplog):
    caplog.set_level("INFO")
    first, second = map(str, voices)
    main(["blend", first, second, "--ratio", "0.3", "--output", str(tmp_path / "c.pth"), "--name", "both"])
    assert Voice.load(tmp_path / "c.pth").information["model_name"] == "both"
    main(["convert-format", first, str(tmp_path / "d.pth"), "--to", "webui"])
    assert raw(tmp_path / "d.pth")["sr"] == "8k"
    assert f"voice: {tmp_path / 'd.pth'}" in caplog.text
    with pytest.raises(SystemExit) as stopped:
        main(["blend", first, second, "--ratio", "3", "--output", str(tmp_path / "e.pth")])
    assert stopped.value.code == 1
    assert "Error: ratio=3.0: choose a number from 0" in caplog.text


@pytest.mark.parametrize(
    "arguments",
    [[], ["inof", "a.pth"], ["info"], ["info", "a.pth", "--jsno"], ["convert-format", "a", "b", "--to", "x"]],
)
def test_a_typo_is_exit_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: python -m rvc_lightning.voice" in capsys.readouterr().err


def test_help_does_not_wait_for_torch():
    script = (
        "import sys\nfrom rvc_lightning.voice.__main__ import main\ntry:\n    main(['info', '--help'])\n"
        "except SystemExit as stop:\n    assert stop.code == 0\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: python -m rvc_lightning.voice info" in done.stdout
