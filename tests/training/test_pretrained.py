"""Training from pretrained networks: all weights are loaded, and a mismatch names the settings to change."""

import os
import shlex
from dataclasses import replace
from functools import partial

import pytest
import torch
from configurations import compose_config, header_for
from omegaconf import OmegaConf
from other_tools import write_pretrained
from runs import run_training, small_run
from stubs import make_voice, quick_config
from tiny import training_config

from rvc_lightning.cli.overrides import format_override
from rvc_lightning.cli.resolvers import ASSETS
from rvc_lightning.errors import AssetError, ConfigurationError, VoiceError
from rvc_lightning.export import pair_command
from rvc_lightning.io.locks import LOCK_NAME
from rvc_lightning.io.processes import quote_argument
from rvc_lightning.models import DiscriminatorConfig, SynthesizerConfig
from rvc_lightning.training import run as workflow
from rvc_lightning.training.checkpoints import AVERAGED_KEY, CHECKPOINT_KEY, read_checkpoint
from rvc_lightning.training.export import Pair, export_pair
from rvc_lightning.training.module import RVCModule
from rvc_lightning.training.networks import build_module
from rvc_lightning.training.pretrained import PretrainedConfig, read_pretrained
from rvc_lightning.training.run import read_start
from rvc_lightning.voice.rvc_format import SPEAKER_TABLE

LARGEST_BYTES = 12_000_000

DISCRIMINATOR = DiscriminatorConfig(
    periods=(2, 3), period_channels=(2, 2), scale_channels=(2,) * 6, scale_groups=(1,) * 6
)
WEIGHTS = {"adversarial": 1.0, "features": 1.0, "mel": 45.0, "kl": 1.0}


def module_of(synthesizer, discriminator=DISCRIMINATOR):
    torch.manual_seed(0)
    return RVCModule(
        synthesizer,
        discriminator,
        training_config(),
        optimizer=torch.optim.AdamW,
        scheduler=partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9),
    )


def files_of(generator, discriminator=None):
    return PretrainedConfig(
        source="files", generator=str(generator), discriminator=discriminator and str(discriminator)
    )


@pytest.fixture
def pair(tmp_path):
    return write_pretrained(tmp_path, quick_config(speaker_count=109), DISCRIMINATOR, iteration=500)


def test_all_weights_and_rows_of_the_speaker_table_are_loaded(pair):
    config = quick_config(speaker_count=109)
    pretrained = read_pretrained(files_of(*pair), config)
    assert pretrained.speaker_count == 109
    module = module_of(config)
    pretrained.load_into(module)
    for network, path in ((module.synthesizer, pair[0]), (module.discriminator, pair[1])):
        saved = torch.load(path, weights_only=True)["model"]
        assert len(saved) == len(network.state_dict())
        total = sum(float(tensor.double().sum()) for tensor in network.state_dict().values())
        assert total == pytest.approx(sum(float(tensor.double().sum()) for tensor in saved.values()))
        assert all(tensor.dtype == torch.float32 for tensor in network.state_dict().values())


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"content_dim": 256}, r"content= \(256 channels are v1, 768 are v2\)"),
        ({"generator": "hifigan"}, "generator="),
        ({"generator": "mrf_hifigan"}, "generator="),
        ({"n_fft": 1024}, "sample_rate="),
        ({"upsample_kernel_sizes": (10, 16)}, "sample_rate="),
        ({"upsample_rates": (5, 4, 4), "upsample_kernel_sizes": (10, 8, 8)}, "sample_rate="),
        ({"n_layers": 2}, "model="),
        ({"latent_channels": 4, "initial_channels": 32}, "model="),
        (
            {"generator": "hifigan", "n_fft": 1024, "content_dim": 256, "n_layers": 2},
            r"generator=, sample_rate=, content= \(256 .*\), model=",
        ),
    ],
)
def test_mismatch_names_the_settings_and_a_few_tensors(pair, changes, settings):
    config = quick_config(**{"speaker_count": 109} | changes)
    pretrained, module = read_pretrained(files_of(*pair), config), module_of(config)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    pattern = rf"G\.pth' does not match .*: change {settings}, or start from random weights: pretrained=none \("
    with pytest.raises(VoiceError, match=pattern) as caught:
        pretrained.load_into(module)
    assert len(str(caught.value).partition("(tensors: ")[2].split("; ")) <= 3 and len(str(caught.value)) < 600
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_mismatch_of_the_discriminator_is_reported(pair):
    config = quick_config(speaker_count=109)
    module = module_of(config, DiscriminatorConfig(periods=(2, 3, 5), period_channels=(2, 2), scale_channels=(2,) * 6,
                                                   scale_groups=(1,) * 6))  # fmt: skip
    with pytest.raises(VoiceError, match=r"D\.pth' does not match .*change discriminator=, .*discriminators\.3"):
        read_pretrained(files_of(*pair), config).load_into(module)


