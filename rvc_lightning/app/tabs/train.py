"""The tab Train: settings, estimate, jobs, curves and samples of a run, resume, try, export."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from rvc_lightning.app import markup
from rvc_lightning.app.commands import (
    EXPERIMENTS,
    GROUPS,
    Setting,
    checked_training,
    composed,
    settings_of,
    typed_override,
)
from rvc_lightning.app.deletion import delete_run, unused_run
from rvc_lightning.app.estimate import Estimate, estimate
from rvc_lightning.app.folders import child, format_size
from rvc_lightning.app.labels import error_of, in_words
from rvc_lightning.app.runs import PEAK_MEMORY, SECONDS_PER_STEP, RunReader, RunReaders, Sample, list_runs
from rvc_lightning.app.tabs.deletion import Deletion
from rvc_lightning.app.tabs.jobs import JobsView
from rvc_lightning.app.tabs.trained import Trained
from rvc_lightning.app.tabs.workplace import QUIET, Workplace, reporting
from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.cli.resolvers import demo
from rvc_lightning.config.values import instantiate
from rvc_lightning.conversion.options import ConversionOptions
from rvc_lightning.data.report import format_duration, read_report
from rvc_lightning.errors import RVCError
from rvc_lightning.jobs.job import DEFAULT_DEVICE

_DEMO = ""
"""Choice of the recordings that ship with the package, for the quickstart."""
_EXPORT_DEVICE = "export"
"""An export does not wait for the training."""
_PROGRESS = gr.Progress()


class Seen(NamedTuple):
    """The state of the runs that a visitor sees."""

    runs: tuple[str, ...] = ()
    run: str = ""
    size: str = ""
    step: int = -1
    sample_step: int = -1


class TrainTab:
    """Components and events of the tab."""

    def __init__(self, workplace: Workplace, tab: gr.Tab) -> None:
        """Create the components in the open block, and refresh lists when `tab` is opened."""
        self.workplace, self.text, self._readers = workplace, workplace.text, RunReaders()
        self._add_new()
        self.jobs = JobsView(workplace, tab, "train", ("train", "export"))
        self.trained = Trained(workplace, self.jobs)
        self._add_run()
        self._connect(tab)

    def _add_new(self) -> None:
        text = self.text
        gr.Markdown(f"## {text('train.new')}")
        gr.HTML(markup.hint(text("train.hint")), padding=False)
        experiments = [(text(f"experiments.{name}"), name) for name in EXPERIMENTS]
        experiments += [(name, name) for name in self.workplace.own_experiments()]
        with gr.Row():
            self.refresh = gr.Button(text("common.refresh"), size="sm", render=False)
            self.dataset = gr.Dropdown([], label=text("train.dataset"), elem_id="train_dataset", buttons=[self.refresh])
            self.experiment = gr.Dropdown(
                experiments, value=EXPERIMENTS[0], label=text("train.experiment"), elem_id="train_experiment"
            )
        self.controls: dict[str, Component] = {}
        settings = gr.Accordion(text("train.settings"), open=False, elem_id="train_settings")
        with settings, gr.Row(elem_classes="options"):
            for setting in self._settings(EXPERIMENTS[0]).values():
                with gr.Column(min_width=0):
                    self.controls[setting.name] = self._control(setting)
        with gr.Row():
            self.start = gr.Button(text("train.start"), variant="primary", elem_id="train_start")
            self.estimate = gr.Button(text("train.estimate"), elem_id="train_estimate")
        self.message = gr.HTML(elem_id="train_plan", padding=False)

    def _control(self, setting: Setting) -> Component:
        words: dict[str, Any] = {
            "label": self.text(f"settings.{setting.name}.label"),
            "info": in_words(markup.sentence(self.text.get(f"settings.{setting.name}.help", setting.help)), self.text),
            "elem_id": f"train-{setting.name}",
        }
        if setting.choices:
            return gr.Dropdown(self._group_choices(setting), value="", **words)
        return gr.Textbox("", placeholder=self._placeholder(setting), max_lines=1, interactive=setting.is_used, **words)

    def _group_choices(self, setting: Setting) -> list[tuple[str, str]]:
        unchanged = (self.text("train.unchanged", value=setting.value), "")
        return [unchanged, *((choice, choice) for choice in setting.choices)]

    def _placeholder(self, setting: Setting) -> str:
        return setting.value or self.text("train.no_value")

    def _settings(self, experiment: str) -> dict[str, Setting]:
        return settings_of(experiment, self.workplace.search_path(experiment))

    def _add_run(self) -> None:
        text = self.text
        gr.Markdown(f"## {text('train.runs')}")
        self.run = gr.Dropdown([], label=text("train.run"), elem_id="run")
        self.facts = gr.HTML(elem_id="run_facts", padding=False)
        self.curves = gr.HTML(elem_id="curves", elem_classes="scroll", padding=False)
        self.samples = gr.HTML(elem_id="samples", padding=False)
        self.seen = gr.State(Seen())
        with gr.Row(elem_classes="actions"):
            self.limit = gr.Textbox(
                "", label=text("train.limit"), info=text("train.limit_help"), max_lines=1, elem_id="run_limit"
            )
            self.resume = gr.Button(text("train.resume"), elem_id="run_resume", min_width=120)
            self.export = gr.Button(text("train.export"), elem_id="run_export", min_width=120)
            self.delete = gr.Button(text("common.delete"), elem_id="run_delete", min_width=120)
        self.run_message = gr.HTML(elem_id="run_message", padding=False)
        self.deletion = Deletion(text, "run", self.delete, self.run_message)
        with gr.Accordion(text("train.try"), open=False, elem_id="run_try"), gr.Row():
            self.recording = gr.Audio(
                type="filepath",
                sources=["upload", "microphone"],
                label=text("train.try_recording"),
                buttons=[],
                elem_id="try_recording",
            )
            with gr.Column():
                self.try_button = gr.Button(text("train.try_button"), elem_id="try_button")
                self.try_status = gr.HTML(elem_id="try_status", min_height=50, padding=False)
                self.tried = gr.Audio(label=text("train.tried"), interactive=False, visible=False, elem_id="tried")

    def _connect(self, tab: gr.Tab) -> None:
        gr.on([tab.select, self.refresh.click], self.list_datasets, self.dataset, self.dataset, **QUIET)
        described = [self.message, *self.controls.values()]
        self.experiment.change(self.show_settings, self.experiment, described, **QUIET)
        inputs: set[Block] = {self.dataset, self.experiment, *self.controls.values()}
        self.start.click(self.start_training, inputs, [self.message, *self.jobs.submitted], **QUIET)
        self.estimate.click(
            self.estimate_training, inputs, self.message, show_progress_on=self.message, api_visibility="private"
        )
        shown = [self.run, self.facts, self.curves, self.samples, self.seen]
        events = [tab.select, self.jobs.timer.tick, self.run.input]
        gr.on(events, self.show_run, [self.run, self.seen], shown, **QUIET)
        self.deletion.connect(self.run, self.ask_deletion, self.delete_run).then(
            self.show_run, [self.run, self.seen], shown, **QUIET
        )
        submitted = [self.run_message, *self.jobs.submitted]
        self.resume.click(self.resume_run, [self.run, self.limit], submitted, **QUIET)
        self.export.click(self.export_run, self.run, submitted, **QUIET)
        self.try_button.click(
            self.try_checkpoint,
            [self.run, self.recording],
            [self.try_status, self.tried],
            concurrency_limit=None,
            show_progress_on=self.try_status,
            api_visibility="private",
        )

    def list_datasets(self, chosen: str | None) -> Any:
        """List the prepared datasets and the demo."""
        names = self.workplace.datasets()
        choices = [(self.text("train.demo"), _DEMO), *((name, name) for name in names)]
        return gr.update(choices=choices, value=chosen if chosen in names else (names or [_DEMO])[0])

    @reporting("message")
    def show_settings(self, experiment: str) -> dict[Any, Any]:
        """Show the values of an experiment in the controls."""
        updates: dict[Any, Any] = {self.message: ""}
        for setting in self._settings(experiment).values():
            if setting.choices:
                updates[self.controls[setting.name]] = gr.update(choices=self._group_choices(setting), value="")
            else:
                emptied: dict[str, Any] = {} if setting.is_used else {"value": ""}
                updates[self.controls[setting.name]] = gr.update(
                    placeholder=self._placeholder(setting), interactive=setting.is_used, **emptied
                )
        return updates

    @reporting("message")
    def start_training(self, given: dict[Component, Any]) -> dict[Any, Any]:
        """Submit the training as a job."""
        overrides = self._overrides(given)
        instantiate(checked_training(overrides).data, "data")
        title = self.text("train.job", name=given[self.dataset] or "quickstart", experiment=given[self.experiment])
        submitted = self.jobs.submit("train", overrides, title)
        return submitted | {self.message: self._command("train", overrides)}

    @reporting("message")
    def estimate_training(self, given: dict[Component, Any]) -> str:
        """Measure some steps, and show time and memory of the training."""
        overrides = self._overrides(given)
        config = checked_training(overrides)
        result = estimate(config, Path(config.paths.dataset))
        return markup.status(self._describe(result)) + self._command("train", overrides)

    def _describe(self, result: Estimate) -> str:
        text = self.text
        total = text("train.no_limit")
        if result.total_seconds is not None:
            total = text("train.total", duration=format_duration(result.total_seconds))
        return text(
            "train.estimated",
            step=f"{result.step_seconds:.2f}",
            total=total,
            memory=f"{result.memory_bytes / 2**30:.1f}",
            steps="" if result.steps is None else text("train.steps", number=result.steps),
        )

    def _overrides(self, given: dict[Component, Any]) -> list[str]:
        """Return the overrides of `train`. Raises RVCError if the dataset cannot be used."""
        experiment, dataset = given[self.experiment], given[self.dataset]
        overrides = [*self.workplace.search_path(experiment), f"+experiment={experiment}"]
        overrides += self._recordings(dataset) if dataset else [format_override("audio", demo("target"))]
        for name, control in self.controls.items():
            if value := str(given[control] or "").strip():
                overrides.append(f"{name}={value}" if name in GROUPS else typed_override(name, value))
        return [*overrides, *self.workplace.folders.overrides()]

    def _recordings(self, dataset: str) -> list[str]:
        """Return the overrides that name the recordings of a dataset, or only the dataset if they have moved."""
        folder = child(self.workplace.folders.datasets, dataset)
        # A dataset that was imported from another tool has none.
        audio = Path(read_report(folder).get("audio", ""))
        name = [] if audio.name == dataset and audio.is_dir() else [format_override("name", dataset)]
        return [format_override("audio", audio if audio.name and audio.exists() else None), *name]

    @reporting("facts")
    def show_run(self, chosen: str | None, seen: Seen) -> tuple[Any, ...]:
        """Return the list of runs, and facts, curves and samples of the chosen one, as far as they have changed."""
        runs = [str(run.relative_to(self.workplace.folders.runs)) for run in list_runs(self.workplace.folders.runs)]
        if not runs:
            return gr.update(choices=[], value=None), markup.hint(self.text("train.no_runs")), "", "", Seen()
        # A run that has just started is chosen.
        if chosen not in runs or (seen.runs and runs[0] not in seen.runs):
            chosen = runs[0]
        run = self._run(chosen)
        reader, size = self._readers.read(run), format_size(run)
        samples = reader.samples()
        now = Seen(tuple(runs), chosen, size, reader.step, samples[0].step if samples else 0)
        if now == seen:
            return (gr.skip(),) * 5
        drawn = reader.draw()
        curves = markup.hint(self.text("train.no_curves"))
        if drawn is not None:
            curves = markup.picture(drawn, self.text("train.curves"), "plain")
        # A new value would stop a player.
        is_same_clip = (seen.run, seen.sample_step) == (now.run, now.sample_step)
        players = gr.skip() if is_same_clip else self._players(samples)
        return gr.update(choices=runs, value=chosen), markup.table(self._facts(reader, size)), curves, players, now

    def _facts(self, reader: RunReader, size: str) -> Iterator[tuple[str, str]]:
        values = {
            "best": reader.best(),
            "seconds": reader.latest(SECONDS_PER_STEP),
            "memory": reader.latest(PEAK_MEMORY),
        }
        yield self.text("train.facts.step"), str(reader.step)
        for name, value in values.items():
            if value is not None:
                yield self.text(f"train.facts.{name}"), f"{value:.3g}"
        yield self.text("common.size"), size

    def _players(self, samples: Sequence[Sample]) -> str:
        clips = []
        for sample in samples:
            recorded = markup.player(
                self.text("train.recorded", clip=sample.title), markup.data_url("audio/wav", sample.recorded)
            )
            rebuilt = markup.player(
                self.text("train.rebuilt", clip=sample.title, step=sample.step),
                markup.data_url("audio/wav", sample.rebuilt),
            )
            clips.append(f'<div class="players">{recorded}{rebuilt}</div>')
        return "".join(clips)

    @reporting("run_message")
    def resume_run(self, chosen: str | None, limit: str) -> dict[Any, Any]:
        """Submit the run again, from its newest checkpoint."""
        more = [typed_override("trainer.max_time", limit.strip())] if limit.strip() else []
        return self._submit_for(chosen, "train", more, "train.resume_job", DEFAULT_DEVICE)

    @reporting("run_message")
    def export_run(self, chosen: str | None) -> dict[Any, Any]:
        """Submit the export of the best checkpoint."""
        name = Path(chosen).parts[0] if chosen else ""
        output = [format_override("output", Path(self.workplace.folders.voices, name))]
        return self._submit_for(chosen, "export", output, "train.export_job", _EXPORT_DEVICE)

    def ask_deletion(self, chosen: str | None) -> str:
        """Return the question before a run is deleted. Raises RVCError if it cannot be."""
        if not chosen:
            raise RVCError(self.text("train.choose_run"))
        run = unused_run(chosen, self.workplace.folders, self.workplace.jobs)
        return self.text("train.delete_question", name=chosen, size=format_size(run))

    def delete_run(self, chosen: str) -> str:
        """Delete a run; return a message."""
        delete_run(chosen, self.workplace.folders, self.workplace.jobs)
        return self.text("train.deleted", name=chosen)

    def _submit_for(
        self, chosen: str | None, command: str, overrides: Sequence[str], title: str, device: str
    ) -> dict[Any, Any]:
        overrides = [format_override("checkpoint", self._run(chosen)), *overrides]
        if command == "train":
            overrides = [*self.workplace.search_path(), *overrides, *self.workplace.folders.overrides()]
            checked_training(overrides)
        else:
            composed(command, overrides)
        submitted = self.jobs.submit(command, overrides, self.text(title, run=chosen), device=device)
        return submitted | {self.run_message: self._command(command, overrides)}

    def try_checkpoint(
        self, chosen: str | None, recording: str | None, progress: gr.Progress = _PROGRESS
    ) -> Iterator[tuple[Any, Any]]:
        """Convert a recording with the best checkpoint of the run."""
        try:
            run = self._run(chosen)
            if not recording:
                raise RVCError(self.text("convert.choose_recording"))
            with self.workplace.service.line.ticket() as turn:
                for ahead in turn:
                    yield markup.status(self.text("convert.waiting", number=ahead)), gr.skip()
                result = self.workplace.service.try_checkpoint(
                    run,
                    Path(recording),
                    ConversionOptions(),
                    Path(tempfile.mkdtemp()),
                    lambda share, stage: progress(share, desc=self.text(f"convert.stages.{stage}")),
                )
        except (RVCError, OSError) as error:
            yield error_of(error, self.text), gr.skip()
            return
        commands = [
            format_command("export", format_override("checkpoint", run), "output=tried", "name=tried"),
            format_command(
                "convert", "voice=tried/tried.pth", format_override("input", Path(recording).name), "output=tried.wav"
            ),
        ]
        shown = markup.status(self.text("train.tried_message")) + markup.command(self.text("common.command"), *commands)
        yield shown, gr.update(value=result, visible=True)

    def _run(self, chosen: str | None) -> Path:
        """Return the folder of a run. Raises RVCError if none is chosen, or it does not exist."""
        if not chosen:
            raise RVCError(self.text("train.choose_run"))
        return child(self.workplace.folders.runs, chosen)

    def _command(self, name: str, overrides: Sequence[str]) -> str:
        return markup.command(self.text("common.command"), format_command(name, *overrides))
