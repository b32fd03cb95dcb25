"""A run resumes with the settings of its start."""

import pytest
from commanding import run_command, single_error
from disks import unreadable
from omegaconf import OmegaConf

from rvc_lightning.cli.resume import log, read_saved_overrides, save_settings

pytestmark = pytest.mark.slow

OVERRIDES = ["+experiment=quickstart", "audio=recordings/anna", "optimizer.lr=1e-4", "data.bucket_boundaries=[1,2]"]


def write_saved(folder, overrides):
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra").mkdir(exist_ok=True)
    OmegaConf.save(OmegaConf.create(overrides), folder / ".hydra/overrides.yaml")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs/anna/monday"
    write_saved(folder, OVERRIDES)
    return folder


@pytest.fixture
def resumed(monkeypatch):
    """Run the train command with the given arguments, and return the configuration that it trains with."""

    def resume(*overrides, save_to=None):
        found = []

        def train(config):
            found.append(OmegaConf.create(OmegaConf.to_container(config, resolve=True)))
            if save_to is not None:
                save_settings(config, save_to)

        monkeypatch.setattr("rvc_lightning.training.run.train", train)
        result = run_command("train", *overrides)
        return found[0] if found else result

    return resume


@pytest.mark.parametrize("given", ["runs/anna/monday", "runs/anna/monday/checkpoints"])
def test_settings_of_the_run_apply(run, resumed, given):
    config = resumed(f"checkpoint={given}")
    assert (config.audio, config.optimizer.lr, list(config.data.bucket_boundaries)) == ("recordings/anna", 1e-4, [1, 2])
    assert config.generator if "generator" in config else config.model.synthesizer.generator == "source_filter"
    assert config.paths.run == str(run)


def test_typed_overrides_take_precedence(run, resumed):
    config = resumed("checkpoint=runs/anna/monday", "optimizer.lr=5e-5", "+experiment=voice")
    assert (config.audio, config.optimizer.lr) == ("recordings/anna", 5e-5)
    assert config.model.synthesizer.generator == "hifigan_nsf"


@pytest.mark.parametrize(
    "overrides", [["audio=a"], ["checkpoint=null"], ["checkpoint=runs/anna/monday/checkpoints/last.ckpt"]]
)
def test_other_runs_use_no_saved_settings(run, resumed, overrides):
    assert resumed(*overrides).optimizer.lr == 1e-4 and resumed(*overrides).audio != "recordings/anna"


def test_folder_that_cannot_be_read_is_one_error(run, resumed):
    with unreadable(run):
        error = single_error(resumed("checkpoint=runs/anna/monday"))
    assert "'runs/anna/monday/checkpoints' cannot be read or written: Permission denied; choose" in error


def test_run_without_saved_settings_resumes_with_defaults(run, resumed):
    (run / ".hydra/overrides.yaml").unlink()
    assert resumed("checkpoint=runs/anna/monday").audio is None


def test_experiment_of_the_user_is_found_in_the_search_path(run, resumed, tmp_path):
    experiment = tmp_path / "mine" / "experiment" / "my-voice.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text("# @package _global_\ndefaults:\n  - quickstart\nseed: 77\n")
    write_saved(run, ["+experiment=my-voice", "audio=recordings/anna"])
    assert resumed("checkpoint=runs/anna/monday", f"hydra.searchpath=[file://{tmp_path}/mine]").seed == 77
    assert "my-voice" in resumed("checkpoint=runs/anna/monday").text


