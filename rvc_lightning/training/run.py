"""A run of training: recordings -> prepared dataset -> trained networks -> voice."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.cli.resolvers import user_path
from rvc_lightning.cli.resume import is_sweep, save_settings, typed_overrides
from rvc_lightning.config.options import Settings, option
from rvc_lightning.config.values import instantiate, plain
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.data.datamodule import AUTO, RVCDataModule
from rvc_lightning.data.manifest import DatasetHeader, read_header
from rvc_lightning.errors import ConfigurationError, DatasetError, InUseError, RVCError, VoiceError
from rvc_lightning.evaluation.showcase import LISTEN_FOLDER, show
from rvc_lightning.io.files import check_folder_writable
from rvc_lightning.io.locks import KILL_GRACE_SECONDS, LOCK_NAME, exclusive_lock
from rvc_lightning.io.processes import quote_argument
from rvc_lightning.io.ranks import errors_of_ranks
from rvc_lightning.models import SynthesizerConfig
from rvc_lightning.retrieval.index import IndexConfig
from rvc_lightning.training.batch_size import choose_batch_size
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint, stopped_by_signals
from rvc_lightning.training.checkpoints import CHECKPOINT_KEY, open_checkpoint, read_checkpoint
from rvc_lightning.training.dataset import check_prepared, content_dim_of, prepare_dataset
from rvc_lightning.training.export import ExportedVoice, export_checkpoint
from rvc_lightning.training.lightning_adapter import callbacks_of, is_first_rank, steps_done
from rvc_lightning.training.module import RVCModule
from rvc_lightning.training.networks import build_module, check_networks, voice_metadata
from rvc_lightning.training.pretrained import Pretrained, PretrainedConfig, read_pretrained
from rvc_lightning.training.resume import check_resumable, ignored_settings, without_values
from rvc_lightning.training.trainer import build_trainer, set_up_torch
from rvc_lightning.voice.rvc_format import version_of
from rvc_lightning.voice.voice import Voice

log = logging.getLogger(__name__)
_log_once, _warn_once = rank_zero_only(log.info), rank_zero_only(log.warning)

_LOG_NAME = "train.log"

NOTHING_TRAINED = "Nothing was trained"
"""Beginning of the message of a resumed run that had reached its limit."""


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """Settings of a run outside of any group."""

    checkpoint: str | None
    seed: int = option(min=0, max=2**32 - 1)


@dataclass(frozen=True)
class Start:
    """The state that a run starts from: a checkpoint to resume, pretrained networks, or neither."""

    checkpoint: Path | None = None
    content: Mapping[str, Any] = field(default_factory=dict)
    """Content of the checkpoint with tensors on the meta device."""
    pretrained: Pretrained | None = None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata of voice and networks in the checkpoint; empty without a checkpoint."""
        return self.content.get(CHECKPOINT_KEY, {})

    @property
    def step(self) -> int:
        """Training steps that the checkpoint has taken."""
        return int(self.metadata.get("optimizer_steps", 0))

    @property
    def speaker_rows(self) -> int:
        """Rows of the speaker table of the weights to load; 0 without weights."""
        if self.pretrained is not None:
            return self.pretrained.speaker_count
        return int(self.metadata["synthesizer"]["speaker_count"]) if self.metadata else 0


def train(config: DictConfig) -> float | None:
    """Prepare recordings, train on them, and export the voice.

    Returns:
        The score of the best checkpoint, by default its `val/mel`, which sweeps minimize; that of the last validation
        with `callbacks.best=null`; None if nothing was held out.

    Raises:
        InUseError: Another run uses the same run folder.
        RVCError: Any other mistake of the user, in any of the steps.
    """
    with _exclusive_run(config):
        start = read_start(config)
        check_settings(config)
        check_folder_writable(_voice_folder(config))
        trainer = build_trainer(config, start.step)
        datamodule = instantiate(config.data, "data")
        dataset = prepare_dataset(config, trainer)
        module = build_module_from(start, config, dataset)
        found = _find_batch_size(config, module, datamodule)
        if found:
            datamodule = instantiate(config.data, "data")
        fit(trainer, module, datamodule, start, config, found)
        if not trainer.is_global_zero:
            return None
        voice = export_run(config, trainer, dataset)
        show_result(config, voice)
        return best_score(trainer)


