"""The page: voice and recording, options, the button, the result."""

from __future__ import annotations

import html
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from rvc_lightning.app.controls import Controls
from rvc_lightning.app.service import ConversionService
from rvc_lightning.errors import RVCError
from rvc_lightning.voice.info import VoiceInfo, as_rows

log = logging.getLogger(__name__)

STYLE = """
.gradio-container { max-width: 1240px !important; margin: auto; }
.options { display: grid !important; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 14px; }
.info { color: var(--block-info-text-color); font-size: var(--block-info-text-size); }
.facts { overflow-x: auto; }
.facts :is(table, tr, td) { border: none !important; }
.facts table { width: 100%; font-size: 0.9em; }
.facts td { padding: 3px 12px 3px 0 !important; vertical-align: top; overflow-wrap: anywhere; }
.facts td:first-child { color: var(--block-info-text-color); min-width: 8em; }
.status { padding: 10px 12px; border-radius: var(--radius-md); border: 1px solid var(--border-color-primary); }
.status.error { border-color: var(--error-border-color); background: var(--error-background-fill);
  color: var(--error-text-color); }
"""
THEME = gr.themes.Default(
    # Of the system: nothing is fetched.
    font=[gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")],
    font_mono=[gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
).set(block_info_text_color="*neutral_500", block_info_text_color_dark="*neutral_400")

_UNTOLD = ("file", "values", "content hash")
"""Facts of a voice that help nobody who converts."""
_PROGRESS = gr.Progress()
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class Page:
    """The components, and what happens between them."""

    def __init__(self, service: ConversionService) -> None:
        """Lays the page out for the voices of `service`."""
        self.service = service
        keep_seconds = max(1, round(60 * service.limits.keep_minutes))
        with gr.Blocks(
            title="rvc_lightning", analytics_enabled=False, delete_cache=(60, keep_seconds), fill_width=True
        ) as self.blocks:
            gr.Markdown("# Convert a recording to another voice")
            with gr.Row():
                with gr.Column():
                    self._lay_out_voice()
                with gr.Column():
                    self._lay_out_conversion()
            with gr.Accordion("Options", open=False, elem_id="options"):
                self.controls = Controls()
            self._connect()
        self.blocks.queue(max_size=service.limits.most_waiting, default_concurrency_limit=4, api_open=False)

    def _lay_out_voice(self) -> None:
        self.refresh = gr.Button("Refresh", size="sm", render=False)
        self.voice = gr.Dropdown([], label="Voice", elem_id="voice", buttons=[self.refresh])
        self.speaker = gr.Dropdown([("0", 0)], value=0, label="Speaker", visible=False, elem_id="speaker")
        self.facts = gr.HTML(elem_id="facts", elem_classes="facts")
        with gr.Accordion("", open=False, visible=False, elem_id="unusable") as self.unusable:
            self.unusable_list = gr.HTML(elem_classes="facts")

    def _lay_out_conversion(self) -> None:
        limits = self.service.limits
        self.recording = gr.Audio(
            type="filepath",
            sources=["upload", "microphone"],
            label=f"Recording, up to {_duration(limits.most_seconds)} and {limits.most_megabytes:g} MB",
            buttons=[],
            elem_id="recording",
        )
        self.convert = gr.Button("Convert", variant="primary", elem_id="convert")
        self.status = gr.HTML(elem_id="status", min_height=90)
        self.result = gr.Audio(label="Result", interactive=False, buttons=[], visible=False, elem_id="result")
        self.download = gr.DownloadButton("Download", visible=False, elem_id="download")

    def _connect(self) -> None:
        listed = [self.voice, self.facts, self.unusable, self.unusable_list]
        self.blocks.load(self.list_voices, self.voice, listed, **_QUIET)
        self.refresh.click(self.list_voices, self.voice, listed, **_QUIET)
        self.voice.change(self.describe, self.voice, [self.facts, self.speaker], **_QUIET)
        self.convert.click(
            self.convert_recording,
            {self.voice, self.speaker, self.recording, *self.controls.components},
            [self.status, self.result, self.download],
            concurrency_limit=1,
            show_progress_on=self.status,
            api_visibility="private",
        )

    def list_voices(self, chosen: str | None) -> Iterator[dict[Any, Any]]:
        """The names at once, then without those that are found broken, which are told apart.

        What is chosen meanwhile stays.
        """
        catalog = self.service.catalog
        catalog.refresh()
        if chosen not in catalog.names:
            chosen = next(filter(catalog.is_usable, catalog.names), None)
        empty = f"There are no voices in '{catalog.folder}' yet: put .pth files there, then refresh."
        told = {} if chosen else {self.facts: _told(empty)}
        yield self._listed() | {self.voice: gr.update(choices=catalog.names, value=chosen)} | told
        for name in catalog.examine():
            log.debug("Looking at '%s'", name)
        yield self._listed()

    def _listed(self) -> dict[Any, Any]:
        unusable = self.service.catalog.unusable
        return {
            self.voice: gr.update(choices=self.service.catalog.names),
            self.unusable: gr.update(visible=bool(unusable), label=f"Not usable: {len(unusable)}"),
            self.unusable_list: _table(unusable.items()),
        }

    def describe(self, name: str | None) -> dict[Any, Any]:
        """What is known of a voice, and its speakers."""
        if not name:
            return {self.speaker: gr.update(visible=False, value=0)}
        try:
            facts = self.service.catalog.facts(name)
        except (RVCError, OSError) as error:
            return {self.facts: _told(str(error), "error"), self.speaker: gr.update(visible=False, value=0)}
        speakers = _speakers(facts)
        return {
            self.facts: _table(row for row in as_rows(facts) if row[0] not in _UNTOLD),
            self.speaker: gr.update(choices=speakers, value=0, visible=len(speakers) > 1),
        }

    def convert_recording(
        self, given: dict[Component, Any], progress: gr.Progress = _PROGRESS
    ) -> Iterator[dict[Any, Any]]:
        """Gives the result, or the one reason why there is none."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                converted = self._convert(given, Path(folder), progress)
            except RVCError as error:
                yield self._answer(_told(_sentence(str(error)), "error"))
            else:
                # Gradio takes a copy before it asks for more.
                yield self._answer(_told(f"Done in {time.monotonic() - began:.1f} s."), converted)

    def _convert(self, given: dict[Component, Any], folder: Path, progress: gr.Progress) -> Path:
        name, recording = given[self.voice], given[self.recording]
        if not name:
            raise RVCError("choose a voice first")
        if not recording:
            raise RVCError("drop or record something to convert first")
        options = self.controls.options(given, speaker=given[self.speaker] or 0)
        return self.service.convert(
            name, Path(recording), options, folder, lambda share, what: progress(share, desc=what)
        )

    def _answer(self, status: str, converted: Path | None = None) -> dict[Any, Any]:
        return {
            self.status: status,
            self.result: gr.update(value=converted, visible=converted is not None),
            self.download: gr.update(
                value=converted,
                visible=converted is not None,
                label=f"Download {converted.name}" if converted else "Download",
            ),
        }


def _speakers(facts: VoiceInfo) -> list[tuple[str, int]]:
    named = dict(enumerate(facts.speaker_names))
    return [
        (f"{number}: {named[number]}" if number in named else str(number), number) for number in range(facts.speakers)
    ]


def _told(text: str, kind: str = "") -> str:
    return f'<div class="status {kind}" role="status">{_escaped(text)}</div>'


def _table(rows: Any) -> str:
    cells = (f"<tr><td>{_escaped(label)}</td><td>{_escaped(value)}</td></tr>" for label, value in rows)
    return f"<table>{''.join(cells)}</table>"


def _escaped(text: str) -> str:
    """What a stranger wrote, as text: neither markup nor one of the placeholders that Gradio fills in."""
    return html.escape(text).translate({ord(letter): f"&#{ord(letter)};" for letter in "{}$`"})


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