HOSTILE = [
    "+callbacks.x={_target_: os.system, command: touch hacked}",
    "trainer.plugins=[{_target_: os.system, command: touch hacked}]",
    "trainer._target_=os.system",
    "logger._target_=os.system",
    "+logger.extra=1",
    "hydra.run.dir=elsewhere",
    "hydra/launcher=joblib",
    "author=${oc.env:HOME}",
    "seed=1,2",
    "~callbacks",
    "+debug=../../evil",
    "++model.new=1",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_saved_settings_are_data(run, resumed, hostile, caplog):
    write_saved(run, [*OVERRIDES, hostile])
    assert list(read_saved_overrides(run / ".hydra/overrides.yaml")) == ["experiment", "audio", "optimizer.lr",
                                                                        "data.bucket_boundaries"]  # fmt: skip
    assert "Ignoring" in caplog.text
    assert resumed("checkpoint=runs/anna/monday").author is None


def test_settings_that_no_longer_exist_are_one_error(run, resumed):
    write_saved(run, ["model.gone=1"])
    result = resumed("checkpoint=runs/anna/monday")
    assert result.status == 1 and "settings saved in" in result.text and "Traceback" not in result.text


@pytest.fixture
def older(run, resumed):
    """The run, started by a version with other defaults and settings."""
    save = run.parent / "saved"
    resumed(*OVERRIDES, save_to=save)
    saved = OmegaConf.load(save / ".hydra/config.yaml")
    OmegaConf.set_struct(saved, False)
    saved.slicing.noise_reduction, saved.slicing.gone, saved.model.loss_weights.mel = 0.3, 1, 30.0
    OmegaConf.save(saved, run / ".hydra/config.yaml")
    return saved


def test_defaults_of_the_run_apply(run, older, resumed):
    config = resumed("checkpoint=runs/anna/monday", save_to=run)
    assert (config.slicing.noise_reduction, config.model.loss_weights.mel, config.optimizer.lr) == (0.3, 30.0, 1e-4)
    assert "gone" not in config.slicing
    # Saved again, for the next time.
    assert resumed("checkpoint=runs/anna/monday").slicing.noise_reduction == 0.3


def test_kept_defaults_are_logged(older, resumed, monkeypatch):
    lines = []
    monkeypatch.setattr(log, "info", lambda line, *values: lines.append(line % values))
    resumed("checkpoint=runs/anna/monday")
    assert lines == [
        "The run keeps its settings whose defaults have changed: slicing.noise_reduction=0.3 (default: 0.7), "
        "model.loss_weights.mel=30.0 (default: 45.0)",
        "Ignoring settings of the run that no longer exist: slicing.gone",
    ]


@pytest.mark.parametrize("typed", ["slicing.noise_reduction=0.7", "slicing=skip"])
def test_typed_settings_replace_those_of_the_run(older, resumed, typed):
    config = resumed("checkpoint=runs/anna/monday", typed)
    assert (config.slicing.noise_reduction, config.model.loss_weights.mel) == (0.7, 30.0)


def test_saved_configuration_is_data(run, older, resumed, monkeypatch):
    monkeypatch.setenv("SECRET", "token")
    older.optimizer._target_ = "os.system"
    older.author = older.paths.voices = "stranger"
    older.data.num_workers = "${oc.env:SECRET}"
    older.data.batch_size = {"_target_": "os.system"}
    older.data.bucket_boundaries = [{"_target_": "os.system"}]
    OmegaConf.save(older, run / ".hydra/config.yaml")
    config = resumed("checkpoint=runs/anna/monday")
    assert (config.optimizer._target_, config.author) == ("torch.optim.AdamW", None)
    assert (config.data.num_workers, config.data.batch_size, config.data.bucket_boundaries) == (1, 8, [1, 2])
    assert "stranger" not in config.paths.voices


@pytest.mark.parametrize("name", ["overrides.yaml", "config.yaml"])
def test_damaged_settings_are_one_error(run, resumed, name):
    (run / ".hydra" / name).write_text("a: [1\nb: }")
    assert "settings saved in 'runs/anna/monday/.hydra' cannot be used" in single_error(
        resumed("checkpoint=runs/anna/monday")
    )


def test_interpolations_are_saved_by_value_and_the_environment_is_not(run, resumed, monkeypatch, caplog):
    monkeypatch.setenv("SECRET", "token")
    folder = run.parent / "tuesday"
    resumed("audio=${demo:target}", "author=${oc.env:SECRET}", "name=007", save_to=folder)
    text = (folder / ".hydra/overrides.yaml").read_text(encoding="utf-8") + (folder / ".hydra/config.yaml").read_text(
        encoding="utf-8"
    )
    assert "token" not in text
    (folder / "checkpoints").mkdir()
    config = resumed("checkpoint=runs/anna/tuesday")
    assert config.audio.endswith("demo/target") and config.name == "007" and config.author is None
    # Each time the run resumes.
    resumed("checkpoint=runs/anna/tuesday", save_to=folder)
    caplog.clear()
    read_saved_overrides(folder / ".hydra/overrides.yaml")
    assert "Ignoring 'author=${oc.env:SECRET}', which reads the environment: type it again" in caplog.text
    assert resumed("checkpoint=runs/anna/tuesday", "author=me", save_to=folder).author == "me"
    assert "SECRET" not in (folder / ".hydra/overrides.yaml").read_text(encoding="utf-8")
