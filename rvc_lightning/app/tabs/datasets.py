"""The tab Datasets: recordings in, a prepared dataset out, its report and its slices."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from rvc_lightning.app import markup
from rvc_lightning.app.commands import EXPERIMENTS, composed, dataset_overrides
from rvc_lightning.app.folders import child, subfolders
from rvc_lightning.app.tabs.jobs import JobsView
from rvc_lightning.app.tabs.workplace import QUIET, Workplace
from rvc_lightning.audio.decode import AUDIO_EXTENSIONS, load_audio
from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.data.manifest import EXCLUDED_NAME, exclude_slice, read_excluded, read_manifest
from rvc_lightning.data.report import REPORT_NAME, format_duration
from rvc_lightning.data.report_picture import PICTURE_NAME
from rvc_lightning.data.selection import SPEAKER_RULES
from rvc_lightning.errors import RVCError
from rvc_lightning.io.files import explain_write_errors, read_json
from rvc_lightning.io.names import is_file_name, numbered_names
from rvc_lightning.training.dataset import preview_dataset

_MAX_LISTED = 200


class DatasetsTab:
    """Components and events of the tab."""

    def __init__(self, workplace: Workplace, tab: gr.Tab) -> None:
        """Create the components in the open block, and refresh lists when `tab` is opened."""
        self.workplace, self.text = workplace, workplace.text
        self._add_new()
        self.jobs = JobsView(workplace, "prepare", ("prepare",))
        self._add_report()
        self._add_slices()
        self._connect(tab)

    def _add_new(self) -> None:
        text = self.text
        gr.Markdown(f"## {text('datasets.new')}")
        gr.HTML(markup.hint(text("datasets.hint")), padding=False)
        with gr.Row():
            with gr.Column():
                self.files = gr.File(
                    label=text("datasets.files"),
                    file_count="multiple",
                    type="filepath",
                    file_types=sorted(AUDIO_EXTENSIONS),
                    height=150,
                    elem_id="dataset_files",
                )
                is_local = self.workplace.is_local
                self.folder = gr.Dropdown(
                    [],
                    label=text("datasets.folder"),
                    info=text("datasets.folder_any" if is_local else "datasets.folder_below"),
                    allow_custom_value=is_local,
                    elem_id="dataset_folder",
                )
            with gr.Column():
                self.name = gr.Textbox(
                    "",
                    label=text("datasets.name"),
                    info=text("datasets.name_help"),
                    max_lines=1,
                    elem_id="dataset_name",
                )
                experiments = [(text(f"experiments.{name}"), name) for name in EXPERIMENTS]
                self.experiment = gr.Dropdown(
                    experiments, value=EXPERIMENTS[0], label=text("datasets.experiment"), elem_id="dataset_experiment"
                )
                rules = [(text(f"datasets.rules.{rule}"), rule) for rule in SPEAKER_RULES]
                self.speakers = gr.Dropdown(rules, value=rules[0][1], label=text("datasets.speakers"))
                with gr.Row():
                    self.prepare = gr.Button(text("datasets.prepare"), variant="primary", elem_id="prepare")
                    self.preview = gr.Button(text("datasets.preview"), elem_id="dataset_preview")
        self.stored = gr.State("")
        self.plan = gr.HTML(elem_id="dataset_plan", padding=False)

    def _add_report(self) -> None:
        text = self.text
        gr.Markdown(f"## {text('datasets.title')}")
        self.refresh = gr.Button(text("common.refresh"), size="sm", render=False)
        self.dataset = gr.Dropdown([], label=text("datasets.dataset"), elem_id="dataset", buttons=[self.refresh])
        self.report = gr.HTML(elem_id="dataset_report", elem_classes="scroll", padding=False)

    def _add_slices(self) -> None:
        text = self.text
        with gr.Accordion(text("datasets.slices"), open=False, visible=False, elem_id="slices") as self.slices:
            with gr.Row():
                self.recording = gr.Dropdown([], label=text("datasets.recording"), elem_id="slice_recording")
                self.slice = gr.Dropdown([], label=text("datasets.slice"), elem_id="slice")
                self.toggle = gr.Button(text("datasets.exclude"), elem_id="slice_toggle")
            self.player = gr.Audio(
                label=text("datasets.slice"), type="numpy", interactive=False, buttons=[], elem_id="slice_audio"
            )
            self.excluded = gr.HTML(elem_id="excluded", padding=False)

    def _connect(self, tab: gr.Tab) -> None:
        listed = [self.folder, self.dataset]
        events = [tab.select, self.refresh.click, self.jobs.shown.change]
        gr.on(events, self.list_all, self.dataset, listed, **QUIET)
        inputs = [self.files, self.folder, self.name, self.experiment, self.speakers, self.stored]
        submitted = [self.plan, self.stored, *self.jobs.submitted]
        self.preview.click(
            self.preview_dataset, inputs, [self.plan, self.stored], show_progress_on=self.plan, api_visibility="private"
        )
        self.prepare.click(self.prepare_dataset, inputs, submitted, **QUIET)
        shown = [self.report, self.slices, self.recording, self.excluded]
        self.dataset.change(self.show_report, self.dataset, shown, **QUIET)
        for event in (self.recording.change, self.dataset.change):
            event(self.list_slices, [self.dataset, self.recording], self.slice, **QUIET)
        self.slice.change(self.play, [self.dataset, self.slice], [self.player, self.toggle], **QUIET)
        self.toggle.click(
            self.toggle_slice,
            [self.dataset, self.recording, self.slice],
            [self.slice, self.toggle, self.excluded],
            **QUIET,
        )

    def list_all(self, chosen: str | None) -> tuple[Any, Any]:
        """List folders of recordings and datasets; the chosen dataset is kept."""
        folders = self.workplace.folders
        datasets = self.workplace.datasets()
        chosen = chosen if chosen in datasets else next(iter(datasets), None)
        recordings = list(subfolders(folders.recordings))
        return gr.update(choices=recordings), gr.update(choices=datasets, value=chosen)

    def preview_dataset(
        self, files: list[str] | None, folder: str | None, name: str, experiment: str, speakers: str, stored: str
    ) -> dict[Any, Any]:
        """Show what the preparation would do."""
        try:
            stored, overrides = self._order(files, folder, name, experiment, speakers, stored)
            summary = preview_dataset(composed("prepare", overrides)).summary()
        except (RVCError, OSError) as error:
            return {self.plan: markup.error(str(error)), self.stored: stored}
        shown = f'<pre class="log" tabindex="0">{markup.escaped(summary)}</pre>'
        command = format_command("prepare", *overrides, "preview=true")
        return {self.plan: shown + markup.command(self.text("common.command"), command), self.stored: stored}

    def prepare_dataset(
        self, files: list[str] | None, folder: str | None, name: str, experiment: str, speakers: str, stored: str
    ) -> dict[Any, Any]:
        """Submit the preparation as a job."""
        try:
            stored, overrides = self._order(files, folder, name, experiment, speakers, stored)
            composed("prepare", overrides)
            title = self.text("datasets.job", name=stored or name.strip() or Path(folder or "").name)
            submitted = self.jobs.submit("prepare", overrides, title)
        except (RVCError, OSError) as error:
            return {self.plan: markup.error(str(error)), self.stored: stored}
        return submitted | {self.plan: "", self.stored: stored}

    def _order(
        self, files: list[str] | None, folder: str | None, name: str, experiment: str, speakers: str, stored: str
    ) -> tuple[str, list[str]]:
        """Store dropped files; return the name of their folder, and the overrides of `prepare`.

        Raises:
            RVCError: Name or recordings are missing or not allowed.
        """
        name = name.strip()
        if files:
            if not stored or name != stored:
                self._store(name, files)
            audio, stored = Path(self.workplace.folders.recordings, name), name
        elif folder:
            audio = self.workplace.recordings_folder(folder)
        else:
            raise RVCError(self.text("datasets.choose_recordings"))
        overrides = [format_override("audio", audio)]
        if name and name != audio.name:
            overrides.append(format_override("name", name))
        if speakers != SPEAKER_RULES[0]:
            overrides.append(format_override("speakers", speakers))
        return stored, [*overrides, *dataset_overrides(experiment), *self.workplace.folders.overrides()]

    def _store(self, name: str, files: Sequence[str]) -> None:
        """Copy uploads to a new folder of recordings, all of them or none."""
        folder = Path(self.workplace.folders.recordings, name)
        if not name:
            raise RVCError(self.text("datasets.name_missing"))
        if not is_file_name(name) or name.startswith("."):
            raise RVCError(self.text("datasets.name_invalid", name=name))
        if folder.exists():
            raise RVCError(self.text("datasets.name_taken", name=name))
        with explain_write_errors(folder), contextlib.ExitStack() as undo:
            folder.mkdir(parents=True)
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            names = numbered_names(list(map(Path, files)))
            for file, stored in zip(files, names, strict=True):
                shutil.copyfile(file, folder / stored)
            undo.pop_all()

    def show_report(self, name: str | None) -> dict[Any, Any]:
        """Show report, picture, files left out and recordings of a dataset."""
        if not name:
            return {self.report: markup.hint(self.text("datasets.none")), self.slices: gr.update(visible=False)}
        try:
            folder = child(self.workplace.folders.datasets, name)
            report, rows = read_json(folder / REPORT_NAME), read_manifest(folder)
        except (RVCError, OSError, ValueError) as error:
            return {self.report: markup.error(str(error)), self.slices: gr.update(visible=False)}
        recordings = list(dict.fromkeys(row.recording for row in rows))
        return {
            self.report: self._report(folder, report),
            self.slices: gr.update(visible=True),
            self.recording: gr.update(choices=recordings, value=recordings[0] if recordings else None),
            self.excluded: self._count_excluded(folder),
        }

    def _report(self, folder: Path, report: dict[str, Any]) -> str:
        text = self.text
        facts = [
            (text("datasets.audio"), str(report["audio"])),
            (text("datasets.used"), f"{len(report['used'])}, {format_duration(report['seconds'])}"),
            (text("datasets.slices"), f"{report['slices']}, {format_duration(report['slice_seconds'])}"),
            (text("datasets.speakers"), ", ".join(speaker["name"] for speaker in report["speakers"])),
        ]
        parts = [(file["path"], file["reason"]) for file in report["skipped"]]
        for recording in report["used"]:
            for part in recording["left_out"]:
                end = part["start_seconds"] + part["seconds"]
                parts.append((f"{recording['recording']}, {part['start_seconds']:.1f}–{end:.1f} s", part["reason"]))
        head = (text("datasets.left_out"), text("datasets.reason"))
        left_out = markup.table(parts[:_MAX_LISTED], head) if parts else markup.hint(text("datasets.nothing_left_out"))
        picture = folder / PICTURE_NAME
        drawn = markup.picture(picture.read_bytes(), text("datasets.picture")) if picture.is_file() else ""
        return markup.table(facts) + drawn + left_out

    def list_slices(self, dataset: str | None, recording: str | None, chosen: str | None = None) -> Any:
        """List the slices of a recording; a cross marks the excluded ones."""
        if not dataset or not recording:
            return gr.update(choices=[], value=None)
        folder = child(self.workplace.folders.datasets, dataset)
        excluded = read_excluded(folder)
        rows = [row for row in read_manifest(folder) if row.recording == recording]
        choices = [
            (f"{number + 1}: {row.seconds:.1f} s{' ✗' if row.audio in excluded else ''}", row.audio)
            for number, row in enumerate(rows)
        ]
        return gr.update(choices=choices, value=chosen or (choices[0][1] if choices else None))

    def play(self, dataset: str | None, audio: str | None) -> tuple[Any, Any]:
        """Load a slice into the player."""
        if not dataset or not audio:
            return None, gr.skip()
        folder = child(self.workplace.folders.datasets, dataset)
        wave, sample_rate = load_audio(child(folder, audio))
        is_excluded = audio in read_excluded(folder)
        samples = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
        return (sample_rate, samples), self._toggle_label(is_excluded)

    def toggle_slice(self, dataset: str | None, recording: str | None, audio: str | None) -> tuple[Any, Any, Any]:
        """Exclude the slice, or restore it."""
        if not dataset or not audio:
            return gr.skip(), gr.skip(), markup.error(self.text("datasets.choose_slice"))
        folder = child(self.workplace.folders.datasets, dataset)
        child(folder, audio)
        excluded = audio not in read_excluded(folder)
        try:
            exclude_slice(folder, audio, excluded=excluded)
        except RVCError as error:
            return gr.skip(), gr.skip(), markup.error(str(error))
        slices = self.list_slices(dataset, recording, audio)
        return slices, self._toggle_label(excluded), self._count_excluded(folder)

    def _toggle_label(self, is_excluded: bool) -> Any:
        return gr.update(value=self.text("datasets.restore" if is_excluded else "datasets.exclude"))

    def _count_excluded(self, folder: Path) -> str:
        number = len(read_excluded(folder))
        return markup.hint(self.text("datasets.excluded", number=number, file=folder / EXCLUDED_NAME))
