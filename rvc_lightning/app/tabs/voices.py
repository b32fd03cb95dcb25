"""The tab Voices: the library, import, information, blend and trash."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from rvc_lightning.app import markup
from rvc_lightning.app.folders import format_size
from rvc_lightning.app.labels import error_of
from rvc_lightning.app.service import explained
from rvc_lightning.app.tabs.deletion import Deletion
from rvc_lightning.app.tabs.workplace import QUIET, Workplace, enable, facts_table, upload_field
from rvc_lightning.cli.overrides import format_command
from rvc_lightning.data.selection import FIRST_SPEAKER
from rvc_lightning.errors import RVCError
from rvc_lightning.io.links import LinkClient, is_link
from rvc_lightning.io.names import is_portable
from rvc_lightning.voice.blend import blend_files
from rvc_lightning.voice.importing import import_voices
from rvc_lightning.voice.info import SUMMARY, as_summary
from rvc_lightning.voice.library import TRASH, delete_voice, edit_voice, empty_trash, list_trash, restore_voice


class VoicesTab:
    """Components and events of the tab."""

    def __init__(self, workplace: Workplace, tab: gr.Tab) -> None:
        """Create the components in the open block, and refresh lists when `tab` is opened."""
        self.workplace, self.text, self.catalog = workplace, workplace.text, workplace.service.catalog
        self._add_list()
        self._add_import()
        self._add_actions()
        self._connect(tab)

    @property
    def library(self) -> Path:
        """Folder of the voices."""
        return self.catalog.folder

    def _add_list(self) -> None:
        text = self.text
        self.search = gr.Textbox(
            "", label=text("voices.search"), info=text("voices.search_help"), max_lines=1, elem_id="voices_search"
        )
        self.list = gr.HTML(elem_id="voices_list", elem_classes="scroll", padding=False)

    def _add_import(self) -> None:
        text = self.text
        with gr.Accordion(text("voices.import"), open=False, elem_id="voices_import"):
            with gr.Row():
                self.files = upload_field(text("voices.files"), "voices_files")
                with gr.Column():
                    self.link = gr.Textbox(
                        "",
                        label=text("voices.link"),
                        info=text("voices.link_help"),
                        max_lines=1,
                        visible=self.workplace.links,
                        elem_id="voices_link",
                    )
                    self.import_name = gr.Textbox(
                        "", label=text("voices.import_name"), max_lines=1, elem_id="voices_import_name"
                    )
                    self.import_button = gr.Button(
                        text("voices.import_button"), variant="primary", elem_id="voices_import_button"
                    )
            self.import_message = gr.HTML(elem_id="voices_import_message", padding=False)

    def _add_actions(self) -> None:
        text = self.text
        with gr.Accordion(text("voices.edit"), open=False, elem_id="voices_edit"):
            self.voice = gr.Dropdown([], label=text("common.voice"), elem_id="voices_voice")
            with gr.Row():
                self.name = gr.Textbox(
                    "", label=text("voices.name"), info=text("voices.name_help"), max_lines=1, elem_id="voices_name"
                )
                self.author = gr.Textbox("", label=text("voices.author"), max_lines=1, elem_id="voices_author")
                self.speakers = gr.Textbox(
                    "", label=text("voices.speakers"), info=text("voices.speakers_help"), elem_id="voices_speakers"
                )
            with gr.Row():
                self.save = gr.Button(text("voices.save"), variant="primary", interactive=False, elem_id="voices_save")
                self.delete = gr.Button(text("common.delete"), interactive=False, elem_id="voices_delete")
            self.edit_message = gr.HTML(elem_id="voices_edit_message", padding=False)
            self.facts = gr.HTML(elem_id="voices_facts", elem_classes="facts")
        with gr.Accordion(text("voices.blend"), open=False, elem_id="voices_blend"):
            with gr.Row():
                self.first = gr.Dropdown([], label=text("voices.first"), elem_id="voices_first")
                self.second = gr.Dropdown([], label=text("voices.second"), elem_id="voices_second")
            with gr.Row(elem_classes="actions"):
                self.ratio = gr.Slider(0, 1, 0.5, step=0.05, label=text("voices.ratio"), elem_id="voices_ratio")
                self.blend_name = gr.Textbox(
                    "", label=text("voices.blend_name"), max_lines=1, elem_id="voices_blend_name"
                )
                self.blend = gr.Button(text("voices.blend_button"), interactive=False, elem_id="voices_blend_button")
            self.blend_message = gr.HTML(elem_id="voices_blend_message", padding=False)
        with gr.Accordion(text("voices.trash"), open=False, elem_id="voices_trash"):
            with gr.Row(elem_classes="actions"):
                self.deleted = gr.Dropdown([], label=text("voices.deleted"), elem_id="voices_deleted")
                self.restore = gr.Button(text("voices.restore"), interactive=False, elem_id="voices_restore")
                empty = gr.Button(text("voices.trash_delete"), elem_id="voices_empty_trash")
            self.trash_message = gr.HTML(elem_id="voices_trash_message", padding=False)
            self.deletion = Deletion(text, "trash", empty, self.trash_message)

    def _connect(self, tab: gr.Tab) -> None:
        listed = [self.list, self.voice, self.first, self.second, self.deleted]
        gr.on([tab.select, self.search.change], self.list_voices, [self.search, self.voice], listed, **QUIET)
        described = [self.name, self.author, self.speakers, self.facts]
        self.voice.change(self.describe, self.voice, described, **QUIET)
        self.deletion.connect(gr.State(TRASH), self.ask_to_empty, self.empty_trash).then(
            self.list_voices, [self.search, self.voice], listed, **QUIET
        )
        enable([self.save, self.delete], self.voice)
        enable([self.blend], self.first, self.second)
        enable([self.restore], self.deleted)
        edited, blended = [self.voice, self.name, self.author, self.speakers], [self.first, self.second]
        actions: list[tuple[gr.Button, Callable[..., str], list[Any], gr.HTML]] = [
            (self.import_button, self.import_voices, [self.files, self.link, self.import_name], self.import_message),
            (self.save, self.save_information, edited, self.edit_message),
            (self.delete, self.delete_voice, [self.voice], self.edit_message),
            (self.blend, self.blend_voices, [*blended, self.ratio, self.blend_name], self.blend_message),
            (self.restore, self.restore_voice, [self.deleted], self.trash_message),
        ]
        for button, action, inputs, message in actions:
            button.click(
                self._acting(action),
                [self.search, self.voice, *inputs],
                [message, *listed, *described],
                show_progress_on=message,
                api_visibility="private",
            )

    def list_voices(self, search: str, chosen: str | None) -> tuple[Any, ...]:
        """List the voices that contain the searched words, and the trash."""
        self.catalog.refresh()
        rows, names = [], []
        for name in self.catalog.names:
            with contextlib.suppress(RVCError, OSError):
                row = as_summary(self.catalog.facts(name), name)
                names.append(name)
                if all(word in " ".join(row).casefold() for word in search.casefold().split()):
                    rows.append(row)
        trash = [
            (f"{voice.name}, {voice.deleted_at:%Y-%m-%d %H:%M}", voice.folder.name)
            for voice in list_trash(self.library)
        ]
        if rows:
            shown = markup.table(rows, [self.text.get(f"facts.{column}", column) for column in SUMMARY])
        else:
            shown = markup.hint(self.text("voices.not_found" if names else "voices.none", folder=self.library))
        unusable = self.catalog.unusable
        shown += markup.table(unusable.items(), (self.text("voices.unusable"), "")) if unusable else ""
        # Not the next one, which a second click on Delete would delete as well.
        voices = gr.update(choices=names, value=chosen if chosen in names else None)
        return shown, voices, gr.update(choices=names), gr.update(choices=names), gr.update(choices=trash, value=None)

    def describe(self, name: str | None) -> tuple[str, str, str, str]:
        """Return name, author and speakers of a voice, and its facts."""
        if not name:
            return "", "", "", ""
        try:
            facts = self.catalog.facts(name)
        except (RVCError, OSError) as error:
            return "", "", "", error_of(error, self.text)
        names = "" if facts.speaker_names == [FIRST_SPEAKER] else ", ".join(facts.speaker_names)
        return facts.name, facts.author or "", names, facts_table(facts, self.text)

    def import_voices(self, files: list[str] | None, link: str, name: str = "") -> str:
        """Import uploads and a link, under another name if one is given; return a message."""
        link = link.strip()
        sources: list[str] = [*(files or []), *filter(None, [link])]
        if not sources:
            raise RVCError(self.text("voices.choose_files"))
        # `import_voices` would read any other text as a path on the server.
        if link and not is_link(link):
            raise RVCError(self.text("voices.not_link", link=link))
        self.workplace.check_uploads(files or [])
        with explained({Path(file): Path(file).name for file in files or []}):
            client = LinkClient() if self.workplace.links else None
            report = import_voices(sources, self.library, name.strip() or None, client)
        names = ", ".join(
            voice.name if voice.index else self.text("voices.without_index", name=voice.name) for voice in report.voices
        )
        unused = markup.table(report.unused.items(), (self.text("voices.unused"), "")) if report.unused else ""
        shown = [Path(source).name if source in (files or []) else source for source in sources]
        command = self._command("import", *shown, *(["--name", name.strip()] if name.strip() else []))
        return markup.status(self.text("voices.imported", names=names)) + unused + command

    def save_information(self, name: str | None, new_name: str, author: str, speakers: str) -> str:
        """Change the information of a voice; return a message."""
        path, facts = self._path(name), self.catalog.facts(name or "")
        names = [part.strip() for part in speakers.split(",")] if speakers.strip() else []
        changes: dict[str, Any] = {}
        if new_name.strip() != facts.name:
            changes["name"] = new_name.strip()
        if author.strip() != (facts.author or ""):
            changes["author"] = author.strip()
        if names and names != facts.speaker_names:
            changes["speakers"] = names
        edit_voice(path, **changes)
        arguments = [str(path)]
        for key, value in changes.items():
            arguments += [f"--{key}", *(value if isinstance(value, list) else [value])]
        return markup.status(self.text("voices.saved", name=name)) + self._command("edit", *arguments, library=False)

    def delete_voice(self, name: str | None) -> str:
        """Move a voice to the trash; return a message."""
        path = self._path(name)
        delete_voice(path, self.library)
        return markup.status(self.text("voices.deleted_message", name=name)) + self._command("delete", str(path))

    def restore_voice(self, folder: str | None) -> str:
        """Restore a voice from the trash; return a message."""
        if not folder:
            raise RVCError(self.text("voices.choose_deleted"))
        path = restore_voice(folder, self.library)
        return markup.status(self.text("voices.restored", file=path)) + self._command("restore", path.stem)

    def ask_to_empty(self, trash: str | None) -> str:
        """Return the question before the trash is emptied. Raises RVCError if it is empty."""
        folder = self.library / TRASH
        if not (number := len(list(folder.glob("*")))):
            raise RVCError(self.text("voices.trash_is_empty"))
        return self.text("voices.trash_question", number=number, size=format_size(folder))

    def empty_trash(self, trash: str) -> str:
        """Delete the voices in the trash for good; return a message."""
        empty_trash(self.library)
        return self.text("voices.trash_emptied")

    def blend_voices(self, first: str | None, second: str | None, ratio: float, name: str) -> str:
        """Write a blend of two voices; return a message."""
        paths, name = (self._path(first), self._path(second)), name.strip()
        if not is_portable(name):
            raise RVCError(self.text("voices.blend_name_invalid", name=name))
        output = self.library / name / f"{name}.pth"
        if output.exists():
            raise RVCError(self.text("voices.name_taken", name=name))
        blend_files(*paths, ratio, output)
        command = self._command(
            "blend", *map(str, paths), "--ratio", f"{ratio:g}", "--output", str(output), library=False
        )
        return markup.status(self.text("voices.blended", file=output)) + command

    def _path(self, name: str | None) -> Path:
        if not name:
            raise RVCError(self.text("convert.choose_voice"))
        return self.catalog.path(name)

    def _acting(self, action: Callable[..., str]) -> Callable[..., tuple[Any, ...]]:
        """Return an action with the lists after it, in one event, so that a second click does not repeat it.

        After an error, the fields of the visitor are kept.
        """

        def run(search: str, chosen: str | None, *inputs: Any) -> tuple[Any, ...]:
            try:
                message = action(*inputs)
            except (RVCError, OSError) as error:
                return error_of(error, self.text), *self.list_voices(search, chosen), *(4 * [gr.skip()])
            listed = self.list_voices(search, chosen)
            return message, *listed, *self.describe(chosen if chosen in self.catalog.names else None)

        return run

    def _command(self, name: str, *arguments: str, library: bool = True) -> str:
        folder = ["--voices", str(self.library)] if library and self.library != Path("voices") else []
        return markup.command(self.text("common.command"), format_command("voice", name, *arguments, *folder))
