"""The way from recordings to a voice, step by step; the commands call these."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from shlex import quote
from time import perf_counter
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from rvc_lightning.cli.commands import optional, required
from rvc_lightning.config.building import (
    build_datamodule,
    build_module,
    build_predictor,
    build_trainer,
    check_settings,
    extraction_of,
    is_sweep,
    plain,
    recipe_of,
    set_up_torch,
    settings,
    voice_facts,
)
from rvc_lightning.conversion.converter import VoiceConverter
from rvc_lightning.data.manifest import MANIFEST_NAME, DatasetHeader, read_header
from rvc_lightning.data.preparation import prepare
from rvc_lightning.data.preview import Preview, preview
from rvc_lightning.errors import ConfigurationError, DatasetError, RVCError, VoiceError
from rvc_lightning.evaluation.showcase import show
from rvc_lightning.io.locks import KILL_GRACE_SECONDS, exclusive_lock
from rvc_lightning.models import SynthesizerConfig
from rvc_lightning.retrieval.index import IndexConfig
from rvc_lightning.training.callbacks.last_checkpoint import LastCheckpoint, stopped_by_signals
from rvc_lightning.training.checkpoints import open_checkpoint, read_checkpoint
from rvc_lightning.training.export import ExportedVoice, export_checkpoint
from rvc_lightning.training.module import CHECKPOINT_KEY
from rvc_lightning.training.pretrained import Pretrained, PretrainedConfig, read_pretrained
from rvc_lightning.voice.rvc_format import CONTENT_DIMS
from rvc_lightning.voice.voice import Voice

log = logging.getLogger(__name__)
_say = rank_zero_only(log.info)


def prepare_dataset(config: DictConfig) -> Path:
    """Prepares the recordings of `config.audio`; what is already prepared is not done again.

    Returns:
        The folder of the prepared dataset.

    Raises:
        ConfigurationError: No recordings are named and nothing is prepared.
        DatasetError: The recordings hold nothing usable.
    """
    folder = Path(required(config, "paths.dataset", "the folder of the prepared recordings"))
    audio = optional(config, "audio", "a folder of recordings, or one recording")
    if audio is None:
        if (folder / MANIFEST_NAME).is_file():
            return folder
        raise ConfigurationError(
            f"no recordings are named, and nothing is prepared in '{folder}': add audio=FOLDER (a folder or a file of "
            "one voice), or +experiment=quickstart to try the recordings that ship with the package"
        )
    started = perf_counter()
    trainer = build_predictor(config)
    if trainer.is_global_zero:
        log.info("Preparing '%s'", audio)
    recordings = Path(os.path.expanduser(audio))
    report = prepare(recordings, folder, recipe_of(config), trainer=trainer, extraction=extraction_of(config))
    if report is not None:
        log.info("%s", report.summary())
        log.info("Prepared in %.0f s: '%s'", perf_counter() - started, folder)
    return folder


def preview_dataset(config: DictConfig) -> Preview:
    """Says what `prepare_dataset` would do, and does nothing of it.

    Raises:
        DatasetError: There are no such recordings.
        ConfigurationError: Settings contradict each other.
    """
    found = preview(
        Path(os.path.expanduser(required(config, "audio", "a folder of recordings, or one recording"))),
        Path(required(config, "paths.dataset", "the folder of the prepared recordings")),
        recipe_of(config),
        content_dim=_content_dim(config),
        precision=config.preparation.precision,
    )
    log.info("%s", found.summary())
    return found


def _content_dim(config: DictConfig) -> int:
    """Channels of the content that `config.content` will give, told without loading it."""
    return CONTENT_DIMS.get(config.content.get("version"), SynthesizerConfig.content_dim)


def pretrained_networks(config: DictConfig) -> Pretrained | None:
    """What training starts from; None for nothing, or where a checkpoint is gone on from.

    Raises:
        ConfigurationError: There is no such pair.
        AssetError: Its files cannot be fetched.
        VoiceError: Its files are missing or damaged, or do not fit the networks of this run.
    """
    if _start_of(config) is not None:
        return None
    values = plain(config.model)["synthesizer"]
    sizes = SynthesizerConfig.from_values(values | {"content_dim": _content_dim(config)})
    pretrained = read_pretrained(settings(PretrainedConfig, "pretrained", plain(config.pretrained)), sizes)
    if pretrained is not None:
        pretrained.check_fits(sizes)
    return pretrained


def _start_of(config: DictConfig) -> Path | None:
    """The checkpoint to go on from, or its folder; None for a new run. Raises VoiceError if there is no such path."""
    given = optional(config, "checkpoint", "a run folder, or a .ckpt")
    if given is None:
        return None
    if not (path := Path(os.path.expanduser(given))).exists():
        raise VoiceError(f"there is no checkpoint at '{path}'")
    return path


def fit(config: DictConfig, dataset: Path, pretrained: Pretrained | None = None) -> Trainer:
    """Trains on a prepared dataset, from `pretrained` networks where there are any.

    Raises:
        ConfigurationError: Settings contradict each other.
        VoiceError: The checkpoint to go on from does not exist or is none.
        TrainingStopped: A signal ended the run, which has saved itself.
    """
    header = read_header(dataset)
    checkpoint, first_step, speaker_rows = None, 0, pretrained.speaker_count if pretrained else 0
    if (start := _start_of(config)) is not None:
        checkpoint, content = open_checkpoint(start)
        saved = content[CHECKPOINT_KEY]
        first_step, speaker_rows = saved["optimizer_steps"], saved["synthesizer"]["speaker_count"]
        _check_same_speakers(header, saved["voice"])
        _check_same_content(header.content, saved["voice"].get("content") or header.content)
        del content, saved
        _say(f"Going on from '{checkpoint}' with step {first_step}{_typed()}")
    seed_everything(config.seed, workers=True, verbose=False)
    set_up_torch(config)
    _check_same_dataset(header, config)
    facts = voice_facts(config, header, dataset, config.model.noise_scale)
    module = build_module(config, header, facts, speaker_rows=speaker_rows)
    if pretrained is not None:
        pretrained.load_into(module)
    elif checkpoint is None:
        _say("Starting from nothing (pretrained=none): a voice takes hours on a GPU then, where others start from one")
    trainer = build_trainer(config, first_step, counts_both=True)
    for logger in trainer.loggers:
        logger.log_hyperparams(_settings_of(config, header))
    # Files from strangers are never unpickled, and a checkpoint may be one.
    trainer.fit(module, build_datamodule(config, dataset), ckpt_path=checkpoint, weights_only=True)
    if checkpoint is not None and trainer.fit_loop.epoch_loop.total_batch_idx + 1 == first_step:
        _say(
            "Nothing was trained: the run has had all that it was given. Give it more: trainer.max_time=…, "
            "trainer.max_epochs=… or trainer.max_steps=…"
        )
    _log_result(trainer, config, header)
    return trainer


def _typed() -> str:
    """The settings of this run as on the command line; '' where Hydra has not begun it."""
    return f": {' '.join(HydraConfig.get().overrides.task)}" if HydraConfig.initialized() else ""


def _check_same_dataset(header: DatasetHeader, config: DictConfig) -> None:
    """Refuses a dataset that another run has prepared otherwise in the meantime. Raises DatasetError."""
    if config.audio is None:
        _refuse_what_is_prepared(header, config)
        return
    for part, prepared in (("pitch", header.pitch), ("content", header.content)):
        if prepared["name"] != config[part]["name"]:
            raise DatasetError(
                f"'{config.paths.dataset}' was prepared again with {part}={prepared['name']} while this run with "
                f"{part}={config[part]['name']} began: runs at the same time need a dataset each, paths.dataset=FOLDER"
            )


def _refuse_what_is_prepared(header: DatasetHeader, config: DictConfig) -> None:
    """Refuses choices that come too late: without recordings a dataset stays as it is. Raises ConfigurationError."""
    chosen = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    typed = {text.partition("=")[0] for text in HydraConfig.get().overrides.task} if chosen else set()
    for part, prepared in (("pitch", header.pitch), ("content", header.content)):
        if part in typed and prepared["name"] != config[part]["name"]:
            raise ConfigurationError(
                f"{part}={chosen[part]}: '{config.paths.dataset}' was prepared with {part}={prepared['name']}; leave "
                f"it out, or prepare the recordings again with audio=FOLDER {part}={chosen[part]}"
            )


def _check_same_speakers(header: DatasetHeader, voice: Mapping[str, Any]) -> None:
    """Refuses to train on a speaker in another's place. Raises DatasetError."""
    before, now = voice.get("speakers", []), header.speakers
    if any(first != second for first, second in zip(before, now, strict=False)):
        raise DatasetError(
            f"the checkpoint's speakers are {', '.join(before)}, the dataset's {', '.join(now)}, in the order of their "
            "numbers: going on would mix them up. Name new speakers so that they come last, or begin a new run"
        )


