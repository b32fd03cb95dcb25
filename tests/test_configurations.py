"""Every configuration composes, and what it names exists."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf

import rvc_lightning
from rvc_lightning import resolvers
from rvc_lightning.building import build_datamodule, build_module, build_trainer, plain
from rvc_lightning.data.manifest import DatasetHeader
from rvc_lightning.data.slicing import SlicingConfig
from rvc_lightning.errors import ConfigurationError, DatasetError

ROOT = Path(rvc_lightning.__file__).parents[1]
CONF = ROOT / "conf"
COMMANDS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in ("console", "quiet", "run_folder"))
CHOICES = sorted(
    (path.parent.name, path.stem)
    for path in CONF.glob("*/*.yaml")
    if path.parent.name not in ("experiment", "debug", "sweep")
)
EXPERIMENTS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml") if path.parent.name in
                     ("experiment", "debug"))  # fmt: skip

resolvers.register()


def composed(*overrides, command="train", run="unused"):
    with initialize_config_module("rvc_lightning.conf", version_base="1.3"):
        config = compose(command, overrides=[*overrides, f"paths.run={run}"] if command == "train" else [*overrides])
        return config


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command):
    config = composed(command=command)
    assert OmegaConf.to_container(config, resolve=False)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes(group, choice):
    config = composed(f"{group}={choice}")
    assert plain(config)


@pytest.mark.parametrize(("group", "choice"), EXPERIMENTS)
def test_every_experiment_composes_and_builds(group, choice, tmp_path):
    config = composed(f"+{group}={choice}", run=str(tmp_path))
    # The real experiment at a size that builds at once.
    sizes = ["initial_channels=16", "hidden_channels=8", "latent_channels=4", "filter_channels=8", "n_layers=1"]
    small = [f"model.synthesizer.{size}" for size in sizes] + ["discriminator=tiny"]
    config = composed(f"+{group}={choice}", *small, run=str(tmp_path))
    module = build_module(config, header_for(config), {})
    assert module.synthesizer.config.content_dim == 768
    trainer = build_trainer(config)
    assert trainer.callbacks


def header_for(config, **changes):
    facts = {"sample_rate": config.model.synthesizer.sample_rate, "pitch": {}, "content": {"dim": 768}}
    return DatasetHeader(**facts | changes)


def test_a_typo_names_the_choices():
    with pytest.raises(MissingConfigException, match="40k"):
        composed("sample_rate=44k")
    with pytest.raises(ConfigCompositionException):
        composed("model.crop_framse=100")


def test_an_unknown_setting_added_with_plus_is_refused():
    config = composed("+model.crop_framse=100")
    with pytest.raises(ConfigurationError, match="crop_framse"):
        build_module(config, header_for(config), {})


def test_another_sampling_rate_than_the_dataset_is_refused():
    config = composed("sample_rate=24k")
    with pytest.raises(DatasetError, match="48000"):
        build_module(config, header_for(config, sample_rate=48000), {})


@pytest.mark.parametrize(
    "override",
    [
        "model.synthesizer.upsample_rates=[10,10,2]",
        "model.synthesizer.n_heads=5",
        "model.crop_frames=20",
        "model.gradient_clip_algorithm=mean",
        "model.accumulate_grad_batches=0",
        "+model.loss_weights.typo=1",
        "model.synthesizer.generator=hifigann",
        "model.synthesizer.n_layers=abc",
        "model.n_mels=1.5",
    ],
)
def test_contradictions_are_refused(override):
    config = composed(override)
    with pytest.raises(ConfigurationError):
        build_module(config, header_for(config), {})


def test_trainer_strategy_and_precision_reach_lightning_unchanged(tmp_path):
    config = composed("trainer.max_epochs=7", "trainer.accelerator=cpu", "precision=bf16-mixed",
                      "strategy=ddp", "+trainer.deterministic=true", run=str(tmp_path))  # fmt: skip
    assert config.trainer.precision == "bf16-mixed"
    assert config.trainer.strategy == "ddp_find_unused_parameters_true"
    trainer = build_trainer(composed("trainer.max_epochs=7", "precision=bf16-mixed", run=str(tmp_path)))
    assert trainer.max_epochs == 7
    assert trainer.precision == "bf16-mixed"


def test_several_devices_need_a_strategy(tmp_path):
    with pytest.raises(ConfigurationError, match="strategy=ddp"):
        build_trainer(composed("trainer.accelerator=cpu", "trainer.devices=2", run=str(tmp_path)))


def test_what_lightning_refuses_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"trainer: .*no_such_argument"):
        build_trainer(composed("+trainer.no_such_argument=1", run=str(tmp_path)))
    with pytest.raises(ConfigurationError, match="accelerator"):
        build_trainer(composed("trainer.accelerator=gpuu", run=str(tmp_path)))


def test_a_value_of_the_wrong_type_is_named():
    with pytest.raises(ConfigurationError, match=r"threshold_db='loud': expected float"):
        SlicingConfig(threshold_db="loud")
    with pytest.raises(ConfigurationError, match="batch_size=0"):
        build_datamodule(composed("data.batch_size=0"), Path("unused"))
    with pytest.raises(ConfigurationError, match="batchsize"):
        build_datamodule(composed("+data.batchsize=4"), Path("unused"))


def test_slicing_choices_make_settings():
    for choice in ("automatic", "simple", "skip"):
        assert SlicingConfig(**plain(composed(f"slicing={choice}").slicing)).mode == choice


def test_the_packaging_list_is_the_tree():
    text = (ROOT / "pyproject.toml").read_text()
    listed = {line.strip(' ",') for line in text.split("packages = [", 1)[1].split("]", 1)[0].splitlines()} - {""}
    package = ROOT / "rvc_lightning"
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in package.rglob("__init__.py")}
    found |= {
        ".".join(["rvc_lightning.conf", *path.parent.relative_to(CONF).parts]) for path in CONF.rglob("__init__.py")
    }
    assert listed == found
    assert {path.parent.name for path in CONF.glob("*/*.yaml")} <= {name.rsplit(".")[-1] for name in listed}


def test_hydra_is_left_clean():
    assert not HydraConfig.initialized()