def test_voice_serves_as_generator_with_a_random_posterior_encoder(tmp_path, caplog):
    config = quick_config()
    path = make_voice(config).save(tmp_path / "voice.pth")
    module = module_of(config)
    fresh = {name: tensor.clone() for name, tensor in module.synthesizer.posterior_encoder.state_dict().items()}
    read_pretrained(files_of(path), config).load_into(module)
    stored = torch.load(path, weights_only=True)["weight"]
    assert torch.equal(module.synthesizer.speaker_embedding.weight, stored["emb_g.weight"].float())
    state = module.synthesizer.posterior_encoder.state_dict()
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in state.items())
    assert "posterior encoder" in caplog.text and "discriminator starts from random weights" in caplog.text


def test_diverged_file_is_rejected(pair):
    content = torch.load(pair[0], weights_only=True)
    content["model"]["flow.flows.0.pre.bias"][0] = torch.nan
    torch.save(content, pair[0])
    config = quick_config(speaker_count=109)
    with pytest.raises(VoiceError, match="NaN or infinity"):
        read_pretrained(files_of(*pair), config).load_into(module_of(config))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "best"}, "choose one of: none, official, files"),
        ({"source": "files"}, "needs pretrained.generator=FILE"),
        ({"source": "none", "generator": "G.pth"}, r"uses no pretrained\.generator; add pretrained=files"),
        ({"source": "official", "discriminator": "D.pth"}, r"uses no pretrained\.discriminator"),
    ],
)
def test_contradicting_settings_are_rejected(values, message):
    with pytest.raises(ConfigurationError, match=message):
        PretrainedConfig(**values)


def test_files_of_other_kinds_are_rejected(tmp_path, pair):
    for content in ({"optimizer": 1}, {"model": [1]}, {"model": {"a": 3}}):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(VoiceError, match="is not a pretrained generator"):
            read_pretrained(files_of(tmp_path / "other.pth"), quick_config())
    with pytest.raises(VoiceError, match=r"is not a pretrained generator: .* be the discriminator"):
        read_pretrained(files_of(pair[1], pair[0]), quick_config())
    with pytest.raises(VoiceError, match="pretrained network not found:"):
        read_pretrained(files_of(tmp_path / "absent.pth"), quick_config())


def test_official_pairs_are_chosen_by_rate_generator_and_version():
    tables = {"n_fft": 2048, "upsample_rates": (10, 10, 2, 2), "upsample_kernel_sizes": (16, 16, 4, 4)}
    v2 = SynthesizerConfig(sample_rate=40000, **tables)
    with pytest.raises(AssetError, match=r"pretrained_v2/f0G40k\.pth.*pretrained=files"):
        read_pretrained(PretrainedConfig(source="official"), v2)
    v1 = SynthesizerConfig(sample_rate=40000, content_dim=256, generator="hifigan", **tables)
    with pytest.raises(AssetError, match=r"pretrained/G40k\.pth"):
        read_pretrained(PretrainedConfig(source="official"), v1)
    with pytest.raises(
        ConfigurationError, match=r"no pair for hifigan_nsf v2 at 8000 Hz; choose one of: .*hifigan_nsf v2 at"
    ):
        read_pretrained(PretrainedConfig(source="official"), quick_config())


def test_files_of_another_repository():
    values = {"repository": "owner/voices", "generator": "a/G.pth", "discriminator": "a/D.pth"}
    with pytest.raises(AssetError, match=r"'a/G\.pth' of the hub repository 'owner/voices'"):
        read_pretrained(PretrainedConfig(source="files", **values), quick_config())


def test_more_speakers_than_the_pretrained_network(pair):
    config = quick_config(speaker_count=112)
    pretrained, module = read_pretrained(files_of(*pair), config), module_of(config)
    pretrained.load_into(module)
    loaded, table = module.synthesizer.speaker_embedding.weight, pretrained.synthesizer[SPEAKER_TABLE]
    torch.testing.assert_close(loaded, torch.cat([table, table.mean(0).repeat(3, 1)]))


def test_no_pretrained_networks():
    assert read_pretrained(PretrainedConfig(), quick_config()) is None


def test_shipped_base_voice_is_small_and_fits_the_quickstart(tmp_path):
    config = compose_config("+experiment=quickstart", run=str(tmp_path))
    folder = ASSETS / "base"
    assert sum(path.stat().st_size for path in folder.glob("*.pth")) <= LARGEST_BYTES
    assert (folder / "README.md").is_file()
    pretrained = read_start(config).pretrained
    module = build_module(
        config, header_for(config, content={"dim": 256}), {}, min_speaker_rows=pretrained.speaker_count
    )
    pretrained.load_into(module)
    table = module.synthesizer.speaker_embedding.weight
    assert torch.equal(table, table[:1].expand_as(table)) and table.any()


