"""A voice's report on recordings it was not trained on: `python -m rvc_lightning.evaluate voice=… audio=FOLDER`."""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path

from omegaconf import DictConfig

from rvc_lightning.cli.command_line import configured
from rvc_lightning.cli.commands import command, optional, required
from rvc_lightning.convert import index_of

log = logging.getLogger(__name__)


@configured("evaluate")
@command
def main(config: DictConfig) -> None:
    """Reads voice and recordings, evaluates, writes the report."""
    path = Path(required(config, "voice", "the voice (.pth), a checkpoint of training (.ckpt) or a run folder"))
    audio = Path(required(config, "audio", "held-out recordings, a folder or a file"))
    # Imported here so that --help and a mistake need not wait for them.
    from rvc_lightning.config.building import build_converting_trainer, chosen_pitch, plain, set_up_torch
    from rvc_lightning.conversion.converter import VoiceConverter
    from rvc_lightning.conversion.options import ConversionOptions
    from rvc_lightning.evaluation.output import folder_for, has_report, write_report
    from rvc_lightning.evaluation.run import EvaluationSettings, Recordings, evaluate, facts_about
    from rvc_lightning.training.export import load_voice

    set_up_torch(config)
    values = plain(config)
    options = plain(config.options)
    asked = {field.name: values[field.name] for field in fields(EvaluationSettings) if field.name in values}
    settings = EvaluationSettings(**asked, transpose_semitones=options.pop("transpose_semitones"))
    paths = {key: optional(config, key, "a folder of recordings, or one") for key in ("reference", "counterpart")}
    others = {key: Path(path) if path else None for key, path in paths.items()}
    recordings = Recordings(audio, **others)
    voice = load_voice(path)
    facts = facts_about(voice, path)
    output = Path(optional(config, "output", "the folder of the report") or folder_for(facts["name"]))
    if has_report(output):
        log.info("The report in '%s' will be replaced; output=FOLDER keeps both", output)
    index = index_of(str(path), optional(config, "index", "the voice's index, a file"))
    converter = VoiceConverter(
        voice,
        index,
        content_path=optional(config, "content_path", "the folder of the content encoder"),
        pitch=chosen_pitch(config),
        trainer=build_converting_trainer(config),
    )
    report = evaluate(converter, recordings, settings, ConversionOptions.from_values(options))
    report.voice, report.settings = facts, values
    write_report(report, output)
    log.info("%s\nListen and look: %s", report.text(), output / "evaluation.html")


if __name__ == "__main__":
    main()