def read_start(config: DictConfig) -> Start:
    """Read the checkpoint or the pretrained networks that the run starts from, before anything is prepared.

    Raises:
        ConfigurationError: No official pair of pretrained networks exists for these settings.
        AssetError: The pretrained networks cannot be downloaded.
        VoiceError: A file is missing, damaged, or does not match the networks of this run.
    """
    if (path := RunSettings.from_config(config).checkpoint) is not None:
        checkpoint, content = open_checkpoint(Path(user_path(path)))
        return Start(checkpoint, without_values(content))
    values = plain(config.model)["synthesizer"] | {"content_dim": content_dim_of(config)}
    sizes = SynthesizerConfig.from_values(values)
    pretrained = read_pretrained(PretrainedConfig(**plain(config.pretrained)), sizes)
    if pretrained is not None:
        pretrained.check_fits(sizes)
    return Start(pretrained=pretrained)


def check_settings(config: DictConfig) -> None:
    """Set up torch, and check the settings that would otherwise fail after hours of preparation.

    Raises:
        ConfigurationError: A setting is out of range, or settings contradict each other.
    """
    set_up_torch(config)
    check_networks(config)
    _check_manual_optimization(config)
    IndexConfig.from_values(config.index)


def _check_manual_optimization(config: DictConfig) -> None:
    """Reject settings of the trainer in place of which steps of two networks have their own."""
    for name in ("accumulate_grad_batches", "gradient_clip_algorithm", "gradient_clip_val"):
        if (value := config.trainer.get(name)) is not None:
            raise ConfigurationError(
                f"trainer.{name}={value}: Lightning supports this for one network only; use model.{name}={value}"
            )


def build_module_from(start: Start, config: DictConfig, dataset: Path) -> RVCModule:
    """Build the module for a dataset, with pretrained weights if there are any.

    Raises:
        ConfigurationError: A setting is out of range, or settings contradict each other.
        DatasetError: The dataset does not match the checkpoint or the settings.
        VoiceError: The pretrained networks do not match, or no version of the format has such content features.
    """
    header = read_header(dataset)
    if start.metadata:
        _check_same_voice(header, start.metadata["voice"])
    check_prepared(header, config)
    seed_everything(config.seed, workers=True, verbose=False)
    metadata = voice_metadata(config, header, dataset, config.model.noise_scale)
    module = build_module(config, header, metadata, min_speaker_rows=start.speaker_rows)
    # Fail before the training if its voice could not be exported.
    version_of(module.synthesizer.config)
    if start.pretrained is not None:
        start.pretrained.load_into(module)
    elif start.checkpoint is None:
        _log_once("Starting from random weights (pretrained=none): this takes many hours on a GPU")
    return module


def _find_batch_size(config: DictConfig, module: RVCModule, datamodule: RVCDataModule) -> dict[str, int]:
    """Replace `data.batch_size=auto` in the configuration, and return the settings that were replaced."""
    if datamodule.config.batch_size != AUTO:
        return {}
    found = choose_batch_size(config, module, datamodule)
    for key, value in found.items():
        OmegaConf.update(config, key, value)
    return found


