"""Every configuration composes, and the components that it names exist."""

from itertools import product
from pathlib import Path

import pytest
import torch
from configurations import COMMANDS, CONF, ROOT, SMALL_DISCRIMINATOR, compose_config, header_for
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf

from rvc_lightning.cli import resolvers
from rvc_lightning.config.values import instantiate, plain
from rvc_lightning.data.slicing import SlicingConfig
from rvc_lightning.errors import ConfigurationError, DatasetError
from rvc_lightning.live.device_settings import DeviceSettings
from rvc_lightning.live.options import LiveOptions
from rvc_lightning.models import Discriminator, DiscriminatorConfig, Synthesizer, SynthesizerConfig
from rvc_lightning.models.generators import GENERATORS
from rvc_lightning.models.synthesizer import PRIOR_NOISE_SCALE
from rvc_lightning.training.dataset import check_prepared
from rvc_lightning.training.networks import build_module, check_networks
from rvc_lightning.training.pretrained import PretrainedConfig
from rvc_lightning.training.trainer import build_trainer
from rvc_lightning.voice.rvc_format import (
    CONTENT_DIMS,
    config_to_list,
    version_of,
    vocoder_of,
    weights_for_file,
)

pytestmark = pytest.mark.slow

CHOICES = sorted(
    (path.parent.name, path.stem)
    for path in CONF.glob("*/*.yaml")
    if path.parent.name not in ("experiment", "debug", "sweep")
)
EXPERIMENTS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml") if path.parent.name in
                     ("experiment", "debug"))  # fmt: skip


resolvers.register()


def choices(group):
    return [choice for name, choice in CHOICES if name == group]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command):
    config = compose_config(command=command)
    assert OmegaConf.to_container(config, resolve=False)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes(group, choice):
    commands = {"tts": "speak"}
    config = compose_config(f"{group}={choice}", command=commands.get(group, "train"))
    assert plain(config)


@pytest.mark.parametrize(("group", "choice"), EXPERIMENTS)
def test_every_experiment_composes_and_builds(group, choice, tmp_path):
    config = compose_config(f"+{group}={choice}", run=str(tmp_path))
    # The experiment at a size that builds quickly.
    sizes = ["initial_channels=32", "hidden_channels=8", "latent_channels=4", "filter_channels=8", "n_layers=1"]
    small = [f"model.synthesizer.{size}" for size in sizes] + SMALL_DISCRIMINATOR
    config = compose_config(f"+{group}={choice}", *small, run=str(tmp_path))
    module = build_module(config, header_for(config), {})
    assert module.synthesizer.config.content_dim == 768
    trainer = build_trainer(config)
    assert trainer.callbacks


@pytest.mark.parametrize("choice", [choice for group, choice in EXPERIMENTS if group == "experiment"])
def test_settings_of_experiments_can_be_typed_without_them(choice):
    """A run that resumes composes the typed settings first, without the experiment."""
    settings, default = OmegaConf.load(CONF / "experiment" / f"{choice}.yaml"), compose_config()
    for section in ("trainer", "data", "model", "optimizer", "callbacks"):
        assert set(settings.get(section) or {}) <= set(default[section]), section


@pytest.mark.parametrize(
    ("generator", "rate", "model"),
    [
        *product(choices("generator"), choices("sample_rate"), ["full"]),
        *product(choices("generator"), ["48k_v1"], ["tiny"]),
    ],
)
def test_rates_generators_and_sizes_combine(generator, rate, model):
    config = compose_config(f"generator={generator}", f"sample_rate={rate}", f"model={model}")
    check_networks(config)
    with torch.device("meta"):
        synthesizer = Synthesizer(SynthesizerConfig.from_values(plain(config.model.synthesizer)))
    assert synthesizer.config.sample_rate == int(rate.split("k")[0]) * 1000


@pytest.mark.parametrize("loss", choices("loss"))
@pytest.mark.parametrize("discriminator", choices("discriminator"))
def test_discriminators_and_losses_combine(discriminator, loss):
    required = ["model=direct", "generator=source_filter", "content=phonetic"] if loss == "conversion" else []
    config = compose_config(f"discriminator={discriminator}", f"loss={loss}", *required)
    check_networks(config)
    values = plain(config.model.discriminator)
    assert vars(DiscriminatorConfig.from_values(values)) == values


