"""Evaluate a voice: `python -m rvc_lightning.evaluate voice=… audio=FOLDER`."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning.cli.command import command
from rvc_lightning.config.values import optional, required
from rvc_lightning.convert import index_for

log = logging.getLogger(__name__)


@command("evaluate")
def main(config: DictConfig) -> None:
    """Evaluate a voice on held-out recordings and write the report."""
    path = Path(required(config, "voice", "the voice (.pth), a checkpoint of training (.ckpt) or a run folder"))
    audio = Path(required(config, "audio", "held-out recordings, a folder or a file"))
    # Imported here to keep --help and error messages fast.
    from rvc_lightning.config.options import option_fields
    from rvc_lightning.config.values import plain
    from rvc_lightning.conversion.converter import VoiceConverter
    from rvc_lightning.conversion.options import ConversionOptions
    from rvc_lightning.evaluation.output import default_folder, has_report, write_report
    from rvc_lightning.evaluation.run import describe_voice, evaluate
    from rvc_lightning.evaluation.settings import EvaluationSettings, Recordings
    from rvc_lightning.pitch import chosen_pitch
    from rvc_lightning.training.export import load_voice
    from rvc_lightning.training.trainer import build_converting_trainer, set_up_torch

    set_up_torch(config)
    values = plain(config)
    options = plain(config.options)
    shift = {"transpose_semitones": options.pop("transpose_semitones")}
    chosen = {one.name: values[one.name] for one in option_fields(EvaluationSettings) if one.name in values}
    settings = EvaluationSettings.from_values(chosen | shift)
    paths = {key: optional(config, key, "a folder of recordings, or a file") for key in ("reference", "counterpart")}
    recordings = Recordings(audio, **{key: Path(path) if path else None for key, path in paths.items()})
    voice = load_voice(path)
    description = describe_voice(voice, path)
    output = Path(optional(config, "output", "the folder of the report") or default_folder(description["name"]))
    if has_report(output):
        log.info("Replacing the report in '%s'; output=FOLDER keeps both", output)
    converter = VoiceConverter(
        voice,
        index_for(str(path), optional(config, "index", "the index of the voice, a file")),
        content_path=optional(config, "content_path", "the folder of the content encoder"),
        pitch=chosen_pitch(config.get("pitch")),
        trainer=build_converting_trainer(config),
    )
    report = evaluate(converter, recordings, settings, ConversionOptions.from_values(options))
    report.voice, report.settings = description, values
    # Before writing: on a full disk, this is what remains.
    log.info("%s", report.text())
    log.info("Report: %s", write_report(report, output))


if __name__ == "__main__":
    main()