def fit(
    trainer: Trainer,
    module: RVCModule,
    datamodule: RVCDataModule,
    start: Start,
    config: DictConfig,
    found: Mapping[str, int],
) -> None:
    """Train, and log the settings with the figures they lead to; `found` are settings that the run has found itself.

    Raises:
        TrainingStopped: A signal has ended the run, which has saved its state.
    """
    run, header = Path(config.paths.run), read_header(datamodule.folder)
    settings = _logged_settings(config, header)
    if start.checkpoint is not None:
        check_resumable(start.checkpoint, start.content, module, trainer)
        if ignored := ignored_settings(start.content, module):
            _warn_once(
                "A resumed run keeps these settings of its checkpoint, start a new run to change them: %s", ignored
            )
    if trainer.is_global_zero:
        save_settings(config, run, found)
    for logger in trainer.loggers:
        logger.log_hyperparams(settings)
    if start.checkpoint is not None:
        typed = " ".join(typed_overrides())
        _log_once(f"Resuming from '{start.checkpoint}' at step {start.step}: {typed}".removesuffix(": "))
    resume, export = (format_command(name, format_override("checkpoint", run)) for name in ("train", "export"))
    with stopped_by_signals(resume, export), errors_of_ranks():
        # Checkpoints are untrusted files, so they are never unpickled.
        trainer.fit(module, datamodule, ckpt_path=start.checkpoint, weights_only=True)
    if start.checkpoint is not None and steps_done(trainer) == start.step:
        _warn_once("%s: the run has reached %s; type a higher limit to continue", NOTHING_TRAINED, _limits(config))
    _log_result(trainer, settings)


def export_run(config: DictConfig, trainer: Trainer, dataset: Path) -> ExportedVoice:
    """Export the best checkpoint of the run as a voice with its index."""
    checkpoint = checkpoint_to_export(trainer)
    log.info("Exporting '%s'", checkpoint)
    index = IndexConfig.from_values(config.index)
    return export_checkpoint(checkpoint, _voice_folder(config), config.name, dataset, config.seed, index)


def checkpoint_to_export(trainer: Trainer) -> Path:
    """Return the best checkpoint by validation, else the latest, as with `callbacks.best=null`.

    Raises:
        VoiceError: The run has saved no checkpoint.
    """
    if (best := _best_checkpoint(trainer)) is not None:
        return Path(best.best_model_path)
    if not (latest := callbacks_of(trainer, LastCheckpoint)):
        raise VoiceError("this run has saved no checkpoint to export as a voice (callbacks=none?)")
    if "val/mel" not in trainer.callback_metrics:
        log.warning("No validation took place: the voice is the last state of the training, not its best")
    return latest[0].path


def best_score(trainer: Trainer) -> float | None:
    """Return the score of the best checkpoint, else the `val/mel` of the last validation; None without any."""
    if (best := _best_checkpoint(trainer)) is None:
        last = trainer.callback_metrics.get("val/mel")
        return None if last is None else float(last)
    score = best.best_model_score
    if score is None:
        # Spawned ranks return only the path.
        states = read_checkpoint(Path(best.best_model_path))["callbacks"].values()
        score = next((state["best_model_score"] for state in states if state.get("best_model_score")), None)
    return None if score is None else float(score)


def _best_checkpoint(trainer: Trainer) -> ModelCheckpoint | None:
    callbacks = callbacks_of(trainer, ModelCheckpoint)
    return next((callback for callback in callbacks if callback.best_model_path and callback.monitor), None)


@contextmanager
def _exclusive_run(config: DictConfig) -> Iterator[None]:
    """Lock the run folder and log into it; a rejected new run leaves no folder. Raises InUseError."""
    if not is_first_rank():
        yield
        return
    run = Path(config.paths.run)
    is_new = not (run / _LOG_NAME).exists()
    try:
        with exclusive_lock(run, timeout_seconds=KILL_GRACE_SECONDS), _log_to(run / _LOG_NAME):
            yield
    except InUseError:
        # The files of the folder are those of the other run.
        raise
    except (RVCError, OmegaConfBaseException, OSError):
        if is_new and not (run / ".hydra").exists():
            _remove_rejected(run, Path(config.paths.runs))
        raise


