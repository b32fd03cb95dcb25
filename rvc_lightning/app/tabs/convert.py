"""The tab Convert: recordings in, results out, and their comparison."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from rvc_lightning.app import clips, markup
from rvc_lightning.app.controls import Controls
from rvc_lightning.app.labels import error_of
from rvc_lightning.app.service import explained
from rvc_lightning.app.tabs.pitch import OwnPitch
from rvc_lightning.app.tabs.presets import Presets
from rvc_lightning.app.tabs.workplace import QUIET, Workplace, facts_table, speakers_of, upload_field
from rvc_lightning.audio.decode import AUDIO_EXTENSIONS
from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.conversion.options import DEFAULT_FORMAT, ConversionOptions
from rvc_lightning.conversion.presets import chosen
from rvc_lightning.errors import RVCError
from rvc_lightning.io.disk import explain

log = logging.getLogger(__name__)

PREVIEW_SECONDS = 10.0

_HIDDEN_FACTS = ("file", "parameters", "content hash")
_MAX_EARLIER_CLIPS = 40
"""Clips of earlier conversions that can be compared with all those of the last one."""
_ENABLE = "() => ({ __type__: 'update', interactive: true })"
"""Enable a button in the browser: a conversion may end before the server would have answered."""
_PROGRESS = gr.Progress()


class Clip(NamedTuple):
    """A recording or a result that can be compared."""

    title: str
    path: str


@dataclass(frozen=True)
class Order:
    """One click on a button of the tab."""

    voice: str
    recordings: list[Path]
    options: ConversionOptions
    is_preview: bool


class ConvertTab:
    """Components and events of the tab."""

    def __init__(self, workplace: Workplace, tab: gr.Tab) -> None:
        """Create the components in the open block, and refresh lists when `tab` is opened."""
        self.workplace, self.service, self.text = workplace, workplace.service, workplace.text
        self._stops: dict[threading.Event, str] = {}
        """Sessions of the conversions that run or wait."""
        with gr.Row():
            with gr.Column():
                self._add_inputs()
            with gr.Column():
                self._add_conversion()
        self._add_comparison()
        with gr.Accordion(self.text("convert.options"), open=False, elem_id="options"):
            self.controls.add_others()
            self.presets.add_editor(self.controls, self.pitch.button.click)
        with gr.Accordion(self.text("convert.about_voice"), open=False, elem_id="about"):
            self.facts = gr.HTML(elem_id="facts", elem_classes="facts")
        with gr.Accordion("", open=False, visible=False, elem_id="unusable") as self.unusable:
            self.unusable_list = gr.HTML(elem_classes="facts")
        self._connect(tab)

    def _add_inputs(self) -> None:
        text, limits = self.text, self.service.limits
        self.refresh = gr.Button(text("common.refresh"), size="sm", render=False)
        self.voice = gr.Dropdown([], label=text("common.voice"), elem_id="voice", buttons=[self.refresh])
        self.notice = gr.HTML(elem_id="notice", visible=False, padding=False)
        with gr.Row():
            self.speaker = gr.Dropdown(
                [("0", 0)], value=0, label=text("convert.speaker"), visible=False, elem_id="speaker"
            )
            self.presets = Presets(self.workplace, self.voice, self.speaker)
        size = text("convert.limits", duration=_duration(limits.max_seconds), megabytes=f"{limits.max_megabytes:g}")
        self.recordings = upload_field(f"{text('convert.recordings')}, {size}", "recording", AUDIO_EXTENSIONS)
        self.microphone = gr.Audio(
            type="filepath", sources=["microphone"], label=text("convert.microphone"), buttons=[], elem_id="microphone"
        )

    def _add_conversion(self) -> None:
        text = self.text
        self.controls = Controls(text)
        self.pitch = OwnPitch(text, "convert", self.controls["proposed_pitch_hz"])
        with gr.Row():
            self.convert = gr.Button(text("convert.convert"), variant="primary", elem_id="convert", min_width=120)
            label = text("convert.preview", seconds=f"{PREVIEW_SECONDS:g}")
            self.preview = gr.Button(label, elem_id="preview", min_width=120)
            self.stop = gr.Button(text("common.stop"), elem_id="stop", min_width=80, interactive=False)
        self.status = gr.HTML(elem_id="status", min_height=60, padding=False)
        self.download = gr.DownloadButton(text("common.download"), visible=False, elem_id="download")
        self.command = gr.HTML(elem_id="command", padding=False)

    def _add_comparison(self) -> None:
        self.clips = gr.State([])
        with gr.Group(visible=False, elem_id="comparison") as self.comparison:
            with gr.Row():
                self.choice_a, self.audio_a = self._add_side("a")
                self.choice_b, self.audio_b = self._add_side("b")
            self.picture = gr.HTML(elem_id="picture", elem_classes="scroll")

    def _add_side(self, side: str) -> tuple[gr.Dropdown, gr.Audio]:
        with gr.Column():
            choice = gr.Dropdown([], label=self.text("convert.listen", side=side.upper()), elem_id=f"choice_{side}")
            audio = gr.Audio(label=side.upper(), interactive=False, buttons=[], elem_id=f"audio_{side}")
        return choice, audio

    def _connect(self, tab: gr.Tab) -> None:
        listed = [self.voice, self.notice, self.unusable, self.unusable_list]
        events = [self.workplace.blocks.load, tab.select, self.refresh.click]
        gr.on(events, self.list_voices, self.voice, listed, **QUIET)
        presets = [self.presets.choice, self.presets.name, self.presets.applied]
        described = [self.facts, self.notice, self.speaker, *presets]
        described += [*self.pitch.components, *self.controls.components]
        before = [self.presets.applied, self.pitch.pitch, self.pitch.proposed]
        self.voice.change(self.describe, [self.voice, *before], described, **QUIET)
        inputs: set[Block] = {
            self.voice, self.speaker, self.recordings, self.microphone, self.clips, *self.controls.components
        }  # fmt: skip
        compared = [self.audio_a, self.audio_b, self.picture]
        for button, handler in ((self.convert, self.convert_recordings), (self.preview, self.convert_beginnings)):
            button.click(None, None, self.stop, js=_ENABLE)
            button.click(
                handler,
                inputs,
                [self.status, self.download, self.command, self.clips, self.comparison, self.choice_a, self.choice_b],
                # The line of the service decides whose turn it is.
                concurrency_limit=None,
                show_progress_on=self.status,
                api_visibility="private",
            ).then(self.offer_stop, None, self.stop, **QUIET).then(
                self.compare, [self.clips, self.choice_a, self.choice_b], compared, **QUIET
            )
        self.stop.click(self.stop_conversion, None, self.status, **QUIET)
        self.workplace.blocks.unload(self.stop_session)
        for choice in (self.choice_a, self.choice_b):
            choice.input(self.compare, [self.clips, self.choice_a, self.choice_b], compared, **QUIET)

    def list_voices(self, chosen_voice: str | None) -> Iterator[dict[Any, Any]]:
        """List the names, then read the voices and list the broken ones separately; a choice made meanwhile is kept."""
        catalog = self.service.catalog
        catalog.refresh()
        if chosen_voice not in catalog.names:
            chosen_voice = next(filter(catalog.is_usable, catalog.names), None)
        empty = None if chosen_voice else self.text("convert.no_voices", folder=catalog.folder)
        voices = gr.update(choices=catalog.names, value=chosen_voice)
        yield self._list() | {self.voice: voices, self.notice: _notice(empty, "")}
        for name in catalog.examine():
            log.debug("Reading '%s'", name)
        yield self._list()

    def choose(self, name: str) -> dict[str, Any]:
        """Choose a voice that another tab has listed."""
        return gr.update(choices=self.service.catalog.names, value=name)

    def _list(self) -> dict[Any, Any]:
        unusable = self.service.catalog.unusable
        return {
            self.voice: gr.update(choices=self.service.catalog.names),
            self.unusable: gr.update(visible=bool(unusable), label=self.text("convert.unusable", number=len(unusable))),
            self.unusable_list: markup.table(unusable.items()),
        }

    def describe(
        self, name: str | None, preset: str | None = None, pitch: str = "", proposed: str = ""
    ) -> dict[Any, Any]:
        """Show the facts about a voice, its speakers, presets and pitch, and apply its default preset.

        Args:
            name: The voice.
            preset: Preset of the voice before, whose options are replaced.
            pitch: Pitch of the voice before, which is replaced if it is the proposed one.
            proposed: Proposed pitch.
        """
        hidden = {self.facts: "", self.speaker: gr.update(visible=False, value=0)} | self.pitch.of_voice(None)
        if not name:
            return hidden
        try:
            facts, unused = self.service.catalog.facts(name), self.service.catalog.unused_options(name)
            presets = self.presets.of_voice(name, preset)
        except (RVCError, OSError) as error:
            return hidden | {self.notice: _notice(explain(error))}
        speakers = speakers_of(facts)
        speaker = presets.pop(self.speaker, {"value": speakers[0][1]})["value"]
        values = self.pitch.of_voice(facts.own_pitch_hz, pitch, proposed) | presets
        return self.controls.for_voice(values, unused) | {
            self.facts: facts_table(facts, self.text, _HIDDEN_FACTS),
            self.notice: _notice(None),
            self.speaker: gr.update(choices=speakers, value=speaker, visible=len(speakers) > 1),
        }

    def convert_recordings(
        self, given: dict[Component, Any], request: gr.Request, progress: gr.Progress = _PROGRESS
    ) -> Iterator[dict[Any, Any]]:
        """Show the position in the waiting line, then the results, or the error."""
        yield from self._run(given, request, progress, is_preview=False)

    def convert_beginnings(
        self, given: dict[Component, Any], request: gr.Request, progress: gr.Progress = _PROGRESS
    ) -> Iterator[dict[Any, Any]]:
        """Convert the first seconds of each recording."""
        yield from self._run(given, request, progress, is_preview=True)

    def stop_conversion(self, request: gr.Request) -> str:
        """Stop the conversions of this visitor, also those that wait."""
        is_running = str(request.session_hash) in self._stops.values()
        self.stop_session(request)
        return markup.status(self.text("convert.stopping" if is_running else "convert.nothing_runs"))

    def offer_stop(self, request: gr.Request) -> dict[str, Any]:
        """Enable Stop if a conversion of this visitor runs or waits."""
        return gr.update(interactive=str(request.session_hash) in self._stops.values())

    def stop_session(self, request: gr.Request) -> None:
        """Stop the conversions of a page, such as one that is closed."""
        for stop, session in list(self._stops.items()):
            if session == str(request.session_hash):
                stop.set()

    def compare(self, known: list[Clip], first: int | None, second: int | None) -> dict[Any, Any]:
        """Show players and spectra of the two clips."""
        pair = [known[number] for number in (first, second) if number is not None and number < len(known)]
        if len(pair) < 2:
            return {self.picture: ""}
        titles = [f"A: {pair[0].title}", f"B: {pair[1].title}"]
        try:
            drawn = clips.compare({title: Path(clip.path) for title, clip in zip(titles, pair, strict=True)})
            picture = markup.picture(drawn, self.text("convert.picture", first=pair[0].title, second=pair[1].title))
        except (RVCError, OSError):
            picture = markup.error(self.text("convert.expired"))
        return {
            self.audio_a: gr.update(value=pair[0].path, label=titles[0]),
            self.audio_b: gr.update(value=pair[1].path, label=titles[1]),
            self.picture: picture,
        }

    def _run(
        self, given: Mapping[Component, Any], request: gr.Request, progress: gr.Progress, *, is_preview: bool
    ) -> Iterator[dict[Any, Any]]:
        stop = threading.Event()
        self._stops[stop] = str(request.session_hash)
        try:
            order = self._order(given, is_preview)
            with self.service.line.ticket() as turn:
                for ahead in turn:
                    self._check(stop)
                    yield {self.status: markup.status(self.text("convert.waiting", number=ahead))}
                start = time.monotonic()
                converted, failed = self._convert_all(order, stop, progress)
                seconds = f"{time.monotonic() - start:.1f}"
            yield self._answer(order, converted, failed, seconds, given[self.clips])
        except RVCError as error:
            yield {self.status: error_of(error, self.text)}
        finally:
            del self._stops[stop]

    def _order(self, given: Mapping[Component, Any], is_preview: bool) -> Order:
        recordings = [*(given[self.recordings] or []), *filter(None, [given[self.microphone]])]
        if not given[self.voice]:
            raise RVCError(self.text("convert.choose_voice"))
        if not recordings:
            raise RVCError(self.text("convert.choose_recording"))
        options = self.controls.options(given, speaker=given[self.speaker] or None)
        return Order(given[self.voice], list(map(Path, recordings)), options, is_preview)

    def _convert_all(
        self, order: Order, stop: threading.Event, progress: gr.Progress
    ) -> tuple[list[tuple[Path, Path]], list[str]]:
        """Return each recording with its result, and the errors of the others."""
        converted, failed = [], []
        for number, recording in enumerate(order.recordings):
            # A separate folder, since recordings may have the same name. The storage deletes it later.
            folder = Path(tempfile.mkdtemp())

            def report(share: float, stage: str, number: int = number, name: str = recording.name) -> None:
                self._check(stop)
                total = len(order.recordings)
                place = f" {number + 1}/{total}, {name}" if total > 1 else ""
                progress((number + share) / total, desc=f"{self.text(f'convert.stages.{stage}')}{place}")

            try:
                source = _beginning(recording, folder) if order.is_preview else recording
                result = self.service.convert(order.voice, source, order.options, folder, report)
                converted.append((source, result))
            except RVCError as error:
                if stop.is_set() or len(order.recordings) == 1:
                    raise
                failed.append(str(error).replace(str(folder), ""))
        return converted, failed

    def _check(self, stop: threading.Event) -> None:
        if stop.is_set():
            raise RVCError(self.text("convert.stopped"))

    def _answer(
        self, order: Order, converted: list[tuple[Path, Path]], failed: list[str], seconds: str, known: list[Clip]
    ) -> dict[Any, Any]:
        done = markup.status(self.text("convert.done", seconds=seconds)) if converted else ""
        answer: dict[Any, Any] = {
            self.status: done + "".join(map(markup.error, failed)),
            self.command: markup.command(self.text("common.command"), *self._commands(order)),
        }
        if not converted:
            return answer
        results = [result for _, result in converted]
        whole = results[0] if len(results) == 1 else clips.archive(results, Path(tempfile.mkdtemp(), "converted.zip"))
        added = [clip for pair in converted for clip in self._clips_of(order, *pair)]
        merged = [*[clip for clip in known if clip not in added][-_MAX_EARLIER_CLIPS:], *added]
        titles = [(clip.title, number) for number, clip in enumerate(merged)]
        label = self.text("common.download_file", name=whole.name)
        return answer | {
            self.download: gr.update(value=whole, visible=True, label=label),
            self.clips: merged,
            self.comparison: gr.update(visible=True),
            self.choice_a: gr.update(choices=titles, value=merged.index(added[0])),
            self.choice_b: gr.update(choices=titles, value=merged.index(added[1])),
        }

    def _clips_of(self, order: Order, source: Path, result: Path) -> tuple[Clip, Clip]:
        changes = ", ".join(format_override(name, value) for name, value in chosen(order.options).items())
        title = f"{source.stem} → {Path(order.voice).stem}" + (f" ({changes})" if changes else "")
        return Clip(source.name, str(source)), Clip(title, str(result))

    def _commands(self, order: Order) -> list[str]:
        """Return a command for each recording; uploads are files with the same name in the working folder."""
        voice = self.service.catalog.path(order.voice)
        options = self.presets.overrides(voice, order.options)
        suffix = order.options.output_format or DEFAULT_FORMAT
        return [
            format_command(
                "convert",
                format_override("voice", voice),
                format_override("input", recording.name),
                format_override("output", f"{recording.stem}_{voice.stem}.{suffix}"),
                *options,
            )
            for recording in order.recordings
        ]


def _beginning(recording: Path, folder: Path) -> Path:
    """Write the beginning of a recording. Raises RVCError with its name instead of its path."""
    with explained({recording: recording.name}):
        return clips.cut(recording, PREVIEW_SECONDS, folder)


def _notice(text: str | None, kind: str = "error") -> dict[str, Any]:
    return gr.update(visible=text is not None, value=markup.status(text or "", kind))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