@pytest.mark.slow
def test_run_can_be_exported_as_a_pair_for_other_runs(tmp_path, recordings, caplog):
    for speaker, name in (("ben", "11"), ("carla", "10")):
        (recordings / speaker).mkdir()
        (recordings / f"{name}.flac").rename(recordings / speaker / f"{name}.flac")
    changes = ["callbacks=ema", "showcase=null", "speakers=folders", "trainer.max_epochs=1", "data.held_out=0"]
    config = small_run(tmp_path, recordings, *changes)
    trainer = run_training(config)
    run, checkpoint = trainer.lightning_module, tmp_path / "run/checkpoints/last.ckpt"
    content = read_checkpoint(checkpoint)
    pair = export_pair(content, tmp_path / "pair")
    assert "never trained" not in caplog.text

    # The printed command builds networks that the pair fits.
    command = shlex.split(pair_command(pair, content[CHECKPOINT_KEY]))
    assert command[:4] == ["python", "-m", "rvc_lightning.train", "audio=FOLDER"]
    assert {"sample_rate=24k_light", "discriminator=small", "content=phonetic"} <= {*command}
    again = compose_config(*command[3:], run=str(tmp_path / "next"))
    header = header_for(again, content={"dim": 256})
    pretrained = read_start(again).pretrained
    pretrained.load_into(build_module(again, header, {}, min_speaker_rows=pretrained.speaker_count))

    config = replace(run.synthesizer.config, speaker_count=109)
    fresh = module_of(config, run.discriminator.config)
    read_pretrained(files_of(*pair), config).load_into(fresh)
    half = {"rtol": 1e-3, "atol": 1e-4}
    for name, weight in run.discriminator.state_dict().items():
        torch.testing.assert_close(fresh.discriminator.state_dict()[name], weight, **half)
    averaged = torch.load(checkpoint, weights_only=True)[AVERAGED_KEY]
    table = averaged.pop(f"module.{SPEAKER_TABLE}")
    assert not torch.equal(table[0], table[1])
    for name, weight in fresh.synthesizer.state_dict().items():
        if name == SPEAKER_TABLE:
            torch.testing.assert_close(weight, table[:2].mean(0).expand_as(weight), **half)
        else:
            torch.testing.assert_close(weight, averaged[f"module.{name}"], **half)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["+experiment=quickstart"], "generator=source_filter model=direct discriminator=small content=phonetic"),
        (["content=spin", "content.version=v1"], "discriminator=v2 content=spin content.version=v1"),
        (["model=small", "discriminator.periods=[2,3]"], "'model.discriminator.periods=[2,3]'"),
    ],
)
def test_command_for_a_pair_uses_named_choices(tmp_path, overrides, expected):
    overrides = [override.replace("discriminator.", "model.discriminator.") for override in overrides]
    config = compose_config(*overrides, run=str(tmp_path))
    sizes = {name: OmegaConf.to_container(config.model[name]) for name in ("synthesizer", "discriminator")}
    content = {"name": config.content.name, "options": {"version": config.content.get("version")}}
    saved = {**sizes, "voice": {"content": content}}
    command = pair_command(Pair(tmp_path / "my pair" / "G.pth", tmp_path / "D.pth"), saved)
    assert expected in command
    if os.name == "posix":
        assert f'pretrained.generator="{tmp_path}/my pair/G.pth"' in shlex.split(command)
    assert quote_argument(format_override("pretrained.generator", tmp_path / "my pair" / "G.pth")) in command


@pytest.mark.slow
def test_pair_of_many_speakers_has_as_many_rows_as_published_pairs(tmp_path, recordings):
    run_training(small_run(tmp_path, recordings, "showcase=null", "trainer.max_epochs=1", "data.held_out=0"))
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    name = f"synthesizer.{SPEAKER_TABLE}"
    table = content["state_dict"][name] = torch.randn(150, content["state_dict"][name].shape[1])
    content[CHECKPOINT_KEY]["voice"]["speakers"] = [str(number) for number in range(150)]
    exported = torch.load(export_pair(content, tmp_path / "pair").generator, weights_only=True)["model"]
    mean = exported["emb_g.weight"].float()
    assert len(mean) == 109
    torch.testing.assert_close(mean, table.mean(0).expand_as(mean), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_diverged_pair_is_not_written(tmp_path, recordings):
    config = small_run(tmp_path, recordings, "showcase=null", "trainer.max_epochs=1", "data.held_out=0")
    run_training(config)
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    next(t for name, t in content["state_dict"].items() if name.startswith("discriminator."))[:] = torch.nan
    with pytest.raises(VoiceError, match="earlier checkpoint"):
        export_pair(content, tmp_path / "pair")
    assert not (tmp_path / "pair").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "setting"),
    [
        ("model=full", "model="),
        ("model=small", "(?<=change )model="),
        ("content=spectral", "content="),
        ("sample_rate=40k", "sample_rate="),
    ],
)
def test_mismatch_is_reported_before_preparation(tmp_path, override, setting):
    config = compose_config("+experiment=quickstart", override, f"paths.root={tmp_path}", run=str(tmp_path / "run"))
    with pytest.raises(VoiceError, match=rf"G\.pth' does not match .*change .*{setting}.*pretrained=none"):
        workflow.train(config)
    assert {path.name for path in tmp_path.rglob("*")} <= {"run", LOCK_NAME}


def test_voice_without_posterior_encoder_fits(tmp_path, pair):
    config = quick_config(speaker_count=109)
    make_voice(config).save(tmp_path / "voice.pth")
    read_pretrained(files_of(tmp_path / "voice.pth"), config).check_fits(config)
    read_pretrained(files_of(*pair), config).check_fits(config)