def test_discriminators_match_the_published_versions(golden):
    for version in ("v1", "v2", "v3"):
        with torch.device("meta"):
            discriminator = Discriminator(DiscriminatorConfig.from_values(plain(compose_config(
                f"discriminator={version}").model.discriminator)))  # fmt: skip
        stored = weights_for_file(discriminator.state_dict())
        assert {name: list(tensor.shape) for name, tensor in stored.items()} == golden.table(f"keys/D_{version}")


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("v1_f0_32k_hifigan", ["sample_rate=32k_v1"]),
        ("v1_f0_40k_hifigan", ["sample_rate=40k"]),
        ("v1_f0_48k_hifigan", ["sample_rate=48k_v1"]),
        ("v2_f0_24k_hifigan", ["sample_rate=24k"]),
        ("v2_f0_32k_hifigan", ["sample_rate=32k"]),
        ("v2_f0_48k_hifigan", ["sample_rate=48k"]),
        ("v2_nof0_40k_hifigan", ["sample_rate=40k", "generator=hifigan", "pitch=none"]),
        ("v2_f0_40k_mrf", ["sample_rate=40k", "generator=mrf_hifigan"]),
        ("v2_f0_32k_refinegan", ["+experiment=refinegan"]),
        ("v2_f0_24k_refinegan", ["+experiment=refinegan", "sample_rate=24k"]),
    ],
)
def test_composed_sizes_match_published_networks(name, overrides, golden):
    table = golden.table("full_meta")[name]
    sizes = plain(compose_config(*overrides).model.synthesizer) | {"content_dim": CONTENT_DIMS[table["version"]]}
    config = SynthesizerConfig.from_values(sizes)
    assert config_to_list(config) == table["config"]
    assert vocoder_of(config) == (table["vocoder"], table["f0"])
    assert version_of(config) == table["version"]


SEGMENT_SAMPLES = {"24k": 8640, "32k": 12800, "40k": 12800, "48k": 17280, "32k_v1": 12800, "48k_v1": 11520}
SEGMENT_SAMPLES["24k_light"] = SEGMENT_SAMPLES["24k"]


@pytest.mark.parametrize("rate", choices("sample_rate"))
def test_segment_lengths_match_the_specification(rate):
    model = compose_config(f"sample_rate={rate}").model
    assert model.segment_frames * model.synthesizer.sample_rate // 100 == SEGMENT_SAMPLES[rate]


@pytest.mark.parametrize("generator", [name for name, kind in GENERATORS.items() if kind.pitch_guided])
def test_pitch_guided_generator_without_pitch_is_rejected_with_the_choices(generator):
    config = compose_config("pitch=none", f"generator={generator}")
    choices = f"pitch=none .*generator={generator} .*pitch=swift_f0, .*pitch=pyin, .*generator=hifigan$"
    with pytest.raises(ConfigurationError, match=choices):
        check_networks(config)
    with pytest.raises(ConfigurationError, match=choices):
        build_module(config, header_for(config, pitch={"name": "none"}), {})


@pytest.mark.parametrize("pitch", choices("pitch"))
def test_hifigan_accepts_any_pitch_extractor(pitch):
    check_networks(compose_config("generator=hifigan", f"pitch={pitch}"))


def test_unknown_choice_is_rejected_with_the_choices():
    with pytest.raises(MissingConfigException, match="40k"):
        compose_config("sample_rate=44k")
    with pytest.raises(ConfigCompositionException):
        compose_config("model.crop_framse=100")


def test_unknown_setting_added_with_plus_is_rejected():
    config = compose_config("+model.crop_framse=100")
    with pytest.raises(ConfigurationError, match="crop_framse"):
        build_module(config, header_for(config), {})


def test_sampling_rate_other_than_that_of_the_dataset_is_rejected():
    config = compose_config("sample_rate=24k")
    with pytest.raises(DatasetError, match="48000"):
        check_prepared(header_for(config, sample_rate=48000), config)


@pytest.mark.parametrize(
    "override",
    [
        "model.synthesizer.upsample_rates=[10,10,2]",
        "model.synthesizer.n_heads=5",
        "model.synthesizer.kernel_size=2",
        "model.synthesizer.resblock_kernel_sizes=[3,6,11]",
        "model.crop_frames=20",
        "model.gradient_clip_algorithm=mean",
        "model.accumulate_grad_batches=0",
        "+model.loss_weights.typo=1",
        "model.synthesizer.generator=hifigann",
        "model.synthesizer.n_layers=abc",
        "model.mel_loss=double",
        "model.crop_frames=41",
        "model.discriminator.resolutions=[[1024,120]]",
        "model.n_mels=1.5",
    ],
)
def test_contradictions_are_rejected(override):
    config = compose_config(override)
    with pytest.raises(ConfigurationError):
        build_module(config, header_for(config), {})
    with pytest.raises(ConfigurationError):
        check_networks(config)


def test_segments_too_short_for_the_discriminator_are_rejected():
    for override in ("discriminator=v3", "loss=multi_scale"):
        with pytest.raises(ConfigurationError, match=r"segment_frames=2.*3 frames or more"):
            check_networks(compose_config(override, "model.segment_frames=2"))


def test_trainer_strategy_and_precision_reach_lightning_unchanged(tmp_path):
    config = compose_config("trainer.max_epochs=7", "trainer.accelerator=cpu", "precision=bf16-mixed",
                      "strategy=ddp", "+trainer.deterministic=true", run=str(tmp_path))  # fmt: skip
    assert config.trainer.precision == "bf16-mixed"
    assert config.trainer.strategy == "ddp_find_unused_parameters_true"
    trainer = build_trainer(compose_config("trainer.max_epochs=7", "precision=bf16-mixed", run=str(tmp_path)))
    assert trainer.max_epochs == 7
    assert trainer.precision == "bf16-mixed"