def _remove_rejected(run: Path, runs: Path) -> None:
    """Remove the files that a rejected run has created, and its folders if they are empty."""
    for name in (_LOG_NAME, LOCK_NAME):
        (run / name).unlink(missing_ok=True)
    with suppress(OSError):
        run.rmdir()
        run.parent.rmdir()
        runs.rmdir()


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Log into a file as well."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _check_same_voice(header: DatasetHeader, voice: Mapping[str, Any]) -> None:
    """Check that speakers keep their numbers, and features their meaning, in a resumed run. Raises DatasetError."""
    trained, prepared = (
        {"name": content["name"]} | (content.get("options") or {}) for content in (voice["content"], header.content)
    )
    # Options that only one of them has, such as a path of this machine, are ignored.
    changed = [key for key in trained if key in prepared and trained[key] != prepared[key]]
    if any(first != second for first, second in zip(voice["speakers"], header.speakers, strict=False)):
        problem = (
            f"the checkpoint's speakers are {', '.join(voice['speakers'])}, the dataset's "
            f"{', '.join(header.speakers)}, in the order of their numbers: resuming would mix them up. Name new "
            "speakers so that they come last, or start a new run"
        )
    elif changed:
        differences = ", ".join(f"content {key} was {trained[key]}, is {prepared[key]}" for key in changed)
        problem = f"the checkpoint was trained with other features than the dataset has: {differences}"
    else:
        return
    raise DatasetError(problem)


def _logged_settings(config: DictConfig, header: DatasetHeader) -> dict[str, Any]:
    """Return the settings that determine the result."""
    groups = ("model", "pretrained", "optimizer", "scheduler", "data")
    limits = ("precision", "max_epochs", "max_steps", "max_time")
    return {
        **{group: plain(config[group]) for group in groups},
        "pitch": header.pitch,
        "content": header.content,
        "slicing": header.slicing,
        "trainer": {name: config.trainer.get(name) for name in limits},
        "seed": config.seed,
        "name": config.name,
    }


def _limits(config: DictConfig) -> str:
    """Return the limits of a training with their values."""
    limits = {f"trainer.{name}": config.trainer.get(name) for name in ("max_time", "max_epochs", "max_steps")}
    return " or ".join(f"{name}={value}" for name, value in limits.items() if value not in (None, -1))


def _log_result(trainer: Trainer, settings: Mapping[str, Any]) -> None:
    """Log the settings with the figures they led to, which TensorBoard compares runs by."""
    figures = {
        f"final/{key}": float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")
    }
    if (best := _best_checkpoint(trainer)) is not None and (score := best_score(trainer)) is not None:
        figures[f"best/{best.monitor}"] = score
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(settings), figures, steps_done(trainer) - 1)
            logger.save()


def _voice_folder(config: DictConfig) -> Path:
    """Return the folder of the voice. Runs of a sweep share a name, so their voices are in their run folders."""
    return Path(config.paths.run) / "voice" if is_sweep() else Path(config.paths.voice)


def show_result(config: DictConfig, exported: ExportedVoice) -> None:
    """Convert sentences of another voice, and log where the results are and the command that converts."""
    voice = Voice.load(exported.voice)
    if config.showcase is not None and not is_sweep():
        showcase = plain(config.showcase)
        counterpart = Path(showcase["counterpart"]) if showcase["counterpart"] else None
        converter = VoiceConverter(voice, exported.index)
        output = _voice_folder(config) / LISTEN_FOLDER
        show(converter, Path(showcase["source"]), counterpart, showcase["n_clips"], output)
    places = {"voice": exported.voice, "index": exported.index or "none"}
    places |= {"dataset": Path(config.paths.dataset), "run": config.paths.run}
    log.info("%s", "\n".join(f"{name + ':':9} {place}" for name, place in places.items()))
    log.info("watch:    tensorboard --logdir %s", quote_argument(config.paths.run))
    overrides = [format_override("voice", exported.voice), "input=FILE_OR_FOLDER", "output=FOLDER"]
    log.info("convert:  %s", format_command("convert", *overrides, *_own_options(voice)))


def _own_options(voice: Voice) -> list[str]:
    """Return the options that choose one of several speakers, or move speech to the pitch of the voice."""
    if len(voice.speaker_names) > 1:
        return [format_override("speaker", voice.speaker_names[0])]
    if not voice.pitch_guided or voice.median_f0_hz is None:
        return []
    return [f"proposed_pitch_hz={voice.median_f0_hz:.0f}"]