def _check_same_content(now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Refuses to go on with features that the networks have not learned to read. Raises DatasetError."""
    known, found = ({"name": made["name"]} | (made.get("options") or {}) for made in (before, now))
    # What one of them does not mention, such as a path of this machine, is no difference.
    if changed := [key for key in known if key in found and known[key] != found[key]]:
        was = ", ".join(f"content {key} was {known[key]}, is {found[key]}" for key in changed)
        raise DatasetError(f"the checkpoint was trained with other features than the dataset has: {was}")


def _settings_of(config: DictConfig, header: DatasetHeader) -> dict[str, Any]:
    """The settings that decide the result, by their names on the command line; of the dataset, as it was made."""
    groups = ("model", "pretrained", "optimizer", "scheduler", "data")
    values: dict[str, Any] = {group: plain(config[group]) for group in groups}
    values |= {"pitch": header.pitch, "content": header.content, "slicing": header.slicing}
    limits = ("precision", "max_epochs", "max_steps", "max_time")
    values["trainer"] = {name: config.trainer.get(name) for name in limits}
    return _flat(values | {"seed": config.seed, "name": config.name})


def _log_result(trainer: Trainer, config: DictConfig, header: DatasetHeader) -> None:
    """Keeps the settings with the figures they led to: what TensorBoard compares runs by."""
    figures = {
        f"final/{key}": float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")
    }
    if (best := _best_score(trainer)) is not None:
        figures["best/val/mel"] = best
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            step = trainer.fit_loop.epoch_loop.total_batch_idx
            logger.log_hyperparams(_settings_of(config, header), figures, step)
            logger.save()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their names on the command line; lists as text."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif not str(key).startswith("_"):
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def checkpoint_to_export(trainer: Trainer) -> Path:
    """The best checkpoint by validation, else the latest.

    Raises:
        VoiceError: The run has kept no checkpoint.
    """
    for keeper in trainer.checkpoint_callbacks:
        if isinstance(keeper, ModelCheckpoint) and keeper.monitor and keeper.best_model_path:
            return Path(keeper.best_model_path)
    for keeper in trainer.checkpoint_callbacks:
        if isinstance(keeper, LastCheckpoint):
            log.warning("No validation took place: the voice is the last state of the training, not its best")
            return keeper.path
    raise VoiceError("this run has kept no checkpoint, so there is no voice to export (callbacks=none?)")


def train(config: DictConfig) -> float | None:
    """Recordings -> prepared dataset -> trained networks -> voice.

    Returns:
        The best `val/mel`, which sweeps minimize; None where nothing was held out.

    Raises:
        InUseError: Another run is at work in the same run folder.
        RVCError: Whatever else the user can mend, of any of the steps.
    """
    try:
        check_settings(config)
        with _alone_in_run(config):
            return _train(config)
    except RVCError:
        if _is_first_rank() and not is_sweep():
            _remove_if_unused(Path(config.paths.run))
        raise


def _is_first_rank() -> bool:
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def _remove_if_unused(folder: Path) -> None:
    """Removes the folder of a run that has not begun: nothing lies there but settings, lock and log."""
    traces = [path for path in folder.glob("*") if not path.name.startswith(".") and path.suffix != ".log"]
    if traces or not (folder / ".hydra").is_dir() or folder.resolve() == Path.cwd():
        return
    shutil.rmtree(folder, ignore_errors=True)
    # That of the voice, where it has no other run.
    with suppress(OSError):
        folder.parent.rmdir()


@contextmanager
def _alone_in_run(config: DictConfig) -> Iterator[None]:
    """Keeps other runs out of the run's folder. Raises InUseError if one is there."""
    with exclusive_lock(config.paths.run, timeout_seconds=KILL_GRACE_SECONDS) if _is_first_rank() else nullcontext():
        yield


def _train(config: DictConfig) -> float | None:
    # Read first: what is missing should not show after the recordings have been prepared.
    pretrained = pretrained_networks(config)
    dataset = prepare_dataset(config)
    with stopped_by_signals(f"python -m rvc_lightning.train checkpoint={quote(str(config.paths.run))}"):
        trainer = fit(config, dataset, pretrained)
    if not trainer.is_global_zero:
        return None
    exported = export_run(config, trainer, dataset)
    # Runs of a sweep are compared, not listened to.
    if config.showcase is not None and not is_sweep():
        showcase = plain(config.showcase)
        counterpart = showcase["counterpart"] and Path(showcase["counterpart"])
        output = _voice_folder(config) / "listen"
        converter = VoiceConverter(Voice.load(exported.voice), exported.index)
        show(converter, Path(showcase["source"]), counterpart, showcase["n_clips"], output)
    _say_where(config, exported)
    return _best_score(trainer)


def export_run(config: DictConfig, trainer: Trainer, dataset: Path) -> ExportedVoice:
    """Exports the run's best checkpoint."""
    checkpoint = checkpoint_to_export(trainer)
    log.info("Exporting '%s'", checkpoint)
    index = settings(IndexConfig, "index", plain(config.index))
    return export_checkpoint(checkpoint, _voice_folder(config), config.name, dataset, config.seed, index)


def _voice_folder(config: DictConfig) -> Path:
    """Where the voice goes. The runs of a sweep would take it from each other, so theirs are in their run folders."""
    return Path(config.paths.run) / "voice" if is_sweep() else Path(config.paths.voice)


def _best_score(trainer: Trainer) -> float | None:
    for keeper in trainer.checkpoint_callbacks:
        if isinstance(keeper, ModelCheckpoint) and keeper.best_model_path:
            score = keeper.best_model_score
            if score is None:
                # Ranks that were spawned hand back the path alone.
                states = read_checkpoint(Path(keeper.best_model_path))["callbacks"].values()
                score = next((state["best_model_score"] for state in states if state.get("best_model_score")), None)
            if score is not None:
                return float(score)
    return None


def _say_where(config: DictConfig, exported: ExportedVoice) -> None:
    run = config.paths.run
    lines = [
        ("voice", exported.voice),
        ("index", exported.index or "none"),
        ("dataset", Path(config.paths.dataset)),
        ("run", run),
    ]
    log.info("%s", "\n".join(f"{what + ':':9} {where}" for what, where in lines))
    log.info("watch:    tensorboard --logdir %s", run)
    command = f"python -m rvc_lightning.convert voice={exported.voice} input=FILE_OR_FOLDER output=FOLDER"
    log.info("convert:  %s%s", command, _own(Voice.load(exported.voice)))


def _own(voice: Voice) -> str:
    """The options that name a speaker of several, or move speech to the voice's own register; '' for neither."""
    if len(voice.speaker_names) > 1:
        return f" speaker={'|'.join(voice.speaker_names)}"
    if not voice.pitch_guided or voice.median_f0_hz is None:
        return ""
    return f" proposed_pitch_hz={voice.median_f0_hz:.0f}"
