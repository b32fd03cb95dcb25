"""The page: voice and recording, options, button and result."""

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
from rvc_lightning.cli.columns import pluralize
from rvc_lightning.errors import RVCError
from rvc_lightning.voice.info import VoiceInfo, as_rows

log = logging.getLogger(__name__)

STYLE = """
.gradio-container { max-width: 1240px !important; width: 100%; margin: auto; }
.options { display: grid !important; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); }
.info { color: var(--block-info-text-color); font-size: var(--block-info-text-size); }
.facts { overflow-x: auto; }
.facts :is(table, tr, td) { border: none !important; }
.facts table { width: 100%; font-size: 0.9em; }
.facts td { padding: 3px 12px 3px 0 !important; vertical-align: top; overflow-wrap: anywhere; }
.facts td:first-child { color: var(--block-info-text-color); min-width: 8em; }
#live_page { width: 100%; height: 820px; border: none; }
.status { padding: 10px 12px; border-radius: var(--radius-md); border: 1px solid var(--border-color-primary); }
.status.error { border-color: var(--error-border-color); background: var(--error-background-fill);
  color: var(--error-text-color); }
"""
THEME = gr.themes.Default(
    # Fonts of the system, to load nothing from other hosts.
    font=[gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")],
    font_mono=[gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
).set(block_info_text_color="*neutral_500", block_info_text_color_dark="*neutral_400")

LIVE = '<iframe id="live_page" src="/live/" loading="lazy" allow="microphone; autoplay" title="Live"></iframe>'
_HIDDEN_FACTS = ("file", "values", "content hash")
_PROGRESS = gr.Progress()
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class Page:
    """The components of the page and their events."""

    def __init__(self, service: ConversionService) -> None:
        """Create the page for the voices of `service`."""
        self.service = service
        with gr.Blocks(title="rvc_lightning", analytics_enabled=False, fill_width=True) as self.blocks:
            gr.Markdown("# Convert to another voice")
            with gr.Tab("Recording"):
                with gr.Row():
                    with gr.Column():
                        self._add_inputs()
                    with gr.Column():
                        self._add_conversion()
                with gr.Accordion("Options", open=False, elem_id="options"):
                    self.controls.add_others()
                with gr.Accordion("About the voice", open=False, elem_id="about"):
                    self.facts = gr.HTML(elem_id="facts", elem_classes="facts")
                with gr.Accordion("", open=False, visible=False, elem_id="unusable") as self.unusable:
                    self.unusable_list = gr.HTML(elem_classes="facts")
            with gr.Tab("Live", elem_id="live"):
                gr.HTML(LIVE)
            self._connect()
        # Without a size: the line of the service counts conversions, and Gradio would count page loads as well.
        self.blocks.queue(default_concurrency_limit=4, api_open=False)

    def _add_inputs(self) -> None:
        self.refresh = gr.Button("Refresh", size="sm", render=False)
        self.voice = gr.Dropdown([], label="Voice", elem_id="voice", buttons=[self.refresh])
        self.notice = gr.HTML(elem_id="notice", visible=False, padding=False)
        self.speaker = gr.Dropdown([("0", 0)], value=0, label="Speaker", visible=False, elem_id="speaker")
        limits = self.service.limits
        self.recording = gr.Audio(
            type="filepath",
            sources=["upload", "microphone"],
            label=f"Recording, up to {_duration(limits.max_seconds)} and {limits.max_megabytes:g} MB",
            buttons=[],
            elem_id="recording",
        )

    def _add_conversion(self) -> None:
        self.controls = Controls()
        self.convert = gr.Button("Convert", variant="primary", elem_id="convert")
        self.status = gr.HTML(elem_id="status", min_height=90, padding=False)
        self.result = gr.Audio(label="Result", interactive=False, buttons=[], visible=False, elem_id="result")
        self.download = gr.DownloadButton("Download", visible=False, elem_id="download")

    def _connect(self) -> None:
        listed = [self.voice, self.notice, self.unusable, self.unusable_list]
        self.blocks.load(self.list_voices, self.voice, listed, **_QUIET)
        self.refresh.click(self.list_voices, self.voice, listed, **_QUIET)
        self.voice.change(self.describe, self.voice, [self.facts, self.notice, self.speaker], **_QUIET)
        self.convert.click(
            self.convert_recording,
            {self.voice, self.speaker, self.recording, *self.controls.components},
            [self.status, self.result, self.download],
            # The line of the service decides whose turn it is.
            concurrency_limit=None,
            show_progress_on=self.status,
            api_visibility="private",
        )

    def list_voices(self, chosen: str | None) -> Iterator[dict[Any, Any]]:
        """List the names, then read the voices and list the broken ones separately; a choice made meanwhile is kept."""
        catalog = self.service.catalog
        catalog.refresh()
        if chosen not in catalog.names:
            chosen = next(filter(catalog.is_usable, catalog.names), None)
        empty = None if chosen else f"There are no voices in '{catalog.folder}': put .pth files there, then refresh."
        yield self._list() | {self.voice: gr.update(choices=catalog.names, value=chosen), self.notice: _notice(empty)}
        for name in catalog.examine():
            log.debug("Reading '%s'", name)
        yield self._list()

    def _list(self) -> dict[Any, Any]:
        unusable = self.service.catalog.unusable
        return {
            self.voice: gr.update(choices=self.service.catalog.names),
            self.unusable: gr.update(visible=bool(unusable), label=f"Not usable: {len(unusable)}"),
            self.unusable_list: _table(unusable.items()),
        }

    def describe(self, name: str | None) -> dict[Any, Any]:
        """Show the facts about a voice and its speakers."""
        hidden = {self.facts: "", self.speaker: gr.update(visible=False, value=0)}
        if not name:
            return hidden
        try:
            facts = self.service.catalog.facts(name)
        except (RVCError, OSError) as error:
            return hidden | {self.notice: _notice(str(error))}
        speakers = _speakers(facts)
        return {
            self.facts: _table(row for row in as_rows(facts) if row[0] not in _HIDDEN_FACTS),
            self.notice: _notice(None),
            self.speaker: gr.update(choices=speakers, value=speakers[0][1], visible=len(speakers) > 1),
        }

    def convert_recording(
        self, given: dict[Component, Any], progress: gr.Progress = _PROGRESS
    ) -> Iterator[dict[Any, Any]]:
        """Show the position in the waiting line, then the result or the error."""
        try:
            self._check_inputs(given)
            with self.service.line.ticket() as turn, tempfile.TemporaryDirectory() as folder:
                for ahead in turn:
                    yield self._answer(_status(f"Waiting for {pluralize(ahead, 'conversion')} of other visitors."))
                start = time.monotonic()
                converted = self._convert(given, Path(folder), progress)
                # Gradio copies the file before it resumes this generator.
                yield self._answer(_status(f"Done in {time.monotonic() - start:.1f} s."), converted)
        except RVCError as error:
            yield self._answer(_status(_sentence(str(error)), "error"))

    def _check_inputs(self, given: dict[Component, Any]) -> None:
        missing = {self.voice: "choose a voice first", self.recording: "drop or record something to convert first"}
        for component, message in missing.items():
            if not given[component]:
                raise RVCError(message)

    def _convert(self, given: dict[Component, Any], folder: Path, progress: gr.Progress) -> Path:
        options = self.controls.options(given, speaker=given[self.speaker] or None)
        return self.service.convert(
            given[self.voice],
            Path(given[self.recording]),
            options,
            folder,
            lambda share, stage: progress(share, desc=stage),
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


def _speakers(facts: VoiceInfo) -> list[tuple[str, int | str]]:
    """Return label and value of each speaker: the name, or the number if it has no unique one."""
    names = facts.speaker_names
    unique = {number: name for number, name in enumerate(names) if name and names.count(name) == 1}
    return [(unique.get(number, str(number)), unique.get(number, number)) for number in range(max(facts.speakers, 1))]


def _notice(text: str | None) -> dict[str, Any]:
    return gr.update(visible=text is not None, value=_status(text or "", "error"))


def _status(text: str, kind: str = "") -> str:
    return f'<div class="status {kind}" role="status">{_escaped(text)}</div>'


def _table(rows: Any) -> str:
    cells = (f"<tr><td>{_escaped(label)}</td><td>{_escaped(value)}</td></tr>" for label, value in rows)
    return f"<table>{''.join(cells)}</table>"


def _escaped(text: str) -> str:
    """Escape untrusted text: neither markup nor a placeholder that Gradio fills in."""
    return html.escape(text).translate({ord(letter): f"&#{ord(letter)};" for letter in "{}$`"})


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 60 else f"{seconds:g} seconds"
