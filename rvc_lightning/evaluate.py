"""Evaluate a voice: `python -m rvc_lightning.evaluate voice=… audio=FOLDER`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning.cli import resolvers
from rvc_lightning.cli.command import command
from rvc_lightning.config.options import option
from rvc_lightning.config.values import plain
from rvc_lightning.conversion import options as conversion_options
from rvc_lightning.conversion.voice_settings import VoiceSettings

log = logging.getLogger(__name__)
resolvers.register()
conversion_options.register()


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(VoiceSettings):
    """Files of `conf/evaluate.yaml`."""

    voice: str = option(help="the voice (.pth), a checkpoint of training (.ckpt) or a run folder")
    audio: str = option(help="held-out recordings, a folder or a file")
    reference: str | None
    counterpart: str | None
    preset: str | None
    output: str | None


@command("evaluate")
def main(config: DictConfig) -> None:
    """Evaluate a voice on held-out recordings and write the report."""
    files = EvaluateSettings.from_config(config)
    # Imported here to keep --help and error messages fast.
    from rvc_lightning.conversion.converter import VoiceConverter
    from rvc_lightning.conversion.presets import options_with_preset
    from rvc_lightning.evaluation.output import default_folder, has_report, write_report
    from rvc_lightning.evaluation.run import describe_voice, evaluate
    from rvc_lightning.evaluation.settings import EvaluationSettings, Recordings
    from rvc_lightning.pitch import chosen_pitch
    from rvc_lightning.training.export import load_voice
    from rvc_lightning.training.trainer import build_converting_trainer, set_up_torch

    set_up_torch(config)
    values, options = plain(config), plain(config.options)
    settings = EvaluationSettings.from_config(values | {"transpose_semitones": options.pop("transpose_semitones")})
    recordings = Recordings(
        Path(files.audio), *(Path(path) if path else None for path in (files.reference, files.counterpart))
    )
    path = Path(files.voice)
    voice = load_voice(path)
    description = describe_voice(voice, path)
    output = Path(files.output or default_folder(description["name"]))
    if has_report(output):
        log.info("Replacing the report in '%s'; output=FOLDER keeps both", output)
    converter = VoiceConverter(
        voice,
        files.index_path(),
        content_path=files.content_path,
        pitch=chosen_pitch(config.get("pitch")),
        trainer=build_converting_trainer(config),
    )
    report = evaluate(converter, recordings, settings, options_with_preset(options, path, files.preset, "options."))
    report.voice, report.settings = description, values
    # Before writing: on a full disk, this is what remains.
    log.info("%s", report.text())
    log.info("Report: %s", write_report(report, output))


if __name__ == "__main__":
    main()
