"""Tools for voices: `python -m rvc_lightning.voice info|blend|convert-format|onnx`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What reads voices is imported where it is used: --help and a mistyped option need not wait for torch.
from rvc_lightning.errors import VoiceError

log = logging.getLogger("rvc_lightning.voice")


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and does what it asks for.

    Args:
        arguments: By default those of the process.
    """
    asked = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("rvc_lightning").setLevel(logging.INFO)

    from rvc_lightning.cli.command import errors_as_exit_status

    with errors_as_exit_status():
        asked.run(asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rvc_lightning.voice", description="Tools for voices.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="what is known of voices", description="Shows what is known of voices.")
    info.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a voice, .pth")
    info.add_argument("--json", action="store_true", help="write JSON, with every entry of the files")
    info.set_defaults(run=_info)

    blend = commands.add_parser(
        "blend", help="a voice between two others", description="Writes ratio · FIRST + (1 - ratio) · SECOND."
    )
    blend.add_argument("first", type=Path, metavar="FIRST", help="a voice, whose configuration is kept")
    blend.add_argument("second", type=Path, metavar="SECOND", help="a voice of the same kind")
    blend.add_argument("--ratio", type=float, default=0.5, help="share of FIRST, 0 to 1 (default 0.5)")
    blend.add_argument("--output", type=Path, required=True, help="the voice to write, .pth")
    blend.add_argument("--name", help="of the blend; by default that of the output")
    blend.set_defaults(run=_blend)

    convert = commands.add_parser(
        "convert-format",
        help="a voice as another tool writes it, or the voice in a checkpoint G_….pth",
        description="Writes a voice, or the voice in a training checkpoint G_….pth, as another tool would.",
    )
    convert.add_argument("source", type=Path, metavar="IN", help="a voice or a training checkpoint G_….pth")
    convert.add_argument("output", type=Path, metavar="OUT", help="the voice to write, .pth")
    convert.add_argument("--to", required=True, choices=("applio", "webui"), help="whose spelling to write")
    convert.add_argument("--config", type=Path, help="config.json of the checkpoint; by default the one beside it")
    convert.set_defaults(run=_convert)

    onnx = commands.add_parser("onnx", help="a voice as an ONNX graph", description="Exports a voice as an ONNX graph.")
    onnx.add_argument("voice", type=Path, metavar="VOICE", help="a voice, .pth")
    onnx.add_argument("output", type=Path, metavar="OUT", help="the graph to write, .onnx")
    onnx.set_defaults(run=_onnx)
    return parser


def _info(asked: argparse.Namespace) -> None:
    """Shows every file that can be read, and ends with an error if one cannot."""
    from rvc_lightning.voice.info import as_json, as_table, facts_of_voice

    shown: list[Any] = []
    broken = 0
    for path in asked.files:
        try:
            facts = facts_of_voice(path)
        except VoiceError as error:
            broken += 1
            log.error("%s", error)
            shown.append({"file": str(path), "error": str(error)} if asked.json else None)
        else:
            shown.append(as_json(facts) if asked.json else as_table(facts))
    text = json.dumps(shown, ensure_ascii=False, indent=2) if asked.json else "\n\n".join(filter(None, shown))
    sys.stdout.write(text + "\n" if text else "")
    if broken:
        raise VoiceError(f"{broken} of {len(asked.files)} files cannot be used")


def _blend(asked: argparse.Namespace) -> None:
    from rvc_lightning.voice.blend import blend_files

    log.info("voice: %s", blend_files(asked.first, asked.second, asked.ratio, asked.output, asked.name))


def _convert(asked: argparse.Namespace) -> None:
    from rvc_lightning.voice.layouts import convert_layout

    log.info("voice: %s", convert_layout(asked.source, asked.output, asked.to, asked.config))


def _onnx(asked: argparse.Namespace) -> None:
    from rvc_lightning.cli.columns import format_columns
    from rvc_lightning.voice.onnx import export_onnx, inputs_of

    difference = export_onnx(asked.voice, asked.output)
    rows = [(name, kind, ", ".join(map(str, shape))) for name, kind, shape in inputs_of(asked.output)]
    inputs = "\n".join(format_columns([("input", "type", "shape"), *rows], numbers=False))
    log.info("graph: %s\nlargest difference to torch: %.1e\n%s", asked.output, difference, inputs)
    log.info("What they mean is told at the top of rvc_lightning/voice/onnx.py")


if __name__ == "__main__":
    main()
