"""The tab Datasets: recordings in, a prepared dataset out, its report and its slices."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from rvc_lightning.app import markup
from rvc_lightning.app.catalog import Stamp
from rvc_lightning.app.commands import EXPERIMENTS, composed, dataset_overrides
from rvc_lightning.app.deletion import delete_dataset, unused_dataset
from rvc_lightning.app.folders import (
    add_uploads,
    child,
    format_size,
    store_uploads,
    subfolders,
    unfinished_datasets,
)
from rvc_lightning.app.tabs.deletion import Deletion
from rvc_lightning.app.tabs.jobs import JobsView
from rvc_lightning.app.tabs.workplace import QUIET, Workplace, reporting, upload_field
from rvc_lightning.audio.decode import load_audio
from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.data.manifest import (
    EXCLUDED_NAME,
    HEADER_NAME,
    exclude_slice,
    read_excluded,
    read_header,
    read_manifest,
)
from rvc_lightning.data.preparation import is_prepared_by
from rvc_lightning.data.report import format_duration, read_report
from rvc_lightning.data.report_picture import PICTURE_NAME
from rvc_lightning.data.selection import FIRST_SPEAKER, SPEAKER_RULES
from rvc_lightning.errors import DatasetError, RVCError
from rvc_lightning.io.names import file_name, is_portable
from rvc_lightning.training.dataset import preview_dataset, recipe_of

_MAX_LISTED = 200


class DatasetsTab:
    """Components and events of the tab."""

    def __init__(self, workplace: Workplace, tab: gr.Tab) -> None:
        """Create the components in the open block, and refresh lists when `tab` is opened."""
        self.workplace, self.text = workplace, workplace.text
        self._add_new()
        self.jobs = JobsView(workplace, tab, "prepare", ("prepare",))
        self._add_report()
        self._add_slices()
        self._connect(tab)

    def _add_new(self) -> None:
        text = self.text
        gr.Markdown(f"## {text('datasets.new')}")
        gr.HTML(markup.hint(text("datasets.hint")), padding=False)
        with gr.Row():
            with gr.Column():
                self.files = upload_field(text("datasets.files"), "dataset_files")
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
        self.stored = gr.State([])
        """Name and dropped files of the folder of recordings that was stored last."""
        self.plan = gr.HTML(elem_id="dataset_plan", padding=False)

    def _add_report(self) -> None:
        text = self.text
        gr.Markdown(f"## {text('datasets.title')}")
        self.refresh = gr.Button(text("common.refresh"), size="sm", render=False)
        with gr.Row(elem_classes="actions"):
            self.dataset = gr.Dropdown(
                [], label=text("datasets.dataset"), elem_id="dataset", buttons=[self.refresh], scale=3
            )
            self.delete = gr.Button(text("common.delete"), elem_id="dataset_delete", min_width=120)
        self.message = gr.HTML(elem_id="dataset_message", padding=False)
        self.deletion = Deletion(text, "dataset", self.delete, self.message)
        self.known = gr.State([])
        """Names of the datasets at the last look."""
        with gr.Accordion(text("datasets.add"), open=False, visible=False, elem_id="dataset_add") as self.addition:
            gr.HTML(markup.hint(text("datasets.add_help")), padding=False)
            self.more = upload_field(text("datasets.files"), "dataset_more")
            self.add = gr.Button(text("datasets.add_button"), elem_id="dataset_add_button")
        self.shown = gr.State([])
        """Name and stamps of the report that is shown."""
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
        listed = [self.folder, self.dataset, self.known]
        events = [tab.select, self.refresh.click, self.jobs.shown.change]
        gr.on(events, self.list_all, [self.dataset, self.known], listed, **QUIET)
        inputs = [self.files, self.folder, self.name, self.experiment, self.speakers, self.stored]
        submitted = [self.plan, self.stored, *self.jobs.submitted]
        self.preview.click(
            self.preview_dataset, inputs, self.plan, show_progress_on=self.plan, api_visibility="private"
        )
        self.prepare.click(self.prepare_dataset, inputs, submitted, **QUIET)
        self.add.click(
            self.add_recordings, [self.dataset, self.more], [self.message, self.more, *self.jobs.submitted], **QUIET
        )
        self.deletion.connect(self.dataset, self.ask_deletion, self.delete_dataset).then(
            self.list_all, [self.dataset, self.known], listed, **QUIET
        )
        shown = [self.report, self.shown, self.slices, self.addition, self.recording, self.excluded]
        self.dataset.change(self.show_report, self.dataset, shown, **QUIET)
        inputs = [self.dataset, self.recording, self.shown]
        gr.on([tab.select, self.jobs.shown.change], self.show_changes, inputs, shown, **QUIET)
        for event in (self.recording.change, self.dataset.change):
            event(self.list_slices, [self.dataset, self.recording], [self.slice, self.excluded], **QUIET)
        played = [self.player, self.toggle, self.excluded]
        self.slice.change(self.play, [self.dataset, self.slice], played, **QUIET)
        self.toggle.click(
            self.toggle_slice,
            [self.dataset, self.recording, self.slice],
            [self.slice, self.toggle, self.excluded],
            **QUIET,
        )

    def list_all(self, chosen: str | None, known: list[str]) -> tuple[Any, Any, list[str]]:
        """List folders of recordings and datasets; the chosen dataset is kept, unless another one has been prepared."""
        datasets, folders = self.workplace.datasets(), self.workplace.folders
        unfinished = [
            (self.text("datasets.unfinished", name=name), name) for name in unfinished_datasets(folders.datasets)
        ]
        choices = [*((name, name) for name in datasets), *unfinished]
        new = [name for name in datasets if known and name not in known]
        names = [name for _, name in choices]
        chosen = next(iter(new), chosen if chosen in names else next(iter(names), None))
        recordings = list(subfolders(folders.recordings))
        return gr.update(choices=recordings), gr.update(choices=choices, value=chosen), datasets

    @reporting("plan")
    def preview_dataset(
        self, files: list[str] | None, folder: str | None, name: str, experiment: str, speakers: str, stored: list[str]
    ) -> str:
        """Show what the preparation would do; dropped files are not stored."""
        audio = self._audio(files, folder, name, stored)
        with tempfile.TemporaryDirectory() as temporary:
            source = audio
            if files and not audio.exists():
                self.workplace.check_uploads(files)
                source = Path(temporary, audio.name)
                store_uploads(files, source)
            config = composed("prepare", self._overrides(source, name, experiment, speakers))
            summary = preview_dataset(config).summary().replace(str(source), str(audio))
        command = format_command("prepare", *self._overrides(audio, name, experiment, speakers), "preview=true")
        shown = f'<pre class="log" tabindex="0">{markup.escaped(summary)}</pre>'
        return shown + markup.command(self.text("common.command"), command)

    @reporting("plan")
    def prepare_dataset(
        self, files: list[str] | None, folder: str | None, name: str, experiment: str, speakers: str, stored: list[str]
    ) -> dict[Any, Any]:
        """Store dropped files, and submit the preparation as a job."""
        audio = self._audio(files, folder, name, stored)
        overrides = self._overrides(audio, name, experiment, speakers)
        composed("prepare", overrides)
        with contextlib.ExitStack() as undo:
            if files and not audio.exists():
                self.workplace.check_uploads(files)
                store_uploads(files, audio)
                undo.callback(shutil.rmtree, audio, ignore_errors=True)
            title = self.text("datasets.job", name=name.strip() or audio.name)
            submitted = self.jobs.submit("prepare", overrides, title)
            undo.pop_all()
        return submitted | {self.plan: "", self.stored: [audio.name, *files] if files else stored}

    def _audio(self, files: list[str] | None, folder: str | None, name: str, stored: list[str]) -> Path:
        """Return the folder of the recordings: the chosen one, or the one that dropped files have or will get.

        Raises:
            RVCError: Name or recordings are missing or not allowed.
        """
        name = name.strip()
        if not files:
            if not folder:
                raise RVCError(self.text("datasets.choose_recordings"))
            return self.workplace.recordings_folder(folder)
        if not name:
            raise RVCError(self.text("datasets.name_missing"))
        if not is_portable(name):
            raise RVCError(self.text("datasets.name_invalid", name=name, other=file_name(name)))
        audio = Path(self.workplace.folders.recordings, name)
        if audio.exists() and stored != [name, *files]:
            raise RVCError(self.text("datasets.name_taken", name=name))
        return audio

    def _overrides(self, audio: Path, name: str, experiment: str, speakers: str) -> list[str]:
        """Return the overrides of `prepare`."""
        overrides, name = [format_override("audio", audio)], name.strip()
        if name and name != audio.name:
            overrides.append(format_override("name", name))
        if speakers != SPEAKER_RULES[0]:
            overrides.append(format_override("speakers", speakers))
        return [*overrides, *dataset_overrides(experiment), *self.workplace.folders.overrides()]

    @reporting("message")
    def add_recordings(self, name: str | None, files: list[str] | None) -> dict[Any, Any]:
        """Store further recordings of a dataset, and submit its preparation as a job."""
        if not name:
            raise RVCError(self.text("datasets.choose_dataset"))
        if not files:
            raise RVCError(self.text("datasets.choose_more"))
        self.workplace.check_uploads(files)
        audio, experiment = self._origin(name)
        overrides = self._overrides(audio, name, experiment, SPEAKER_RULES[0])
        with contextlib.ExitStack() as undo:
            added = add_uploads(files, audio)
            for path in added:
                undo.callback(path.unlink)
            submitted = self.jobs.submit("prepare", overrides, self.text("datasets.job", name=name))
            undo.pop_all()
        numbers = {"number": len(added), "known": len(files) - len(added)}
        message = self.text("datasets.added", folder=audio, **numbers)
        return submitted | {self.message: markup.status(message), self.more: None}

    def _origin(self, name: str) -> tuple[Path, str]:
        """Return the recordings folder of a dataset, and the experiment with whose settings it was prepared.

        Raises:
            RVCError: The page would not have stored its recordings there, or not have prepared it in this way.
        """
        folder, recordings = child(self.workplace.folders.datasets, name), self.workplace.folders.recordings
        report = read_report(folder)
        audio = Path(report.get("audio", ""))
        if not audio.is_dir() or not audio.resolve().is_relative_to(Path(recordings).resolve()):
            raise RVCError(self.text("datasets.add_elsewhere", name=name, folder=recordings))
        if any("/" in used["recording"] for used in report["used"]):
            raise RVCError(self.text("datasets.add_subfolders", name=name, folder=audio))
        header = read_header(folder)
        for experiment in EXPERIMENTS:
            if is_prepared_by(header, recipe_of(composed("prepare", dataset_overrides(experiment)))):
                return audio, experiment
        raise RVCError(self.text("datasets.add_settings", name=name, folder=audio))

    def ask_deletion(self, name: str | None) -> str:
        """Return the question before a dataset is deleted. Raises RVCError if it cannot be."""
        if not name:
            raise RVCError(self.text("datasets.choose_dataset"))
        folder = unused_dataset(name, self.workplace.folders, self.workplace.jobs)
        try:
            audio = read_report(folder).get("audio", "")
        except DatasetError:
            # A damaged dataset can be deleted as well.
            audio = ""
        kept = "datasets.recordings_kept" if audio and Path(audio).exists() else "datasets.recordings_missing"
        size = format_size(folder)
        return self.text("datasets.delete_question", name=name, size=size, recordings=self.text(kept, folder=audio))

    def delete_dataset(self, name: str) -> str:
        """Delete a dataset; return a message."""
        delete_dataset(name, self.workplace.folders, self.workplace.jobs)
        return self.text("datasets.deleted", name=name)

    @reporting("report")
    def show_report(self, name: str | None, recording: str | None = None) -> dict[Any, Any]:
        """Show the report of a dataset; keep the selected recording if it still exists."""
        hidden = gr.update(visible=False)
        if not name:
            hint = markup.hint(self.text("datasets.none"))
            return {self.report: hint, self.slices: hidden, self.addition: hidden, self.shown: []}
        folder = child(self.workplace.folders.datasets, name)
        if name in unfinished_datasets(self.workplace.folders.datasets):
            hint = markup.hint(self.text("datasets.unfinished_help", name=name))
            return {self.report: hint, self.slices: hidden, self.addition: hidden, self.shown: [name]}
        stamps = _stamps(folder)
        report, rows = read_report(folder), read_manifest(folder)
        recordings = list(dict.fromkeys(row.recording for row in rows))
        chosen = recording if recording in recordings else next(iter(recordings), None)
        return {
            self.report: self._report(folder, report),
            self.shown: [name, *stamps],
            self.slices: gr.update(visible=True),
            self.addition: gr.update(visible=True),
            self.recording: gr.update(choices=recordings, value=chosen),
            self.excluded: self._count_excluded(folder),
        }

    def show_changes(self, name: str | None, recording: str | None, shown: list[Any]) -> dict[Any, Any]:
        """Show the report of a dataset again if it was prepared again."""
        if not name or shown == [name, *_stamps(Path(self.workplace.folders.datasets, name))]:
            return {self.report: gr.skip()}
        return self.show_report(name, recording)

    def _report(self, folder: Path, report: dict[str, Any]) -> str:
        text = self.text
        if "audio" not in report:
            # Imported from another tool.
            known = [(name, str(report[name])) for name in ("experiment", "used") if name in report]
            return markup.table([*known, (text("common.size"), format_size(folder))])
        facts = [
            (text("datasets.audio"), str(report["audio"])),
            (text("datasets.used"), f"{len(report['used'])}, {format_duration(report['seconds'])}"),
            (text("datasets.slices"), f"{report['slices']}, {format_duration(report['slice_seconds'])}"),
            (text("datasets.speakers"), _names([speaker["name"] for speaker in report["speakers"]])),
            (text("common.size"), format_size(folder)),
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

    @reporting("excluded")
    def list_slices(self, dataset: str | None, recording: str | None) -> dict[Any, Any]:
        """List the slices of a recording."""
        return {self.slice: self._slices(dataset, recording)}

    def _slices(self, dataset: str | None, recording: str | None, chosen: str | None = None) -> Any:
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

    @reporting("excluded")
    def play(self, dataset: str | None, audio: str | None) -> dict[Any, Any]:
        """Load a slice into the player."""
        if not dataset or not audio:
            return {self.player: None}
        folder = child(self.workplace.folders.datasets, dataset)
        wave, sample_rate = load_audio(child(folder, audio))
        is_excluded = audio in read_excluded(folder)
        samples = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
        return {self.player: (sample_rate, samples), self.toggle: self._toggle_label(is_excluded)}

    @reporting("excluded")
    def toggle_slice(self, dataset: str | None, recording: str | None, audio: str | None) -> dict[Any, Any]:
        """Exclude the slice, or restore it."""
        if not dataset or not audio:
            raise RVCError(self.text("datasets.choose_slice"))
        folder = child(self.workplace.folders.datasets, dataset)
        child(folder, audio)
        excluded = audio not in read_excluded(folder)
        exclude_slice(folder, audio, excluded=excluded)
        return {
            self.slice: self._slices(dataset, recording, audio),
            self.toggle: self._toggle_label(excluded),
            self.excluded: self._count_excluded(folder),
        }

    def _toggle_label(self, is_excluded: bool) -> Any:
        return gr.update(value=self.text("datasets.restore" if is_excluded else "datasets.exclude"))

    def _count_excluded(self, folder: Path) -> str:
        number = len(read_excluded(folder))
        return markup.hint(self.text("datasets.excluded", number=number, file=folder / EXCLUDED_NAME))


def _names(speakers: list[str]) -> str:
    """Return the names of speakers; the number of a single one without a name."""
    return "1" if speakers == [FIRST_SPEAKER] else ", ".join(speakers)


def _stamps(folder: Path) -> list[Stamp]:
    """Return the stamps of the files that a preparation writes last."""
    return [Stamp.of(path) for name in (HEADER_NAME, PICTURE_NAME) if (path := folder / name).is_file()]
