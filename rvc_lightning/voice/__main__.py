"""Tools for voices: `python -m rvc_lightning.voice info|blend|convert-format|onnx`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Modules that need torch are imported where they are used, so that --help and usage errors are fast.
from rvc_lightning.errors import VoiceError

log = logging.getLogger("rvc_lightning.voice")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the subcommand.

    Args:
        arguments: By default those of the process.
    """
    args = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("rvc_lightning").setLevel(logging.INFO)

    from rvc_lightning.cli.command import errors_as_exit_status

    with errors_as_exit_status():
        args.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rvc_lightning.voice", description="Tools for voices.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="print facts about voices", description="Print facts about voices.")
    info.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a voice, .pth")
    info.add_argument("--json", action="store_true", help="print JSON, with every entry of the files")
    info.set_defaults(run=_info)

    blend = commands.add_parser(
        "blend", help="write the weighted mean of two voices", description="Write ratio · FIRST + (1 - ratio) · SECOND."
    )
    blend.add_argument("first", type=Path, metavar="FIRST", help="a voice, whose configuration is kept")
    blend.add_argument("second", type=Path, metavar="SECOND", help="a voice of the same kind")
    blend.add_argument("--ratio", type=float, default=0.5, help="share of FIRST, 0 to 1 (default 0.5)")
    blend.add_argument("--output", type=Path, required=True, help="the voice to write, .pth")
    blend.add_argument("--name", help="name of the blend; by default that of the output")
    blend.set_defaults(run=_blend)

    convert = commands.add_parser(
        "convert-format",
        help="write a voice in the layout of another tool, or the voice of a checkpoint G_….pth",
        description="Write a voice, or the voice of a training checkpoint G_….pth, in the layout of another tool.",
    )
    convert.add_argument("source", type=Path, metavar="IN", help="a voice or a training checkpoint G_….pth")
    convert.add_argument("output", type=Path, metavar="OUT", help="the voice to write, .pth")
    convert.add_argument("--to", required=True, choices=("applio", "webui"), help="the layout to write")
    convert.add_argument("--config", type=Path, help="config.json of the checkpoint; by default the one beside it")
    convert.set_defaults(run=_convert)

    onnx = commands.add_parser(
        "onnx", help="write a voice as an ONNX graph", description="Export a voice as an ONNX graph."
    )
    onnx.add_argument("voice", type=Path, metavar="VOICE", help="a voice, .pth")
    onnx.add_argument("output", type=Path, metavar="OUT", help="the graph to write, .onnx")
    onnx.set_defaults(run=_onnx)
    return parser


def _info(args: argparse.Namespace) -> None:
    """Print every file that can be read; raise VoiceError at the end if one cannot."""
    from rvc_lightning.voice.info import as_table, read_voice_info

    outputs: list[Any] = []
    n_failed = 0
    for path in args.files:
        try:
            info = read_voice_info(path)
        except VoiceError as error:
            n_failed += 1
            log.error("%s", error)
            outputs += [{"file": str(path), "error": str(error)}] if args.json else []
        else:
            outputs.append(asdict(info) if args.json else as_table(info))
    # Escapes of JSON also cover control characters and text that is not Unicode.
    text = json.dumps(outputs, indent=2) if args.json else "\n\n".join(outputs)
    sys.stdout.write(text + "\n" if text else "")
    if n_failed:
        raise VoiceError(f"{n_failed} of {len(args.files)} files cannot be used")


def _blend(args: argparse.Namespace) -> None:
    from rvc_lightning.voice.blend import blend_files

    log.info("voice: %s", blend_files(args.first, args.second, args.ratio, args.output, args.name))


def _convert(args: argparse.Namespace) -> None:
    from rvc_lightning.voice.layouts import convert_layout

    log.info("voice: %s", convert_layout(args.source, args.output, args.to, args.config))


def _onnx(args: argparse.Namespace) -> None:
    from rvc_lightning.cli.columns import format_columns
    from rvc_lightning.voice.onnx import export_onnx, graph_inputs

    difference = export_onnx(args.voice, args.output)
    inputs = "\n".join(format_columns([("input", "type", "shape"), *graph_inputs(args.output)], numbers=False))
    log.info("graph: %s\nlargest difference to torch: %.1e\n%s", args.output, difference, inputs)
    log.info("The inputs are described at the top of rvc_lightning/voice/onnx.py")


if __name__ == "__main__":
    main()
