"""The tab Create: covers of songs and speech from text as jobs, and their results."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from rvc_lightning.app import markup
from rvc_lightning.app.commands import composed, typed_override
from rvc_lightning.app.controls import control
from rvc_lightning.app.folders import child
from rvc_lightning.app.labels import error_of
from rvc_lightning.app.problems import API
from rvc_lightning.app.tabs.jobs import JobsView
from rvc_lightning.app.tabs.pitch import OwnPitch
from rvc_lightning.app.tabs.presets import first_preset, preset_choices
from rvc_lightning.app.tabs.workplace import QUIET, Workplace, reporting, shortened, speaker_choice, speakers_of
from rvc_lightning.audio.decode import AUDIO_EXTENSIONS
from rvc_lightning.audio.discovery import display_name
from rvc_lightning.audio.mastering import import_pyloudnorm
from rvc_lightning.audio.pitch_shift import import_stretch
from rvc_lightning.cli.overrides import format_command, format_override
from rvc_lightning.config.options import option_fields
from rvc_lightning.config.values import plain
from rvc_lightning.conversion.options import DEFAULT_FORMAT, FORMATS, ConversionOptions
from rvc_lightning.conversion.presets import read_preset
from rvc_lightning.covers.settings import MixSettings, SongSettings
from rvc_lightning.errors import ConfigurationError, RVCError
from rvc_lightning.io.files import explain_write_errors
from rvc_lightning.io.names import home_path, is_file_name, plain_name
from rvc_lightning.jobs.job import INPUT, OUTPUT, State
from rvc_lightning.separation import SEPARATORS
from rvc_lightning.separation.base import PARTS
from rvc_lightning.tts import SPEECH_ENGINES, build_speech_engine
from rvc_lightning.tts.text import read_text

_UPLOADS = ("song", "vocals", "instrumental")


class CreateTab:
    """Components and events of the tab."""

    def __init__(self, workplace: Workplace, tab: gr.Tab) -> None:
        """Create the components in the open block, and refresh lists when `tab` is opened."""
        self.workplace, self.text = workplace, workplace.text
        minutes = f"{workplace.service.limits.keep_minutes:g}"
        gr.HTML(markup.hint(self.text("create.hint", minutes=minutes)), padding=False)
        self._add_voice()
        with gr.Row():
            with gr.Column():
                self._add_cover()
            with gr.Column():
                self._add_speech()
        self.message = gr.HTML(elem_id="create_plan", padding=False)
        self.jobs = JobsView(workplace, tab, "create", ("cover", "speak"))
        self.result = gr.HTML(elem_id="create_result", padding=False)
        self._connect(tab)

    def _add_voice(self) -> None:
        text = self.text
        with gr.Row():
            self.refresh = gr.Button(text("common.refresh"), size="sm", render=False)
            self.voice = gr.Dropdown([], label=text("common.voice"), elem_id="create_voice", buttons=[self.refresh])
            self.speaker = gr.Dropdown(
                [("0", 0)], value=0, label=text("convert.speaker"), visible=False, elem_id="create_speaker"
            )
            self.preset = gr.Dropdown([], label=text("presets.preset"), elem_id="create_preset")
            self.applied = gr.State("")
            """Name of the preset whose values are shown."""
            self.format = gr.Dropdown(
                list(FORMATS), value=DEFAULT_FORMAT, label=text("create.format"), elem_id="create_format"
            )
        self.transpose = self._option("transpose_semitones")

    def _add_cover(self) -> None:
        text = self.text
        gr.Markdown(f"## {text('create.cover')}")
        self.cover_missing = gr.HTML(elem_id="cover_missing", padding=False)
        self.uploads = {
            name: gr.File(
                label=text(f"create.{name}"),
                type="filepath",
                file_types=sorted(AUDIO_EXTENSIONS),
                height=140,
                elem_id=f"cover_{name}",
            )
            for name in _UPLOADS
        }
        separations = [(text(f"create.separations.{part}"), part) for part in PARTS]
        self.separation = gr.Dropdown(
            separations, value=PARTS[0], label=text("create.separation"), elem_id="cover_separation"
        )
        key = next(field for field in option_fields(MixSettings) if field.name == "key_semitones")
        assert key.min is not None and key.max is not None
        self.key = gr.Slider(
            key.min, key.max, 0, step=1, label=text("create.key"), info=text("create.key_help"), elem_id="cover_key"
        )
        self.loudness = gr.Textbox(
            "",
            label=text("create.loudness"),
            info=text("create.loudness_help"),
            max_lines=1,
            elem_id="cover_loudness",
        )
        self.make_cover = gr.Button(text("create.make_cover"), variant="primary", elem_id="cover_start")

    def _add_speech(self) -> None:
        text = self.text
        gr.Markdown(f"## {text('create.speech')}")
        self.speech_missing = gr.HTML(elem_id="speech_missing", padding=False)
        self.speech = gr.Textbox("", label=text("create.text"), lines=6, elem_id="speech_text")
        self.engine = gr.Dropdown([], label=text("create.engine"), elem_id="speech_engine")
        self.speech_voice = gr.Dropdown(
            [],
            label=text("create.speech_voice"),
            info=text("create.speech_voice_help"),
            allow_custom_value=True,
            elem_id="speech_voice",
        )
        self.pitch = self._option("proposed_pitch_hz")
        self.own_pitch = OwnPitch(text, "create", self.pitch)
        self.speak = gr.Button(text("create.speak"), variant="primary", elem_id="speech_start")

    def _connect(self, tab: gr.Tab) -> None:
        listed: list[Any] = [
            *(self.voice, self.cover_missing, self.uploads["song"], self.separation, self.key, self.make_cover),
            *(self.speech_missing, self.engine, self.speak),
        ]
        gr.on([tab.select, self.refresh.click], self.list_all, [self.voice, self.engine], listed, **QUIET)
        shown = [self.speaker, self.transpose, self.applied, self.message]
        described = [self.preset, *shown, self.pitch, *self.own_pitch.components]
        before = [self.applied, self.own_pitch.pitch, self.pitch]
        self.voice.change(self.describe, [self.voice, *before], described, **QUIET)
        self.preset.input(self.show_preset, [self.voice, self.preset], shown, **QUIET)
        self.engine.change(self.list_speech_voices, self.engine, self.speech_voice, **QUIET)
        shared: set[Block] = {self.voice, self.speaker, self.preset, self.format, self.transpose}
        cover = {*self.uploads.values(), self.separation, self.key, self.loudness}
        speech = {self.speech, self.engine, self.speech_voice, self.pitch}
        submitted = [self.message, *self.jobs.submitted]
        self.make_cover.click(self.start_cover, shared | cover, submitted, **QUIET)
        self.speak.click(self.start_speech, shared | speech, submitted, **QUIET)
        self.jobs.shown.change(self.show_result, self.jobs.choice, self.result, **QUIET)

    def list_all(self, voice: str | None, engine: str | None) -> dict[Any, Any]:
        """List the voices and the installed engines."""
        catalog = self.workplace.service.catalog
        catalog.refresh()
        names = catalog.names
        separator = SEPARATORS[str(composed("cover", []).separator.name)]
        separation, mixing, key = map(_missing, (separator.check_installed, import_pyloudnorm, import_stretch))
        missing = {name: _missing(found.check_installed) for name, found in SPEECH_ENGINES.items()}
        engines = [name for name in SPEECH_ENGINES if not missing[name]]
        labels = [(self.text(f"create.engines.{name}"), name) for name in engines]
        return {
            self.voice: gr.update(choices=names, value=voice if voice in names else next(iter(names), None)),
            self.cover_missing: _hints(separation, mixing, key),
            self.uploads["song"]: gr.update(visible=not separation),
            self.separation: gr.update(visible=not separation),
            self.key: gr.update(interactive=not key),
            self.make_cover: gr.update(interactive=not mixing),
            self.speech_missing: _hints(*missing.values()),
            self.engine: gr.update(choices=labels, value=engine if engine in engines else next(iter(engines), None)),
            self.speak: gr.update(interactive=bool(engines)),
        }

    @reporting("message")
    def describe(
        self, name: str | None, applied: str | None = None, pitch: str = "", proposed: str = ""
    ) -> dict[Any, Any]:
        """List speakers and presets of a voice, show its pitch, and show the default preset in place of `applied`."""
        if not name:
            return {self.speaker: gr.update(visible=False, value=0)} | self.own_pitch.of_voice(None)
        catalog = self.workplace.service.catalog
        facts, path = catalog.facts(name), catalog.path(name)
        speakers, preset = speakers_of(facts), first_preset(path)
        speaker, transpose = self._preset_values(name, preset)
        return self.own_pitch.of_voice(facts.own_pitch_hz, pitch, proposed) | {
            self.speaker: gr.update(choices=speakers, value=speaker, visible=len(speakers) > 1),
            self.preset: gr.update(choices=preset_choices(path, self.text), value=preset),
            self.transpose: transpose if preset or applied else gr.skip(),
            self.applied: preset,
            self.message: "",
        }

    @reporting("message")
    def show_preset(self, name: str | None, preset: str | None) -> dict[Any, Any]:
        """Show speaker and transposition of a preset; the others are not on this tab."""
        speaker, transpose = self._preset_values(name or "", preset)
        shown = {self.speaker: gr.update(value=speaker), self.transpose: transpose}
        return shown | {self.applied: preset or "", self.message: ""}

    def _preset_values(self, name: str, preset: str | None) -> tuple[int | str, float]:
        """Return speaker and transposition of a preset of a voice; the defaults without one."""
        catalog = self.workplace.service.catalog
        options = ConversionOptions.from_values(read_preset(catalog.path(name), preset) if preset else {})
        return speaker_choice(speakers_of(catalog.facts(name)), options.speaker), options.transpose_semitones

    def list_speech_voices(self, engine: str | None) -> Any:
        """List the files of an engine whose voices are files, those in the folder of the voices."""
        folder, names = Path(self.workplace.folders.voices), []
        if engine and _has_files(engine):
            found = (path for path in folder.rglob("[!.]*.onnx") if Path(f"{path}.json").is_file())
            names = sorted(display_name(path.relative_to(folder)) for path in found)
        return gr.update(choices=names, value=next(iter(names), None))

    def start_cover(self, given: dict[Component, Any]) -> dict[Any, Any]:
        """Submit the cover as a job."""
        return self._submit("cover", given, self._cover)

    def start_speech(self, given: dict[Component, Any]) -> dict[Any, Any]:
        """Submit the speech as a job."""
        return self._submit("speak", given, self._speech)

    def show_result(self, job_id: str | None) -> str:
        """Return a player and a link for the result of a job."""
        try:
            job = self.workplace.jobs.job(job_id or "")
        except RVCError:
            return ""
        if job.state is not State.DONE:
            return ""
        source = f"{API}/jobs/{job.id}/result"
        return markup.player(job.title, source) + markup.download(self.text("common.download"), source)

    def _submit(
        self,
        command: str,
        given: dict[Component, Any],
        prepare: Callable[[dict[Component, Any], Path, Path], tuple[str, list[str]]],
    ) -> dict[Any, Any]:
        """Submit a command as a job; `prepare` stores its files and returns title and overrides."""
        store, service = self.workplace.jobs, self.workplace.service
        job_id = store.new_id()
        folder = store.folder / job_id
        try:
            if not given[self.voice]:
                raise RVCError(self.text("convert.choose_voice"))
            # Before the files are stored.
            store.check_waiting(service.limits.max_waiting)
            voice = service.catalog.path(given[self.voice])
            title, overrides = prepare(given, folder, voice)
            overrides = [format_override("voice", voice), *overrides, *self._options(given)]
            _CHECKS[command](composed(command, overrides))
            submitted = self.jobs.submit(command, overrides, title, job_id=job_id)
        except (RVCError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            return {self.message: error_of(error, self.text)}
        return submitted | {
            self.message: markup.command(self.text("common.command"), format_command(command, *overrides))
        }

    def _options(self, given: dict[Component, Any]) -> list[str]:
        """Return the preset, and the overrides that differ from it, or from the defaults without one."""
        speaker, transpose = self._preset_values(given[self.voice], given[self.preset])
        values = [("speaker", given[self.speaker], speaker), ("transpose_semitones", given[self.transpose], transpose)]
        overrides = [format_override("preset", given[self.preset])] if given[self.preset] else []
        return overrides + [format_override(name, value) for name, value, known in values if value != known]

    def _cover(self, given: dict[Component, Any], folder: Path, voice: Path) -> tuple[str, list[str]]:
        uploads = {name: Path(file) for name, upload in self.uploads.items() if (file := given[upload])}
        if set(uploads) not in ({"song"}, {"vocals", "instrumental"}):
            raise RVCError(self.text("create.choose_song"))
        self.workplace.check_uploads(map(str, uploads.values()))
        files = {name: folder / INPUT / name / plain_name(path.name, "recording") for name, path in uploads.items()}
        for name, path in uploads.items():
            with explain_write_errors(files[name]):
                files[name].parent.mkdir(parents=True)
                shutil.copyfile(path, files[name])
        song = next(iter(files.values()))
        changed = [format_override("separation", part)] if (part := given[self.separation]) != PARTS[0] else []
        changed += [format_override("key_semitones", key)] if (key := given[self.key]) else []
        changed += [typed_override("loudness_lufs", level)] if (level := given[self.loudness].strip()) else []
        named = [format_override(name, path) for name, path in files.items()]
        title = self.text("create.cover_job", song=song.stem, voice=voice.stem)
        return title, [*named, self._output(given, folder, f"{song.stem}_{voice.stem}"), *changed]

    def _speech(self, given: dict[Component, Any], folder: Path, voice: Path) -> tuple[str, list[str]]:
        engine = given[self.engine]
        if engine not in SPEECH_ENGINES:
            raise RVCError(self.text("create.none_installed"))
        # Browsers may send halves of surrogate pairs.
        text = given[self.speech].encode("utf-8", "replace").decode()
        # In a file, since the command would read a text that ends in .txt as the name of one.
        path = folder / INPUT / "text.txt"
        with explain_write_errors(path):
            path.parent.mkdir(parents=True)
            path.write_text(text, encoding="utf-8")
        overrides = [format_override("text", path), self._output(given, folder, f"speech_{voice.stem}")]
        overrides += [format_override("tts", engine), *self._speech_voice(engine, given[self.speech_voice])]
        if pitch := given[self.pitch].strip():
            overrides.append(typed_override("proposed_pitch_hz", pitch))
        words = shortened(" ".join(text.split()))
        return self.text("create.speech_job", words=words, voice=voice.stem), overrides

    def _speech_voice(self, engine: str, name: str | None) -> list[str]:
        """Return the override of the voice of an engine: a file of the folder of the voices, or a name."""
        if not name:
            return []
        if not _has_files(engine):
            if not is_file_name(name):
                raise ConfigurationError(self.text("create.speech_voice_invalid", name=name))
            return [format_override("tts.voice", name)]
        path = home_path(name)
        is_allowed = self.workplace.is_local and path.is_absolute()
        return [format_override("tts.path", path if is_allowed else child(self.workplace.folders.voices, name))]

    def _output(self, given: dict[Component, Any], folder: Path, stem: str) -> str:
        return format_override("output", folder / OUTPUT / f"{stem}.{given[self.format]}")

    def _option(self, name: str) -> Component:
        field = next(field for field in option_fields(ConversionOptions) if field.name == name)
        return control(field, self.text, "create-")


def _has_files(engine: str) -> bool:
    """Return whether the voices of an engine are files."""
    # A set, since OmegaConf treats the missing value of a required setting as absent.
    return "path" in set(composed("speak", [f"tts={engine}"]).tts)


def _missing(check: Callable[[], Any]) -> str:
    """Return the error message of `check`, or an empty text if it succeeds."""
    try:
        check()
    except RVCError as error:
        return markup.sentence(str(error))
    return ""


def _hints(*messages: str) -> str:
    return "".join(map(markup.hint, filter(None, messages)))


def _check_cover(config: Any) -> None:
    SongSettings.from_config(config)
    MixSettings.from_config(config)
    ConversionOptions.from_config(config)


def _check_speech(config: Any) -> None:
    read_text(config.text)
    ConversionOptions.from_config(config)
    build_speech_engine(**plain(config.tts))


_CHECKS: dict[str, Callable[[Any], None]] = {"cover": _check_cover, "speak": _check_speech}
"""Checks of the commands before they start, except those of the voice and of the recordings."""
