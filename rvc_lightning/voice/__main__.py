"""Tools for voices: `python -m rvc_lightning.voice list|info|import|edit|delete|restore|…`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

# Modules that need torch are imported where they are used, so that --help and usage errors are fast.
from rvc_lightning.errors import VoiceError, printable
from rvc_lightning.io.processes import command_start

log = logging.getLogger("rvc_lightning.voice")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the subcommand.

    Args:
        arguments: By default those of the process.
    """
    args = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("rvc_lightning").setLevel(logging.INFO)

    from rvc_lightning.cli.command import errors_as_exit_status, escape_unprintable

    escape_unprintable()
    with errors_as_exit_status():
        args.run(args)


class _Parser(argparse.ArgumentParser):
    """A parser, also of subcommands, with the errors of the other commands and without abbreviated options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 1."""
        self.exit(1, f"Error: {printable(message)}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=command_start("voice"), description="Tools for voices.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_library_parsers(commands)
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


def _add_library_parsers(commands: Any) -> None:
    """Add the subcommands for the folder of voices."""
    library = argparse.ArgumentParser(add_help=False)
    library.add_argument(
        "--voices", type=Path, default=Path("voices"), metavar="FOLDER", help="folder of the voices (default voices)"
    )

    listing = commands.add_parser(
        "list", parents=[library], help="list the voices of a folder", description="List the voices of a folder."
    )
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.add_argument("--deleted", action="store_true", help="list the trash instead")
    listing.set_defaults(run=_list)

    importing = commands.add_parser(
        "import",
        parents=[library],
        help="add published voices from files, archives and links",
        description="Add voices to a folder, with their indexes, as FOLDER/NAME/NAME.pth. Nothing in them is executed.",
    )
    importing.add_argument(
        "sources", nargs="+", metavar="LINK_OR_FILE",
        help="a voice, an index or a ZIP archive; an https link to one, or to a page of a model hub",
    )  # fmt: skip
    importing.add_argument("--name", help="name of the voice; by default that of its file")
    importing.set_defaults(run=_import)

    edit = commands.add_parser(
        "edit", help="change name, author or speakers' names in a voice", description="Change entries of a voice file."
    )
    edit.add_argument("voice", type=Path, metavar="VOICE", help="a voice, .pth; the file keeps its name")
    edit.add_argument("--name", help="name of the voice")
    edit.add_argument("--author", help="author; '' removes it")
    edit.add_argument("--speakers", nargs="+", metavar="NAME", help="names of all speakers, in their order")
    edit.set_defaults(run=_edit)
    _add_trash_parsers(commands, library)


def _add_trash_parsers(commands: Any, library: argparse.ArgumentParser) -> None:
    """Add the subcommands that delete and restore voices."""
    delete = commands.add_parser(
        "delete",
        parents=[library],
        help="move a voice to the trash of its folder",
        description="Move a voice with its index to FOLDER/.trash, from which `restore` returns it.",
    )
    delete.add_argument("voice", type=Path, metavar="VOICE", help="a voice, .pth")
    delete.set_defaults(run=_delete)

    restore = commands.add_parser(
        "restore",
        parents=[library],
        help="return a deleted voice to its place",
        description="Return a deleted voice to its place.",
    )
    restore.add_argument(
        "name", metavar="NAME", help="name as `list --deleted` prints it; the last deleted of that name"
    )
    restore.set_defaults(run=_restore)

    empty = commands.add_parser(
        "empty-trash",
        parents=[library],
        help="delete the voices in the trash for good",
        description="Delete the voices in FOLDER/.trash for good.",
    )
    empty.set_defaults(run=_empty_trash)


def _list(args: argparse.Namespace) -> None:
    from rvc_lightning.cli.columns import format_columns
    from rvc_lightning.voice.info import SUMMARY, as_summary
    from rvc_lightning.voice.library import list_trash, list_voices

    rows: list[tuple[str, ...]]
    if args.deleted:
        rows = [
            (voice.name, f"{voice.deleted_at:%Y-%m-%d %H:%M}", str(voice.voice)) for voice in list_trash(args.voices)
        ]
        values = [dict(zip(("name", "deleted", "voice"), row, strict=True)) for row in rows]
    else:
        infos = {}
        for path, info in list_voices(args.voices):
            name = str(path.relative_to(args.voices))
            if isinstance(info, str):
                log.warning("not usable: %s", info.replace(str(path), name))
            else:
                infos[name] = info
        rows = [SUMMARY, *(as_summary(info, name) for name, info in infos.items())] if infos else []
        values = [asdict(info) for info in infos.values()]
    if args.json:
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
    elif rows:
        sys.stdout.write("\n".join(map(printable, format_columns(rows, numbers=False))) + "\n")
    else:
        log.info("No voices in %s'%s'", "the trash of " if args.deleted else "", args.voices)


def _import(args: argparse.Namespace) -> None:
    from rvc_lightning.io.links import LinkClient
    from rvc_lightning.voice.importing import import_voices

    report = import_voices(args.sources, args.voices, args.name, LinkClient())
    for name, reason in report.unused.items():
        log.info("not used: %s: %s", printable(name), printable(reason))
    for voice in report.voices:
        log.info("voice: %s", voice.voice)
        log.info("index: %s", voice.index or "none")


def _edit(args: argparse.Namespace) -> None:
    from rvc_lightning.voice.library import edit_voice

    log.info("voice: %s", edit_voice(args.voice, args.name, args.author, args.speakers))


def _delete(args: argparse.Namespace) -> None:
    from rvc_lightning.cli.overrides import format_command
    from rvc_lightning.voice.library import delete_voice

    deleted = delete_voice(args.voice, args.voices)
    log.info("deleted: %s", deleted.voice)
    command = format_command("voice", "restore", deleted.name, "--voices", str(args.voices))
    log.info("To restore it: %s", command)


def _restore(args: argparse.Namespace) -> None:
    from rvc_lightning.voice.library import restore_voice

    log.info("voice: %s", restore_voice(args.name, args.voices))


def _empty_trash(args: argparse.Namespace) -> None:
    from rvc_lightning.voice.library import empty_trash, list_trash

    names = [voice.name for voice in list_trash(args.voices)]
    empty_trash(args.voices)
    log.info("deleted for good: %s", ", ".join(map(printable, names)) or "nothing")


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
    log.info("graph: %s\nlargest difference from torch: %.1e\n%s", args.output, difference, inputs)
    log.info("The inputs are described at the top of rvc_lightning/voice/onnx.py")


if __name__ == "__main__":
    main()