def test_several_devices_need_a_strategy(tmp_path):
    with pytest.raises(ConfigurationError, match="strategy=ddp"):
        build_trainer(compose_config("trainer.accelerator=cpu", "trainer.devices=2", run=str(tmp_path)))


def test_settings_that_lightning_rejects_are_one_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"trainer: .*no_such_argument"):
        build_trainer(compose_config("+trainer.no_such_argument=1", run=str(tmp_path)))
    with pytest.raises(ConfigurationError, match="accelerator"):
        build_trainer(compose_config("trainer.accelerator=gpuu", run=str(tmp_path)))


def test_value_of_the_wrong_type_is_named():
    with pytest.raises(ConfigurationError, match=r"slicing.threshold_db='loud': choose a number from -120"):
        SlicingConfig.from_values({"threshold_db": "loud"})
    with pytest.raises(ConfigurationError, match="batch_size=0"):
        instantiate(compose_config("data.batch_size=0").data, "data")
    with pytest.raises(ConfigurationError, match="batchsize"):
        instantiate(compose_config("+data.batchsize=4").data, "data")


def test_slicing_choices_make_settings():
    for choice in ("automatic", "simple", "skip"):
        assert SlicingConfig(**plain(compose_config(f"slicing={choice}").slicing)).mode == choice


def test_packaging_lists_every_package():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = {line.strip(' ",') for line in text.split("packages = [", 1)[1].split("]", 1)[0].splitlines()} - {""}
    package = ROOT / "rvc_lightning"
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in package.rglob("__init__.py")}
    found |= {
        ".".join(["rvc_lightning.conf", *path.parent.relative_to(CONF).parts]) for path in CONF.rglob("__init__.py")
    }
    assert listed == found
    assert {path.parent.name for path in CONF.glob("*/*.yaml")} <= {name.rsplit(".")[-1] for name in listed}


@pytest.mark.parametrize("given", ["runs/anna/monday", "runs/anna/monday/checkpoints"])
def test_resumed_run_stays_in_its_folder(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/anna/monday")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    assert run_dir(f"checkpoint={given}", "name=anna") == str(folder)
    for new in ("checkpoint=null", f"checkpoint={folder}/checkpoints/last.ckpt", "checkpoint=elsewhere"):
        assert Path(run_dir(new, "name=anna")).parent == Path("./runs/anna")
        assert Path(run_dir(new, "name=anna")).name != "monday"


def run_dir(*overrides):
    with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
        return compose("train", overrides=list(overrides), return_hydra_config=True).hydra.run.dir


def test_hydra_is_not_left_initialized():
    assert not HydraConfig.initialized()


@pytest.mark.parametrize(
    ("accelerator", "has_units", "has_gpu", "precision"),
    [
        ("auto", True, False, "bf16-mixed"),
        ("cpu", True, True, "bf16-mixed"),
        ("auto", False, False, "32-true"),
        ("auto", True, True, "32-true"),
        ("gpu", True, True, "32-true"),
    ],
)
def test_automatic_precision_is_bf16_on_cpus_that_multiply_it(monkeypatch, accelerator, has_units, has_gpu, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_units}, raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_gpu)
    monkeypatch.delenv("RVC_PRECISION")
    for command in (["train", "+experiment=quickstart"], ["convert"]):
        config = compose_config(*command[1:], f"trainer.accelerator={accelerator}", command=command[0])
        assert config.trainer.precision == precision


def test_quickstart_loses_little_when_it_is_killed():
    assert compose_config("+experiment=quickstart").callbacks.last.every_minutes <= 1


def test_sizes_have_the_same_defaults_in_code():
    """Voice files of other tools do not store all sizes, so that the dataclasses need defaults as well."""
    model = plain(compose_config().model)
    rate_dependent = ("sample_rate", "n_fft", "upsample_rates", "upsample_kernel_sizes")
    tables = {name: model["synthesizer"][name] for name in rate_dependent}
    assert SynthesizerConfig(**tables) == SynthesizerConfig.from_values(model["synthesizer"])
    assert DiscriminatorConfig() == DiscriminatorConfig.from_values(model["discriminator"])
    assert model["noise_scale"] == PRIOR_NOISE_SCALE
    assert PretrainedConfig() == PretrainedConfig.from_values(plain(compose_config("pretrained=none").pretrained))


@pytest.mark.parametrize(
    ("command", "settings"), [("live", DeviceSettings), ("live", LiveOptions), ("stream", LiveOptions)]
)
def test_live_settings_have_the_same_defaults_in_code(command, settings):
    """The page and Python callers build the dataclasses without the YAML file."""
    assert settings.from_config(plain(compose_config(command=command))) == settings()
